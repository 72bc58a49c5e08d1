//! What the article says of Python, JavaScript and Go, where they are installed.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Result, anyhow};
use results::claim::Unit;
use results::statistics::Estimate;
use serde::Deserialize;

use super::lab::Lab;

const PYTHON: &str = include_str!("interpreters.py");
const NODE: &str = include_str!("interpreters.js");
/// How late a timer of 10 ms fires while GOMAXPROCS goroutines compute.
const GO: &str = "package main

import (
\t\"fmt\"
\t\"os\"
\t\"runtime\"
\t\"strconv\"
\t\"time\"
)

func main() {
\trounds, _ := strconv.Atoi(os.Args[1])
\truntime.GOMAXPROCS(1)
\tfor i := 0; i < rounds; i++ {
\t\tgo func() {
\t\t\tfor end := time.Now().Add(200 * time.Millisecond); time.Now().Before(end); {
\t\t\t}
\t\t}()
\t\tstart := time.Now()
\t\ttime.Sleep(10 * time.Millisecond)
\t\tfmt.Println((time.Since(start) - 10*time.Millisecond).Seconds())
\t\ttime.Sleep(300 * time.Millisecond)
\t}
}
";

#[derive(Deserialize)]
struct PythonSamples {
    version: String,
    has_gil: bool,
    samples: BTreeMap<String, Vec<f64>>,
}

#[derive(Deserialize)]
struct NodeSamples {
    version: String,
    samples: Vec<f64>,
}

type Measure = fn(&mut Lab<'_>, &str) -> Result<()>;

/// Runs the scripts.
pub(super) fn run(lab: &mut Lab<'_>) -> Result<()> {
    let rounds = lab.quick_or("3", "15");
    let interpreters: [(&str, &str, Measure); 3] =
        [("python", "python3", python), ("node", "node", node), ("go", "go", go)];
    for (name, program, measure) in interpreters {
        let measured = match Lab::is_installed(program) {
            true => measure(lab, rounds),
            false => Err(anyhow!("{program} is not installed here")),
        };
        lab.check_interrupt()?;
        if let Err(error) = measured {
            lab.record_missing(format!("interpreters.{name}"), format!("{error:#}"));
        }
    }
    Ok(())
}

fn python(lab: &mut Lab<'_>, rounds: &str) -> Result<()> {
    let output = lab.output_of(&["python3", "-c", PYTHON, rounds].map(String::from))?;
    let PythonSamples { version, has_gil, samples } = serde_json::from_str(&output)?;
    let python = format!("CPython {version}{}", if has_gil { "" } else { " without GIL" });
    let figures = [
        (
            "threads_compute",
            "speed-up of two threads that compute, at once instead of one after the other",
            Unit::Ratio,
            1.0,
        ),
        ("threads_wait", "speed-up of ten threads that wait, at once instead of one after the other", Unit::Ratio, 1.0),
        (
            "processes_compute",
            "speed-up of two processes that compute, at once instead of one after the other",
            Unit::Ratio,
            1.0,
        ),
        ("asyncio_delay_s", "how late a timer of asyncio fires while another task computes for 200 ms", Unit::Ns, 1e9),
        ("lost_updates", "updates lost of 200,000 by two threads that count without a lock", Unit::Count, 1.0),
    ];
    for (key, what, unit, scale) in figures {
        let figure = samples.get(key).and_then(|samples| Estimate::mean(samples)).map(|mean| mean.times(scale));
        let name = key.trim_end_matches("_s");
        lab.record(format!("interpreters.python.{name}"), format!("{what} ({python})"), unit, figure);
    }
    if has_gil {
        let why = "this Python has a GIL; a free-threaded build (python3.13t) would be measured by the same script";
        lab.record_missing("interpreters.python_without_gil", why);
    } else {
        let figure = samples.get("threads_compute").and_then(|samples| Estimate::mean(samples));
        let what = format!("speed-up of two threads that compute ({python})");
        lab.record("interpreters.python_without_gil.threads_compute", what, Unit::Ratio, figure);
    }
    Ok(())
}

fn node(lab: &mut Lab<'_>, rounds: &str) -> Result<()> {
    let output = lab.output_of(&["node", "-e", NODE, "--", rounds].map(String::from))?;
    let NodeSamples { version, samples } = serde_json::from_str(&output)?;
    let what = format!("how late a timer fires while the event loop computes for 200 ms (Node.js {version})");
    let delay = Estimate::mean(&samples).map(|mean| mean.times(1e9));
    lab.record("interpreters.node.delay", what, Unit::Ns, delay);
    Ok(())
}

fn go(lab: &mut Lab<'_>, rounds: &str) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("preempted.go");
    fs::write(&path, GO)?;
    let output = lab.output_of(&["go".into(), "run".into(), path.to_string_lossy().into(), rounds.into()])?;
    let samples = output.lines().map(str::parse).collect::<Result<Vec<f64>, _>>()?;
    let delay = Estimate::mean(&samples).map(|mean| mean.times(1e9));
    let what = "how late a timer fires while a goroutine computes for 200 ms on the only thread (Go)";
    lab.record("interpreters.go.delay", what, Unit::Ns, delay);
    Ok(())
}
