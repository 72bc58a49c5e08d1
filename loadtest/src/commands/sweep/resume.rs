//! Resumes an interrupted sweep.

use std::fmt::Debug;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};

use results::RunResult;
use results::file;
use results::run::{Host, SweepPlan};

use super::outcome::is_finished;

/// Reads the finished cells. The order stays the same unless there is another seed.
///
/// # Errors
/// The file cannot be read, or is from another sweep or machine; the message lists the differences.
pub(super) fn read(path: &Path, plan: &mut SweepPlan, seed: Option<u64>, host: &Host) -> Result<Vec<RunResult>> {
    let name = path.display();
    let source =
        file::read(path).with_context(|| format!("--resume continues a sweep; start one with --json {name}"))?;
    let mut results = source.results;
    for result in &results {
        let Some(recorded) = &result.sweep else { bail!("--resume {name} has runs that do not belong to a sweep") };
        plan.seed = seed.unwrap_or(recorded.seed);
        let differences = differences(recorded, &result.host, plan, host);
        ensure!(
            differences.is_empty(),
            "--resume {name} is from another sweep, and their figures would be mixed:\n  {}\n\
             Use the same settings, or start a new sweep with --json",
            differences.join("\n  ")
        );
    }
    results.retain(|result| is_finished(result, plan));
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
    compare("CPU quota", &there.cpu_quota, &here.cpu_quota);
    compare("RAM (bytes)", &there.ram_bytes, &here.ram_bytes);
    compare("limit of open files", &there.nofile, &here.nofile);
    compare("net.core.somaxconn", &there.somaxconn, &here.somaxconn);
    differences
}
