//! The measurements of `primitives`, on the real binary.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use results::claim::{Figure, Finding};

const PRIMITIVES: &str = env!("CARGO_BIN_EXE_primitives");
const TIMEOUT: Duration = Duration::from_secs(30);

/// The figures that a measurement prints, by name, and why others are missing.
fn measure(arguments: &[&str]) -> (BTreeMap<String, Figure>, BTreeMap<String, String>) {
    let output = Command::new(PRIMITIVES).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let (mut figures, mut missing) = (BTreeMap::new(), BTreeMap::new());
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        let doubled = match serde_json::from_str(line).unwrap() {
            Finding::Figure(figure) => figures.insert(figure.name.clone(), figure).is_some(),
            Finding::Missing(gap) => missing.insert(gap.name, gap.why).is_some(),
        };
        assert!(!doubled, "twice: {line}");
    }
    (figures, missing)
}

fn value(figures: &BTreeMap<String, Figure>, name: &str) -> f64 {
    figures.get(name).unwrap_or_else(|| panic!("no {name} in {:?}", figures.keys())).estimate.value
}

#[test]
fn a_creation_returns_starts_and_ends_in_this_order() {
    let (figures, missing) = measure(&["create", "--samples", "100", "--rss", "16MiB"]);
    for kind in ["fork", "clone3", "spawn", "thread", "thread_cold", "task", "coroutine", "coroutine_cold"] {
        let [returned, started, joined] =
            ["returned", "started", "joined"].map(|time| value(&figures, &format!("create.{kind}.unpinned.{time}")));
        assert!(returned <= joined && started <= joined, "{kind}: {returned} {started} {joined}");
    }
    // Its parent waits, so that the call returns last.
    assert!(value(&figures, "create.vfork.unpinned.started") <= value(&figures, "create.vfork.unpinned.returned"));
    assert!(missing["create.task.two_cpus"].contains("by the threads that there are"), "{missing:?}");
    assert!(figures.values().all(|figure| {
        let estimate = figure.estimate;
        estimate.low <= estimate.value && estimate.value <= estimate.high
    }));
    // 16 MiB in pages of 4 KiB need 8 pages of page tables.
    assert!(value(&figures, "create.fork_rss.16MiB.small.page_tables") >= 8.0 * 4096.0);
}

#[test]
fn a_switch_is_counted_or_refused() {
    let (figures, missing) = measure(&["switch", "--rounds", "2", "--batches", "20"]);
    let two = ["futex", "pipe", "eventfd"].map(|primitive| format!("switch.{primitive}.unpinned"));
    let one = ["futex", "pipe", "eventfd", "yield"].map(|primitive| format!("switch.{primitive}.one_cpu"));
    for name in one.into_iter().chain(two) {
        // On a busy machine others take turns, too, and the kernel counts more.
        if let Some(why) = missing.get(&name) {
            assert!(why.contains("the kernel counted"), "{why}");
            continue;
        }
        let [thread, process, more] =
            ["thread", "process", "address_space"].map(|of| value(&figures, &format!("{name}.{of}")));
        assert!(thread > 0.0 && (process - thread - more).abs() < 1.0, "{name}: {thread} {process} {more}");
    }
    let names: Vec<_> = figures.keys().chain(missing.keys()).filter(|name| name.starts_with("switch.yield.")).collect();
    assert!(names.iter().all(|name| name.starts_with("switch.yield.one_cpu")), "{names:?}");
    assert!(value(&figures, "switch.coroutine") < value(&figures, "switch.task_yield"));
}

#[test]
fn a_side_that_has_died_is_waited_for_only_so_long() {
    // Long enough to find the other side and to kill it.
    let long = ["switch", "--rounds", "2", "--batches", "20000"];
    for (arguments, cell) in
        [(long, "switch.futex.one_cpu"), (["refill", "--rounds", "2", "--batches", "100000"], "refill.pages_8")]
    {
        let mut command = Command::new(PRIMITIVES);
        let mut measuring = command.args(arguments).stdout(Stdio::piped()).spawn().unwrap();
        let deadline = Instant::now() + TIMEOUT;
        let other = loop {
            match meter::process_tree(measuring.id() as i32)[..] {
                [_, other] => break other,
                _ => assert!(Instant::now() < deadline, "no other process"),
            }
        };
        kill(Pid::from_raw(other), Signal::SIGKILL).unwrap();
        let mut line = String::new();
        BufReader::new(measuring.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let Finding::Missing(missing) = serde_json::from_str(&line).unwrap() else { panic!("{line}") };
        assert_eq!(missing.name, cell);
        assert!(missing.why.contains("the other side has not answered for 10s"), "{line}");
        measuring.kill().unwrap();
        measuring.wait().unwrap();
    }
}

#[test]
fn a_walk_after_a_switch_has_a_figure_for_every_size() {
    let (figures, missing) = measure(&["refill", "--rounds", "2", "--batches", "20"]);
    assert!(missing.is_empty(), "{missing:?}");
    for size in ["pages_8", "pages_4096", "16KiB", "8MiB"] {
        value(&figures, &format!("refill.{size}.address_space"));
    }
}

#[test]
fn memory_is_shared_by_threads_and_not_by_processes() {
    let (figures, _) = measure(&["sharing"]);
    let seen = ["process", "mapped", "thread", "task"].map(|who| value(&figures, &format!("sharing.{who}")));
    assert_eq!(seen, [0.0, 1.0, 1.0, 1.0]);
    assert_eq!(value(&figures, "sharing.lost_atomic") + value(&figures, "sharing.lost_locked"), 0.0);
    let cpus = thread::available_parallelism().map_or(1, usize::from);
    assert!(cpus == 1 || value(&figures, "sharing.lost") > 0.0, "nothing was lost");
}

/// `primitives keep`, once it is ready.
fn keep(arguments: &[&str]) -> Child {
    let mut command = Command::new(PRIMITIVES);
    let mut child = command.arg("keep").args(arguments).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    child
}

fn threads(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count)
}

#[test]
fn what_is_kept_is_there_and_ends_with_its_keeper() {
    let mut kept = keep(&["thread", "50", "--touch-stack", "64K"]);
    assert_eq!(threads(kept.id()), 51);
    kept.kill().unwrap();
    kept.wait().unwrap();
    let mut kept = keep(&["process", "50"]);
    let children = meter::process_tree(kept.id() as i32);
    assert_eq!(children.len(), 51);
    kill(Pid::from_raw(kept.id() as i32), Signal::SIGKILL).unwrap();
    kept.wait().unwrap();
    let deadline = Instant::now() + TIMEOUT;
    let is_left = |pid: &i32| fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "));
    while children.iter().any(is_left) {
        assert!(Instant::now() < deadline, "processes are left");
        thread::sleep(Duration::from_millis(10));
    }
    for kind in ["task", "coroutine"] {
        let mut kept = keep(&[kind, "1k"]);
        assert!(threads(kept.id()) < 5, "{kind}");
        kept.kill().unwrap();
        kept.wait().unwrap();
    }
}
