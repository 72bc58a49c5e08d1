//! How requests share connections.
#![expect(missing_docs, reason = "the names say it")]

use std::thread;
use std::time::Duration;

use crate::{Client, Server, Target};

const GET: &[u8] = b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n";
const POST: &[u8] = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";

pub fn keep_alive(target: &Target) {
    let server = Server::start(target, &[]);
    let mut client = server.connect();
    for _ in 0..50 {
        let response = client.get("/");
        assert_eq!((response.status, response.field("connection")), (200, None));
    }
    assert_eq!(server.metric("c10k_connections_accepted_total"), 1);
}

/// Row 38.
pub fn close(target: &Target) {
    let server = Server::start(target, &[]);
    for option in ["close", "Close", "x, close"] {
        let mut client = server.connect();
        client.send(format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: {option}\r\n\r\n").as_bytes());
        // What follows is not looked at (§9.6).
        client.send(b"GET / HTTP/1.1\r\n\r\n");
        let response = client.read_response();
        assert_eq!((response.status, response.field("connection")), (200, Some("close")), "{option}");
        client.assert_closed();
    }
}

/// Rows 4 and 6, and §9.3.
pub fn http_1_0(target: &Target) {
    let server = Server::start(target, &[]);
    let mut client = server.connect();
    client.send(b"GET / HTTP/1.0\r\n\r\n");
    assert_eq!(client.read_response().status, 200);
    client.assert_closed();

    let mut client = server.connect();
    for _ in 0..2 {
        client.send(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
        let response = client.read_response();
        assert_eq!((response.status, response.field("connection")), (200, Some("keep-alive")));
    }
    client.send(b"GET / HTTP/1.2\r\nHost: a\r\n\r\n");
    assert_eq!(client.read_response().status, 200, "HTTP/1.2 is as 1.1 (RFC 9110 §2.5)");
}

/// Row 39.
pub fn pipelining(target: &Target) {
    let server = Server::start(target, &[]);
    let mut client = server.connect();
    let mut requests = Vec::new();
    for number in 0..100 {
        let body = number.to_string();
        let head =
            format!("POST /?wait={}ms HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", number % 3, body.len());
        requests.extend_from_slice(head.as_bytes());
        requests.extend_from_slice(body.as_bytes());
        requests.extend_from_slice(GET);
    }
    client.send(&requests);
    for number in 0..100 {
        assert_eq!(client.read_response().text(), number.to_string());
        assert_eq!(client.read_response().text(), "ok\n");
    }
}

/// Row 39.
pub fn every_split(target: &Target) {
    let server = Server::start(target, &[]);
    let mut client = server.connect();
    let input = [GET, POST].concat();
    for cut in 1..input.len() {
        client.send(&input[..cut]);
        // Long enough for the server to see the first part on its own, most of the time.
        thread::sleep(Duration::from_millis(1));
        client.send(&input[cut..]);
        assert_eq!(client.read_response().text(), "ok\n", "cut at {cut}");
        assert_eq!(client.read_response().text(), "hello", "cut at {cut}");
    }
}

/// Row 39.
pub fn byte_by_byte(target: &Target) {
    let server = Server::start(target, &[]);
    let mut client = server.connect();
    for byte in [GET, POST].concat() {
        client.send(&[byte]);
    }
    assert_eq!(client.read_response().text(), "ok\n");
    assert_eq!(client.read_response().text(), "hello");
}

/// Row 40.
pub fn half_close(target: &Target) {
    let server = Server::start(target, &[]);
    let mut client = server.connect();
    client.send(b"GET /?wait=200ms HTTP/1.1\r\nHost: a\r\n\r\n");
    client.shut_write();
    assert_eq!(client.read_response().status, 200);
    client.assert_closed();
}

/// Row 35.
pub fn end_of_input(target: &Target) {
    let server = Server::start(target, &[]);
    for part in [
        &b"GET / HT"[..],
        b"GET / HTTP/1.1\r\nHost: a\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhel",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    ] {
        let mut client = server.connect();
        client.send(part);
        client.shut_write();
        // A 400 would be right too; an answer of the handler would not.
        let rest = client.read_to_end().unwrap_or_default();
        assert!(!rest.starts_with(b"HTTP/1.1 200"), "{}: {}", part.escape_ascii(), rest.escape_ascii());
    }
    assert_eq!(server.metric("c10k_requests_waiting_peak"), 0, "the handler ran");
}

/// Row 42.
pub fn reset_during_query(target: &Target) {
    let mut server = Server::start(target, &[]);
    for _ in 0..20 {
        let mut client = server.connect();
        client.send(b"GET /?wait=50ms HTTP/1.1\r\nHost: a\r\n\r\n");
        thread::sleep(Duration::from_millis(5));
        client.reset();
    }
    server.wait_for_metric("c10k_connections_open", 0);
    assert!(server.is_running());
    assert_eq!(server.connect().get("/").status, 200);
}

/// Row 36.
pub fn expect_continue(target: &Target) {
    let server = Server::start(target, &["--max-body", "100"]);
    let mut client = server.connect();
    for option in ["100-continue", "100-Continue"] {
        client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nExpect: {option}\r\nContent-Length: 5\r\n\r\n").as_bytes());
        assert_eq!(client.read_response().status, 100);
        client.send(b"hello");
        assert_eq!(client.read_response().text(), "hello");
    }
    let rejected = |request: &str, status| {
        let mut client = server.connect();
        client.send(request.as_bytes());
        client.assert_rejected(status);
    };
    rejected("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 101\r\n\r\n", 413);
    rejected("GET / HTTP/1.1\r\nHost: a\r\nExpect: tea\r\n\r\n", 417);
    client.send(b"POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
    assert!(client.is_silent_for(Duration::from_millis(100)), "100 was sent to HTTP/1.0");
    client.send(b"hello");
    assert_eq!(client.read_response().text(), "hello");
}

/// Row 8.
pub fn empty_lines_before_request(target: &Target) {
    let server = Server::start(target, &[]);
    let mut client = server.connect();
    for _ in 0..2 {
        client.send(b"\r\n\r\n");
        client.send(GET);
        assert_eq!(client.read_response().text(), "ok\n");
    }
}

/// Row 19.
pub fn absolute_form(target: &Target) {
    let server = Server::start(target, &[]);
    let mut client = server.connect();
    for (uri, status) in [("http://a/health", 200), ("HTTP://a:80/nowhere", 404), ("http://[::1]?wait=1ms", 200)] {
        assert_eq!(client.get(uri).status, status, "{uri}");
    }
}

/// The point of it all: many requests wait at once, and the server says so.
pub fn many_at_once(target: &Target) {
    let server = Server::start(target, &["--db-wait", "1s"]);
    let mut clients: Vec<Client> = (0..60).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    server.wait_for_metric("c10k_requests_waiting", 60);
    for client in &mut clients {
        assert_eq!(client.read_response().status, 200);
    }
    server.wait_for_metric("c10k_requests_waiting", 0);
    assert_eq!(server.metric("c10k_requests_waiting_peak"), 60);
    assert_eq!(server.metric("c10k_connections_open"), 60);
}

/// Row 33: a trailer that would change how the message is read must not.
pub fn forbidden_trailers(target: &Target) {
    let server = Server::start(target, &[]);
    let mut client = server.connect();
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n");
    client.send(b"Content-Length: 50\r\nHost: b\r\nTransfer-Encoding: gzip\r\nConnection: close\r\n\r\n");
    let response = client.read_response();
    assert_eq!((response.status, response.text()), (200, "ok"));
    assert_eq!(client.get("/").status, 200);
}

/// Row 57: the status line says which version the server speaks, and why in the words of RFC 9110.
pub fn status_lines(target: &Target) {
    let server = Server::start(target, &["--max-body", "10", "--max-head", "1000"]);
    let long = "a".repeat(1000);
    for (input, line) in [
        ("GET /health HTTP/1.0\r\n\r\n", "HTTP/1.1 200 OK\r\n"),
        ("GET /health HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", "HTTP/1.1 200 OK\r\n"),
        ("GET /nowhere HTTP/1.0\r\n\r\n", "HTTP/1.1 404 Not Found\r\n"),
        ("GET /a#b HTTP/1.0\r\n\r\n", "HTTP/1.1 400 Bad Request\r\n"),
        ("PUT / HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 405 Method Not Allowed\r\n"),
        ("OPTIONS / HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 204 No Content\r\n"),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\n", "HTTP/1.1 413 Content Too Large\r\n"),
        (&format!("GET /{long} HTTP/1.1\r\nHost: a\r\n\r\n"), "HTTP/1.1 414 URI Too Long\r\n"),
        (
            &format!("GET / HTTP/1.1\r\nHost: a\r\nX: {long}\r\n\r\n"),
            "HTTP/1.1 431 Request Header Fields Too Large\r\n",
        ),
        ("GET / HTTP/1.1\r\nHost: a\r\nExpect: tea\r\n\r\n", "HTTP/1.1 417 Expectation Failed\r\n"),
        ("BREW / HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 501 Not Implemented\r\n"),
        ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", "HTTP/1.1 505 HTTP Version Not Supported\r\n"),
    ] {
        let mut client = server.connect();
        client.send(input.as_bytes());
        client.shut_write();
        let answer = client.read_to_end().expect("it is answered");
        assert!(answer.starts_with(line.as_bytes()), "{input:?}: {}", answer.escape_ascii());
    }
}

/// An Upgrade that nobody takes up changes nothing: row 50.
pub fn upgrade_is_declined(target: &Target) {
    let server = Server::start(target, &[]);
    let mut client = server.connect();
    for protocol in ["h2c", "websocket", "TLS/1.0, h2c"] {
        let fields = format!("Connection: Upgrade\r\nUpgrade: {protocol}");
        client.send(format!("GET /health HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n").as_bytes());
        assert_eq!(client.read_response().text(), "ok\n");
        client.send(POST);
        assert_eq!(client.read_response().text(), "hello");
    }
}

/// Row 19: what is in the authority never reaches the path.
pub fn escaped_authority(target: &Target) {
    let server = Server::start(target, &[]);
    let mut client = server.connect();
    for uri in ["http://%41/health", "http://a%2eb:80/health", "https://[::1]:/health"] {
        assert_eq!(client.get(uri).status, 200, "{uri}");
    }
}
