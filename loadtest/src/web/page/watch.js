'use strict';

/** What the events say of a run so far, a model for each server, and how it looks. */
class Watch {
  constructor(announce) {
    this.announce = announce;
    this.reset();
  }

  reset() {
    [this.models, this.running] = [[], null];
    byId('models').replaceChildren();
    byId('dots-legend').hidden = true;
  }

  /** Takes an event; `update` shows what came of it. */
  take(event) {
    switch (event.event) {
      case 'ordered': return event.targets.forEach(name => this.add(name, event.connections));
      case 'started': return this.start(event);
    }
    const { running } = this;
    if (!running) return;
    switch (event.event) {
      case 'entered': running.phase = event.phase; break;
      case 'observed': running.seen = event; break;
      case 'second': running.second = event; break;
      case 'injected': running.doubts.push(`Injected on purpose: ${event.fault}.`); break;
      case 'warned': running.doubts.push(event.text); break;
      case 'finished': running.result = event; break;
    }
  }

  /** Says aloud what has just happened. */
  tell({ event, phase, fault, text }) {
    const name = this.running?.name ?? 'loadtest';
    const said = {
      started: 'starts', entered: PHASES[phase], injected: `${fault} injected`, warned: text, finished: 'finished',
    }[event];
    if (said) this.announce(`${name}: ${said}.`.replace('..', '.'));
  }

  /** The card of a server, whose turn may come later. */
  add(name, connections) {
    const model = { name, connections, phase: null, seen: null, second: null, result: null, doubts: [], duration_s: 0 };
    model.card = new Card(model);
    byId('dots-legend').hidden = false;
    this.models.push(model);
    byId('models').append(model.card.root);
    return model;
  }

  start({ target, connections, duration_s, wait }) {
    const waiting = this.models.find(model => model.name === target && !model.hasStarted);
    const model = waiting ?? this.add(target, connections);
    Object.assign(model, { hasStarted: true, connections, duration_s, wait });
    this.running = model;
    const each = connections / MOST_DOTS;
    byId('dots-note').textContent = each > 1 ? `Here a dot stands for ${each.toFixed(1)} of them.` : '';
  }

  update() {
    this.models.forEach(model => model.card.update());
  }
}

const PHASES = {
  connecting: 'connecting', holding: 'all send at once', settling: 'falling out of step', measuring: 'measuring',
  ledger: 'reading the RAM ledger', stopping: 'stopping', gone: 'the server does not answer',
};

/** How many connections do what. */
function statesOf({ seen, connections, phase, hasStarted }) {
  const counts = { waiting: 0, queued: 0, answered: 0, idle: 0, failed: 0, missing: connections };
  if (!hasStarted || !seen) return counts;
  const open = Math.min(seen.open ?? seen.established, connections);
  counts.waiting = Math.min(seen.waiting ?? 0, open);
  counts.queued = Math.min(seen.queued ?? 0, open - counts.waiting);
  // Before all send at once nobody has asked for anything.
  counts[phase === 'connecting' ? 'idle' : 'answered'] = open - counts.waiting - counts.queued;
  const failures = seen.failures.reduce((sum, reason) => sum + reason.count, 0);
  counts.failed = Math.min(failures, connections - open);
  counts.missing = connections - open - counts.failed;
  return counts;
}

/** A server: its dots, figures, failures and doubts. */
class Card {
  constructor(model) {
    this.model = model;
    this.canvas = element('canvas', { role: 'img', 'aria-label': `${model.name}: a dot for each connection` });
    this.phase = element('span', { class: 'phase' });
    this.states = this.list('states', STATES.map(([state, text]) => [state, text]));
    this.figures = this.list('numbers', [
      ['ram', 'RAM'], ['rps', 'requests/s'], ['p50', 'p50'], ['p99', 'p99'], ['errors', 'failures']]);
    this.failures = element('ul', { class: 'reasons' });
    this.doubts = element('ul', { class: 'reasons doubtful' });
    this.root = element('article', { class: 'model', 'data-target': model.name },
      element('h3', {}, model.name, this.phase),
      element('div', { class: 'dots' }, this.canvas), this.states.root, this.figures.root, this.failures, this.doubts);
    this.dots = new Dots(this.canvas);
  }

  list(kind, rows) {
    const values = {};
    const root = element('dl', { class: kind });
    for (const [name, text] of rows) {
      values[name] = element('dd', { 'data-figure': name });
      root.append(element('div', { class: name }, element('dt', {}, text), values[name]));
    }
    return { root, values };
  }

  update() {
    const { model } = this;
    const counts = statesOf(model);
    this.dots.show(counts);
    for (const [state] of STATES) this.states.values[state].textContent = formatCount(counts[state]);
    this.phase.textContent = this.phaseText();
    this.root.classList.toggle('over', model.result != null);
    this.root.classList.toggle('coming', !model.hasStarted);
    const figures = model.result ? resultFigures(model.result) : liveFigures(model);
    for (const [name, [text, value]] of Object.entries(figures)) {
      this.figures.values[name].textContent = text;
      this.figures.values[name].dataset.value = value ?? '';
    }
    const failures = model.result?.error_reasons ?? model.seen?.failures ?? [];
    this.failures.replaceChildren(...failures.map(({ kind, reason, count }) =>
      element('li', {}, `${formatCount(count)} × ${reason.startsWith(kind) ? reason : `${kind}: ${reason}`}`)));
    const doubts = [model.result?.failure, ...model.doubts].filter(text => text);
    this.doubts.replaceChildren(...doubts.map(text => element('li', {}, text)));
  }

  phaseText() {
    const { phase, result, second, duration_s, hasStarted } = this.model;
    if (result) return result.complete ? 'finished' : 'failed';
    if (!hasStarted) return 'waits for its turn';
    if (phase === 'measuring') return `measuring, ${Math.round(second?.end_s ?? 0)} of ${Math.round(duration_s)} s`;
    return PHASES[phase] ?? 'starting';
  }
}

function liveFigures({ seen, second }) {
  const failures = seen?.failures.reduce((sum, reason) => sum + reason.count, 0);
  const limit = seen?.ram_limit_bytes ? ` of ${formatBytes(seen.ram_limit_bytes)}` : '';
  return {
    ram: [formatBytes(seen?.ram_bytes) + limit, seen?.ram_bytes],
    rps: [formatCount(second?.rps), second?.rps],
    p50: [formatMicros(second?.p50_us), second?.p50_us],
    p99: [formatMicros(second?.p99_us), second?.p99_us],
    errors: [formatCount(failures), failures],
  };
}

function resultFigures({ memory, rps, latency_us, errors, errors_before }) {
  const sum = kinds => Object.values(kinds).reduce((all, count) => all + count, 0);
  const failures = sum(errors) + sum(errors_before);
  const latency = name => {
    if (!latency_us) return [UNKNOWN, null];
    const bound = latency_us.lower_bounds.includes(name) ? '≥ ' : '';
    return [bound + formatMicros(latency_us[name]), latency_us[name]];
  };
  const peak = memory.peak_bytes == null ? UNKNOWN : `peak ${formatBytes(memory.peak_bytes)}`;
  return {
    ram: [peak, memory.peak_bytes],
    rps: [formatCount(rps), rps],
    p50: latency('p50'),
    p99: latency('p99'),
    errors: [formatCount(failures), failures],
  };
}
