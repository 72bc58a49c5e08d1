//! What was measured so far, also by an earlier call.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Error, Result, ensure};
use results::Warning;
use results::claim::{Finding, Judgement, Missing, SCHEMA};
use results::run::Host;

use super::cases;

/// What is known.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// The experiments that have ended.
    pub(super) experiments: Vec<String>,
    /// What they found.
    pub(super) findings: Vec<Finding>,
    /// Reasons to doubt that.
    pub(super) warnings: Vec<Warning>,
}

impl Progress {
    /// What an earlier call has measured. What it derived is derived again.
    pub(super) fn of(earlier: &Judgement) -> Self {
        let Judgement { experiments, findings, warnings, .. } = earlier.clone();
        let findings = findings.into_iter().filter(|finding| !cases::is_derived(finding)).collect();
        Self { experiments, findings, warnings }
    }

    /// Whether an experiment has ended.
    pub(super) fn has(&self, experiment: &str) -> bool {
        self.experiments.iter().any(|known| known == experiment)
    }

    /// Adds a reason to doubt the figures, once.
    pub(super) fn warn(&mut self, warning: Option<Warning>) {
        let is_new = |warning: &Warning| self.warnings.iter().all(|known| known.text != warning.text);
        let new = warning.filter(is_new);
        self.warnings.extend(new);
    }

    /// Adds what an experiment found, in place of what it found before it failed.
    pub(super) fn add(&mut self, experiment: &str, findings: Vec<Finding>) {
        self.experiments.push(experiment.to_owned());
        self.replace(experiment, findings);
    }

    /// Adds what an experiment found before it failed. It has not ended: `--resume` measures it again.
    pub(super) fn fail(&mut self, experiment: &str, mut findings: Vec<Finding>, error: &Error) {
        findings.push(Finding::Missing(Missing { name: experiment.to_owned(), why: format!("{error:#}") }));
        self.replace(experiment, findings);
    }

    fn replace(&mut self, experiment: &str, findings: Vec<Finding>) {
        self.findings.retain(|finding| finding.experiment() != experiment);
        self.findings.extend(findings);
    }
}

/// Reads a file of `--json`, named by this flag.
///
/// # Errors
/// The file cannot be read, or is no such file.
pub(super) fn read_judgement(flag: &str, path: &Path) -> Result<Judgement> {
    let name = format!("{flag} {}", path.display());
    let text = fs::read_to_string(path).with_context(|| format!("{name} cannot be read"))?;
    let judgement: Judgement =
        serde_json::from_str(&text).with_context(|| format!("{name} was not written by `loadtest claims --json`"))?;
    ensure!(judgement.schema == SCHEMA, "{name} has the layout {}, and not {SCHEMA}", judgement.schema);
    Ok(judgement)
}

/// Reads what an earlier call has measured, to go on with it.
///
/// # Errors
/// The file cannot be read, or is from another machine or another effort.
pub(super) fn read(path: &Path, is_quick: bool, host: &Host) -> Result<Progress> {
    let name = format!("--resume {}", path.display());
    let earlier = read_judgement("--resume", path)?;
    ensure!(
        earlier.quick == is_quick,
        "{name} was measured {} --quick: figures of both would be mixed",
        if earlier.quick { "with" } else { "without" }
    );
    ensure!(
        earlier.host == *host,
        "{name} is from another machine ({}), and figures of both would be mixed",
        earlier.host.describe()
    );
    Ok(Progress::of(&earlier))
}
