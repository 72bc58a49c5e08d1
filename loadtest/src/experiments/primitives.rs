//! What `primitives` measures, and what follows from it.

use anyhow::Result;
use results::claim::{Finding, Unit};
use results::statistics::Estimate;

use super::lab::{Lab, quotient};

/// Wakes of the self-check against perf.
const PERF_WAKES: usize = 20_000;

/// Creates processes, threads, tasks and coroutines.
pub(super) fn create(lab: &mut Lab<'_>) -> Result<()> {
    let samples = lab.quick_or("300", "3000");
    let rss = lab.quick_or("16MiB,256MiB", "16MiB,256MiB,1GiB");
    run(lab, &["create", "--samples", samples, "--rss", rss])
}

/// Switches between them.
pub(super) fn switch(lab: &mut Lab<'_>) -> Result<()> {
    let (rounds, batches) = lab.quick_or(("3", "100"), ("20", "200"));
    run(lab, &["switch", "--rounds", rounds, "--batches", batches])?;
    let cells = ["futex", "pipe", "eventfd", "yield"];
    in_cycles(lab, cells.map(|cell| format!("switch.{cell}.one_cpu")).to_vec());
    // What the article compares: a switch between threads, and one between tasks.
    if let (Some(thread), Some(task)) = (lab.found("switch.pipe.one_cpu.thread"), lab.found("switch.task_channel")) {
        let ratio = quotient(thread, task);
        lab.record(
            "switch.task_ratio",
            "a switch between threads (pipe), compared with tasks (mpsc)",
            Unit::Ratio,
            ratio,
        );
    }
    if !lab.is_quick {
        check_with_perf(lab);
    }
    Ok(())
}

/// Walks memory after a switch.
pub(super) fn refill(lab: &mut Lab<'_>) -> Result<()> {
    let rounds = lab.quick_or("3", "12");
    run(lab, &["refill", "--rounds", rounds, "--batches", "100"])?;
    in_cycles(lab, [8, 64, 512, 4096].map(|pages| format!("refill.pages_{pages}")).to_vec());
    Ok(())
}

/// Looks at what is shared, and at lost updates.
pub(super) fn sharing(lab: &mut Lab<'_>) -> Result<()> {
    run(lab, &["sharing"])
}

fn run(lab: &mut Lab<'_>, arguments: &[&str]) -> Result<()> {
    let argv: Vec<String> = [lab.primitives()].into_iter().chain(arguments.iter().map(ToString::to_string)).collect();
    let output = lab.output_of(&argv)?;
    let findings = output.lines().map(serde_json::from_str).collect::<Result<Vec<Finding>, _>>()?;
    lab.record_all(findings);
    Ok(())
}

/// The cost of the other address space in cycles, as the article has it.
fn in_cycles(lab: &mut Lab<'_>, cells: Vec<String>) {
    let Some(cycles_per_ns) = primitives::facts::cycles_per_ns() else {
        return lab.record_missing(
            cells[0].split('.').next().unwrap_or_default().to_owned(),
            "/proc/cpuinfo names no frequency",
        );
    };
    for cell in cells {
        if let Some(cost) = lab.found(&format!("{cell}.address_space")) {
            let what = format!("what the other address space costs ({}), in cycles", cell.replace('.', " "));
            let note = Some(format!("at {:.0} MHz", cycles_per_ns * 1e3));
            lab.record_noted(format!("{cell}.cycles"), what, Unit::Cycles, Some(cost.times(cycles_per_ns)), note);
        }
    }
}

/// Compares our switch between processes with that of `perf bench sched pipe`, on the same CPU.
fn check_with_perf(lab: &mut Lab<'_>) {
    const NAME: &str = "switch.perf_ratio";
    if !Lab::is_installed("perf") {
        return lab.record_missing(NAME, "no self-check: perf is not installed here");
    }
    let wakes = PERF_WAKES.to_string();
    let argv = ["taskset", "-c", "0", "perf", "bench", "-f", "simple", "sched", "pipe", "-l", &wakes].map(String::from);
    let rounds: Result<Vec<f64>> = (0..8)
        .map(|_| {
            // In simple format it prints seconds for all wakes; each wake has two switches.
            let seconds: f64 = lab.output_of(&argv)?.trim().parse()?;
            Ok(seconds * 1e9 / (2 * PERF_WAKES) as f64)
        })
        .collect();
    match (rounds, lab.found("switch.pipe.one_cpu.process")) {
        (Ok(rounds), Some(ours)) => {
            let ratio = Estimate::mean(&rounds).and_then(|perf| quotient(ours, perf));
            let what = "self-check: our switch between processes (pipe, one CPU), compared with perf bench sched pipe";
            lab.record(NAME, what, Unit::Ratio, ratio);
        }
        (Err(error), _) => lab.record_missing(NAME, format!("no self-check, perf bench did not run: {error:#}")),
        (_, None) => lab.record_missing(NAME, "our own was not measured"),
    }
}
