//! The project's main claim, once for each server: 10,000 connections, held and measured.

use std::fs;
use std::process::Command;

use serde_json::Value;

const CONNECTIONS: u64 = 10_000;
/// The thread pool's default `--workers`.
const WORKERS: u64 = 256;

#[test]
fn every_server_holds_ten_thousand_connections() {
    let directory = tempfile::tempdir().unwrap();
    let json = directory.path().join("all.json");
    let status = Command::new(env!("CARGO_BIN_EXE_loadtest"))
        .args(["--target", "all", "--duration", "2s", "--json"])
        .arg(&json)
        .status()
        .unwrap();
    assert!(status.success(), "{status}");
    let results: Vec<Value> = serde_json::from_slice(&fs::read(&json).unwrap()).unwrap();
    let targets: Vec<_> = results.iter().map(|result| result["target"].as_str().unwrap()).collect();
    assert_eq!(targets, ["prefork", "threads", "threadpool", "async", "async-codec", "async-uring"]);
    for result in &results {
        assert_held(result);
        assert_counted(result);
        assert_metered(result);
    }
}

/// Held means waiting at the same moment, by the server's own count.
fn assert_held(result: &Value) {
    let connections = &result["connections"];
    let is_pool = result["target"] == "threadpool";
    assert_eq!(result["complete"], true, "{result}");
    assert_eq!(connections["established"], CONNECTIONS, "{result}");
    assert_eq!(connections["held_peak"], CONNECTIONS, "{result}");
    assert_eq!(connections["waiting_peak"], if is_pool { WORKERS } else { CONNECTIONS }, "{result}");
    assert_eq!(connections["queued_peak"], if is_pool { CONNECTIONS - WORKERS } else { 0 }, "{result}");
}

fn assert_counted(result: &Value) {
    let errors = result["errors"].as_object().unwrap();
    assert!(errors.len() == 5 && errors.values().all(|count| *count == 0), "{result}");
    // No answer can come before the database's. The histogram keeps four digits.
    let fastest_us = result["latency_us"]["min"].as_u64().unwrap();
    assert!(fastest_us >= 999_000, "{result}");
    // In d seconds, a connection that waits 1 s for each answer gets at most d + 1 answers.
    let requests = result["requests"].as_u64().unwrap();
    let window_s = result["duration_s"].as_f64().unwrap();
    assert!(requests > 0 && requests as f64 <= CONNECTIONS as f64 * (window_s + 1.0), "{result}");
}

fn assert_metered(result: &Value) {
    let memory = &result["memory"];
    let bytes = |figure: &str| memory[figure].as_u64().unwrap_or_else(|| panic!("no {figure}: {result}"));
    assert!(bytes("peak_bytes") > bytes("idle_bytes"), "{result}");
    // The parts fit into the total, and each socket takes more than 1 KiB.
    let parts = bytes("pss_bytes") + bytes("page_tables_bytes") + bytes("kernel_stacks_bytes");
    assert!(parts + bytes("sockets_bytes") <= bytes("peak_bytes") + (8 << 20), "{result}");
    assert!(bytes("sockets_bytes") > CONNECTIONS * 1024, "{result}");
    let (processes, threads) = (memory["processes"].as_u64().unwrap(), memory["threads"].as_u64().unwrap());
    match result["target"].as_str().unwrap() {
        "prefork" => assert!(processes > CONNECTIONS && threads == processes, "{result}"),
        "threads" => assert!(processes == 1 && threads > CONNECTIONS, "{result}"),
        "threadpool" => assert!(processes == 1 && threads > WORKERS && threads < WORKERS + 16, "{result}"),
        _ => assert!(processes == 1 && threads < 256, "{result}"),
    }
}
