//! `loadtest peers` with peers of the test's own: what is measured, what is left out, and what is kept.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

const LOADTEST: &str = env!("CARGO_BIN_EXE_loadtest");
const TIMEOUT: Duration = Duration::from_secs(60);

/// A peer: the null server, with these lines beside.
fn peer(directory: &TempDir, name: &str, lines: &str) -> PathBuf {
    let path = directory.path().join(format!("{name}.toml"));
    let text = format!(
        "name = '{name}'\nmodel = 'task per connection'\ninstall = 'nothing'\nversion = 'echo null 1.2.3'\n\
         run = 'exec {LOADTEST} null-server --port {{port}}'\n{lines}\n"
    );
    fs::write(&path, text).unwrap();
    path
}

fn peers(arguments: &[&str], files: &[&Path]) -> Command {
    let list: Vec<_> = files.iter().map(|path| path.to_str().unwrap()).collect();
    let mut command = Command::new(LOADTEST);
    command.args(["peers", "--peer", &list.join(",")]).args(arguments);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn texts(output: &Output) -> (String, String) {
    (String::from_utf8_lossy(&output.stdout).into_owned(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn what_is_installed_is_measured_in_every_round_and_the_rest_is_named() {
    let directory = TempDir::new().unwrap();
    let one = peer(&directory, "one", "programs = []\ndelay_path = '/delay/{ms}'");
    let built = peer(&directory, "built", "programs = ['sh']\nbuild = 'test -f {dir}/a'\n[files]\n'a' = 'port {port}'");
    let absent = peer(&directory, "absent", "programs = ['no-such-program']");
    let old = peer(&directory, "old", "programs = ['sh']\nrequires = 'false'");
    let broken = peer(&directory, "broken", "programs = ['sh']\nbuild = 'echo cannot build it >&2; exit 1'");
    let json = directory.path().join("a.json");
    let arguments = ["-c", "5,10", "--rounds", "2", "-d", "200ms", "--wait", "10ms", "--json", json.to_str().unwrap()];
    let output = peers(&arguments, &[&one, &built, &absent, &old, &broken]).output().unwrap();
    let (stdout, stderr) = texts(&output);
    assert!(output.status.success(), "{stderr}");
    for expected in ["no-such-program is not installed: nothing", "`false` fails", "cannot build it"] {
        assert!(stderr.contains(expected), "{expected}: {stderr}");
    }
    for expected in ["10 connections, answered at once", "5 connections, each answer after 10ms", "1.2.3", "MUST kept"]
    {
        assert!(stdout.contains(expected), "{expected}: {stdout}");
    }
    let runs: Vec<Value> = serde_json::from_slice(&fs::read(&json).unwrap()).unwrap();
    let mut cells: Vec<_> = runs
        .iter()
        .map(|run| {
            let wait = run["wait"]["spec"].as_str().unwrap();
            let connections = run["connections"]["requested"].as_u64().unwrap();
            (run["target"].as_str().unwrap(), wait, connections, run["round"].as_u64().unwrap())
        })
        .collect();
    cells.sort_unstable();
    let mut expected = Vec::new();
    for (name, wait) in [("built", "0s"), ("one", "0s"), ("one", "10ms")] {
        expected.extend([(name, wait, 5, 1), (name, wait, 5, 2), (name, wait, 10, 1), (name, wait, 10, 2)]);
    }
    assert_eq!(cells, expected);
    assert!(runs.iter().all(|run| run["peer"]["version"] == "1.2.3" && run["complete"] == true), "{stderr}");
    // The null server answers 200 to whatever ends like a head.
    let must = |run: &Value| run["peer"]["conformance"]["must"]["passed"].as_u64().unwrap();
    assert!(runs.iter().all(|run| (1..100).contains(&must(run))), "{:?}", runs[0]["peer"]);
    let report = Command::new(LOADTEST).arg("report").arg(&json).output().unwrap();
    assert_eq!(texts(&report).0, stdout);
}

#[test]
fn a_peer_that_does_not_start_is_a_failure_and_costs_no_other() {
    let directory = TempDir::new().unwrap();
    let good = peer(&directory, "good", "programs = []");
    let text = fs::read_to_string(&good).unwrap().replace("'good'", "'bad'").replace("exec ", "exit 3; exec ");
    let bad = directory.path().join("bad.toml");
    fs::write(&bad, text).unwrap();
    let output =
        peers(&["-c", "5", "--rounds", "1", "-d", "200ms", "--no-conformance"], &[&good, &bad]).output().unwrap();
    let (stdout, stderr) = texts(&output);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stdout.contains("not started") && stdout.contains(" good "), "{stdout}");
}

#[test]
fn an_interrupted_comparison_keeps_what_it_measured() {
    let directory = TempDir::new().unwrap();
    let one = peer(&directory, "one", "programs = []");
    let json = directory.path().join("a.json");
    let arguments = ["-c", "5", "--rounds", "50", "-d", "300ms", "--no-conformance", "--json", json.to_str().unwrap()];
    let child = peers(&arguments, &[&one]).spawn().unwrap();
    let deadline = Instant::now() + TIMEOUT;
    while !json.exists() {
        assert!(Instant::now() < deadline, "nothing is measured");
        thread::sleep(Duration::from_millis(20));
    }
    kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM).unwrap();
    let output = child.wait_with_output().unwrap();
    let (stdout, stderr) = texts(&output);
    assert_eq!(output.status.code(), Some(130), "{stderr}");
    assert!(stdout.contains("answered at once"), "{stdout}");
    let runs: Vec<Value> = serde_json::from_slice(&fs::read(&json).unwrap()).unwrap();
    assert!((1..50).contains(&runs.len()) && runs[0]["complete"] == true);
}

#[test]
fn an_interrupted_build_leaves_nothing() {
    let directory = TempDir::new().unwrap();
    let marker = directory.path().join("begun");
    let build = format!("programs = ['sh']\nbuild = 'touch {}; sleep 4731; true'", marker.display());
    let slow = peer(&directory, "slow", &build);
    let mut child = peers(&["-c", "5"], &[&slow]).spawn().unwrap();
    let deadline = Instant::now() + TIMEOUT;
    while !marker.exists() {
        assert!(Instant::now() < deadline, "nothing is built");
        thread::sleep(Duration::from_millis(20));
    }
    kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let sleeping = Command::new("pgrep").args(["-fx", "sleep 4731"]).output().unwrap();
    assert_eq!(texts(&sleeping).0, "", "it goes on");
}

#[test]
fn wrong_names_and_files_are_refused_before_anything_runs() {
    let directory = TempDir::new().unwrap();
    let one = peer(&directory, "one", "programs = []");
    let wrong = peer(&directory, "wrong", "programs = []\ncolour = 'red'");
    let changed = |name: &str, from: &str, to: &str| {
        let path = directory.path().join(name);
        fs::write(&path, fs::read_to_string(&one).unwrap().replace(from, to)).unwrap();
        path
    };
    let nameless = changed("nameless.toml", "'one'", "' '");
    let deaf = changed("deaf.toml", "{port}", "8080");
    for (files, expected) in [
        (vec![Path::new("apache")], "there is no peer apache: --list"),
        (vec![Path::new("/no/such/peer.toml")], "/no/such/peer.toml"),
        (vec![&*wrong], "colour"),
        (vec![&*nameless], "its name is empty"),
        (vec![&*deaf], "has {port}, which the server must listen on"),
        (vec![&*one, &*one], "more than one peer one"),
    ] {
        let output = peers(&[], &files).output().unwrap();
        let (_, stderr) = texts(&output);
        // A file that is wrong, or an argument.
        let is_file = files[0].extension().is_some() && files.len() == 1;
        assert_eq!(output.status.code(), Some(if is_file { 1 } else { 2 }), "{stderr}");
        assert!(stderr.contains(expected), "{expected}: {stderr}");
    }
    for wait in ["61s", "1500us"] {
        let output = peers(&["--wait", wait], &[&one]).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{output:?}");
    }
    let listed = Command::new(LOADTEST).args(["peers", "--list"]).output().unwrap();
    let (stdout, _) = texts(&listed);
    assert!(listed.status.success() && stdout.contains("nginx") && stdout.contains("async-codec"), "{stdout}");
}
