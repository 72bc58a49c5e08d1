//! Going on with a sweep that was interrupted.

use std::fmt::Debug;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};

use results::RunResult;
use results::file;
use results::run::{Host, SweepPlan};

use super::outcome::is_result;

/// What was measured already. The order goes on as it was drawn, unless another seed is asked for.
///
/// # Errors
/// The file cannot be read, or is of another sweep, or of another machine: the message says in what they differ.
pub(super) fn read(path: &Path, plan: &mut SweepPlan, seed: Option<u64>, host: &Host) -> Result<Vec<RunResult>> {
    let name = path.display();
    let source = file::read(path).with_context(|| format!("--resume: a sweep is begun with --json {name}"))?;
    let mut results = source.results;
    for result in &results {
        let Some(recorded) = &result.sweep else { bail!("--resume {name} has runs that are of no sweep") };
        plan.seed = seed.unwrap_or(recorded.seed);
        let differences = differences(recorded, &result.host, plan, host);
        ensure!(
            differences.is_empty(),
            "--resume {name} is another sweep, and figures of both would be mixed:\n  {}\n\
             Ask for the same, or begin anew with --json",
            differences.join("\n  ")
        );
    }
    results.retain(|result| is_result(result, plan));
    Ok(results)
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
    compare("RAM (bytes)", &there.ram_bytes, &here.ram_bytes);
    compare("limit of open files", &there.nofile, &here.nofile);
    compare("net.core.somaxconn", &there.somaxconn, &here.somaxconn);
    differences
}
