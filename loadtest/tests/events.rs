//! `--events`, and closed standard output and error.

use std::fs;
use std::process::{Command, Output, Stdio};

use results::event::{Event, Observation, RunPhase};
use serde_json::Value;

const RUN: [&str; 8] = ["--target", "async", "-c", "20", "-d", "2s", "--db-wait", "100ms"];

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_loadtest")).args(arguments).output().unwrap()
}

/// The time and the event of each line.
fn events(text: &str) -> Vec<(f64, Event)> {
    let line = |line: &str| {
        let json: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        (json["at_s"].as_f64().unwrap(), serde_json::from_value(json).unwrap())
    };
    text.lines().map(line).collect()
}

fn phases(events: &[(f64, Event)]) -> Vec<RunPhase> {
    let phase = |event: &Event| if let Event::Entered { phase } = event { Some(*phase) } else { None };
    events.iter().filter_map(|(_, event)| phase(event)).collect()
}

/// Whether some observation has all 20 connections open, and requests of nearly all of them waiting.
fn observes_all(events: &[(f64, Event)]) -> bool {
    let is_full = |seen: &Observation| seen.open == Some(20) && seen.waiting > Some(15) && seen.established == 20;
    events.iter().any(|(_, event)| matches!(event, Event::Observed(seen) if is_full(seen)))
}

#[test]
fn several_servers_are_named_with_commas() {
    let output = run(&["--target", "threads,async", "-c", "5", "-d", "1s", "--db-wait", "10ms", "--events", "-"]);
    assert!(output.status.success(), "{output:?}");
    let events = events(str::from_utf8(&output.stdout).unwrap());
    let name = |event: &Event| if let Event::Started { target, .. } = event { Some(target.clone()) } else { None };
    let names: Vec<_> = events.iter().filter_map(|(_, event)| name(event)).collect();
    assert_eq!(names, ["threads", "async"]);
}

#[test]
fn a_run_is_a_stream_of_events_in_order() {
    let directory = tempfile::tempdir().unwrap();
    let [path, json] = ["events.jsonl", "run.json"].map(|name| directory.path().join(name));
    let files = ["--events", path.to_str().unwrap(), "--json", json.to_str().unwrap()];
    let output = run(&[&RUN[..], &files].concat());
    assert!(output.status.success(), "{output:?}");
    let events = events(&fs::read_to_string(path).unwrap());
    assert!(events.is_sorted_by(|one, next| one.0 <= next.0));
    assert!(
        matches!(&events[0].1, Event::Started { target, connections: 20, .. } if target == "async"),
        "{:?}",
        events[0]
    );
    assert!(
        matches!(&events[1].1, Event::Listening { pid: Some(_), admin: Some(_), address: Some(address) } if address.starts_with("127.0.0.1:")),
        "{:?}",
        events[1]
    );
    use RunPhase::{Connecting, Holding, Ledger, Measuring, Settling, Stopping};
    assert_eq!(phases(&events), [Connecting, Holding, Settling, Measuring, Ledger, Stopping]);
    assert!(observes_all(&events), "no observation has all connections open");
    let seconds = events.iter().filter(|(_, event)| matches!(event, Event::Second(_))).count();
    assert!(seconds >= 2, "{seconds}");
    // The last event is the whole result, the same as in the file.
    let Some((_, Event::Finished(result))) = events.last() else { panic!("{:?}", events.last()) };
    let written: Value = serde_json::from_slice(&fs::read(json).unwrap()).unwrap();
    assert_eq!(serde_json::to_value(result).unwrap(), written);
    assert_eq!(written["series"].as_array().unwrap().len(), seconds);
}

#[test]
fn events_have_standard_output_for_themselves() {
    let output = run(&[&RUN[..], &["--events", "-"]].concat());
    assert!(output.status.success(), "{output:?}");
    let events = events(str::from_utf8(&output.stdout).unwrap());
    assert!(matches!(events.last(), Some((_, Event::Finished(_)))));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("async: 20 connections") && stderr.contains("requests/s"), "{stderr}");
}

#[test]
fn a_url_has_events_too() {
    let output = run(&["--null", "-c", "10", "-d", "1s", "--events", "-"]);
    assert!(output.status.success(), "{output:?}");
    let events = events(str::from_utf8(&output.stdout).unwrap());
    assert_eq!(phases(&events), [RunPhase::Measuring, RunPhase::Ledger, RunPhase::Stopping]);
}

#[test]
fn events_that_cannot_be_written_do_not_end_the_run() {
    let output = run(&[&RUN[..], &["--events", "/dev/full"]].concat());
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("warning: --events can no longer be written"),
        "{output:?}"
    );
    assert!(String::from_utf8_lossy(&output.stdout).contains("requests/s"), "{output:?}");
    let output = run(&[&RUN[..], &["--events", "/nowhere/events"]].concat());
    assert_eq!(output.status.code(), Some(1));
}

/// A shell starts the program with the stream closed, or with a pipe whose reader is gone.
#[test]
fn the_exit_status_is_the_same_if_nobody_reads_standard_error() {
    for redirection in ["2>&-", "2>/dev/full", "2> >(exec true)", ">&- 2>&-"] {
        let script = format!("\"$0\" report /nowhere {redirection}; echo $?");
        let mut command = Command::new("bash");
        command.args(["-c", &script, env!("CARGO_BIN_EXE_loadtest")]).stderr(Stdio::null());
        let output = command.output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "1", "{redirection}");
    }
}
