//! What is refused, with which status.
#![expect(missing_docs, reason = "the names say it")]

use crate::{Server, Target};

/// Row, input, status.
type Case = (u8, &'static [u8], u16);

/// Sends each input on a connection of its own, and checks the refusal.
fn check(target: &Target, cases: &[Case]) {
    let server = Server::start(target, &[]);
    for (row, input, status) in cases {
        println!("row {row}: {}", input.escape_ascii());
        let mut client = server.connect();
        client.send(input);
        client.assert_rejected(*status);
    }
    assert_eq!(server.metric("c10k_requests_waiting_peak"), 0, "a handler ran");
}

pub fn heads(target: &Target) {
    check(
        target,
        &[
            (1, b"GET / HTTP/1.1\r\n\r\n", 400),
            (2, b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
            (2, b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
            (2, b"GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n", 400),
            (3, b"GET / HTTP/1.1\r\nHost: a@b\r\n\r\n", 400),
            (3, b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
            (3, b"GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", 400),
            (3, b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
            (3, b"GET / HTTP/1.1\r\nHost: a:port\r\n\r\n", 400),
            (5, b"GET / HTTP/9.9\r\nHost: a\r\n\r\n", 505),
            (5, b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
            (7, b"GET /\r\n\r\n", 400),
            (7, b"GET HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            (7, b"GET  HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            (7, b"GET /\r\nHost: a\r\n\r\n", 400),
            (7, b"GET / http/1.1\r\nHost: a\r\n\r\n", 400),
            (7, b"GET / x HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            (7, b"GET / HTTP/1.1x\r\nHost: a\r\n\r\n", 400),
            (9, b"GET / HTTP/1.1\nHost: a\n\n", 400),
            (9, b"GET / HTTP/1.1\r\nHost: a\n\r\n", 400),
            (9, b"GET / HTTP/1.1\r\nHost: a\r\n\n", 400),
            (9, b"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            (10, b"GET / HTTP/1.1\rHost: a\r\n\r\n", 400),
            (10, b"GET / HTTP/1.1\r\nHost: a\rb\r\n\r\n", 400),
            (11, b"GET / HTTP/1.1\r\n Host: a\r\n\r\n", 400),
            (11, b" GET / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            (12, b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400),
            (12, b"GET / HTTP/1.1\r\nHost: a\r\nX\t: a\r\n\r\n", 400),
            (13, b"GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n", 400),
            (13, b"GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n\tb\r\n\r\n", 400),
            (14, b"GET / HTTP/1.1\r\nHost: a\r\n: a\r\n\r\n", 400),
            (14, b"GET / HTTP/1.1\r\nHost: a\r\nX(: a\r\n\r\n", 400),
            (14, b"GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n", 400),
            (15, b"GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n", 400),
            (15, b"GET / HTTP/1.1\r\nHost: a\r\nX: a\x01b\r\n\r\n", 400),
            (15, b"GET / HTTP/1.1\r\nHost: a\r\nX: a\x7fb\r\n\r\n", 400),
            (20, b"GET * HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            (21, b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n", 501),
            (22, b"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            (22, b"GET /\xc3\xa4 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            (22, b"GET a HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ],
    );
}

pub fn framing(target: &Target) {
    check(
        target,
        &[
            (
                23,
                b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                400,
            ),
            (
                23,
                b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
                400,
            ),
            (24, b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
            (25, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: tea\r\n\r\n", 501),
            (25, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501),
            (25, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n", 501),
            (26, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, gzip\r\n\r\n", 400),
            (26, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n", 400),
            (
                26,
                b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
                400,
            ),
            (27, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello", 400),
            (28, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello", 400),
            (28, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5\r\n\r\nhello", 400),
            (29, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\nhello", 400),
            (29, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 400),
            (29, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x5\r\n\r\nhello", 400),
            (29, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n", 400),
            (29, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551616\r\n\r\n", 400),
            (29, b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1 2\r\n\r\n", 400),
        ],
    );
}

pub fn chunks(target: &Target) {
    const HEAD: &str = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let long_extension = format!("5;x={}\r\nhello\r\n0\r\n\r\n", "a".repeat(5000));
    let server = Server::start(target, &[]);
    for (row, chunks) in [
        (30, "\r\nhello\r\n0\r\n\r\n"),
        (30, "0x5\r\nhello\r\n0\r\n\r\n"),
        (30, "+5\r\nhello\r\n0\r\n\r\n"),
        (30, " 5\r\nhello\r\n0\r\n\r\n"),
        (30, "5g\r\nhello\r\n0\r\n\r\n"),
        (30, "5_0\r\nhello\r\n0\r\n\r\n"),
        (30, "10000000000000005\r\nhello\r\n0\r\n\r\n"),
        (31, "5;x=\na\r\nhello\r\n0\r\n\r\n"),
        (31, "5;x=\ra\r\nhello\r\n0\r\n\r\n"),
        (31, &long_extension),
        (32, "5\r\nhelloX\r\n0\r\n\r\n"),
        (32, "5\r\nhello0\r\n\r\n"),
        (32, "5\r\nhello\n0\r\n\r\n"),
        (32, "5\nhello\r\n0\r\n\r\n"),
        (33, "5\r\nhello\r\n0\r\nno colon\r\n\r\n"),
        (33, "5\r\nhello\r\n0\r\nX: a\n\r\n"),
    ] {
        println!("row {row}: {}", chunks.escape_debug());
        let mut client = server.connect();
        client.send(format!("{HEAD}{chunks}").as_bytes());
        client.assert_rejected(400);
    }
    assert_eq!(server.metric("c10k_requests_waiting_peak"), 0, "a handler ran");
    let mut client = server.connect();
    for chunks in [
        "5;x=y;z=\"a b\"\r\nhello\r\n0;last\r\n\r\n",
        "00005 ;x\r\nhello\r\n000\r\n\r\n",
        "5\r\nhello\r\n0\r\nContent-Length: 3\r\nHost: b\r\nTransfer-Encoding: tea\r\n\r\n",
        "A\r\nhellohello\r\n0\r\n\r\n",
    ] {
        client.send(format!("{HEAD}{chunks}").as_bytes());
        let response = client.read_response();
        assert!(response.status == 200 && response.text().starts_with("hello"), "{chunks:?}: {response:?}");
    }
}

/// Row 46.
pub fn noise(target: &Target) {
    check(
        target,
        &[
            (46, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
            (46, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
            (46, b"\0\0\0\0", 400),
            (46, b"SSH-2.0-OpenSSH_9.2\r\n\r\n", 400),
            (46, b"\xff\xfe\xfd \xfc\r\n\r\n", 400),
        ],
    );
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
