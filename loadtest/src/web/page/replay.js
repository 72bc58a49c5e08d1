'use strict';

/** Shows a run of before again, in its own time or at any moment. */
class Replay {
  /** `chartsAt` shows the charts of a moment. */
  constructor(watch, chartsAt) {
    [this.watch, this.chartsAt] = [watch, chartsAt];
    this.events = [];
    this.slider = byId('replay-at');
    byId('replay-play').addEventListener('click', () => this.toggle());
    this.slider.addEventListener('input', () => {
      this.pause();
      this.seek(Math.min(Number(this.slider.value), this.end_s));
    });
  }

  /** Takes the events of a run that has ended, all of which are shown. */
  offer(events) {
    this.pause();
    this.events = events;
    this.end_s = events.at(-1)?.at_s ?? 0;
    byId('replay').hidden = this.end_s <= 0;
    // A slider rounds: its end must not be before the last event.
    this.slider.max = Math.ceil(this.end_s * 100) / 100;
    this.at_s = this.end_s;
    this.show();
  }

  withdraw() {
    this.pause();
    byId('replay').hidden = true;
  }

  toggle() {
    if (this.timer) return this.pause();
    if (this.at_s >= this.end_s) this.seek(0);
    byId('replay-play').textContent = 'Pause';
    let last = performance.now();
    this.timer = setInterval(() => {
      const now = performance.now();
      this.advance(Math.min(this.at_s + (now - last) / 1000, this.end_s));
      last = now;
      if (this.at_s >= this.end_s) this.pause();
    }, 250);
  }

  pause() {
    clearInterval(this.timer);
    this.timer = null;
    byId('replay-play').textContent = 'Replay';
  }

  /** Goes to a moment: forward from the beginning, since events add up. */
  seek(at_s) {
    this.watch.reset();
    [this.at_s, this.next] = [-1, 0];
    this.advance(at_s);
  }

  advance(at_s) {
    while (this.next < this.events.length && this.events[this.next].at_s <= at_s) {
      this.watch.take(this.events[this.next++]);
    }
    this.watch.update();
    this.at_s = at_s;
    this.chartsAt(at_s);
    this.show();
  }

  show() {
    this.slider.value = this.at_s;
    byId('replay-now').textContent = `${this.at_s.toFixed(1)} of ${this.end_s.toFixed(1)} s`;
    this.slider.setAttribute('aria-valuetext', byId('replay-now').textContent);
  }
}
