//! `loadtest plan` for the page's sliders, with the figures of the runs that are kept.

use std::env;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use results::{RunResult, file};
use serde::Deserialize;

/// Where the sliders are.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct Need {
    connections: u32,
    wait_ms: u32,
    ram_mib: u32,
    /// What a request computes.
    cpu_us: u32,
    isolation: bool,
}

/// The answer, as `plan --json` writes it.
///
/// # Errors
/// There are no results, or they do not suffice for a plan.
pub(super) fn answer(need: Need, results: &[RunResult]) -> Result<Vec<u8>> {
    ensure!(!results.is_empty(), "nothing was measured here yet: start a run of all servers first");
    let measured = tempfile::Builder::new().prefix("loadtest-plan-").suffix(".json").tempfile()?;
    std::fs::write(measured.path(), file::to_json(results, true)?)?;
    let mut command = Command::new(env::current_exe().context("cannot find loadtest's own executable")?);
    command.arg("plan").arg("--from").arg(measured.path()).args(["--json", "-"]);
    command.args(["--connections", &need.connections.to_string(), "--wait", &format!("{}ms", need.wait_ms)]);
    command.args(["--ram", &format!("{}MiB", need.ram_mib)]);
    if need.cpu_us > 0 {
        command.args(["--cpu-per-request", &format!("{}us", need.cpu_us)]);
    }
    if need.isolation {
        command.arg("--isolation");
    }
    // Without a terminal it asks nothing.
    let output = command.stdin(Stdio::null()).output().context("loadtest plan cannot be started")?;
    let errors = String::from_utf8_lossy(&output.stderr);
    let why = errors.lines().find_map(|line| line.strip_prefix("error: "));
    // That no model fits is an answer, too.
    ensure!(!output.stdout.is_empty(), "{}", why.unwrap_or("loadtest plan has no answer"));
    Ok(output.stdout)
}
