//! `--slo` with servers whose limit is known, that die, or that are not there.

mod doctored;

use std::fs;
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use doctored::{answer, read_head, serve};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

const LOADTEST: &str = env!("CARGO_BIN_EXE_loadtest");
const TIMEOUT: Duration = Duration::from_secs(60);

fn loadtest(arguments: &[&str]) -> Output {
    Command::new(LOADTEST).args(arguments).output().unwrap()
}

fn texts(output: &Output) -> (String, String) {
    (String::from_utf8_lossy(&output.stdout).into_owned(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Searches, and returns the file and the output.
fn search(directory: &TempDir, arguments: &[&str]) -> (Value, Output) {
    let json = directory.path().join("a.json");
    let output = loadtest(&[&["--json", json.to_str().unwrap()], arguments].concat());
    (serde_json::from_slice(&fs::read(json).unwrap_or_else(|_| panic!("{output:?}"))).unwrap(), output)
}

/// A server with one worker that takes 10 ms for each answer: it cannot answer more than 100 a second.
fn hundred_a_second() -> String {
    let worker = Arc::new(Mutex::new(()));
    serve(move |_, mut connection| {
        while read_head(&mut connection) {
            let _busy = worker.lock().unwrap();
            thread::sleep(Duration::from_millis(10));
            if !answer(&mut connection, 200, "") {
                return;
            }
        }
    })
}

#[test]
fn the_limit_of_a_server_is_found_and_printed_again() {
    let directory = TempDir::new().unwrap();
    let [csv, markdown] = ["a.csv", "a.md"].map(|name| directory.path().join(name));
    let files = ["--csv", csv.to_str().unwrap(), "--markdown", markdown.to_str().unwrap()];
    let url = hundred_a_second();
    let (file, output) =
        search(&directory, &[&["--slo", "p90 < 100ms", "-c", "10", "-d", "1s"], &files[..], &[&url]].concat());
    let (stdout, stderr) = texts(&output);
    assert!(output.status.success(), "{stderr}{stdout}");
    let found = &file["searches"][0];
    let (holds, fails_at) = (found["holds"].as_u64().unwrap(), found["fails_at"].as_u64().unwrap());
    // In a second at 130/s thirty requests queue up, and most of them wait for longer.
    assert!(holds < 130 && holds < fails_at && fails_at - holds <= fails_at.div_ceil(20), "{stdout}");
    for end in [holds, fails_at] {
        let of = |rates: &Value| rates.as_array().unwrap().iter().find(|rate| rate["rate"] == end).unwrap().clone();
        assert_eq!(of(&found["rates"])["steps"], 3, "{stdout}");
    }
    assert!(stderr.contains("without a rate") && stderr.contains("/s is held: p90"), "{stderr}");
    assert!(stdout.contains("requests/s over 10 connections with p90 < 100ms"), "{stdout}");
    let report = loadtest(&["report", directory.path().join("a.json").to_str().unwrap()]);
    assert_eq!(texts(&report).0, stdout);
    let runs = file["runs"].as_array().unwrap().len();
    assert_eq!(fs::read_to_string(csv).unwrap().lines().count(), runs + 1);
    assert!(fs::read_to_string(markdown).unwrap().contains("| requests/s |"));
}

#[test]
fn a_server_that_dies_in_every_step_holds_no_rate() {
    let directory = TempDir::new().unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    // Killed only once all are connected, however slow the machine: before that, nothing would be measured.
    let connected = format!("[ $(grep -c '^ *[0-9]*: 0100007F:{port:04X} [^ ]* 01 ' /proc/net/tcp) -ge 5 ]");
    let server =
        format!("{LOADTEST} null-server --port {port} & until {connected}; do sleep 0.02; done; sleep 0.2; kill -9 $!");
    let url = format!("http://127.0.0.1:{port}/");
    let arguments = ["--slo", "p90 < 1s", "-c", "5", "-t", "1", "-d", "1s", "--exec", &server, &url];
    let (file, output) = search(&directory, &arguments);
    let (stdout, stderr) = texts(&output);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    let found = &file["searches"][0];
    assert_eq!((&found["holds"], &found["ended_by"]), (&Value::Null, &"lowest".into()), "{stdout}");
    assert!(stdout.contains("holds no rate") && stdout.contains("the server died"), "{stdout}");
}

#[test]
fn a_server_that_is_not_there_is_named_with_the_reason() {
    let directory = TempDir::new().unwrap();
    let (file, output) = search(&directory, &["--slo", "p99 < 1s", "http://127.0.0.1:1/"]);
    let (stdout, _) = texts(&output);
    assert_eq!((output.status.code(), &file["searches"][0]["ended_by"]), (Some(1), &"failed".into()));
    assert!(stdout.contains("http://127.0.0.1:1/ holds no rate: ") && stdout.contains("refused"), "{stdout}");
}

#[test]
fn an_interrupted_search_keeps_its_steps_and_says_that_it_is_partial() {
    let directory = TempDir::new().unwrap();
    let json = directory.path().join("a.json");
    let mut command = Command::new(LOADTEST);
    command.args(["--slo", "p90 < 1s", "-d", "500ms", "--null", "--json", json.to_str().unwrap()]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let deadline = Instant::now() + TIMEOUT;
    while !json.exists() {
        assert!(Instant::now() < deadline, "nothing is measured");
        thread::sleep(Duration::from_millis(20));
    }
    kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM).unwrap();
    let output = child.wait_with_output().unwrap();
    let (stdout, stderr) = texts(&output);
    assert_eq!(output.status.code(), Some(130), "{stderr}");
    assert!(stdout.contains("partial, because it was interrupted"), "{stdout}");
    let file: Value = serde_json::from_slice(&fs::read(&json).unwrap()).unwrap();
    assert_eq!((&file["searches"][0]["ended_by"], &file["runs"][0]["complete"]), (&"interrupted".into(), &true.into()));
}

#[test]
fn our_servers_and_peers_are_started_anew_for_each_step() {
    let directory = TempDir::new().unwrap();
    let slo = ["--slo", "p50 < 10s", "--slo", "errors == 0", "-d", "300ms"];
    let target = ["--target", "async-codec", "--db-wait", "50ms", "-c", "20"];
    let (file, output) = search(&directory, &[&slo[..], &target].concat());
    assert!(output.status.success(), "{output:?}");
    let runs = file["runs"].as_array().unwrap();
    let rates: Vec<_> = runs.iter().map(|run| run["load"]["rate"].as_u64()).collect();
    assert!(rates[0].is_none() && rates[1..].iter().all(Option::is_some), "{rates:?}");
    // 20 connections that each wait 50 ms cannot answer more.
    assert!(file["searches"][0]["unlimited_rps"].as_f64().unwrap() <= 480.0, "{file}");
    for run in &runs[1..] {
        assert!(run["rate"]["sent"].as_u64() > Some(0) && run["connections"]["open_peak"] == 20, "{run}");
        let warnings = run["warnings"].as_array().unwrap();
        assert!(warnings.iter().all(|warning| warning["kind"] != "fewer_held"), "{warnings:?}");
    }

    let peer = directory.path().join("one.toml");
    let text = format!(
        "name = 'one'\nmodel = 'tasks'\ninstall = 'nothing'\nversion = 'echo 1.2.3'\nprograms = []\n\
         run = 'exec {LOADTEST} null-server --port {{port}}'\n"
    );
    fs::write(&peer, text).unwrap();
    let json = directory.path().join("peers.json");
    let paths = [peer, json].map(|path| path.to_str().unwrap().to_owned());
    let output = loadtest(&[&["peers", "--peer", &paths[0], "-c", "5", "--json", &paths[1]], &slo[..]].concat());
    let (stdout, stderr) = texts(&output);
    assert!(output.status.success() && stdout.contains("one: 5 connections"), "{stdout}{stderr}");
    let file: Value = serde_json::from_slice(&fs::read(&paths[1]).unwrap()).unwrap();
    assert!(
        file["searches"][0]["holds"].as_u64() > Some(0) && file["runs"][0]["peer"]["version"] == "1.2.3",
        "{stdout}"
    );
}

#[test]
fn what_cannot_be_searched_for_is_refused_before_anything_is_measured() {
    for (arguments, expected) in [
        (&["--slo", "host.cpus < 3", "--null"][..], "says nothing of whether a server keeps up"),
        (&["--slo", "p99 > 3s", "--null"], "an objective says what must hold"),
        (&["--slo", "p99 < 3s", "-R", "5", "--null"], "cannot be used with"),
        (&["--slo", "p99 < 3s", "--fail-if", "p99 > 3s", "--null"], "write what must hold as another --slo"),
        (&["--slo", "p99 < 3s", "--chart", "a.svg", "--null"], "draws no charts"),
        (&["--slo", "p99 < 500ms", "--target", "async"], "every answer waits 1.00 s for the database"),
        (&["serve", "--target", "async", "--slo", "p99 < 3s"], "serve shows no search"),
        (&["peers", "--slo", "p99 < 3s", "--rounds", "3"], "cannot be used with"),
    ] {
        let output = loadtest(arguments);
        let (_, stderr) = texts(&output);
        assert!(!output.status.success() && stderr.contains(expected), "{arguments:?}: {stderr}");
    }
}
