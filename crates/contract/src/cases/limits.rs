//! What is too long, too slow, or too much.
#![expect(missing_docs, reason = "the names say it")]

use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::server::wait_until;
use crate::{Client, Response, Server, Target};

/// Row 16 for the target, row 17 for the fields, row 18 for the method.
pub fn head_too_long(target: &Target) {
    let server = Server::start(target, &["--max-head", "1000"]);
    let long = "a".repeat(1000);
    let mut client = server.connect();
    client.send(format!("GET /{long} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes());
    client.assert_rejected(414);
    // Without an end: it must not be waited for.
    let mut client = server.connect();
    client.send(format!("GET /{long}").as_bytes());
    client.assert_rejected(414);
    let mut client = server.connect();
    client.send("A".repeat(1001).as_bytes());
    client.assert_rejected(501);
    let mut client = server.connect();
    client.send(format!("GET / HTTP/1.1\r\nHost: a\r\nX: {long}").as_bytes());
    client.assert_rejected(431);

    let mut client = server.connect();
    let fits = "a".repeat(900);
    client.send(format!("GET /health?{fits} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes());
    assert_eq!(client.read_response().status, 200);
}

/// Row 17.
pub fn too_many_fields(target: &Target) {
    let server = Server::start(target, &[]);
    let mut client = server.connect();
    client.send(format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: a\r\n".repeat(50)).as_bytes());
    assert_eq!(client.read_response().status, 200);
    client.send(format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: a\r\n".repeat(101)).as_bytes());
    client.assert_rejected(431);
}

/// Row 34.
pub fn body_too_long(target: &Target) {
    let server = Server::start(target, &["--max-body", "10"]);
    for request in [
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\nhello hello",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nb\r\nhello hello\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nhello \r\n5\r\nhello\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nhello",
    ] {
        println!("{request:?}");
        let mut client = server.connect();
        client.send(request.as_bytes());
        client.assert_rejected(413);
    }
}

pub fn body_just_fits(target: &Target) {
    let server = Server::start(target, &["--max-body", "10"]);
    let mut client = server.connect();
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhelloworld");
    assert_eq!(client.read_response().text(), "helloworld");
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\na\r\nhelloworld\r\n0\r\n\r\n");
    assert_eq!(client.read_response().text(), "helloworld");
}

/// A body of a few bytes must not take megabytes to send.
pub fn extensions_too_long(target: &Target) {
    let server = Server::start(target, &[]);
    let extended = |chunks: usize| {
        let chunk = format!("1;{}\r\na\r\n", "e".repeat(4000));
        format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{}", chunk.repeat(chunks))
    };
    let mut client = server.connect();
    client.send(format!("{}0\r\n\r\n", extended(3)).as_bytes());
    assert_eq!(client.read_response().text(), "aaa");
    client.send(extended(5).as_bytes());
    client.assert_rejected(400);
}

/// Clients that send without a pause never make the server wait for them: it must think of the others by itself.
pub fn busy_clients_starve_nobody(target: &Target) {
    let server = Server::start(target, &[]);
    let has_enough = AtomicBool::new(false);
    let have_ended = AtomicUsize::new(0);
    thread::scope(|scope| {
        for mut client in [(); 4].map(|()| server.connect()) {
            let (has_enough, have_ended) = (&has_enough, &have_ended);
            scope.spawn(move || {
                client.pump(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n", PUMP_TIME, has_enough);
                have_ended.fetch_add(1, SeqCst);
            });
        }
        thread::sleep(Duration::from_millis(300));
        for _ in 0..5 {
            assert_eq!(server.connect().get("/health").status, 200);
        }
        let ended = have_ended.load(SeqCst);
        has_enough.store(true, SeqCst);
        assert_eq!(ended, 0, "the others were answered only when the busy clients had ended");
    });
}

/// How long clients are busy if nobody stops them.
const PUMP_TIME: Duration = Duration::from_secs(10);

/// Sends `bytes` one by one, slowly, until the server has had enough; it must not take a byte for a new start.
fn drip(client: &mut Client, bytes: &[u8]) -> Response {
    for byte in bytes.iter().cycle() {
        if client.try_send(&[*byte]).is_err() || !client.is_silent_for(Duration::from_millis(20)) {
            break;
        }
    }
    client.assert_rejected(408)
}

/// Row 43.
pub fn head_too_slow(target: &Target) {
    let server = Server::start(target, &["--header-timeout", "300ms"]);
    let mut silent = server.connect();
    silent.send(b"GET / HTTP/1.1\r\nHost: a\r\n");
    silent.assert_rejected(408);
    let mut client = server.connect();
    assert_eq!(client.get("/health").status, 200);
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\nX: ");
    drip(&mut client, b"a");
}

/// Row 43.
pub fn body_too_slow(target: &Target) {
    let server = Server::start(target, &["--body-timeout", "300ms"]);
    let mut silent = server.connect();
    silent.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nhello");
    silent.assert_rejected(408);
    let mut client = server.connect();
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    drip(&mut client, b"1\r\na\r\n");
}

pub fn idle_for_too_long(target: &Target) {
    let server = Server::start(target, &["--idle-timeout", "200ms"]);
    server.connect().assert_closed();
    let mut client = server.connect();
    for _ in 0..5 {
        thread::sleep(Duration::from_millis(30));
        assert_eq!(client.get("/?wait=300ms").status, 200, "a query is no idleness");
    }
    client.assert_closed();
    server.wait_for_metric("c10k_connections_open", 0);
}

/// Row 44.
pub fn client_that_never_reads(target: &Target) {
    const BODY_BYTES: usize = 32 << 20;
    let server = Server::start(target, &["--write-timeout", "300ms", "--max-body", "33554432"]);
    let mut client = server.connect();
    client.shrink_receive_buffer();
    client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {BODY_BYTES}\r\n\r\n").as_bytes());
    client.send(&vec![b'x'; BODY_BYTES]);
    server.wait_for_metric("c10k_connections_open", 0);
}

/// Row 45.
pub fn full_is_refused(target: &Target) {
    let server = Server::start(target, &["--max-connections", "2"]);
    let mut kept: Vec<Client> = (0..2).map(|_| server.connect()).collect();
    for client in &mut kept {
        assert_eq!(client.get("/").status, 200);
    }
    // It is not even waited for a request.
    let refused = server.connect().assert_rejected(503);
    assert!(refused.field("retry-after").is_some_and(|seconds| seconds.parse::<u32>().is_ok()), "{refused:?}");
    assert_eq!(server.metric("c10k_connections_refused_total"), 1);
    assert_eq!(kept[0].get("/").status, 200);
    drop(kept.pop());
    server.wait_for_metric("c10k_connections_open", 1);
    assert_eq!(server.connect().get("/").status, 200);
}

pub fn full_waits(target: &Target) {
    let server = Server::start(target, &["--max-connections", "2", "--overload", "wait"]);
    let mut kept: Vec<Client> = (0..2).map(|_| server.connect()).collect();
    for client in &mut kept {
        assert_eq!(client.get("/").status, 200);
    }
    let mut waiting = server.connect();
    waiting.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(waiting.is_silent_for(Duration::from_millis(200)), "the server was full");
    drop(kept.pop());
    assert_eq!(waiting.read_response().status, 200);
    assert_eq!(server.metric("c10k_connections_refused_total"), 0);
}

/// Rows 41 and 45: the refusal must not be lost to a reset, though the request was never read.
pub fn refused_clients_lose_nothing(target: &Target) {
    let server = Server::start(target, &["--max-connections", "1"]);
    let mut kept = server.connect();
    assert_eq!(kept.get("/").status, 200);
    for _ in 0..50 {
        let mut client = server.connect();
        let _ = client.try_send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10000\r\n\r\n");
        let _ = client.try_send(&[b'x'; 10_000]);
        client.assert_rejected(503);
    }
    wait_until(|| server.metric("c10k_connections_refused_total") == 50, || "50 were refused".into());
    assert_eq!(kept.get("/").status, 200);
}

/// Row 47.
pub fn descriptors_run_out(target: &Target) {
    let (mut server, log) = Server::start_logged(target, &["--max-connections", "8", "--overload", "wait"]);
    let mut first = server.connect();
    assert_eq!(first.get("/").status, 200);
    let used_up = server.use_up_descriptors();
    // A process that waits in `accept` already has the descriptor for one more.
    let mut others: Vec<Client> = (0..8).map(|_| server.connect()).collect();
    others.iter_mut().for_each(|client| client.send(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n"));
    thread::sleep(Duration::from_millis(200));
    drop(others);
    let mut waiting = server.connect();
    waiting.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(waiting.is_silent_for(Duration::from_millis(1500)), "there was no descriptor to accept it with");
    assert_eq!(first.get("/").status, 200);
    drop(used_up);
    assert_eq!(waiting.read_response().status, 200);
    assert!(server.metric("c10k_accept_errors_total") > 0);
    server.signal(Signal::SIGTERM);
    drop((first, waiting));
    assert!(server.wait().success());
    // It is tried many times a second, and logged at most once.
    let log = io::read_to_string(log).expect("the log can be read");
    assert!((1..=3).contains(&log.matches("no connection could be accepted").count()), "{log}");
}
