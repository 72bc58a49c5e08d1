//! What costs a client little must not cost the server much, nor the others anything.

use std::fs::{self, File};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::server::{TIMEOUT, rss_bytes, wait_until, wait_until_refused};
use crate::{Client, Server, Target};

/// Row 64: not one line can be written.
pub fn a_log_that_nobody_reads(target: &Target) {
    let (mut server, _unread) = Server::start_with_full_log(target, &["--allow-chaos", "--drain-timeout", "200ms"]);
    for _ in 0..8 {
        let mut client = server.connect();
        client.send(b"POST /chaos/panic HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
        client.assert_cut_off();
    }
    assert_eq!(server.connect().get("/").status, 200);
    assert_eq!(Client::connect(server.admin).get("/healthz").status, 200);
    let dropped = || server.metric("c10k_log_lines_dropped_total");
    wait_until(|| dropped() >= 8, || format!("{} lines were dropped", dropped()));
    let mut client = server.connect();
    client.send(b"GET /?wait=60s HTTP/1.1\r\nHost: a\r\n\r\n");
    server.wait_for_metric("c10k_requests_waiting", 1);
    server.signal(Signal::SIGTERM);
    wait_until_refused(&server);
    assert_eq!(server.wait().code(), Some(0));
}

/// Where it listens is of no interest to anybody: that keeps nobody waiting.
pub fn an_output_that_nobody_reads(target: &Target) {
    let (mut server, _unread) = Server::start_with_full_output(target);
    wait_until(|| Client::try_connect(server.address).is_ok(), || "it does not listen".into());
    assert_eq!(server.connect().get("/").status, 200);
    server.signal(Signal::SIGTERM);
    assert_eq!(server.wait().code(), Some(0));
}

/// Row 63.
pub fn silent_clients_of_the_admin_port(target: &Target) {
    let server = Server::start(target, &[]);
    Client::connect(server.admin).assert_closed();
    for _ in 0..3 {
        let mut silent: Vec<Client> = (0..140).map(|_| Client::connect(server.admin)).collect();
        assert_eq!(Client::connect(server.admin).get("/healthz").status, 200);
        let last = silent.last_mut().expect("there are 140");
        assert!(
            last.is_silent_for(Duration::from_millis(1)),
            "it was answered when the silent ones had had their time"
        );
    }
}

/// Row 55: a body whose chunks are of one byte each.
pub fn chunks_of_one_byte(target: &Target) {
    const BODY_BYTES: usize = 1 << 20;
    const CLIENTS: usize = 8;
    let server = Server::start(target, &["--max-connections", "8"]);
    let mut clients: Vec<Client> = (0..CLIENTS).map(|_| server.connect()).collect();
    clients.iter_mut().for_each(|client| assert_eq!(client.get("/health").status, 200));
    let before = rss_bytes(&server);
    for client in &mut clients {
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
        client.send(&b"1\r\nx\r\n".repeat(BODY_BYTES));
    }
    wait_until(|| rss_bytes(&server) > before + (CLIENTS * BODY_BYTES) as u64 / 2, || "nothing was read".into());
    let grown = rss_bytes(&server).saturating_sub(before);
    assert!(grown < (5 * CLIENTS * BODY_BYTES) as u64, "{CLIENTS} bodies of {BODY_BYTES} bytes took {grown}");
    for client in &mut clients {
        client.send(b"0\r\n\r\n");
        assert_eq!(client.read_response().body.len(), BODY_BYTES);
    }
}

/// What a large answer leaves with its connection.
pub fn an_idle_connection_is_small_again(target: &Target) {
    const BODY_BYTES: usize = 1 << 20;
    const CLIENTS: usize = 32;
    let server = Server::start(target, &["--max-connections", "32"]);
    let mut clients: Vec<Client> = (0..CLIENTS).map(|_| server.connect()).collect();
    clients.iter_mut().for_each(|client| assert_eq!(client.get("/health").status, 200));
    let before = rss_bytes(&server);
    let request = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {BODY_BYTES}\r\n\r\n");
    for client in &mut clients {
        client.send(request.as_bytes());
        client.send(&vec![b'x'; BODY_BYTES]);
        assert_eq!(client.read_response().body.len(), BODY_BYTES);
    }
    let grown = || rss_bytes(&server).saturating_sub(before);
    // A child that reads a body for the first time also has the pages of the program that do so: 128 kB.
    let allowed = (CLIENTS * BODY_BYTES / 2) as u64;
    wait_until(|| grown() < allowed, || format!("{CLIENTS} idle connections have kept {} bytes", grown()));
}

/// A server serves as many as it has descriptors for, and keeps some for itself.
pub fn few_descriptors(target: &Target) {
    let server = Server::start_with_files(target, 1_024, &[]);
    let mut clients: Vec<Client> = (0..600).map(|_| server.connect()).collect();
    clients.iter_mut().for_each(|client| client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"));
    clients.iter_mut().for_each(|client| assert_eq!(client.read_response().status, 200));
    assert_eq!(server.metric("c10k_accept_errors_total"), 0);
}

/// Who was refused and does not close must not slow down who is served.
pub fn the_refused_do_not_disturb(target: &Target) {
    let server = Server::start(target, &["--max-connections", "1"]);
    let mut kept = server.connect();
    let mut median_us = || {
        let mut durations: Vec<u128> = (0..200)
            .map(|_| {
                let start = Instant::now();
                assert_eq!(kept.get("/health").status, 200);
                start.elapsed().as_micros()
            })
            .collect();
        durations.sort_unstable();
        durations[100]
    };
    let alone_us = median_us();
    let refused: Vec<Client> = (0..500).map(|_| server.connect()).collect();
    wait_until(|| server.metric("c10k_connections_refused_total") == 500, || "500 were refused".into());
    let beside_us = median_us();
    drop(refused);
    assert!(beside_us < 10 * alone_us.max(100), "{alone_us} µs alone, {beside_us} µs beside 500 that were refused");
}

/// Rows 41 and 45: also if silent ones that were refused before are as many as may linger.
pub fn the_refused_are_told_so_however_many(target: &Target) {
    let server = Server::start_with_files(target, 1_024, &["--max-connections", "1"]);
    let mut kept = server.connect();
    assert_eq!(kept.get("/health").status, 200);
    let _silent: Vec<Client> = (0..60).map(|_| server.connect()).collect();
    wait_until(|| server.metric("c10k_connections_refused_total") >= 60, || "60 are refused".into());
    for _ in 0..10 {
        let mut client = server.connect();
        let _ = client.try_send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n");
        for _ in 0..10 {
            let _ = client.try_send(&[b'x'; 10_000]);
        }
        client.assert_rejected(503);
    }
}

/// Standard error and output in one file: nothing overwrites anything.
pub fn a_log_in_a_file(target: &Target) {
    let path = std::env::temp_dir().join(format!("log-{}-{}", std::process::id(), target.program.len()));
    let log = File::create(&path).expect("a file can be made");
    let flags = ["--log-level", "info", "--listen", "127.0.0.1:0", "--backlog", "4000000000"];
    let mut command = Command::new(target.program);
    command.args(target.flags).args(flags).stdin(Stdio::null());
    let mut child = command.stdout(log.try_clone().expect("it can be shared")).stderr(log).spawn().expect("it starts");
    let text = || fs::read_to_string(&path).unwrap_or_default();
    wait_until(|| text().contains("info: listening on"), text);
    kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM).expect("it is there");
    assert!(child.wait().expect("it can be waited for").success());
    let text = text();
    fs::remove_file(&path).expect("it is there");
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines.iter().any(|line| line.starts_with("listening on http://")), "{text}");
    assert!(lines.iter().any(|line| line.starts_with("warning: the kernel clips --backlog")), "{text}");
    assert!(
        lines.iter().all(|line| ["info: ", "warning: ", "listening on"].iter().any(|start| line.starts_with(start))),
        "{text}"
    );
}

/// A stray empty line is no request: row 61.
pub fn a_stray_empty_line_is_idleness(target: &Target) {
    let flags = ["--idle-timeout", "600ms", "--header-timeout", "100ms"];
    let server = Server::start(target, &flags);
    let mut client = server.connect();
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello\r\n");
    assert_eq!(client.read_response().text(), "hello");
    assert!(client.is_silent_for(Duration::from_millis(300)), "the empty line was taken for a request");
    client.assert_closed();
    // Nor do more of them keep it open.
    let mut client = server.connect();
    let start = Instant::now();
    while client.try_send(b"\r\n").is_ok() && client.is_silent_for(Duration::from_millis(50)) {
        assert!(start.elapsed() < TIMEOUT, "empty lines keep a connection open");
    }
}
