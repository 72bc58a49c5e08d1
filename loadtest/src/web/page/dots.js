'use strict';

/** What a connection may do, in the order in which the dots are filled. */
const STATES = [
  ['waiting', 'waiting'],
  ['queued', 'queued'],
  ['answered', 'answered'],
  ['idle', 'idle'],
  ['failed', 'failed'],
  ['missing', 'not connected'],
];
const MOST_DOTS = 10000;

/** A dot for each connection. Only those that changed are drawn. */
class Dots {
  constructor(canvas) {
    this.canvas = canvas;
    this.drawn = new Uint8Array(0);
    this.counts = null;
    new ResizeObserver(() => this.layOut()).observe(canvas.parentElement);
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => this.layOut());
  }

  /** Shows so many connections of each state. */
  show(counts) {
    const total = STATES.reduce((sum, [state]) => sum + counts[state], 0);
    const isNew = !this.counts || this.total !== total;
    [this.counts, this.total] = [counts, total];
    if (isNew) this.layOut(); else this.draw();
  }

  /** Fits the dots into the width, and draws all of them. */
  layOut() {
    if (!this.counts) return;
    const ratio = devicePixelRatio || 1;
    const width = Math.floor(this.canvas.parentElement.clientWidth * ratio);
    this.dots = Math.min(this.total, MOST_DOTS);
    if (!width || !this.dots) return;
    const fitting = Math.floor(Math.sqrt(width * width / 2 / this.dots));
    this.pitch = Math.max(3, Math.min(fitting, Math.floor(16 * ratio)));
    this.columns = Math.floor(width / this.pitch);
    const rows = Math.ceil(this.dots / this.columns);
    [this.canvas.width, this.canvas.height] = [width, rows * this.pitch];
    this.canvas.style.height = `${rows * this.pitch / ratio}px`;
    const style = getComputedStyle(this.canvas);
    this.colours = STATES.map(([state]) => style.getPropertyValue(`--${state}`).trim());
    this.drawn = new Uint8Array(this.dots).fill(255);
    this.draw();
  }

  draw() {
    const context = this.canvas.getContext('2d', { alpha: true });
    let [dot, sum] = [0, 0];
    STATES.forEach(([state], index) => {
      sum += this.counts[state];
      const end = index === STATES.length - 1 ? this.dots : Math.round(sum * this.dots / this.total);
      context.fillStyle = this.colours[index];
      context.beginPath();
      for (; dot < end; dot++) {
        if (this.drawn[dot] === index) continue;
        this.drawn[dot] = index;
        this.addDot(context, dot, state);
      }
      context.fill();
    });
  }

  /** Adds a dot to the path. Shapes differ too, where there is room: colours are not for everyone. */
  addDot(context, dot, state) {
    const [x, y] = [dot % this.columns * this.pitch, Math.floor(dot / this.columns) * this.pitch];
    const size = this.pitch - Math.max(1, Math.floor(this.pitch / 5));
    const half = Math.floor(size / 2);
    const isWhole = size <= 3 || !['missing', 'queued', 'failed'].includes(state);
    if (isWhole) return context.rect(x, y, size, size);
    context.clearRect(x, y, this.pitch, this.pitch);
    if (state === 'missing') context.rect(x + half - 1, y + half - 1, 2, 2);
    else if (state === 'queued') context.rect(x, y + half, size, size - half);
    else {
      context.rect(x, y + half - 1, size, 2);
      context.rect(x + half - 1, y, 2, size);
    }
  }
}
