//! Checks that the JSON schemas in `schema/` match the types, and that real files match the schemas.
//!
//! After changing a type, run `UPDATE_SCHEMAS=1 cargo test -p results --test schema`, and bump the version if the
//! change breaks readers.

use std::fs;
use std::path::{Path, PathBuf};

use results::claim::{self, Judgement};
use results::clients::{self, Client, ClientComparison, ClientRun};
use results::event::{self, Event, Observation, RunPhase};
use results::run::{Host, RunResult, SCHEMA, Second, SweepPlan};
use results::settings::LoadSettings;
use results::slo::{self, Searches};
use results::sweep::{self, Sweep};
use results::walls::{self, Diagnosis};
use results::{Warning, WarningKind, file};
use schemars::{Schema, schema_for};
use serde_json::{Value, json};

const RUNS: &str = include_str!("data/runs.json");

/// `schema/c10k-loadtest-3.schema.json`
fn path(version: &str) -> PathBuf {
    let name = format!("{}.schema.json", version.replace('/', "-"));
    Path::new(env!("CARGO_MANIFEST_DIR")).join("schema").join(name)
}

#[track_caller]
fn assert_is_committed(version: &str, schema: &Schema) {
    let text = serde_json::to_string_pretty(schema).unwrap() + "\n";
    if std::env::var_os("UPDATE_SCHEMAS").is_some() {
        fs::write(path(version), &text).unwrap();
    }
    let committed = fs::read_to_string(path(version)).unwrap_or_default();
    assert!(committed == text, "{} does not match the types: see the top of this test", path(version).display());
}

#[track_caller]
fn assert_valid(version: &str, value: &Value) {
    let schema: Value = serde_json::from_str(&fs::read_to_string(path(version)).unwrap()).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let errors: Vec<String> = validator.iter_errors(value).map(|error| error.to_string()).collect();
    assert!(errors.is_empty(), "{errors:?} in {value}");
}

#[test]
fn the_schema_of_results_is_committed_and_kept() {
    assert_is_committed(SCHEMA, &schema_for!(RunResult));
    let runs: Vec<Value> = serde_json::from_str(RUNS).unwrap();
    runs.iter().for_each(|run| assert_valid(SCHEMA, run));
    let schema: Value = serde_json::from_str(&fs::read_to_string(path(SCHEMA)).unwrap()).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let mut broken = runs[0].clone();
    broken["requests"] = "many".into();
    assert!(!validator.is_valid(&broken) && !validator.is_valid(&json!({})));
}

#[test]
fn the_schema_of_claims_is_committed() {
    assert_is_committed(claim::SCHEMA, &schema_for!(Judgement));
}

#[test]
fn the_schema_of_diagnoses_is_committed() {
    assert_is_committed(walls::SCHEMA, &schema_for!(Diagnosis));
}

#[test]
fn the_schema_of_comparisons_of_clients_is_committed_and_kept() {
    assert_is_committed(clients::SCHEMA, &schema_for!(ClientComparison));
    let run: ClientRun = serde_json::from_value(json!({
        "client": "wrk", "command": "exec wrk", "round": 1, "connections": 200, "requests": 300_000, "rps": 60_100.5,
    }))
    .unwrap();
    let comparison = ClientComparison {
        schema: clients::SCHEMA.into(),
        complete: false,
        started_at: "2026-11-24T10:00:00Z".into(),
        host: Host::default(),
        command: vec!["loadtest".into()],
        server: vec!["server-async".into()],
        seed: 7,
        rounds: 5,
        duration_s: 5,
        connections: vec![200],
        clients: vec![Client { name: "wrk".into(), version: None }],
        runs: vec![run],
    };
    assert_valid(clients::SCHEMA, &serde_json::from_slice(&clients::to_json(&comparison).unwrap()).unwrap());
}

#[test]
fn the_schema_of_sweeps_is_committed_and_kept() {
    assert_is_committed(sweep::SCHEMA, &schema_for!(Sweep));
    let mut runs: Vec<RunResult> = serde_json::from_str(RUNS).unwrap();
    let plan: SweepPlan = serde_json::from_value(json!({
        "seed": 7, "targets": ["threads"], "connections": [100], "rounds": 2, "duration_ms": 10_000, "timeout_ms": 60_000,
        "wait": "1s", "server_flags": [], "ram_limit_bytes": null,
    }))
    .unwrap();
    runs.iter_mut().for_each(|run| run.sweep = Some(plan.clone()));
    let sweep: Value = serde_json::from_slice(&file::to_json(&runs, true).unwrap()).unwrap();
    assert_valid(sweep::SCHEMA, &sweep);
}

#[test]
fn the_schema_of_searches_is_committed_and_kept() {
    assert_is_committed(slo::SCHEMA, &schema_for!(Searches));
    let mut runs: Vec<RunResult> = serde_json::from_str(RUNS).unwrap();
    for (run, rate) in runs.iter_mut().zip([None, Some(100)]) {
        run.target = "threads".into();
        run.load = Some(LoadSettings { rate, slo: vec!["p99 < 50ms".into()], ..LoadSettings::default() });
    }
    let json = file::to_json(&runs, true).unwrap();
    let searches: Value = serde_json::from_slice(&json).unwrap();
    assert_valid(slo::SCHEMA, &searches);
    assert_eq!(searches["searches"][0]["fails_at"], 100);
    assert_eq!(file::from_json("a".into(), &json).unwrap().results.len(), 2);
}

#[test]
fn the_schema_of_events_is_committed_and_kept() {
    assert_is_committed(event::SCHEMA, &schema_for!(Event));
    let run: RunResult = serde_json::from_value(serde_json::from_str::<Vec<Value>>(RUNS).unwrap()[0].take()).unwrap();
    let events = [
        Event::Planned { schema: event::SCHEMA.into(), runs: 2, estimate_s: Some(40.0) },
        Event::Started {
            target: "threads".into(),
            connections: 10,
            round: None,
            started_at: run.started_at.clone(),
            wait: "1s".into(),
            duration_s: 10.0,
        },
        Event::Listening { pid: Some(7), admin: Some("127.0.0.1:9".into()), address: None },
        Event::Entered { phase: RunPhase::Measuring },
        Event::Progress { done: 1, total: 2 },
        Event::Observed(Observation { waiting: Some(3), ..Observation::default() }),
        Event::Ordered { at: String::new(), targets: Vec::new(), connections: 1, command: Vec::new() },
        Event::Ended { sentence: "It held.".into() },
        Event::Injected { fault: "panic".into() },
        Event::Second(Second::default()),
        Event::Warned(Warning::new(WarningKind::ClientLate, "late")),
        Event::Finished(Box::new(run)),
    ];
    for event in events {
        let json = serde_json::to_value(&event).unwrap();
        assert_valid(event::SCHEMA, &json);
        let back: Event = serde_json::from_value(json.clone()).unwrap();
        assert_eq!(serde_json::to_value(back).unwrap(), json);
    }
}
