//! `--workers`: users in several processes, with the real binary.

mod origin;

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

use origin::Origin;

/// A busy machine takes several times as long.
const PATIENCE: Duration = Duration::from_secs(60);
const POLL_INTERVAL: Duration = Duration::from_millis(50);
const TOKEN: &str = "a token of the tests";
const OTHER_TOKEN: &str = "the token of somebody else";

fn loadtest(arguments: &[&str], token: Option<&str>) -> Command {
    // Whoever runs the tests in the background of a shell ignores SIGINT, and so would loadtest.
    let mut command = Command::new("env");
    command.args(["--default-signal=INT", env!("CARGO_BIN_EXE_loadtest")]).args(arguments).env_remove("C10K_TOKEN");
    token.map(|token| command.env("C10K_TOKEN", token));
    command
}

fn run(arguments: &[&str], token: Option<&str>) -> Output {
    loadtest(arguments, token).output().unwrap()
}

fn spawn(arguments: &[&str], token: Option<&str>) -> Child {
    loadtest(arguments, token).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// A worker that listens, and its address. Ended with the test.
struct ListeningWorker {
    child: Child,
    address: String,
}

impl ListeningWorker {
    fn start() -> Self {
        let mut command = loadtest(&["worker", "--listen", "127.0.0.1:0"], Some(TOKEN));
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on ").unwrap().to_owned();
        Self { child, address }
    }
}

impl Drop for ListeningWorker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn json_in(directory: &TempDir) -> PathBuf {
    directory.path().join("run.json")
}

fn read_json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn text(output: &[u8]) -> String {
    String::from_utf8_lossy(output).into_owned()
}

/// The pids of the workers that a coordinator has started and that run.
fn workers_of(coordinator: u32) -> Vec<i32> {
    let is_worker = |pid: &i32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|&byte| byte == 0).any(|word| word == b"worker")
    };
    meter::process_tree(coordinator as i32).into_iter().filter(is_worker).collect()
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "it never happened that {what}");
        thread::sleep(POLL_INTERVAL);
    }
}

fn is_gone(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.is_empty() || stat.contains(") Z ")
}

/// What the workers of a result say of this figure.
fn of_workers(result: &Value, figure: &str) -> Vec<i64> {
    let workers = result["fleet"]["workers"].as_array().unwrap();
    workers.iter().map(|worker| worker[figure].as_i64().unwrap_or_else(|| panic!("{figure}: {worker}"))).collect()
}

#[test]
fn what_the_workers_saw_adds_up_to_what_the_server_saw() {
    let (origin, directory) = (Origin::start(), tempfile::tempdir().unwrap());
    let json = json_in(&directory);
    let arguments = ["-c", "21", "-t", "2", "-d", "2s", "--latency", "--json", json.to_str().unwrap()];
    let output = run(&[&arguments[..], &["--workers", "2", &origin.url("/")]].concat(), None);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let result = read_json(&json);
    assert_eq!(of_workers(&result, "connections"), [11, 10]);
    assert_eq!(result["connections"]["established"], 21, "{result}");
    let requests = result["requests"].as_u64().unwrap();
    assert_eq!(of_workers(&result, "requests").iter().sum::<i64>() as u64, requests);
    // The server has also seen those that were in flight when the window closed, and those that followed.
    let served = origin.requests().len() as u64;
    let in_flight = result["in_flight"].as_u64().unwrap();
    assert!((requests + in_flight..=requests + 10 * 21).contains(&served), "{served} served, {requests} answered");
    // Every row of the series comes from the workers' histograms, and so do the percentiles.
    let series = result["series"].as_array().unwrap();
    let mut begun_s = 0.0;
    let in_series = series.iter().map(|second| {
        let end_s = second["end_s"].as_f64().unwrap();
        second["rps"].as_f64().unwrap() * (end_s - std::mem::replace(&mut begun_s, end_s))
    });
    assert_eq!(in_series.sum::<f64>().round() as u64, requests, "{series:?}");
    let p50_us = result["latency_us"]["p50"].as_u64().unwrap();
    assert!(p50_us >= 20_000 && result["latency_us"]["max"].as_u64().unwrap() >= p50_us, "{result}");
    assert!(result["fleet"]["start_skew_us"].is_u64() && result["fleet"]["start_skew_error_us"].is_u64(), "{result}");
    assert!(result["client"]["cpu_s"].as_f64().unwrap() > 0.0 && result["client"]["rss_peak_bytes"].is_u64());
    assert_eq!(
        (&result["load"]["threads"], &result["complete"], &result["cause"]),
        (&4.into(), &true.into(), &Value::Null)
    );
    let printed = text(&output.stdout);
    assert!(printed.contains("4 threads and 21 connections") && printed.contains("50%"), "{printed}");
    assert!(text(&output.stderr).contains("started within"), "{}", text(&output.stderr));
}

#[test]
fn the_figures_of_workers_are_those_of_one_process() {
    let (origin, directory) = (Origin::start(), tempfile::tempdir().unwrap());
    let json = json_in(&directory);
    let fields = |more: &[&str]| -> Vec<String> {
        let arguments = ["-c", "4", "-d", "1s", "--json", json.to_str().unwrap(), &origin.url("/")];
        let output = run(&[&arguments[..], more].concat(), None);
        assert!(output.status.success(), "{}", text(&output.stderr));
        let mut found = Vec::new();
        measured("", &read_json(&json), &mut found);
        found.retain(|name| !name.starts_with("/fleet") && !name.starts_with("/series") && !name.contains("warnings"));
        found
    };
    assert_eq!(fields(&["--workers", "2"]), fields(&[]));
}

/// The names of all that is not null.
fn measured(name: &str, json: &Value, found: &mut Vec<String>) {
    match json {
        Value::Null => {}
        Value::Object(fields) => {
            fields.iter().for_each(|(part, json)| measured(&format!("{name}/{part}"), json, found))
        }
        _ => found.push(name.to_owned()),
    }
}

#[test]
fn workers_hold_the_connections_of_a_target() {
    let directory = tempfile::tempdir().unwrap();
    let [json, events] = [json_in(&directory), directory.path().join("events.jsonl")];
    let arguments = ["--target", "async", "-c", "41", "-d", "2s", "--db-wait", "100ms", "--workers", "3"];
    let files = ["--json", json.to_str().unwrap(), "--events", events.to_str().unwrap()];
    let output = run(&[&arguments[..], &files].concat(), None);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let result = read_json(&json);
    assert_eq!(result["connections"]["held_peak"], 41, "{result}");
    assert_eq!(result["connections"]["open_peak"], 41, "{result}");
    assert_eq!(of_workers(&result, "connections"), [14, 14, 13]);
    assert_eq!(result["errors"]["read"], 0, "{result}");
    // While it runs, the workers say how many connections they have.
    let events = fs::read_to_string(events).unwrap();
    assert!(
        events.lines().any(|line| line.contains("\"observed\"") && line.contains("\"established\":41")),
        "{events}"
    );
}

#[test]
fn a_rate_is_shared() {
    let (origin, directory) = (Origin::start(), tempfile::tempdir().unwrap());
    let json = json_in(&directory);
    let arguments = ["-c", "8", "-d", "2s", "-R", "100", "--json", json.to_str().unwrap(), "--workers", "2"];
    let output = run(&[&arguments[..], &[&origin.url("/")]].concat(), None);
    assert!(output.status.success(), "{}", text(&output.stderr));
    // A user that starts late on a busy machine has one request less.
    let due = read_json(&json)["rate"]["due"].as_u64().unwrap();
    assert!((185..=205).contains(&due), "{due} requests were due");
}

#[test]
fn a_worker_killed_in_the_middle_makes_the_result_invalid() {
    let (origin, directory) = (Origin::start(), tempfile::tempdir().unwrap());
    let json = json_in(&directory);
    let url = origin.url("/");
    let arguments = ["-c", "10", "-d", "60s", "--json", json.to_str().unwrap(), "--workers", "2", &url];
    let coordinator = spawn(&arguments, None);
    wait_until("both load the server", || origin.requests().len() > 100 && workers_of(coordinator.id()).len() == 2);
    // Some snapshots are taken.
    thread::sleep(Duration::from_secs(3));
    let workers = workers_of(coordinator.id());
    kill(Pid::from_raw(workers[0]), Signal::SIGKILL).unwrap();
    let output = coordinator.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    let result = read_json(&json);
    assert_eq!((&result["complete"], &result["cause"]), (&false.into(), &"worker_lost".into()), "{result}");
    let failure = result["failure"].as_str().unwrap();
    assert!(failure.contains("was lost: it ended, or its machine did"), "{failure}");
    assert_eq!(result["fleet"]["workers"].as_array().unwrap().iter().filter(|w| !w["lost"].is_null()).count(), 1);
    // What both measured is kept.
    assert!(of_workers(&result, "requests").iter().all(|requests| *requests > 0), "{result}");
    assert!(result["latency_us"]["p50"].is_u64(), "{result}");
    assert!(text(&output.stderr).contains("(partial)") && text(&output.stderr).contains("LOST"));
    wait_until("the other worker has ended", || workers.iter().all(|pid| is_gone(*pid)));
}

#[test]
fn an_interrupted_run_keeps_what_the_workers_measured() {
    let (origin, directory) = (Origin::start(), tempfile::tempdir().unwrap());
    let json = json_in(&directory);
    let url = origin.url("/");
    let coordinator = spawn(&["-c", "10", "-d", "60s", "--json", json.to_str().unwrap(), "--workers", "2", &url], None);
    wait_until("they load the server", || origin.requests().len() > 100);
    let workers = workers_of(coordinator.id());
    kill(Pid::from_raw(coordinator.id() as i32), Signal::SIGINT).unwrap();
    let output = coordinator.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", text(&output.stderr));
    let result = read_json(&json);
    assert_eq!((&result["cause"], &result["complete"]), (&"interrupted".into(), &false.into()));
    assert!(of_workers(&result, "requests").iter().all(|requests| *requests > 0), "{result}");
    assert!(workers.len() == 2 && workers.iter().all(|pid| is_gone(*pid)));
}

#[test]
fn a_killed_coordinator_leaves_no_worker() {
    let origin = Origin::start();
    let url = origin.url("/");
    let mut coordinator = spawn(&["-c", "10", "-d", "60s", "--workers", "2", &url], None);
    wait_until("they load the server", || origin.requests().len() > 100);
    let workers = workers_of(coordinator.id());
    assert_eq!(workers.len(), 2);
    coordinator.kill().unwrap();
    coordinator.wait().unwrap();
    wait_until("the workers have ended", || workers.iter().all(|pid| is_gone(*pid)));
}

#[test]
fn workers_listen_and_serve_one_run_after_the_other() {
    let (origin, directory) = (Origin::start(), tempfile::tempdir().unwrap());
    let json = json_in(&directory);
    let workers = [ListeningWorker::start(), ListeningWorker::start()];
    let addresses = workers.iter().map(|worker| worker.address.as_str()).collect::<Vec<_>>().join(",");
    let url = origin.url("/");
    let arguments = ["-c", "6", "-d", "1s", "--json", json.to_str().unwrap(), "--workers", &addresses, &url];
    for _ in 0..2 {
        let output = run(&arguments, Some(TOKEN));
        assert!(output.status.success(), "{}", text(&output.stderr));
        let result = read_json(&json);
        assert!(result["requests"].as_u64() > Some(0));
        let names: Vec<_> = workers.iter().map(|worker| Value::from(worker.address.as_str())).collect();
        let found = result["fleet"]["workers"].as_array().unwrap().iter().map(|worker| worker["name"].clone());
        assert_eq!(found.collect::<Vec<_>>(), names);
        let written = fs::read_to_string(&json).unwrap() + &text(&output.stdout) + &text(&output.stderr);
        assert!(!written.contains(TOKEN), "the token is written down");
    }
}

#[test]
fn who_knows_another_token_is_refused_on_both_sides() {
    let worker = ListeningWorker::start();
    let output = run(&["--null", "-d", "1s", "--workers", &worker.address], Some(OTHER_TOKEN));
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("the tokens differ"), "{}", text(&output.stderr));
    let output = run(&["--null", "-d", "1s", "--workers", &worker.address], None);
    assert!(text(&output.stderr).contains("no token: both sides need the same"), "{}", text(&output.stderr));
    assert_eq!(output.status.code(), Some(2));
    let output = run(&["--null", "-d", "1s", "--workers", &worker.address], Some("short"));
    assert!(text(&output.stderr).contains("the token has 5 characters"), "{}", text(&output.stderr));
    assert_eq!(output.status.code(), Some(2));
    // And the worker is there for those who know it.
    let output = run(&["--null", "-d", "1s", "-c", "4", "--workers", &worker.address], Some(TOKEN));
    assert!(output.status.success(), "{}", text(&output.stderr));

    let mut coordinator = spawn(&["--null", "-d", "1s", "-c", "4", "--workers", "1@127.0.0.1:0"], Some(TOKEN));
    let (address, lines) = joining_address(&mut coordinator);
    let output = run(&["worker", "--join", &address], Some(OTHER_TOKEN));
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("the tokens differ"), "{}", text(&output.stderr));
    assert!(run(&["worker", "--join", &address], Some(TOKEN)).status.success());
    let said = lines.join().unwrap();
    assert!(coordinator.wait().unwrap().success(), "{said}");
    assert!(said.contains("was refused as a worker: the tokens differ"), "{said}");
}

/// Where workers can join, and the rest of what the coordinator says.
fn joining_address(coordinator: &mut Child) -> (String, thread::JoinHandle<String>) {
    let mut stderr = BufReader::new(coordinator.stderr.take().unwrap());
    let mut line = String::new();
    stderr.read_line(&mut line).unwrap();
    let address = line.trim().rsplit(' ').next().unwrap().to_owned();
    let rest = thread::spawn(move || {
        let mut rest = String::new();
        stderr.read_to_string(&mut rest).unwrap();
        rest
    });
    (address, rest)
}

#[test]
fn garbage_on_the_port_disturbs_nobody() {
    let mut coordinator = spawn(&["--null", "-d", "1s", "-c", "4", "--workers", "2@127.0.0.1:0"], Some(TOKEN));
    let (address, lines) = joining_address(&mut coordinator);
    // One says nothing, one speaks HTTP, one sends a line without end.
    let silent = TcpStream::connect(&address).unwrap();
    let mut http = TcpStream::connect(&address).unwrap();
    http.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let mut endless = TcpStream::connect(&address).unwrap();
    let _ = endless.write_all(&[b'x'; 100_000]);
    let workers = [(); 2].map(|()| spawn(&["worker", "--join", &address], Some(TOKEN)));
    for worker in workers {
        let output = worker.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
    }
    let said = lines.join().unwrap();
    assert!(coordinator.wait().unwrap().success(), "{said}");
    assert!(said.contains("it does not speak loadtest's protocol"), "{said}");
    drop(silent);

    let worker = ListeningWorker::start();
    TcpStream::connect(&worker.address).unwrap().write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let output = run(&["--null", "-d", "1s", "-c", "4", "--workers", &worker.address], Some(TOKEN));
    assert!(output.status.success(), "{}", text(&output.stderr));

    let impostor = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = impostor.local_addr().unwrap().to_string();
    let answering = thread::spawn(move || impostor.accept().unwrap().0.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n"));
    let output = run(&["--null", "-d", "1s", "--workers", &address], Some(TOKEN));
    assert!(text(&output.stderr).contains("it does not speak loadtest's protocol"), "{}", text(&output.stderr));
    answering.join().unwrap().unwrap();
}

#[test]
fn what_cannot_be_shared_is_refused() {
    let output = run(&["--null", "-c", "2", "-d", "1s", "--workers", "3"], None);
    assert!(text(&output.stderr).contains("3 workers need as many connections"), "{}", text(&output.stderr));
    assert_eq!(output.status.code(), Some(2));
    let output = run(&["-s", "a.lua", "--workers", "2", "http://127.0.0.1:1/"], None);
    assert_eq!(output.status.code(), Some(2));
    let output = run(&["worker"], None);
    assert!(text(&output.stderr).contains("<--join <HOST:PORT>|--listen <ADDR>>"), "{}", text(&output.stderr));
    assert_eq!(output.status.code(), Some(2));
    let output = run(&["--null", "--workers", "127.0.0.1:1"], Some(TOKEN));
    assert!(text(&output.stderr).contains("worker 127.0.0.1:1 cannot be reached"), "{}", text(&output.stderr));
}
