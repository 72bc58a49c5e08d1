//! What only a server with children can get wrong.

use std::fs;
use std::io;
use std::process::{Command, Stdio};

use contract::server::{children_of, wait_until};
use contract::{Client, Server, Target};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const TARGET: Target =
    Target { program: env!("CARGO_BIN_EXE_server-prefork"), flags: &["--start", "4"], database_flags: &[] };
const ENDLESS_GET: &[u8] = b"GET /?wait=60s HTTP/1.1\r\nHost: a\r\n\r\n";

fn children(server: &Server) -> Vec<i32> {
    server.processes().into_iter().filter(|&pid| pid != server.pid().as_raw()).collect()
}

fn wait_for_children(server: &Server, expected: std::ops::RangeInclusive<usize>) {
    wait_until(
        || expected.contains(&children(server).len()),
        || format!("there are {} children, not {expected:?}", children(server).len()),
    );
}

/// Row 48.
#[test]
fn a_killed_child_is_replaced_and_its_counts_are_taken_back() {
    let server = Server::start(&TARGET, &["--max-connections", "4"]);
    let mut clients: Vec<Client> = (0..4).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.send(ENDLESS_GET);
    }
    server.wait_for_metric("c10k_requests_waiting", 4);
    for pid in children(&server) {
        kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    }
    for client in &mut clients {
        client.assert_cut_off();
    }
    server.wait_for_metric("c10k_requests_waiting", 0);
    server.wait_for_metric("c10k_connections_open", 0);
    wait_for_children(&server, 4..=4);
    assert_eq!(server.connect().get("/").status, 200);
}

/// Row 48.
#[test]
fn a_stopped_child_is_replaced() {
    let server = Server::start(&TARGET, &["--max-connections", "4"]);
    let stopped = children(&server);
    for &pid in &stopped {
        kill(Pid::from_raw(pid), Signal::SIGSTOP).unwrap();
    }
    let is_replaced = || {
        let children = children(&server);
        children.len() == 4 && children.iter().all(|pid| !stopped.contains(pid))
    };
    wait_until(is_replaced, || format!("{stopped:?} are not replaced"));
    assert_eq!(server.connect().get("/").status, 200);
}

#[test]
fn children_are_forked_for_a_burst_and_leave_when_it_is_over() {
    let server = Server::start(&TARGET, &[]);
    wait_for_children(&server, 4..=8);
    let mut clients: Vec<Client> = (0..300).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.send(b"GET /?wait=100ms HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    for client in &mut clients {
        assert_eq!(client.read_response().status, 200);
    }
    wait_for_children(&server, 304..=600);
    assert_eq!(server.metric("c10k_connections_refused_total"), 0);
    drop(clients);
    wait_for_children(&server, 4..=8);
    assert_eq!(server.connect().get("/").status, 200);
}

/// One child that is asked to stop finishes what it does; the others do not mind.
#[test]
fn a_child_that_is_told_to_stop_answers_first() {
    let server = Server::start(&TARGET, &["--max-connections", "1"]);
    let mut client = server.connect();
    client.send(b"GET /?wait=300ms HTTP/1.1\r\nHost: a\r\n\r\n");
    server.wait_for_metric("c10k_requests_waiting", 1);
    let before = children(&server);
    kill(Pid::from_raw(before[0]), Signal::SIGTERM).unwrap();
    let response = client.read_response();
    assert_eq!((response.status, response.field("connection")), (200, Some("close")));
    client.assert_closed();
    wait_until(|| !children(&server).contains(&before[0]), || "it did not leave".into());
    wait_for_children(&server, 1..=1);
    assert_eq!(server.connect().get("/").status, 200);
}

/// A client that makes children die cannot make the supervisor fork without pause, nor die.
#[test]
fn children_that_crash_are_replaced() {
    let server = Server::start(&TARGET, &["--allow-chaos"]);
    for fault in ["abort", "segv", "panic"] {
        for _ in 0..3 {
            let mut client = server.connect();
            client.send(format!("POST /chaos/{fault} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes());
            client.assert_cut_off();
        }
    }
    wait_for_children(&server, 4..=8);
    server.wait_for_metric("c10k_connections_open", 0);
    assert_eq!(server.connect().get("/").status, 200);
}

/// A page of the heap that a child writes to is one of its own: 10,000 children would pay for it 10,000 times.
#[test]
fn a_child_serves_without_the_heap() {
    let server = Server::start(&TARGET, &["--max-connections", "4"]);
    // Each has seen connections end, in both ways.
    for _ in 0..16 {
        let mut closing = server.connect();
        closing.send(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        assert_eq!(closing.read_response().status, 200);
        closing.assert_closed();
        drop(closing);
        assert_eq!(server.connect().get("/").status, 200);
        server.wait_for_metric("c10k_connections_open", 0);
    }
    let mut clients: Vec<Client> = (0..4).map(|_| server.connect()).collect();
    for client in &mut clients {
        assert_eq!(client.get("/health").status, 200);
        assert_eq!(client.get("/").status, 200);
        client.send(ENDLESS_GET);
    }
    server.wait_for_metric("c10k_requests_waiting", 4);
    for pid in children(&server) {
        let maps = fs::read_to_string(format!("/proc/{pid}/smaps")).unwrap();
        let (_, heap) = maps.split_once("[heap]\n").expect("there is a heap");
        let own = heap.lines().find(|line| line.starts_with("Private_Dirty:")).unwrap();
        // The first page has what each process has of its own in any case: the thread-locals.
        let pages: u64 = own.split_whitespace().nth(1).and_then(|kb| kb.parse().ok()).map(|kb: u64| kb / 4).unwrap();
        assert!(pages <= 1, "{own}");
    }
}

/// As the first process of a container the supervisor inherits orphans. It reaps them, and takes none for its own.
#[test]
fn orphans_are_reaped() {
    let Some((mut server, first, log)) = Server::start_as_first_process(&TARGET, &[]) else { return };
    let count = || children_of(first).len();
    wait_until(|| count() == 4, || format!("there are {} children, not 4", count()));
    // One that fails and one that is killed, once their input ends, and one that is stopped.
    let orphans = "exec 3<&0; sh -c 'cat <&3; exit 3' & sh -c 'cat <&3; kill -9 $$' & sh -c 'kill -STOP $$' &";
    let mut shell = Command::new("nsenter");
    shell.args(["--target", &first.to_string(), "--pid", "--mount", "sh", "-c", orphans]).stdin(Stdio::piped());
    let mut shell = shell.spawn().expect("nsenter is installed");
    let input = shell.stdin.take();
    assert!(shell.wait().expect("it can be waited for").success());
    wait_until(|| count() == 7, || format!("there are {} children, not 4 and 3 orphans", count()));
    drop(input);
    wait_until(|| count() == 5, || format!("there are {} children, not 4 and the orphan that is stopped", count()));
    assert_eq!(server.connect().get("/").status, 200);
    kill(first, Signal::SIGTERM).unwrap();
    server.wait();
    let log = io::read_to_string(log).unwrap();
    assert!(!log.contains("child"), "{log}");
}
