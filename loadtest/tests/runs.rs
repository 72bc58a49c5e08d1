//! Runs and their failures, with the real binary and real servers.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

/// Includes building the servers.
const TIMEOUT: Duration = Duration::from_secs(600);
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// A running loadtest.
struct Loadtest {
    child: Child,
}

impl Loadtest {
    fn start(arguments: &[&str]) -> Self {
        // Whoever runs the tests in the background of a shell ignores SIGINT, and so would loadtest.
        let mut command = Command::new("env");
        command.args(["--default-signal=INT", env!("CARGO_BIN_EXE_loadtest")]);
        command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self { child: command.spawn().unwrap() }
    }

    fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// Waits for its server, and returns the pids of the server's tree, root first.
    fn server(&self) -> Vec<i32> {
        let deadline = Instant::now() + TIMEOUT;
        while Instant::now() < deadline {
            let tree = meter::process_tree(self.pid());
            if let Some(root) = tree.into_iter().find(|&pid| name(pid).starts_with("server-")) {
                return meter::process_tree(root);
            }
            thread::sleep(POLL_INTERVAL);
        }
        panic!("no server was started");
    }

    fn output(self) -> Output {
        self.child.wait_with_output().unwrap()
    }
}

fn run(arguments: &[&str]) -> Output {
    Loadtest::start(arguments).output()
}

/// The name of a process; empty if it is gone or a zombie.
fn name(pid: i32) -> String {
    let is_zombie = fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") Z "));
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    if is_zombie { String::new() } else { name.trim().to_owned() }
}

fn send(signal: Signal, pid: i32) {
    kill(Pid::from_raw(pid), signal).unwrap();
}

fn assert_gone(pids: &[i32]) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while pids.iter().any(|&pid| name(pid).starts_with("server-")) {
        assert!(Instant::now() < deadline, "a server is left: {pids:?}");
        thread::sleep(POLL_INTERVAL);
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn json_path(directory: &TempDir) -> String {
    path(directory, "run.json")
}

fn path(directory: &TempDir, name: &str) -> String {
    directory.path().join(name).to_str().unwrap().to_owned()
}

fn read_json(path: impl AsRef<Path>) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[test]
fn a_run_writes_a_report_and_every_file() {
    let directory = tempfile::tempdir().unwrap();
    let json = json_path(&directory);
    let [csv, csv_series, markdown] = ["run.csv", "series.csv", "run.md"].map(|name| path(&directory, name));
    let arguments = ["--target", "async", "-c", "50", "-d", "2s", "--db-wait", "100ms", "--json", &json];
    let further = ["--csv", &csv, "--csv-series", &csv_series, "--markdown", &markdown, "--fail-if", "errors > 0"];
    let output = run(&[&arguments[..], &further].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    let report = stdout(&output);
    for expected in
        ["async: 50 connections", "50 of 50 requests", "RAM", "ledger", "p99", "requests/s", "errors        none"]
    {
        assert!(report.contains(expected), "{expected:?} is missing in {report}");
    }
    // Without a terminal there are no colours and no progress bar.
    assert!(!report.contains('\x1b') && !stderr(&output).contains('\x1b'));
    let result = read_json(&json);
    assert_eq!(result["schema"], "c10k-loadtest/3");
    let series = result["series"].as_array().unwrap();
    assert!(series.iter().all(|second| second["rps"].as_f64() > Some(0.0) && second["open"] == 50), "{series:?}");
    assert!(result["histograms"]["answered"].as_str().unwrap().len() > 10);
    assert_eq!(result["connections"]["held_peak"], 50);
    assert!(result["connections"]["connected_after_us"].as_u64().unwrap() > 0, "{result}");
    assert!(result["server"]["stopped_after_us"].as_u64().unwrap() > 0, "{result}");
    assert_eq!(result["server"]["exit"], "exit status 0");
    assert_eq!(result["wait"]["spec"], "100ms");
    for part in ["kernel", "cpus", "ram_bytes", "nofile", "somaxconn"] {
        assert!(!result["host"][part].is_null(), "{part}");
    }
    assert!(result["client"]["rss_peak_bytes"].as_u64().unwrap() > 0);
    let lines = |path: &str| fs::read_to_string(path).unwrap().lines().count();
    assert_eq!((lines(&csv), lines(&csv_series)), (2, 1 + series.len()));
    assert!(fs::read_to_string(&markdown).unwrap().contains("server-async --listen"));
}

#[test]
fn an_exceeded_limit_sets_the_status() {
    let arguments = ["--target", "async", "-c", "100", "-d", "1s", "--db-wait", "100ms"];
    let output = run(&[&arguments[..], &["--fail-if", "p50 > 50ms", "--fail-if", "errors > 0"]].concat());
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    assert!(stderr(&output).contains("failed: async, 100 connections: p50 > 50ms: it is 1"), "{}", stderr(&output));
    assert!(!stderr(&output).contains("errors > 0"), "{}", stderr(&output));
}

#[test]
fn results_that_cannot_be_written_are_saved_elsewhere() {
    let directory = tempfile::tempdir().unwrap();
    let json = json_path(&directory);
    let loadtest =
        Loadtest::start(&["--target", "async", "-c", "100", "-d", "1s", "--db-wait", "50ms", "--json", &json]);
    loadtest.server();
    drop(directory);
    let output = loadtest.output();
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let stderr_text = stderr(&output);
    assert!(stderr_text.contains("error: the results are in ") && stderr_text.contains("run.json cannot be written"));
    let kept = stderr_text.split_whitespace().find(|word| word.ends_with(".json,")).unwrap().trim_end_matches(',');
    let result = read_json(kept);
    fs::remove_file(kept).unwrap();
    assert!(result[0]["requests"].as_u64().unwrap() > 0, "{result}");
}

#[test]
fn flags_after_two_dashes_reach_the_server() {
    let directory = tempfile::tempdir().unwrap();
    let json = json_path(&directory);
    let arguments = ["--target", "threadpool", "-c", "40", "-d", "2s", "--db-wait", "500ms", "--json", &json];
    let output = run(&[&arguments[..], &["--", "--workers", "8"]].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    let connections = &read_json(&json)["connections"];
    assert_eq!([&connections["waiting_peak"], &connections["queued_peak"], &connections["held_peak"]], [8, 32, 40]);
}

#[test]
fn refusals_are_counted_and_reported() {
    let directory = tempfile::tempdir().unwrap();
    let json = json_path(&directory);
    let arguments = ["--target", "threads", "-c", "30", "-d", "1s", "--db-wait", "100ms", "--json", &json];
    let output = run(&[&arguments[..], &["--", "--max-connections", "20"]].concat());
    let result = read_json(&json);
    assert!(result["errors"]["status"].as_u64().unwrap() > 0, "{result}");
    assert!(result["errors_before"]["status"].as_u64().unwrap() > 0, "{result}");
    assert!(result["connections"]["held_peak"].as_u64().unwrap() <= 20, "{result}");
    assert!(stdout(&output).contains("warning"), "{}", stdout(&output));
}

#[test]
fn an_interrupted_run_keeps_what_it_measured() {
    let directory = tempfile::tempdir().unwrap();
    let json = json_path(&directory);
    let loadtest =
        Loadtest::start(&["--target", "threads", "-c", "50", "-d", "60s", "--db-wait", "100ms", "--json", &json]);
    let server = loadtest.server();
    thread::sleep(Duration::from_secs(4));
    send(Signal::SIGINT, loadtest.pid());
    let output = loadtest.output();
    assert_eq!(output.status.code(), Some(130), "{}", stderr(&output));
    let result = read_json(&json);
    assert_eq!(result["complete"], false);
    assert_eq!(result["failure"], "interrupted");
    assert!(result["requests"].as_u64().unwrap() > 0 && result["latency_us"]["p50"].is_u64(), "{result}");
    assert!(result["memory"]["peak_bytes"].is_u64() && result["memory"]["pss_bytes"].is_u64(), "{result}");
    assert!(stdout(&output).contains("(partial)"), "{}", stdout(&output));
    assert_gone(&server);
}

#[test]
fn a_second_interrupt_does_not_wait_for_answers_and_keeps_results() {
    let directory = tempfile::tempdir().unwrap();
    let json = json_path(&directory);
    let loadtest =
        Loadtest::start(&["--target", "prefork", "-c", "20", "-d", "60s", "--db-wait", "30s", "--json", &json]);
    let server = loadtest.server();
    thread::sleep(Duration::from_secs(2));
    let interrupted = Instant::now();
    send(Signal::SIGINT, loadtest.pid());
    thread::sleep(Duration::from_millis(200));
    send(Signal::SIGINT, loadtest.pid());
    let output = loadtest.output();
    assert!(interrupted.elapsed() < Duration::from_secs(20), "it waited for the answers");
    assert_eq!(output.status.code(), Some(130), "{}", stderr(&output));
    assert_eq!(read_json(&json)["complete"], false);
    assert_gone(&server);
}

#[test]
fn a_run_that_measures_nothing_fails() {
    let output = run(&["--target", "async", "-c", "5", "-d", "100ms", "--db-wait", "2s"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stdout(&output).contains("nothing was answered"), "{}", stdout(&output));
}

#[test]
fn a_closed_stdout_does_not_fail_a_run() {
    let directory = tempfile::tempdir().unwrap();
    let json = json_path(&directory);
    let mut loadtest =
        Loadtest::start(&["--target", "async", "-c", "5", "-d", "1s", "--db-wait", "50ms", "--json", &json]);
    drop(loadtest.child.stdout.take());
    let output = loadtest.output();
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(read_json(&json)["complete"], true);
}

#[test]
fn a_server_that_dies_is_reported_with_its_signal() {
    let directory = tempfile::tempdir().unwrap();
    let json = json_path(&directory);
    let loadtest =
        Loadtest::start(&["--target", "async", "-c", "50", "-d", "60s", "--db-wait", "100ms", "--json", &json]);
    let server = loadtest.server();
    thread::sleep(Duration::from_secs(3));
    send(Signal::SIGKILL, server[0]);
    let output = loadtest.output();
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(stdout(&output).contains("SIGKILL"), "{}", stdout(&output));
    let result = read_json(&json);
    assert_eq!(result["complete"], false);
    assert!(result["failure"].as_str().unwrap().contains("killed by signal 9 (SIGKILL)"), "{result}");
    assert!(result["requests"].as_u64().unwrap() > 0, "{result}");
}

/// However far the run is, the server ends with loadtest, and the file that an earlier run wrote stays what it was.
#[test]
fn killing_loadtest_leaves_no_server() {
    let phases = ["connecting", "holding", "settling", "measuring", "ledger", "stopping"];
    for (target, phase) in ["prefork", "threads"].into_iter().flat_map(|target| phases.map(|phase| (target, phase))) {
        let directory = tempfile::tempdir().unwrap();
        let json = json_path(&directory);
        fs::write(&json, "earlier").unwrap();
        let arguments = ["--target", target, "-c", "50", "-d", "1s", "--db-wait", "200ms", "--json", &json];
        let mut loadtest = Loadtest::start(&[&arguments[..], &["--events", "-"]].concat());
        let server = loadtest.server();
        let mut events = BufReader::new(loadtest.child.stdout.take().unwrap()).lines().map_while(Result::ok);
        assert!(events.any(|event| event.contains(&format!("\"phase\":\"{phase}\""))), "{target}: {phase}");
        let server = [meter::process_tree(server[0]), server].concat();
        send(Signal::SIGKILL, loadtest.pid());
        assert_eq!(loadtest.output().status.code(), None, "{target}: {phase}");
        assert_gone(&server);
        assert_eq!(fs::read_to_string(&json).unwrap(), "earlier", "{target}: {phase}");
        let left: Vec<_> = fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["run.json"], "{target}: {phase}");
    }
}

#[test]
fn a_file_that_cannot_be_written_is_refused_before_anything_runs() {
    let directory = tempfile::tempdir().unwrap();
    for path in [directory.path().join("missing/run.json"), directory.path().to_owned()] {
        let output = run(&["--target", "async", "--json", path.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(1));
        assert!(stderr(&output).contains("--json"), "{}", stderr(&output));
        assert!(stdout(&output).is_empty() && !stderr(&output).contains("Finished"), "{}", stderr(&output));
    }
}

#[test]
fn a_server_that_does_not_start_says_why() {
    let output = run(&["--target", "async", "-c", "10", "--", "--no-such-flag"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stdout(&output).contains("exit status 2") && stdout(&output).contains("--no-such-flag"), "{output:?}");
}

#[test]
fn wrong_arguments_are_refused() {
    for arguments in [
        &["--target", "forks"][..],
        &[],
        &["--target", "all", "-d", "0s"],
        &["--target", "all", "--db-wait", "soon"],
        &["--target", "async", "--cpus", "0:900"],
        &["--target", "async", "--cpus", "0:90000"],
        &["--target", "async", "--slo", "p99 < 1ms", "--db-wait", "1s"],
        &["--target", "async", "--slo", "p99 < 1s", "--db-wait", "1ms", "--chart", "rates.svg"],
        &["http://127.0.0.1:1/", "--cpus", "0:900"],
        &["http://127.0.0.1:1/", "--pid", "0"],
        &["http://127.0.0.1:1/", "--workers", "127.0.0.1:1", "--bind", "127.0.0.1"],
    ] {
        assert_eq!(run(arguments).status.code(), Some(2), "{arguments:?}");
    }
    let output = run(&["--target", "async", "-c", "10000000"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("ulimit"), "{}", stderr(&output));
}
