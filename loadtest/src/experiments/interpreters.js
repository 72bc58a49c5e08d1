// Measures how late a timer of 10 ms fires while the event loop computes for 200 ms. Prints JSON: samples in seconds.
const rounds = Number(process.argv.at(-1));
const samples = [];

function burn(ms) {
  const end = performance.now() + ms;
  while (performance.now() < end);
}

function measure() {
  if (samples.length >= rounds) {
    console.log(JSON.stringify({ version: process.version, samples }));
    return;
  }
  const start = performance.now();
  setTimeout(() => {
    samples.push((performance.now() - start - 10) / 1000);
    measure();
  }, 10);
  setImmediate(() => burn(200));
}

measure();
