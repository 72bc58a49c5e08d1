//! What each route answers.
#![expect(missing_docs, reason = "the names say it")]

use std::time::{Duration, Instant};

use crate::server::cpu_time;
use crate::{Server, Target};

pub fn row(target: &Target) {
    let server = Server::start(target, &["--db-wait", "50ms"]);
    let start = Instant::now();
    let response = server.connect().get("/");
    assert!(start.elapsed() >= Duration::from_millis(50), "the query was not waited for");
    assert_eq!(response.status, 200);
    assert_eq!(response.field("content-type"), Some("application/json"));
    assert!(response.text().starts_with('{'), "{response:?}");
}

/// Row 37.
pub fn head_is_get_without_body(target: &Target) {
    let server = Server::start(target, &[]);
    let mut client = server.connect();
    for path in ["/", "/health", "/cpu?for=1ms", "/nowhere"] {
        let (get, head) = (client.get(path), client.request("HEAD", path));
        let without_date =
            |fields: &[(String, String)]| fields.iter().filter(|(name, _)| name != "Date").cloned().collect::<Vec<_>>();
        assert_eq!((get.status, without_date(&get.fields)), (head.status, without_date(&head.fields)), "{path}");
    }
    assert_eq!(client.get("/health").status, 200, "a body came after HEAD");
}

pub fn echo(target: &Target) {
    let server = Server::start(target, &[]);
    let mut client = server.connect();
    let binary: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    for body in [&b""[..], b"hello", b"\r\n\r\nGET / HTTP/1.1\r\n\r\n", &binary] {
        client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len()).as_bytes());
        client.send(body);
        let response = client.read_response();
        assert_eq!((response.status, response.body.as_slice()), (200, body));
        assert_eq!(response.field("content-type"), Some("application/octet-stream"));
    }
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n");
    assert_eq!(client.read_response().body, b"hello");
}

/// It is there to say that the server is alive: it must not wait for the database, nor for a worker.
pub fn health(target: &Target) {
    let server = Server::start(target, &["--db-wait", "60s"]);
    let response = server.connect().get("/health");
    assert_eq!((response.status, response.text()), (200, "ok\n"));
}

pub fn cpu(target: &Target) {
    let server = Server::start(target, &[]);
    let start = Instant::now();
    assert_eq!(server.connect().get("/cpu?for=30ms").status, 200);
    assert!(start.elapsed() >= Duration::from_millis(30), "nothing was burnt");
}

/// Before it waits: both are paid for.
pub fn a_query_costs_cpu_time(target: &Target) {
    let server = Server::start(target, &["--burn", "60ms", "--db-wait", "40ms"]);
    let mut client = server.connect();
    for request in ["GET / HTTP/1.1\r\nHost: a\r\n\r\n", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"] {
        let (before, start) = (cpu_time(&server.processes()), Instant::now());
        client.send(request.as_bytes());
        assert_eq!(client.read_response().status, 200);
        assert!(start.elapsed() >= Duration::from_millis(100), "{request}: one was not paid for");
        let used = cpu_time(&server.processes()) - before;
        // The kernel counts in ticks of 10 ms.
        assert!(used >= Duration::from_millis(40), "{request}: {used:?} of CPU time");
    }
}

/// Row 20.
pub fn options(target: &Target) {
    let server = Server::start(target, &[]);
    let mut client = server.connect();
    for path in ["*", "/", "/health"] {
        let response = client.request("OPTIONS", path);
        assert_eq!(response.status, 204, "{path}");
        assert!(response.field("allow").is_some_and(|allow| allow.contains("GET")), "{response:?}");
    }
    assert_eq!(client.request("GET", "*").status, 400);
}

pub fn not_found(target: &Target) {
    let server = Server::start(target, &[]);
    let mut client = server.connect();
    for path in ["/nowhere", "//", "/health/", "/chaos/panic"] {
        assert_eq!(client.get(path).status, 404, "{path}");
    }
}

/// Row 18.
pub fn not_allowed(target: &Target) {
    let server = Server::start(target, &[]);
    let mut client = server.connect();
    for (method, path, allow) in [
        ("PUT", "/", "GET, HEAD, POST, OPTIONS"),
        ("DELETE", "/", "GET, HEAD, POST, OPTIONS"),
        ("TRACE", "/", "GET, HEAD, POST, OPTIONS"),
        ("POST", "/health", "GET, HEAD, OPTIONS"),
        ("PATCH", "/cpu", "GET, HEAD, OPTIONS"),
    ] {
        let response = client.request(method, path);
        assert_eq!((response.status, response.field("allow")), (405, Some(allow)), "{method} {path}");
    }
}

/// Row 18. Methods are case-sensitive (RFC 9110 §9.1).
pub fn unknown_method(target: &Target) {
    let server = Server::start(target, &[]);
    let mut client = server.connect();
    for method in ["BREW", "get", "M-SEARCH"] {
        assert_eq!(client.request(method, "/").status, 501, "{method}");
    }
}

pub fn wait_is_chosen_by_client(target: &Target) {
    let server = Server::start(target, &["--db-wait", "60s"]);
    let mut client = server.connect();
    let start = Instant::now();
    assert_eq!(client.get("/?wait=40ms").status, 200);
    assert!(start.elapsed() >= Duration::from_millis(40), "the query was not waited for");
    assert_eq!(client.get("/?x=1&wait=1ms").status, 200);
    for wrong in ["/?wait=", "/?wait=1", "/?wait=-1s", "/?wait=soon"] {
        assert_eq!(client.get(wrong).status, 400, "{wrong}");
    }
    let start = Instant::now();
    assert_eq!(client.get("/delay/40").status, 200);
    assert!(start.elapsed() >= Duration::from_millis(40), "the query was not waited for");
    assert_eq!(client.get("/delay/0?x=1").status, 200);
    for wrong in ["/delay", "/delay/", "/delay/1ms", "/delay/-1", "/delay/1/2"] {
        assert_eq!(client.get(wrong).status, 404, "{wrong}");
    }
    assert_eq!(client.request("POST", "/delay/1").status, 405);
}

pub fn chaos_is_forbidden(target: &Target) {
    let mut server = Server::start(target, &[]);
    for path in ["/chaos/panic", "/chaos/abort", "/chaos/segv", "/chaos/leak"] {
        assert_eq!(server.connect().request("POST", path).status, 404, "{path}");
    }
    assert!(server.is_running());
}

pub fn panic_hurts_nobody_else(target: &Target) {
    let server = Server::start(target, &["--allow-chaos"]);
    let mut other = server.connect();
    assert_eq!(other.get("/").status, 200);
    for _ in 0..3 {
        let mut client = server.connect();
        client.send(b"POST /chaos/panic HTTP/1.1\r\nHost: a\r\n\r\n");
        // The client learns it by a close, in whatever order.
        client.assert_cut_off();
    }
    assert_eq!(other.get("/").status, 200);
    assert_eq!(server.connect().request("POST", "/chaos/leak").status, 200);
    assert_eq!(server.connect().get("/chaos/panic").status, 405);
    drop(other);
    server.wait_for_metric("c10k_connections_open", 0);
    server.wait_for_metric("c10k_requests_waiting", 0);
}

pub fn answers_are_dated(target: &Target) {
    let server = Server::start(target, &[]);
    let mut client = server.connect();
    for path in ["/", "/health", "/nowhere", "/?wait=x"] {
        client.get(path).assert_is_dated();
    }
}
