//! Sweeps and plans, on the real binary and real servers.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// Includes building the servers.
const TIMEOUT: Duration = Duration::from_secs(600);

const SWEEP: [&str; 7] = ["sweep", "--target", "async,threads", "-d", "1s", "--db-wait", "100ms"];

fn start(arguments: &[&str]) -> Child {
    // Whoever runs the tests in the background of a shell ignores SIGINT, and so would loadtest.
    let mut command = Command::new("env");
    command.args(["--default-signal=INT", env!("CARGO_BIN_EXE_loadtest")]);
    command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn run(arguments: &[&str]) -> Output {
    start(arguments).wait_with_output().unwrap()
}

fn sweep(more: &[&str]) -> Output {
    run(&[&SWEEP[..], more].concat())
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A sweep's file; null while there is none.
fn read(path: impl AsRef<Path>) -> Value {
    fs::read(path).map_or(Value::Null, |bytes| serde_json::from_slice(&bytes).unwrap())
}

/// The runs in a sweep's file; empty while there is no file.
fn results(path: impl AsRef<Path>) -> Vec<Value> {
    read(path)["runs"].as_array().cloned().unwrap_or_default()
}

/// The target, connections and round of each run, which must be distinct.
fn cells(results: &[Value]) -> BTreeSet<String> {
    let cells: BTreeSet<_> = results
        .iter()
        .map(|result| format!("{} {} {}", result["target"], result["connections"]["requested"], result["round"]))
        .collect();
    assert_eq!(cells.len(), results.len(), "a cell was measured twice");
    cells
}

fn has_cgroup() -> bool {
    meter::Cgroup::create(&format!("sweep-test-{}", std::process::id())).is_ok()
}

#[test]
fn a_sweep_measures_every_cell_once_and_a_plan_reads_it() {
    let directory = tempfile::tempdir().unwrap();
    let json = directory.path().join("sweep.json");
    let json = json.to_str().unwrap();
    let cells_asked = ["-c", "100,50,50", "--rounds", "1"];
    let output = sweep(&[&cells_asked[..], &["--seed", "7", "--json", json]].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stderr(&output).contains("4 cells to measure: about"), "{}", stderr(&output));
    for expected in ["threads", "a connection more", "keep-alive", "requests/s", "p99"] {
        assert!(stdout(&output).contains(expected), "{expected:?} is missing in {}", stdout(&output));
    }
    let reported = run(&["report", json]);
    assert_eq!(stdout(&reported), stdout(&output), "a report of the file is what the sweep has printed");
    let measured = results(json);
    assert_eq!(cells(&measured).len(), 4);
    let models = read(json)["models"].take();
    for (model, name) in models.as_array().unwrap().iter().zip(["threads", "async"]) {
        assert_eq!((&model["target"], model["cells"][1]["connections"].as_u64()), (&name.into(), Some(100)));
        assert!(!has_cgroup() || model["active"]["bytes"].as_f64() > Some(0.0), "{model}");
    }
    for result in &measured {
        assert_eq!((&result["complete"], &result["cause"]), (&Value::Bool(true), &Value::Null), "{result}");
        assert_eq!((&result["sweep"]["seed"], &result["round"]), (&7.into(), &1.into()));
        let [idle, keep_alive, peak] =
            ["idle_bytes", "keep_alive_bytes", "peak_bytes"].map(|key| result["memory"][key].as_u64());
        assert!(!has_cgroup() || (idle < keep_alive && keep_alive <= peak), "{idle:?} {keep_alive:?} {peak:?}");
    }

    let output = run(&["sweep", "--resume", json]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stderr(&output).contains("0 cells to measure, 4 others are in the file"), "{}", stderr(&output));
    assert_eq!(results(json), measured);
    let output = sweep(&["-c", "50,200", "--rounds", "2", "--resume", json]);
    assert_eq!(output.status.code(), Some(2));
    for expected in ["connections: [50, 100] there, [50, 200] now", "rounds: 1 there, 2 now"] {
        assert!(stderr(&output).contains(expected), "{}", stderr(&output));
    }
    assert_eq!(results(json), measured);

    assert_plans(json);
    assert_other_build_is_refused(json);
}

fn assert_other_build_is_refused(json: &str) {
    let mut sweep = read(json);
    sweep["runs"][1]["server"]["executable_sha256"] = "0123".into();
    fs::write(json, sweep.to_string()).unwrap();
    let output = run(&["sweep", "--resume", json]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("is not the build that was measured on"), "{}", stderr(&output));
}

fn assert_plans(sweep: &str) {
    let plan = |more: &[&str]| run(&[&["plan", "-w", "100ms", "-r", "1GiB", "--from", sweep], more].concat());
    let json = format!("{sweep}.plan");
    let output = plan(&["-c", "1000", "--rate", "100", "--json", &json]);
    let verdicts: Value = serde_json::from_slice(&fs::read(&json).unwrap()).unwrap();
    assert_eq!(verdicts["verdicts"].as_array().unwrap().len(), 2, "{verdicts}");
    // CPU time needs a cgroup, but RAM is in any case a small part of the limit.
    assert!(output.status.success(), "{}", stdout(&output));
    assert!(stdout(&output).starts_with("Take threads."), "{}", stdout(&output));
    assert!(stdout(&output).contains("within 1 GiB"), "{}", stdout(&output));
    for line in stdout(&output).lines().filter(|line| line.starts_with(' ')) {
        assert!(console::measure_text_width(line) <= 80, "{line}");
    }
    assert!(stdout(&output).contains("extrapolated") && stdout(&output).contains(sweep), "{}", stdout(&output));

    let output = plan(&["-c", "10M", "--rate", "100"]);
    assert_eq!(output.status.code(), Some(1), "{}", stdout(&output));
    assert!(stdout(&output).starts_with("None of the models fits. The closest is "), "{}", stdout(&output));
    assert_eq!(stdout(&output).matches("may need more RAM").count(), 1, "a reason is given once: {}", stdout(&output));
    let output = plan(&["-c", "10", "--rate", "101"]);
    assert!(stderr(&output).contains("at most 100 in all"), "{}", stderr(&output));
    let output = plan(&["-c", "10", "--isolation"]);
    assert!(stdout(&output).contains("with --isolation only prefork is left"), "{}", stdout(&output));
}

#[test]
fn an_interrupted_sweep_can_be_resumed() {
    let directory = tempfile::tempdir().unwrap();
    let json = directory.path().join("sweep.json");
    let json = json.to_str().unwrap();
    let cells_asked = ["-c", "20,40", "--rounds", "2"];
    let sweeping = start(&[&SWEEP[..], &cells_asked, &["--json", json]].concat());
    let deadline = Instant::now() + TIMEOUT;
    while results(json).is_empty() {
        assert!(Instant::now() < deadline, "nothing was measured");
        thread::sleep(Duration::from_millis(50));
    }
    // Interrupt in the middle of the next cell.
    thread::sleep(Duration::from_millis(500));
    kill(Pid::from_raw(sweeping.id() as i32), Signal::SIGINT).unwrap();
    let output = sweeping.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", stderr(&output));
    assert!(stdout(&output).contains("a connection more"), "{}", stdout(&output));
    let kept: Vec<_> = results(json).into_iter().filter(|result| result["complete"] == true).collect();
    assert!(!kept.is_empty() && kept.len() < 8, "{}", kept.len());
    for result in results(json).iter().filter(|result| result["complete"] == false) {
        assert_eq!(result["cause"], "interrupted", "{result}");
    }

    let output = run(&["sweep", "--resume", json]);
    assert!(output.status.success(), "{}", stderr(&output));
    let all = results(json);
    assert_eq!(cells(&all).len(), 8);
    assert!(all.iter().all(|result| result["complete"] == true));
    assert_eq!(all[..kept.len()], kept);
}

#[test]
fn a_ram_limit_shows_where_a_server_fails() {
    let directory = tempfile::tempdir().unwrap();
    let json = directory.path().join("sweep.json");
    let limit =
        ["sweep", "--target", "threads", "-c", "20,600", "-d", "500ms", "--db-wait", "100ms", "--ram-limit", "8M"];
    let output = run(&[&limit[..], &["--json", json.to_str().unwrap()]].concat());
    if !has_cgroup() {
        assert_eq!(output.status.code(), Some(1));
        assert!(stderr(&output).contains("--ram-limit needs a cgroup"), "{}", stderr(&output));
        return;
    }
    assert!(output.status.success(), "{}", stderr(&output));
    let measured = results(&json);
    let (held, failed): (Vec<_>, Vec<_>) = measured.iter().partition(|result| result["cause"].is_null());
    let connections = |result: &&Value| result["connections"]["requested"].as_u64().unwrap();
    let (held, least) = (held.iter().map(connections).max().unwrap(), failed.iter().map(connections).min().unwrap());
    assert!((20..least).contains(&held) && least <= 600, "held {held}, broke at {least}");
    for result in &failed {
        assert_eq!(result["cause"], "out_of_memory", "{result}");
        assert!(result["server"]["oom_kills"].as_u64().unwrap() > 0, "{result}");
        // The kill may also come at the very end, after the measurement.
        assert!(result["server"]["exit"].as_str().unwrap().contains("SIGKILL"), "{result}");
        assert_eq!(result["memory"]["limit_bytes"], 8 << 20);
    }
    for expected in ["fails at", "(OOM)", "within 8 MiB"] {
        assert!(stdout(&output).contains(expected), "{}", stdout(&output));
    }
    let model = read(&json)["models"][0].take();
    let limits = (model["holds"].as_u64(), model["fails_at"].as_u64(), model["fails_by"].as_str());
    assert_eq!(limits, (Some(held), Some(least), Some("out_of_memory")));
}
