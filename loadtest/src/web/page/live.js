'use strict';

/** How often the charts of a run that goes on are drawn anew. */
const CHART_INTERVAL_MS = 2000;

/** Follows one run by server-sent events, and the list of all. A browser reconnects by itself, and says what it has. */
class Live {
  constructor(about) {
    this.announce = announce;
    this.watch = new Watch(this.announce);
    this.replay = new Replay(this.watch, at_s => this.drawCharts(at_s));
    this.play = new Play(about, id => this.follow(id));
    [this.plan, this.claims] = [new Plan(), about.can_start ? new Claims(about) : null];
    this.runs = [];
    this.follow(Number(new URLSearchParams(location.hash.slice(1)).get('run')) || null);
    setInterval(() => { if (this.isRunning()) this.drawCharts(); }, CHART_INTERVAL_MS);
  }

  /** Follows a run, or waits for the first. */
  follow(id) {
    this.source?.close();
    [this.id, this.events, this.offered] = [id, [], 0];
    this.watch.reset();
    this.replay.withdraw();
    byId('charts').replaceChildren();
    this.open();
    if (this.runs.length) this.list(this.runs);
  }

  open() {
    this.source = new EventSource(this.id ? `/api/events?run=${this.id}` : '/api/events');
    this.source.addEventListener('message', ({ data }) => this.take(JSON.parse(data)));
    this.source.addEventListener('runs', ({ data }) => this.list(JSON.parse(data)));
    this.source.addEventListener('open', () => this.showLink(true));
    this.source.addEventListener('error', () => {
      this.showLink(false);
      // After an answer that is no stream, the browser gives up.
      if (this.source.readyState === EventSource.CLOSED) setTimeout(() => this.follow(null), CHART_INTERVAL_MS);
    });
  }

  take(event) {
    this.events.push(event);
    // The past of a run comes all at once, and is drawn once.
    this.watch.take(event);
    clearTimeout(this.pending);
    this.pending = setTimeout(() => this.settle(), 30);
    if (event.event !== 'observed' && event.event !== 'second') this.news = event;
  }

  settle() {
    this.watch.update();
    const { watch, news } = this;
    if (news && this.isRunning()) watch.tell(news);
    this.news = null;
    this.offerReplay();
  }

  /** Once a run is over, and with each line that still comes. */
  offerReplay() {
    if (this.run()?.state !== 'ended' || this.events.length === this.offered) return;
    this.offered = this.events.length;
    this.replay.offer(this.events);
    this.drawCharts();
  }

  /** The run that is followed, as the list has it. */
  run() {
    return this.runs.find(run => run.id === this.id);
  }

  isRunning() {
    return this.run()?.state === 'running';
  }

  list(runs) {
    const before = this.runs;
    this.runs = runs;
    // A check of claims has no connections to watch.
    const watchable = runs.filter(run => run.targets.length > 0);
    const active = watchable.find(run => run.state === 'running') ?? watchable.at(-1);
    // Whoever watches a run that is over follows the next that starts. In the first list nothing has just started.
    const hasJustStarted = before.length > 0 && active?.state === 'running'
      && before.find(run => run.id === active.id)?.state !== 'running';
    if (active && active.id !== this.id && (!this.id || (this.run()?.state === 'ended' && hasJustStarted))) {
      return this.follow(active.id);
    }
    this.play.list(runs, this.id);
    this.plan.offer(runs.some(run => run.state === 'ended' && run.targets.length > 0));
    this.claims?.list(runs);
    this.entitle(this.run());
    this.offerReplay();
  }

  entitle(run) {
    if (!run) {
      byId('title').textContent = 'Connections, live';
      byId('about').textContent = 'Nothing has run yet: start a run below.';
      return;
    }
    const word = { queued: 'soon', running: 'live', ended: 'kept' }[run.state];
    byId('title').textContent = `${formatCount(run.connections)} connections, ${word}`;
    byId('about').textContent = `Run ${run.id}: ${run.targets.join(', ')}`;
    if (run.state === 'ended') this.announce(run.sentence);
  }

  showLink(isUp) {
    const link = byId('link');
    link.hidden = isUp;
    link.textContent = isUp ? '' : 'loadtest does not answer; trying again';
  }

  async drawCharts(at_s) {
    if (!this.id || this.isDrawing || document.hidden) return;
    this.isDrawing = true;
    try {
      const until = at_s == null ? '' : `?until=${at_s}`;
      const response = await fetch(`/api/runs/${this.id}/charts${until}`);
      if (response.ok) showCharts(await response.text());
    } catch {
      // The stream says that loadtest does not answer.
    } finally {
      this.isDrawing = false;
    }
  }
}

/** Says something once, in the live region. */
function announce(text) {
  if (byId('status').textContent !== text) byId('status').textContent = text;
}

/** Replaces the charts, and keeps open the tables that are. */
function showCharts(markup) {
  const charts = byId('charts');
  const open = [...charts.querySelectorAll('details')].map(details => details.open);
  // The server has escaped all that comes from a run.
  charts.innerHTML = markup;
  charts.querySelectorAll('details').forEach((details, index) => { details.open = open[index] ?? false; });
}

/** The page in a file: its run is in it, and so are the charts. */
function showRecording({ events, frames }) {
  const watch = new Watch(announce);
  const replay = new Replay(watch, at_s => {
    const frame = frames.findLast(frame => frame.at_s <= at_s + 1e-6);
    if (frame !== replay.frame) showCharts(frame?.charts ?? '');
    replay.frame = frame;
  });
  replay.offer(events);
  replay.seek(replay.end_s);
  byId('title').textContent = `${formatCount(watch.models[0]?.connections)} connections, kept`;
  byId('about').textContent = watch.models.map(model => model.name).join(', ');
}

/** Keeps the token for this tab, and takes it out of the address. */
function takeToken() {
  const token = new URLSearchParams(location.hash.slice(1)).get('token');
  if (!token) return;
  sessionStorage.setItem('token', token);
  history.replaceState(null, '', location.pathname);
}

async function begin() {
  const recording = byId('recording');
  if (recording) return showRecording(JSON.parse(recording.textContent));
  takeToken();
  window.live = new Live(await (await fetch('/api/about')).json());
}

begin();
