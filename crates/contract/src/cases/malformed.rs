//! What is refused, with which status.
#![expect(missing_docs, reason = "the names say it")]

use std::thread;
use std::time::Duration;

use crate::{Server, Target};
use conformance::rows::Refusal;
use conformance::rows::refused::{CHUNKED, CHUNKS, FRAMES, HEADS, HEADS_OF_HEAD, NOISE};

/// What `curl --http2` sends first: nobody here takes up the offer.
const UPGRADE: &[u8] = b"GET /health HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\
    HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n";

/// Sends each input on a connection of its own, and checks the refusal; row 50: also as the second on one.
fn check(target: &Target, cases: &[Refusal]) {
    let server = Server::start(target, &[]);
    for (row, input, status, _) in cases {
        println!("row {row}: {}", input.escape_ascii());
        let mut client = server.connect();
        client.send(input);
        client.assert_rejected(*status);
        let mut client = server.connect();
        client.send(UPGRADE);
        assert_eq!(client.read_response().text(), "ok\n");
        client.send(input);
        client.assert_rejected(*status);
    }
    assert_eq!(server.metric("c10k_requests_waiting_peak"), 0, "a handler ran");
}

pub fn heads(target: &Target) {
    check(target, HEADS);
}

/// Row 49: whatever refuses it, the answer to HEAD has no body.
pub fn heads_of_head(target: &Target) {
    let server = Server::start(target, &["--max-body", "10", "--max-head", "1000", "--header-timeout", "300ms"]);
    let long = "a".repeat(1000);
    let with_limits = [
        ("HEAD / HTTP/1.1\r\nHost: a\r\nX: \x01", 400),
        ("HEAD / HTTP/1.1\r\nHost: a\r\n", 408),
        ("HEAD", 408),
        ("HEAD / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\n", 413),
        ("HEAD / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nb\r\nhello hello\r\n", 413),
        (&format!("HEAD /{long} HTTP/1.1\r\nHost: a\r\n\r\n"), 414),
        (&format!("HEAD / HTTP/1.1\r\nHost: a\r\nX: {long}\r\n\r\n"), 431),
    ];
    let without = HEADS_OF_HEAD.iter().map(|&(_, input, status, _)| (input, status));
    for (input, status) in with_limits.map(|(input, status)| (input.as_bytes(), status)).into_iter().chain(without) {
        println!("{}", input.escape_ascii());
        for before in [&b""[..], UPGRADE] {
            let mut client = server.connect();
            client.send(before);
            if !before.is_empty() {
                assert_eq!(client.read_response().status, 200);
            }
            client.send(input);
            client.assert_head_rejected(status);
        }
    }
}

/// Rows 52 and 53: what a list may hold beside its members.
pub fn lists(target: &Target) {
    let server = Server::start(target, &[]);
    for connection in ["close, ,x", ",close", "close, \u{e4}", "\u{e4}, close", "x,\t,CLOSE", "x\r\nConnection: close"]
    {
        let mut client = server.connect();
        client.send(format!("GET /health HTTP/1.1\r\nHost: a\r\nConnection: {connection}\r\n\r\n").as_bytes());
        let response = client.read_response();
        assert_eq!((response.status, response.field("connection")), (200, Some("close")), "{connection:?}");
        client.assert_closed();
    }
    let mut client = server.connect();
    client.send(b"GET /health HTTP/1.1\r\nHost: a\r\nConnection: close, \xe4\r\n\r\n");
    assert_eq!(client.read_response().status, 200);
    client.assert_closed();
    let mut client = server.connect();
    for expect in ["100-continue,", ", ,100-continue", "100-continue, 100-continue"] {
        let head = format!("POST / HTTP/1.1\r\nHost: a\r\nExpect: {expect}\r\nContent-Length: 5\r\n\r\n");
        client.send(head.as_bytes());
        assert_eq!(client.read_response().status, 100, "{expect:?}");
        client.send(b"hello");
        assert_eq!(client.read_response().text(), "hello", "{expect:?}");
    }
    for (field, body) in [
        ("Expect:", "5\r\nhello\r\n0\r\n\r\n"),
        ("Expect: ,", "5\r\nhello\r\n0\r\n\r\n"),
        ("Connection: ,", "5\r\nhello\r\n0\r\n\r\n"),
    ] {
        client.send(
            format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: ,chunked, \r\n{field}\r\n\r\n{body}").as_bytes(),
        );
        assert_eq!(client.read_response().text(), "hello", "{field:?}");
    }
}

pub fn framing(target: &Target) {
    check(target, FRAMES);
}

pub fn chunks(target: &Target) {
    let long_extension = format!("5;x={}\r\nhello\r\n0\r\n\r\n", "a".repeat(5000));
    let server = Server::start(target, &[]);
    let chunks = CHUNKS.iter().map(|&(row, chunks, status, _)| (row, chunks, status));
    for (row, chunks, status) in chunks.chain([(31, long_extension.as_bytes(), 400)]) {
        println!("row {row}: {}", chunks.escape_ascii());
        let mut client = server.connect();
        client.send(&[CHUNKED.as_bytes(), chunks].concat());
        client.assert_rejected(status);
    }
    assert_eq!(server.metric("c10k_requests_waiting_peak"), 0, "a handler ran");
    let mut client = server.connect();
    for chunks in [
        "5;x=y;z=\"a b\"\r\nhello\r\n0;last\r\n\r\n",
        "00005 ;x\r\nhello\r\n000\r\n\r\n",
        "5 ; x = y ; z=\"a;\\\"b\"\r\nhello\r\n0;a;b=c;d\r\n\r\n",
        "5\r\nhello\r\n0\r\nContent-Length: 3\r\nHost: b\r\nTransfer-Encoding: tea\r\n\r\n",
        "A\r\nhellohello\r\n0\r\n\r\n",
    ] {
        client.send(format!("{CHUNKED}{chunks}").as_bytes());
        let response = client.read_response();
        assert!(response.status == 200 && response.text().starts_with("hello"), "{chunks:?}: {response:?}");
    }
}

/// Row 56: trailers have the limits of a head, however they come.
pub fn trailers_too_long(target: &Target) {
    const HEAD: &str = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n";
    let server = Server::start(target, &["--max-head", "1000"]);
    let fields = |count: usize| "a:\r\n".repeat(count) + "\r\n";
    let of_length = |length: usize| format!("a: {}\r\n\r\n", "b".repeat(length - 7));
    for (trailers, status) in [
        (fields(100), 200),
        (fields(101), 431),
        (of_length(999), 200),
        (of_length(1000), 200),
        (of_length(1001), 431),
        (of_length(5000), 431),
    ] {
        for is_split in [false, true] {
            let mut client = server.connect();
            if is_split {
                client.send(HEAD.as_bytes());
                thread::sleep(Duration::from_millis(20));
                let (first, second) = trailers.as_bytes().split_at(trailers.len() / 2);
                client.send(first);
                thread::sleep(Duration::from_millis(20));
                let _ = client.try_send(second);
            } else {
                client.send(format!("{HEAD}{trailers}").as_bytes());
            }
            println!("{} bytes, split: {is_split}", trailers.len());
            match status {
                200 => assert_eq!(client.read_response().text(), "hello"),
                _ => drop(client.assert_rejected(status)),
            }
        }
    }
}

/// Row 16: how long a target may be does not depend on who parses it.
pub fn long_targets(target: &Target) {
    let server = Server::start(target, &["--max-head", "200000"]);
    for (bytes, status) in [(60_000, 200), (65_000, 200), (65_001, 414), (65_535, 414), (150_000, 414)] {
        let mut client = server.connect();
        let rest = "a".repeat(bytes - "/health?".len());
        client.send(format!("GET /health?{rest} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes());
        assert_eq!(client.read_response().status, status, "{bytes} bytes");
    }
    let mut client = server.connect();
    client.send(format!("GET /health HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "a".repeat(150_000)).as_bytes());
    assert_eq!(client.read_response().status, 200);
}

/// Row 46.
pub fn noise(target: &Target) {
    check(target, NOISE);
}

/// What was good before is answered, in order.
pub fn refused_after_good_requests(target: &Target) {
    let server = Server::start(target, &[]);
    let mut client = server.connect();
    client.send(
        b"GET /?wait=50ms HTTP/1.1\r\nHost: a\r\n\r\nGET /health HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\n\r\n",
    );
    assert_eq!(client.read_response().status, 200);
    assert_eq!(client.read_response().text(), "ok\n");
    client.assert_rejected(400);
}

/// Row 41.
pub fn lingering_close(target: &Target) {
    let server = Server::start(target, &["--max-body", "1000"]);
    for _ in 0..10 {
        let mut client = server.connect();
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4000000\r\n\r\n");
        for _ in 0..40 {
            // The server may stop to read, but must not reset what it has answered.
            client.send(&[b'x'; 10_000]);
        }
        client.shut_write();
        client.assert_rejected(413);
    }
}
