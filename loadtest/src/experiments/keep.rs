//! What it costs to keep a process, a thread, a task and a coroutine: the slope of RAM over their number.

use std::fs;

use anyhow::Result;
use quantity::format::count;
use results::claim::Unit;
use results::statistics::Estimate;

use super::lab::Lab;
use crate::subject::Subject;

/// The stack of a thread that the article means: what `ulimit -s` gives.
const USUAL_STACK: &str = "8MiB";

/// A kind, with how many of it are kept.
struct Kept {
    name: &'static str,
    what: &'static str,
    kind: &'static str,
    flags: &'static [&'static str],
    counts: &'static [usize],
    /// None where a quick run leaves it out.
    quick_counts: &'static [usize],
}

const MANY: &[usize] = &[1_000, 3_000, 10_000];
const FEW: &[usize] = &[100, 300, 1_000];
const NONE: &[usize] = &[];

const KEPT: &[Kept] = &[
    Kept {
        name: "process",
        what: "a forked process that sleeps",
        kind: "process",
        flags: &[],
        counts: MANY,
        quick_counts: FEW,
    },
    Kept {
        name: "thread",
        what: "a thread that sleeps, with a stack of 8 MiB",
        kind: "thread",
        flags: &["--stack", USUAL_STACK],
        counts: MANY,
        quick_counts: FEW,
    },
    Kept {
        name: "task",
        what: "a task (tokio) that awaits a timer",
        kind: "task",
        flags: &[],
        counts: &[10_000, 100_000, 1_000_000],
        quick_counts: &[10_000, 30_000, 100_000],
    },
    Kept {
        name: "coroutine",
        what: "a suspended coroutine (corosensei) with a stack of 64 KiB",
        kind: "coroutine",
        flags: &["--stack", "64KiB"],
        counts: MANY,
        quick_counts: FEW,
    },
    touched(
        "thread_touched_4KiB",
        "a thread that has used 4 KiB of its stack",
        &["--stack", USUAL_STACK, "--touch-stack", "4KiB"],
        NONE,
    ),
    touched(
        "thread_touched_16KiB",
        "a thread that has used 16 KiB of its stack",
        &["--stack", USUAL_STACK, "--touch-stack", "16KiB"],
        NONE,
    ),
    touched(
        "thread_touched_64KiB",
        "a thread that has used 64 KiB of its stack",
        &["--stack", USUAL_STACK, "--touch-stack", "64KiB"],
        FEW,
    ),
    touched(
        "thread_touched_256KiB",
        "a thread that has used 256 KiB of its stack",
        &["--stack", USUAL_STACK, "--touch-stack", "256KiB"],
        NONE,
    ),
    touched(
        "thread_touched_1MiB",
        "a thread that has used 1 MiB of its stack",
        &["--stack", USUAL_STACK, "--touch-stack", "1MiB"],
        &[50, 100, 200],
    ),
];

/// Threads that have used some of their stack: pages once used stay RAM.
const fn touched(
    name: &'static str,
    what: &'static str,
    flags: &'static [&'static str],
    quick_counts: &'static [usize],
) -> Kept {
    Kept { name, what, kind: "thread", flags, counts: FEW, quick_counts }
}

/// What is known of one number of them.
struct Point {
    count: f64,
    total_bytes: f64,
    reserved_bytes: Option<f64>,
}

/// Measures all kinds.
pub(super) fn run(lab: &mut Lab<'_>) -> Result<()> {
    for kept in KEPT {
        if lab.quick_or(kept.quick_counts, kept.counts).is_empty() {
            lab.record_missing(format!("keep.{}", kept.name), "it is not part of --quick");
            continue;
        }
        let points = match measure(lab, kept) {
            Ok(points) => points,
            Err(error) => {
                lab.check_interrupt()?;
                lab.record_missing(format!("keep.{}", kept.name), format!("{error:#}"));
                continue;
            }
        };
        let slope = |of: fn(&Point) -> Option<f64>| {
            Estimate::slope(&points.iter().filter_map(|point| Some((point.count, of(point)?))).collect::<Vec<_>>())
        };
        let (bytes, reserved) = (slope(|point| Some(point.total_bytes)), slope(|point| point.reserved_bytes));
        let name = kept.name;
        lab.record(format!("keep.{name}.bytes"), format!("RAM of {}, kernel included", kept.what), Unit::Bytes, bytes);
        if kept.kind != "process" {
            let what = format!("addresses reserved by {}", kept.what);
            lab.record(format!("keep.{name}.reserved"), what, Unit::Bytes, reserved);
        }
    }
    extrapolate(lab, "thread", 1_000);
    extrapolate(lab, "thread", 100_000);
    extrapolate(lab, "task", 100_000);
    wall(lab);
    Ok(())
}

fn measure(lab: &Lab<'_>, kept: &Kept) -> Result<Vec<Point>> {
    let mut points = Vec::new();
    for _ in 0..lab.quick_or(1, 2) {
        for &count in lab.quick_or(kept.quick_counts, kept.counts) {
            lab.check_interrupt()?;
            let argv =
                [&[lab.primitives(), "keep".into(), kept.kind.into(), count.to_string()][..], &owned(kept.flags)]
                    .concat();
            let mut kept = Subject::program("primitives keep", &argv, primitives::keep::READY, lab.interrupt)?;
            let reserved_bytes = kept.pid().and_then(reserved_bytes);
            let Some(total_bytes) = kept.total_bytes() else { continue };
            points.push(Point { count: count as f64, total_bytes: total_bytes as f64, reserved_bytes });
        }
    }
    Ok(points)
}

fn owned(flags: &[&str]) -> Vec<String> {
    flags.iter().map(ToString::to_string).collect()
}

/// The size of the address space: `VmSize`.
fn reserved_bytes(pid: i32) -> Option<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmSize:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<f64>().ok()? * 1024.0)
}

/// What so many would cost, by the slope.
fn extrapolate(lab: &mut Lab<'_>, kind: &str, many: usize) {
    let Some(bytes) = lab.found(&format!("keep.{kind}.bytes")) else { return };
    let what = format!("RAM of {} {kind}s", count(many as f64));
    let note = Some("from the slope".to_owned());
    lab.record_noted(format!("keep.{kind}.of_{many}"), what, Unit::Bytes, Some(bytes.times(many as f64)), note);
}

/// How many threads one process can have here, without trying.
fn wall(lab: &mut Lab<'_>) {
    let wall = common::limits::threads();
    let note = Some(format!("to go beyond: {}", wall.advice));
    let most = Some(Estimate::exact(wall.connections as f64));
    lab.record_noted("keep.thread.most", "threads that one process can have on this machine", Unit::Count, most, note);
}
