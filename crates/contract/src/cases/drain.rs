//! What SIGTERM finds on its way: nothing that was sent is lost without a word.

use std::collections::BTreeSet;
use std::io;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};

use crate::server::{TIMEOUT, wait_until_refused};
use crate::{Client, Server, Target};

/// With a drain timeout that the test would not live to see.
fn start(target: &Target, flags: &[&str]) -> Server {
    Server::start(target, &[flags, &["--drain-timeout", "60s"]].concat())
}

/// Row 58.
pub fn a_half_sent_body_is_awaited(target: &Target) {
    for (first, second) in [
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhel", "lo"),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel", "lo\r\n0\r\n\r\n"),
    ] {
        let mut server = start(target, &[]);
        let mut client = server.connect();
        client.send(first.as_bytes());
        server.wait_for_metric("c10k_connections_open", 1);
        server.signal(Signal::SIGTERM);
        wait_until_refused(&server);
        assert!(client.is_silent_for(Duration::from_millis(200)), "the body was not awaited");
        client.send(second.as_bytes());
        let response = client.read_response();
        assert_eq!((response.status, response.text()), (200, "hello"), "{first:?}");
        assert_eq!(response.field("connection"), Some("close"));
        client.assert_closed();
        assert_eq!(server.wait().code(), Some(0));
    }
}

/// The body of an answer that does not fit into the buffers of a client that does not read.
const BODY_BYTES: usize = 1 << 20;

/// A client that has asked for such an answer, after this wait.
fn ask_for_echo(server: &Server, wait: &str) -> Client {
    let mut client = server.connect();
    client.shrink_receive_buffer();
    client.send(format!("POST /?wait={wait} HTTP/1.1\r\nHost: a\r\nContent-Length: {BODY_BYTES}\r\n\r\n").as_bytes());
    client.send(&vec![b'x'; BODY_BYTES]);
    client
}

/// Row 59.
pub fn a_large_answer_is_whole(target: &Target) {
    let mut server = start(target, &[]);
    let mut client = ask_for_echo(&server, "300ms");
    server.wait_for_metric("c10k_requests_waiting", 1);
    server.signal(Signal::SIGTERM);
    client.send(b"G");
    // The answer is on its way, and does not fit into the buffers.
    thread::sleep(Duration::from_millis(500));
    client.send(b"ET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let response = client.read_response();
    assert_eq!((response.status, response.body.len()), (200, BODY_BYTES));
    client.assert_closed();
    assert_eq!(server.wait().code(), Some(0));
}

/// Row 59: an answer that was given before, and that the client has not read yet.
pub fn an_answer_that_was_given_is_whole(target: &Target) {
    let mut server = start(target, &[]);
    let mut client = ask_for_echo(&server, "0s");
    server.wait_for_metric("c10k_requests_total{code=\"200\"}", 1);
    server.signal(Signal::SIGTERM);
    wait_until_refused(&server);
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let response = client.read_response();
    assert_eq!((response.status, response.body.len()), (200, BODY_BYTES));
    client.read_to_end().expect("it is closed in good order");
    assert_eq!(server.wait().code(), Some(0));
}

/// Rows 36 and 58: who was told to continue is answered.
pub fn who_was_told_to_continue_is_answered(target: &Target) {
    for _ in 0..10 {
        let mut server = start(target, &[]);
        server.connect().get("/health");
        killpg(server.pid(), Signal::SIGSTOP).expect("it is there");
        let mut client = server.connect();
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
        server.signal(Signal::SIGTERM);
        killpg(server.pid(), Signal::SIGCONT).expect("it is there");
        let response = client.read_response();
        if response.status == 100 {
            client.send(b"hello");
            assert_eq!(client.read_response().text(), "hello");
        }
        assert_eq!(server.wait().code(), Some(0));
    }
}

/// A query whose client has reset the connection does not hold up the exit for longer than others.
pub fn who_left_does_not_hold_it_up(target: &Target) {
    let mut server = Server::start(target, &["--drain-timeout", "300ms"]);
    let mut client = server.connect();
    client.send(b"GET /?wait=60s HTTP/1.1\r\nHost: a\r\n\r\n");
    server.wait_for_metric("c10k_requests_waiting", 1);
    client.reset();
    thread::sleep(Duration::from_millis(100));
    server.signal(Signal::SIGTERM);
    assert_eq!(server.wait().code(), Some(0));
}

/// What the server made of a request that it may refuse, but not lose: an answer, or a close in good order.
fn assert_not_lost(client: &mut Client) {
    match client.read_to_end() {
        Ok(rest) => {
            let text = rest.escape_ascii().to_string();
            let is_answered = text.is_empty() || ["200", "503"].iter().any(|code| text[9..].starts_with(code));
            assert!(is_answered, "{text}");
        }
        Err(error) => panic!("it was lost: {error}"),
    }
}

/// Row 60: in the backlog of a server that is full.
pub fn a_full_servers_backlog_is_not_lost(target: &Target) {
    let mut server = start(target, &["--max-connections", "2", "--overload", "wait"]);
    let mut kept: Vec<Client> = (0..2).map(|_| server.connect()).collect();
    kept.iter_mut().for_each(|client| client.send(b"GET /?wait=500ms HTTP/1.1\r\nHost: a\r\n\r\n"));
    server.wait_for_metric("c10k_requests_waiting", 2);
    let mut waiting: Vec<Client> = (0..20).map(|_| server.connect()).collect();
    waiting.iter_mut().for_each(|client| client.send(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n"));
    server.signal(Signal::SIGTERM);
    waiting.iter_mut().for_each(assert_not_lost);
    for client in &mut kept {
        assert_eq!(client.read_response().status, 200);
        client.assert_closed();
    }
    assert_eq!(server.wait().code(), Some(0));
}

/// Row 60: in the backlog of a server that has had no time for it.
pub fn a_busy_servers_backlog_is_not_lost(target: &Target) {
    let mut server = start(target, &[]);
    server.connect().get("/health");
    killpg(server.pid(), Signal::SIGSTOP).expect("it is there");
    let mut clients: Vec<Client> = (0..20).map(|_| server.connect()).collect();
    clients.iter_mut().for_each(|client| client.send(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n"));
    server.signal(Signal::SIGTERM);
    killpg(server.pid(), Signal::SIGCONT).expect("it is there");
    clients.iter_mut().for_each(assert_not_lost);
    assert_eq!(server.wait().code(), Some(0));
}

/// Row 60: in the backlog of a server that has no descriptor for them, until those that are idle have left.
pub fn a_backlog_without_descriptors_is_not_lost(target: &Target) {
    let mut server = start(target, &["--max-connections", "8", "--overload", "wait"]);
    let mut idle: Vec<Client> = (0..4).map(|_| server.connect()).collect();
    idle.iter_mut().for_each(|client| assert_eq!(client.get("/health").status, 200));
    let _used_up = server.use_up_descriptors();
    let mut waiting: Vec<Client> = (0..12).map(|_| server.connect()).collect();
    waiting.iter_mut().for_each(|client| client.send(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n"));
    thread::sleep(Duration::from_millis(100));
    server.signal(Signal::SIGTERM);
    waiting.iter_mut().for_each(assert_not_lost);
    drop((idle, waiting));
    assert_eq!(server.wait().code(), Some(0));
}

/// Row 60: clients that come and ask while the server stops.
pub fn who_comes_too_late_is_told_so(target: &Target) {
    let mut server = start(target, &[]);
    let address = server.address;
    let (sender, served) = channel();
    let clients: Vec<_> = (0..4)
        .map(|number| {
            let sender = sender.clone();
            thread::spawn(move || {
                // Until the port is closed, which is no loss.
                while let Ok(mut client) = Client::try_connect(address) {
                    client.try_send(b"GET /health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")?;
                    if !client.read_to_end()?.is_empty() {
                        let _ = sender.send(number);
                    }
                }
                io::Result::Ok(())
            })
        })
        .collect();
    let mut unserved = BTreeSet::from_iter(0..clients.len());
    while !unserved.is_empty() {
        unserved.remove(&served.recv_timeout(TIMEOUT).expect("all are served"));
    }
    server.signal(Signal::SIGTERM);
    for client in clients {
        client.join().expect("it does not panic").expect("nothing is reset");
    }
    assert_eq!(server.wait().code(), Some(0));
}

/// The second of two forces the exit, also if the server had no time for the first.
pub fn two_signals_at_once(target: &Target) {
    let [term, int] = [Signal::SIGTERM, Signal::SIGINT];
    for signals in [[term, int], [int, term]] {
        let mut server = start(target, &[]);
        let mut client = server.connect();
        client.send(b"GET /?wait=60s HTTP/1.1\r\nHost: a\r\n\r\n");
        server.wait_for_metric("c10k_requests_waiting", 1);
        signals.into_iter().for_each(|signal| server.signal(signal));
        assert_eq!(server.wait().code(), Some(128 + term as i32), "{signals:?}");
    }
}

/// A client that has got its last answer and does not close has two seconds, whichever server it is.
pub fn who_does_not_close_is_not_awaited_for_ever(target: &Target) {
    let mut server = start(target, &["--max-connections", "1"]);
    let mut client = server.connect();
    client.send(b"GET /health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert_eq!(client.read_response().status, 200);
    server.signal(Signal::SIGTERM);
    assert_eq!(server.wait().code(), Some(0));
}
