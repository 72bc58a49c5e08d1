//! With a rate: whether requests leave when they are due, by the kernel's own times of their arrival.

mod doctored;

use std::collections::BTreeMap;
use std::fs;
use std::io::IoSliceMut;
use std::net::TcpStream;
use std::os::fd::AsRawFd as _;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use doctored::{answer, read_head, serve};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, setsockopt, sockopt};
use nix::sys::time::TimeSpec;
use serde_json::Value;
use tempfile::TempDir;

const CONNECTIONS: u32 = 10;
const RATE: u32 = 1_000;

/// When each request of a connection arrived, by the connection's number.
type Arrivals = BTreeMap<usize, Vec<Duration>>;

/// When the kernel received what can be read next, by the time of day, which it has not noted if that was before it was asked to;
/// `None` at the end.
fn next_arrival(connection: &TcpStream) -> Option<Option<Duration>> {
    let mut byte = [0];
    let mut parts = [IoSliceMut::new(&mut byte)];
    let mut control = nix::cmsg_space!(TimeSpec);
    let message = recvmsg::<()>(connection.as_raw_fd(), &mut parts, Some(&mut control), MsgFlags::MSG_PEEK).ok()?;
    (message.bytes > 0).then_some(())?;
    Some(message.cmsgs().unwrap().find_map(|control| match control {
        ControlMessageOwned::ScmTimestampns(time) => Some(Duration::from(time)),
        _ => None,
    }))
}

/// A server that notes when requests arrived.
fn timestamping_server() -> (String, Arc<Mutex<Arrivals>>) {
    let all = Arc::new(Mutex::new(Arrivals::new()));
    let noted = all.clone();
    let url = serve(move |number, mut connection| {
        setsockopt(&connection, sockopt::ReceiveTimestampns, &true).unwrap();
        while let Some(arrival) = next_arrival(&connection) {
            noted.lock().unwrap().entry(number).or_default().extend(arrival);
            if !read_head(&mut connection) || !answer(&mut connection, 200, "") {
                break;
            }
        }
    });
    (url, all)
}

/// How late each request of a connection was, in microseconds, beside the most punctual of them.
fn lateness_us(arrivals: &[Duration]) -> Vec<f64> {
    let interval_us = 1e6 * f64::from(CONNECTIONS) / f64::from(RATE);
    let drift_us =
        |(number, at): (usize, &Duration)| (*at - arrivals[0]).as_secs_f64() * 1e6 - number as f64 * interval_us;
    let drifts_us: Vec<f64> = arrivals.iter().enumerate().map(drift_us).collect();
    let least_us = drifts_us.iter().copied().fold(f64::INFINITY, f64::min);
    drifts_us.iter().map(|drift_us| drift_us - least_us).collect()
}

/// Runs loadtest on these CPUs. Returns how late 99 % of its requests were at most, as it says and as the server saw it.
fn lag_p99_us(cpus: &str) -> (f64, f64) {
    let (url, all) = timestamping_server();
    let directory = TempDir::new().unwrap();
    let json = directory.path().join("run.json");
    let (rate, json) = (RATE.to_string(), json.to_str().unwrap());
    let loadtest =
        ["-c", cpus, env!("CARGO_BIN_EXE_loadtest"), "-t1", "-c10", "-d3s", "-R", &rate, "--json", json, &url];
    let output = Command::new("taskset").args(loadtest).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let result: Value = serde_json::from_slice(&fs::read(json).unwrap()).unwrap();

    let arrivals = all.lock().unwrap();
    assert_eq!(arrivals.len(), CONNECTIONS as usize);
    let mut late_us: Vec<f64> = arrivals.values().flat_map(|arrivals| lateness_us(arrivals)).collect();
    late_us.sort_by(f64::total_cmp);
    (result["client"]["lag_p99_us"].as_f64().unwrap(), late_us[late_us.len() * 99 / 100])
}

/// With one CPU the load generator sleeps until a request is due; with one more than it has threads it watches the clock.
#[test]
fn requests_arrive_as_late_as_the_load_generator_says() {
    for cpus in ["0", "0,1"] {
        let (said_us, seen_us) = lag_p99_us(cpus);
        let is_alike = |one: f64, other: f64| one < 3.0 * other.max(20.0);
        assert!(is_alike(said_us, seen_us) && is_alike(seen_us, said_us), "said {said_us} us, seen {seen_us} us");
    }
}
