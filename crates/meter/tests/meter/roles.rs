//! What this binary does when a test starts it again: hold something to meter until it is killed.

use std::env;
use std::fs;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::process;
use std::thread;
use std::time::Duration;

use meter::{Cgroup, ExistingCgroup, MeterError};

/// Exits by itself in case its test is killed with SIGKILL.
fn ready() {
    println!("ready");
    thread::sleep(Duration::from_secs(120));
}

fn count(variable: &str) -> usize {
    env::var(variable).map_or(0, |count| count.parse().expect("a number"))
}

#[test]
#[ignore = "a role, started by other tests"]
fn threads() {
    for _ in 0..count("THREADS") {
        thread::spawn(|| thread::sleep(Duration::from_secs(120)));
    }
    ready();
}

/// Only a thread beside the main thread is ever switched to.
#[test]
#[ignore = "a role, started by other tests"]
fn a_thread_that_sleeps_often() {
    thread::spawn(|| {
        loop {
            thread::sleep(Duration::from_millis(1));
        }
    });
    ready();
}

#[test]
#[ignore = "a role, started by other tests"]
fn memory_given_back() {
    drop(std::hint::black_box(vec![1_u8; 64 << 20]));
    ready();
}

/// A listener and both ends of each connection, with payload queued at the accepted ends.
#[test]
#[ignore = "a role, started by other tests"]
fn connections() {
    hold_connections(count("CONNECTIONS"), count("QUEUED_BYTES"));
}

#[test]
#[ignore = "a role, started by other tests"]
fn connections_64_full() {
    hold_connections(64, 64 * 1024);
}

fn hold_connections(connections: usize, queued_bytes: usize) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = listener.local_addr().expect("address");
    let pairs: Vec<_> = (0..connections)
        .map(|_| {
            let mut client = TcpStream::connect(address).expect("connect");
            client.write_all(&vec![0; queued_bytes]).expect("fits into the buffers");
            (client, listener.accept().expect("accept"))
        })
        .collect();
    ready();
    drop(pairs);
}

/// A creator that exits without cleaning up, while in its own cgroup.
#[test]
#[ignore = "a role, started by other tests"]
fn leave_a_stale_cgroup() {
    let cgroup = Cgroup::create(&format!("meter-stale-{}", process::id())).expect("the test has made one");
    for procs in cgroup.join_paths() {
        fs::write(procs, "0").expect("join");
    }
    let refused = cgroup.kill_all();
    assert!(matches!(refused, Err(MeterError::Populated { .. })), "{refused:?}");
    std::mem::forget(cgroup);
}

/// Meters its own cgroup, which has a limit of 256 MiB.
#[test]
#[ignore = "a role, started by other tests"]
fn read_own_cgroup() {
    let held = std::hint::black_box(vec![1_u8; 32 << 20]);
    let own = ExistingCgroup::own().expect("it was put into one");
    let (current, peak) = (own.current_bytes().expect("current"), own.peak_bytes().expect("peak"));
    assert!((32 << 20..256 << 20).contains(&current), "{current}");
    assert!(peak >= 32 << 20, "{peak}");
    assert_eq!(own.limit_bytes().expect("limit"), Some(256 << 20));
    assert_eq!(own.oom_kills().expect("oom_kills"), 0);
    drop(held);
    ready();
}
