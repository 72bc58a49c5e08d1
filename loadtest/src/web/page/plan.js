'use strict';

/** How long a slider must rest before the plan is asked for. */
const REST_MS = 250;

/** What the sliders mean: most of them are logarithmic. */
const MEANING = {
  connections: [at => significant(10 ** at), value => formatCount(value)],
  wait_ms: [at => significant(10 ** at), value => formatMicros(value * 1000)],
  ram_mib: [at => Math.round(2 ** at), value => formatMib(value)],
  cpu_us: [at => at === 0 ? 0 : significant(10 ** at), value => value === 0 ? 'none' : formatMicros(value)],
};

/** As `--ram` takes it. */
const formatMib = mib => mib < 1024 ? `${mib} MiB` : `${(mib / 1024).toFixed(mib < 10240 ? 1 : 0)} GiB`;

/** Two digits: a slider is no finer. */
function significant(value) {
  const unit = 10 ** Math.max(0, Math.floor(Math.log10(value)) - 1);
  return Math.round(value / unit) * unit;
}

/** Asks `loadtest plan` for what the sliders say. */
class Plan {
  constructor() {
    this.form = byId('need');
    this.form.addEventListener('submit', event => event.preventDefault());
    this.form.addEventListener('input', () => this.later());
    this.label();
  }

  /** Shows itself once there is something to plan with. */
  offer(hasResults) {
    if (!hasResults || !byId('plan').hidden) return;
    byId('plan').hidden = false;
    this.ask();
  }

  later() {
    this.label();
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.ask(), REST_MS);
  }

  need() {
    const need = { isolation: this.form.elements.isolation.checked };
    for (const [name, [value]] of Object.entries(MEANING)) need[name] = value(Number(this.form.elements[name].value));
    return need;
  }

  label() {
    const need = this.need();
    for (const [name, [, text]] of Object.entries(MEANING)) {
      const input = this.form.elements[name];
      input.labels[0].querySelector('.value').textContent = text(need[name]);
      input.setAttribute('aria-valuetext', text(need[name]));
    }
  }

  async ask() {
    const response = await fetch(`/api/plan?${new URLSearchParams(this.need())}`);
    const answer = byId('plan-answer');
    if (response.ok) answer.replaceChildren(...this.show(await response.json()));
    else answer.replaceChildren(element('p', {}, await response.text()));
  }

  show({ advice, verdicts, need }) {
    const row = verdict => element('tr', { 'data-target': verdict.target },
      element('th', { scope: 'row' }, verdict.target),
      element('td', {}, verdict.against.length ? 'no' : 'yes'),
      element('td', {}, formatBytes(verdict.ram_bytes)),
      element('td', {}, formatCount(verdict.connections_in_ram)),
      element('td', { class: 'text' }, [...verdict.against, ...verdict.cautions].join('; ')));
    const heads = ['', 'fits', 'RAM at most', `fit in ${formatMib(need.ram_bytes / 2 ** 20)}`, 'because']
      .map(text => element('th', { scope: 'col' }, text));
    const table = element('table', {}, element('thead', {}, element('tr', {}, ...heads)),
      element('tbody', {}, ...verdicts.map(row)));
    const choice = advice.target ? `Take ${advice.target}.` : 'None fits.';
    return [element('p', { class: 'answer' }, `${choice} ${advice.why.join(' ')}`),
      element('div', { class: 'scroll', tabindex: 0, role: 'region', 'aria-label': 'verdicts' }, table)];
  }
}
