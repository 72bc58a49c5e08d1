'use strict';

/** Starts and stops runs, lists those that are kept, and compares two of them. */
class Play {
  /** `onChoose` is called with the number of a run to watch. */
  constructor(about, onChoose) {
    [this.about, this.onChoose] = [about, onChoose];
    this.chosen = [];
    byId('play').hidden = !about.can_start;
    this.fillForm(about.bounds);
    byId('order').addEventListener('submit', event => { event.preventDefault(); this.order(); });
    byId('compare').addEventListener('click', () => this.compare());
  }

  fillForm(bounds) {
    const form = byId('order');
    const boxes = bounds.targets.map(({ name }) => element('label', {},
      element('input', { type: 'checkbox', name: 'targets', value: name, checked: !['async-codec', 'async-uring'].includes(name) }),
      ` ${name}`));
    byId('order-targets').replaceChildren(...boxes);
    form.addEventListener('change', () => this.bound());
    form.elements.duration_s.max = bounds.duration_s;
    const { ram_limit_mib: ram, burn, fault } = form.elements;
    [ram.min, ram.max, ram.disabled] = [bounds.min_ram_mib, bounds.max_ram_mib, bounds.no_ram_limit != null];
    burn.disabled = fault.disabled = bounds.no_flags != null;
    byId('ram-hint').textContent = bounds.no_ram_limit ?? `${bounds.min_ram_mib} to ${formatCount(bounds.max_ram_mib)}`;
    if (bounds.no_flags) byId('burn-hint').textContent = byId('fault-hint').textContent = bounds.no_flags;
    this.bound();
  }

  targets() {
    return [...byId('order').querySelectorAll('[name=targets]:checked')].map(box => box.value);
  }

  /** Says before what the machine allows these servers. */
  bound() {
    const chosen = this.about.bounds.targets.filter(({ name }) => this.targets().includes(name));
    const least = chosen.toSorted((one, other) => one.connections - other.connections)[0];
    byId('order').elements.connections.max = least?.connections ?? '';
    byId('connections-hint').textContent = least
      ? `at most ${formatCount(least.connections)}, for ${least.name}: ${least.why}` : 'choose a server first';
  }

  async order() {
    const { elements } = byId('order');
    const number = name => elements[name].value === '' || elements[name].disabled ? null : Number(elements[name].value);
    const order = {
      targets: this.targets(), connections: number('connections'), duration_s: number('duration_s'),
      wait: elements.wait.value, ram_limit_mib: number('ram_limit_mib'),
      burn: elements.burn.value.trim() || null, fault: elements.fault.value || null,
    };
    const answer = byId('order-answer');
    const response = await post('/api/runs', order);
    answer.textContent = response.ok ? '' : await response.text();
    if (response.ok) this.onChoose((await response.json()).id);
  }

  /** Shows the list, the latest first. */
  list(runs, watched) {
    byId('runs').hidden = runs.length === 0;
    this.chosen = this.chosen.filter(id => runs.some(run => run.id === id));
    const focused = document.activeElement?.dataset?.key;
    byId('run-list').replaceChildren(...runs.toReversed().map(run => this.item(run, run.id === watched)));
    if (focused) document.querySelector(`[data-key="${focused}"]`)?.focus();
  }

  item(run, isWatched) {
    const key = name => ({ 'data-key': `${name}-${run.id}` });
    const title = run.targets.length
      ? `${run.targets.join(', ')}: ${formatCount(run.connections)} connections` : 'The article, claim by claim';
    const current = isWatched ? 'true' : null;
    const watch = element('button', { type: 'button', class: 'link', 'aria-current': current, ...key('watch') },
      `${run.id}. ${title}`);
    watch.addEventListener('click', () => run.targets.length ? this.onChoose(run.id) : byId('claims').scrollIntoView());
    const at = run.at.replace('T', ' ').replace(/(\.\d+)?Z$/, ' UTC');
    const parts = [
      element('div', {}, watch), element('p', { class: 'about' }, `${at} · ${STATE_WORDS[run.state]}`)];
    if (run.sentence) parts.push(element('p', {}, run.sentence));
    if (run.state !== 'ended') parts.push(this.stopButton(run, key));
    else if (run.targets.length) parts.push(this.links(run, key));
    return element('li', { 'data-state': run.state }, ...parts);
  }

  links(run, key) {
    const link = ([name, text]) => element('a', { href: `/runs/${run.id}/${name}` }, text);
    const box = element('input', { type: 'checkbox', checked: this.chosen.includes(run.id), ...key('compare') });
    box.addEventListener('change', () => this.choose(run.id, box.checked));
    return element('p', { class: 'links' }, ...DOWNLOADS.map(link), element('label', {}, box, ' compare'));
  }

  stopButton(run, key) {
    const button = element('button', { type: 'button', ...key('stop') }, 'Stop');
    button.hidden = !this.about.can_start;
    button.addEventListener('click', () => post(`/api/runs/${run.id}/stop`));
    return element('p', { class: 'links' }, button);
  }

  /** The two latest choices. */
  choose(id, isChosen) {
    this.chosen = [...this.chosen.filter(other => other !== id), ...(isChosen ? [id] : [])].slice(-2);
    for (const box of document.querySelectorAll('[data-key^=compare-]')) {
      box.checked = this.chosen.includes(Number(box.dataset.key.split('-')[1]));
    }
    byId('compare').disabled = this.chosen.length !== 2;
  }

  async compare() {
    const [one, other] = this.chosen.toSorted((a, b) => a - b);
    const response = await fetch(`/api/compare?one=${one}&other=${other}`);
    const text = await response.text();
    byId('compare-answer').textContent = response.ok ? '' : text;
    // The server has escaped all that comes from a run.
    byId('comparison').innerHTML = response.ok ? text : '';
  }
}

const STATE_WORDS = { queued: 'waits for its turn', running: 'running', ended: 'over' };
const DOWNLOADS = [
  ['report.html', 'report'], ['results.json', 'JSON'], ['results.csv', 'CSV'], ['run.jsonl', 'events'],
  ['replay.html', 'replay as a file'],
];

/** Sends an order, with the token from the address that loadtest printed. */
function post(path, body) {
  const token = sessionStorage.getItem('token');
  return fetch(path, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json', ...(token ? { Authorization: `Bearer ${token}` } : {}) },
    body: JSON.stringify(body ?? {}),
  });
}
