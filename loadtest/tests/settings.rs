//! A result says how it was loaded, so that nobody compares or merges what should not be.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::thread;

use serde_json::Value;
use tempfile::TempDir;

fn loadtest(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_loadtest")).args(arguments).output().unwrap()
}

/// Measures into a file of this name, and returns its path and the result.
fn measure(directory: &TempDir, name: &str, arguments: &[&str]) -> (PathBuf, Value) {
    let path = directory.path().join(name);
    loadtest(&[&["--json", path.to_str().unwrap(), "-d", "1s"], arguments].concat());
    let result = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    (path, result)
}

fn report(arguments: &[&str], files: [&Path; 2]) -> Output {
    loadtest(&[&["report"], arguments, &files.map(|file| file.to_str().unwrap())].concat())
}

/// A server that gives this answer to whatever a connection sends, and returns its URL. Without an answer it is silent.
fn serve(answer: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            thread::spawn(move || {
                let mut buffer = [0; 4096];
                while stream.read(&mut buffer).is_ok_and(|read| read > 0) && stream.write_all(answer.as_bytes()).is_ok()
                {
                }
            });
        }
    });
    url
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[test]
fn a_result_says_how_it_was_loaded() {
    let directory = TempDir::new().unwrap();
    let script = directory.path().join("get.lua");
    fs::write(&script, "request = function() return wrk.format() end").unwrap();
    let url = serve(OK);
    let headers = ["-H", "X-A: 1", "-H", "Authorization: Bearer hunter2"];
    let script = script.to_str().unwrap();
    let load = ["-t", "1", "-c", "5", "-R", "100", "--timeout", "3s", "-s", script, &url, "--", "x"];
    let (path, result) = measure(&directory, "a.json", &[&headers[..], &load].concat());
    let settings = &result["load"];
    let expected = [("rate", 100), ("threads", 1), ("timeout_ms", 3_000), ("duration_ms", 1_000)];
    expected.iter().for_each(|(name, value)| assert_eq!(settings[name], *value, "{settings}"));
    let recorded = (&settings["script"]["path"], &settings["script"]["arguments"][0], &settings["headers"][0]);
    assert_eq!(recorded, (&script.into(), &"x".into(), &"X-A: 1".into()));
    let sha256 = String::from_utf8(Command::new("sha256sum").arg(script).output().unwrap().stdout).unwrap();
    assert_eq!(settings["script"]["sha256"], sha256.split(' ').next().unwrap());
    let secret = settings["headers"][1].as_str().unwrap();
    assert!(secret.starts_with("Authorization: SHA-256 "), "{secret}");
    assert!(settings["command"].as_array().unwrap().contains(&url.as_str().into()), "{settings}");
    assert!(!fs::read_to_string(path).unwrap().contains("hunter2"), "a secret is in the file");
}

#[test]
fn a_password_in_the_url_is_in_no_file() {
    let directory = TempDir::new().unwrap();
    let url = serve(OK).replacen("http://", "http://me:hunter2@", 1);
    let (path, result) = measure(&directory, "a.json", &["-t", "1", "-c", "5", &url]);
    assert!(
        result["requests"].as_u64() > Some(0) && result["target"].as_str().unwrap().starts_with("http://me:SHA-256 ")
    );
    assert!(!fs::read_to_string(path).unwrap().contains("hunter2"), "a secret is in the file");
}

#[test]
fn runs_that_were_not_loaded_alike_are_told_apart() {
    let directory = TempDir::new().unwrap();
    let url = serve(OK);
    let (one, _) = measure(&directory, "a.json", &["-t", "1", "-c", "5", "-R", "50", &url]);
    let (other, _) = measure(&directory, "b.json", &["-t", "1", "-c", "5", "-R", "80", "-H", "X: y", &url]);
    let compared = String::from_utf8(report(&[], [&one, &other]).stdout).unwrap();
    let note = "rate: 50 and 80; headers: none and X: y.";
    assert!(compared.contains("Not the same load in ") && compared.contains(note), "{compared}");
    let alike = String::from_utf8(report(&[], [&one, &one]).stdout).unwrap();
    assert!(!alike.contains("Not the same load"), "{alike}");
}

#[test]
fn one_run_is_not_merged_with_itself() {
    let directory = TempDir::new().unwrap();
    let url = serve(OK);
    let (one, _) = measure(&directory, "a.json", &["-t", "1", "-c", "5", "-R", "50", &url]);
    let (other, _) = measure(&directory, "b.json", &["-t", "1", "-c", "5", "-R", "50", &url]);
    let copy = directory.path().join("copy.json");
    fs::copy(&one, &copy).unwrap();
    let refused = report(&["--merge"], [&one, &copy]);
    assert_eq!(refused.status.code(), Some(1));
    let message = String::from_utf8(refused.stderr).unwrap();
    assert!(message.contains("run 1 is the same in") && message.contains("would count twice"), "{message}");
    let merged = directory.path().join("merged.json");
    let output = report(&["--merge", "--json", merged.to_str().unwrap()], [&one, &other]);
    assert!(output.status.success(), "{output:?}");
    let merged: Value = serde_json::from_slice(&fs::read(merged).unwrap()).unwrap();
    assert_eq!((&merged["load"]["rate"], &merged["load"]["threads"]), (&100.into(), &2.into()));
}

#[test]
fn the_cause_of_what_failed_at_a_url_is_named() {
    let directory = TempDir::new().unwrap();
    let cause = |name, url: &str| measure(&directory, name, &["-t", "1", "-c", "5", url]).1["cause"].take();
    assert_eq!(cause("ok.json", &serve(OK)), Value::Null);
    let failing = serve("HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(cause("500.json", &failing), "status");
    assert_eq!(cause("silent.json", &serve("")), "nothing_answered");
    assert_eq!(cause("cut.json", &serve("HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n")), "connections_lost");
}

#[test]
fn a_log_gets_a_line_every_few_seconds_and_the_answer_at_the_end() {
    let output = loadtest(&["-t", "1", "-c", "5", "-d", "6s", &serve(OK)]);
    let log = String::from_utf8(output.stderr).unwrap();
    let line = log.lines().find(|line| line.contains(": measuring ")).unwrap_or_else(|| panic!("no line in {log}"));
    assert!(line.contains(" of 6.0 s: ") && line.contains(" requests/s"), "{line}");
    assert!(log.contains(" requests/s over 5 connections") && log.contains("\nNext: "), "{log}");
}

#[test]
fn a_file_may_be_standard_output() {
    let url = serve(OK);
    let output = loadtest(&["-t", "1", "-c", "5", "-d", "1s", "--json", "-", &url]);
    let result: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    assert!(result["requests"].as_u64() > Some(0) && output.status.success(), "{result}");
    let people = String::from_utf8(output.stderr).unwrap();
    assert!(people.contains("Requests/sec:") && people.contains("Next: "), "{people}");
    for twice in [["--csv", "-"], ["--events", "-"]] {
        let output = loadtest(&[&["-d", "1s", "--json", "-"], &twice[..], &[&url]].concat());
        assert_eq!(output.status.code(), Some(2));
        assert!(String::from_utf8_lossy(&output.stderr).contains("are the same file"), "{output:?}");
    }
}
