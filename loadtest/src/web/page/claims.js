'use strict';

/** How often to look for verdicts that have come. */
const CLAIMS_INTERVAL_MS = 2000;

/** The article's claims, which fill row by row while they are checked. */
class Claims {
  constructor(about) {
    byId('claims-check').hidden = !about.can_start;
    byId('claims-check').addEventListener('click', () => this.check());
    setInterval(() => { if (this.isRunning) this.load(); }, CLAIMS_INTERVAL_MS);
  }

  async check() {
    const response = await post('/api/claims');
    const answer = response.ok ? 'The claims are checked after the runs before them.' : await response.text();
    byId('claims-status').textContent = answer;
  }

  /** Takes the list of runs: a check of the claims is one without servers. */
  list(runs) {
    const checks = runs.filter(run => run.targets.length === 0);
    const wasRunning = this.isRunning;
    this.isRunning = checks.some(run => run.state === 'running');
    byId('claims').hidden = false;
    if (this.isRunning) byId('claims-status').textContent = 'Checking: verdicts come experiment by experiment.';
    else if (wasRunning) byId('claims-status').textContent = checks.at(-1)?.sentence ?? '';
    if (this.isRunning || wasRunning || !this.hasLoaded) this.load();
  }

  async load() {
    this.hasLoaded = true;
    const response = await fetch('/api/claims');
    // The server has escaped all that comes from the file.
    if (response.status === 200) byId('claims-rows').innerHTML = await response.text();
  }
}
