//! Resumes an interrupted sweep.

use std::fmt::Debug;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};

use results::RunResult;
use results::file;
use results::run::{Host, SweepPlan};

use super::outcome::is_finished;
use crate::machine::command_line::WrongArguments;
use crate::machine::hash;
use crate::subject::build::Executables;

/// Reads the plan and the finished cells. `ask` changes the recorded plan into the one that is asked for.
///
/// # Errors
/// The file cannot be read, or is from another sweep or machine; the message lists the differences.
pub(super) fn read(
    path: &Path,
    ask: impl Fn(&SweepPlan) -> SweepPlan,
    host: &Host,
) -> Result<(SweepPlan, Vec<RunResult>)> {
    let name = path.display();
    let source =
        file::read(path).with_context(|| format!("--resume continues a sweep; start one with --json {name}"))?;
    let mut results = source.results;
    let Some(plan) = results.first().and_then(|result| result.sweep.as_ref()).map(ask) else {
        bail!("--resume {name} has no runs of a sweep")
    };
    for result in &results {
        let Some(recorded) = &result.sweep else { bail!("--resume {name} has runs that do not belong to a sweep") };
        let differences = differences(recorded, &result.host, &plan, host);
        let text = || {
            format!(
                "--resume {name} is from another sweep, and their figures would be mixed:\n  {}\n\
                 Leave out the flags that differ (--resume takes them from the file), or start a new sweep with --json",
                differences.join("\n  ")
            )
        };
        ensure!(differences.is_empty(), WrongArguments(text()));
    }
    results.retain(|result| is_finished(result, &plan));
    Ok((plan, results))
}

/// Checks that the servers are those that the finished cells measured.
///
/// # Errors
/// One was rebuilt from other sources since.
pub(super) fn check_builds(results: &[RunResult], executables: &Executables) -> Result<()> {
    for (target, executable) in executables {
        let now = hash::file_sha256(executable).ok();
        let measured =
            |result: &&RunResult| result.target == target.name() && result.server.executable_sha256.is_some();
        if let Some(other) = results.iter().filter(measured).find(|result| result.server.executable_sha256 != now) {
            bail!(
                "--resume: {} is not the build that was measured on {}, and their figures would be mixed: check out the \
                 sources of then, or start a new sweep with --json",
                executable.display(),
                other.started_at
            );
        }
    }
    Ok(())
}

fn differences(recorded: &SweepPlan, recorded_host: &Host, asked: &SweepPlan, host: &Host) -> Vec<String> {
    let mut differences = Vec::new();
    let mut compare = |what: &str, recorded: &dyn Debug, asked: &dyn Debug| {
        let (recorded, asked) = (format!("{recorded:?}"), format!("{asked:?}"));
        if recorded != asked {
            differences.push(format!("{what}: {recorded} there, {asked} now"));
        }
    };
    compare("seed", &recorded.seed, &asked.seed);
    compare("targets", &recorded.targets, &asked.targets);
    compare("connections", &recorded.connections, &asked.connections);
    compare("rounds", &recorded.rounds, &asked.rounds);
    compare("duration (ms)", &recorded.duration_ms, &asked.duration_ms);
    compare("timeout (ms)", &recorded.timeout_ms, &asked.timeout_ms);
    compare("database wait", &recorded.wait, &asked.wait);
    compare("server flags", &recorded.server_flags, &asked.server_flags);
    compare("RAM limit (bytes)", &recorded.ram_limit_bytes, &asked.ram_limit_bytes);
    let (there, here) = (recorded_host, host);
    compare("kernel", &there.kernel, &here.kernel);
    compare("CPUs", &there.cpus, &here.cpus);
    compare("CPU quota", &there.cpu_quota, &here.cpu_quota);
    compare("RAM (bytes)", &there.ram_bytes, &here.ram_bytes);
    compare("limit of open files", &there.nofile, &here.nofile);
    compare("net.core.somaxconn", &there.somaxconn, &here.somaxconn);
    differences
}
