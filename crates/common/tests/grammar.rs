//! The codec at the edges of the grammar, a table for each part of a request: what is just allowed, and what is just not.

use common::http::{Decoder, Limits, Persistence, Phase, Reject, Request, Status, Step};

const LIMITS: Limits = Limits { max_head_bytes: 70_000, max_body_bytes: 64 };

/// What the decoder makes of this: one request, or its refusal.
fn decode(input: &str) -> Result<Request, Reject> {
    match Decoder::new(LIMITS).decode(input.as_bytes())? {
        Step::Request(request) => Ok(request),
        step => panic!("{step:?}: {input}"),
    }
}

fn status(input: &str) -> Option<Status> {
    decode(input).err().map(|reject| reject.status)
}

/// A request with these fields besides Host.
fn with(fields: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n")
}

#[test]
fn request_lines() {
    let target = |line: &str| decode(&format!("{line}\r\nHost: a\r\n\r\n")).map(|request| request.target.to_string());
    for (line, expected) in [
        ("GET /a?b HTTP/1.1", "/a?b"),
        ("GET /{a}|[b] HTTP/1.1", "/{a}|[b]"),
        ("OPTIONS * HTTP/1.1", "*"),
        ("GET http://a HTTP/1.1", "/"),
        ("GET HTTP://a/b?c HTTP/1.1", "/b?c"),
        ("GET https://[::1]:80?c HTTP/1.1", "/?c"),
        ("!#$%&'*+-.^_`|~aZ09 / HTTP/1.9", "/"),
    ] {
        assert_eq!(target(line).as_deref(), Ok(expected), "{line}");
    }
    for line in
        ["GET * HTTP/1.1", "GET a HTTP/1.1", "GET ftp://a/ HTTP/1.1", "GET http:/a HTTP/1.1", "GET http:///a HTTP/1.1"]
    {
        assert_eq!(target(line).map_err(|reject| reject.status), Err(Status::BadRequest), "{line}");
    }
    for line in
        ["G(T / HTTP/1.1", " / HTTP/1.1", "GET  HTTP/1.1", "GET /\u{e4} HTTP/1.1", "GET /\" HTTP/1.1", "GET / http/1.1"]
    {
        assert_eq!(target(line).map_err(|reject| reject.status), Err(Status::BadRequest), "{line}");
    }
    let of_length = |bytes: usize| target(&format!("GET /{} HTTP/1.1", "a".repeat(bytes - 1)));
    assert_eq!(of_length(65_000).map(|target| target.len()), Ok(65_000));
    assert_eq!(of_length(65_001).map_err(|reject| reject.status), Err(Status::UriTooLong));
}

#[test]
fn hosts() {
    let refusal = |host: &str| status(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    for host in ["a", "a:", "a:80", "A-b._~%41", "1.2.3.4", "[::1]", "[::1]:80", "[::ffff:1.2.3.4]", "a!$&'()*+;=b"] {
        assert_eq!(refusal(host), None, "{host}");
    }
    for host in [
        "", ":80", "a:b", "a:8x", "a b", "a,b", "a/b", "a@b", "[]", "[]:80", "[::1", "[g]", "[::1]80", "[::1]:x", "::1",
    ] {
        assert_eq!(refusal(host), Some(Status::BadRequest), "{host}");
    }
    let fields = |version: &str, hosts: &str| status(&format!("GET / {version}\r\n{hosts}\r\n"));
    assert_eq!((fields("HTTP/1.1", ""), fields("HTTP/1.0", "")), (Some(Status::BadRequest), None));
    let two = "Host: a\r\nHost: a\r\n";
    assert_eq!(
        (fields("HTTP/1.1", two), fields("HTTP/1.0", two)),
        (Some(Status::BadRequest), Some(Status::BadRequest))
    );
}

#[test]
fn fields() {
    let of = |count: usize| status(&with(&"a: b\r\n".repeat(count - 1)));
    assert_eq!((of(20), of(100), of(101)), (None, None, Some(Status::RequestHeaderFieldsTooLarge)));
    for field in
        ["a b: c", "a : b", ": b", " a: b", "a", "a: \u{0}", "a: \u{1}", "a: b\rc: d", "a: b\nc: d", "a: \u{7f}"]
    {
        assert_eq!(status(&with(&format!("{field}\r\n"))), Some(Status::BadRequest), "{field:?}");
    }
    for field in ["a:b", "a:", "a: \tb c\t", "a: \u{e4}"] {
        assert_eq!(status(&with(&format!("{field}\r\n"))), None, "{field:?}");
    }
}

#[test]
fn lengths() {
    let body = "x".repeat(64);
    let request = decode(&(with("Content-Length: 64\r\n") + &body)).unwrap();
    assert_eq!(request.body, body.as_bytes());
    for (length, expected) in [
        ("65", Status::ContentTooLarge),
        ("", Status::BadRequest),
        ("-1", Status::BadRequest),
        ("+1", Status::BadRequest),
        ("1 1", Status::BadRequest),
        ("0x1", Status::BadRequest),
    ] {
        assert_eq!(status(&with(&format!("Content-Length: {length}\r\n"))), Some(expected), "{length}");
    }
    for codings in ["gzip", "gzip, chunked", "identity"] {
        let refusal = status(&with(&format!("Transfer-Encoding: {codings}\r\n")));
        assert_eq!(refusal, Some(Status::NotImplemented), "{codings}");
    }
    for codings in ["", ",", "chunked, chunked", "chunked, gzip"] {
        let refusal = status(&with(&format!("Transfer-Encoding: {codings}\r\n")));
        assert_eq!(refusal, Some(Status::BadRequest), "{codings}");
    }
    assert_eq!(status(&with("Transfer-Encoding: chunked\r\nContent-Length: 0\r\n")), Some(Status::BadRequest));
}

#[test]
fn chunks() {
    let chunked = |chunks: &str| decode(&(with("Transfer-Encoding: CHUNKED\r\n") + chunks + "0\r\n\r\n"));
    let body = |chunks: &str| chunked(chunks).map(|request| request.body);
    for line in ["2", "02", "2;a", "2;a=b", "2 ;\ta\t= b", "2;a=\"b; c\"", "2;a=\"b \\\" ; c\"", "2;a;b=c"] {
        assert_eq!(body(&format!("{line}\r\nok\r\n")).ok().as_deref(), Some(&b"ok"[..]), "{line}");
    }
    let whole = "x".repeat(64);
    assert_eq!(body(&format!("20\r\n{}\r\n20\r\n{}\r\n", &whole[..32], &whole[32..])), Ok(whole.clone().into_bytes()));
    let too_much = chunked(&format!("40\r\n{whole}\r\n1\r\nx\r\n"));
    assert_eq!(too_much.map_err(|reject| reject.status), Err(Status::ContentTooLarge));
    for line in [
        "",
        ";a",
        "g",
        "-2",
        "2 2",
        "2;",
        "2;=b",
        "2;a=",
        "2;a=b c",
        "2;a=\"b",
        "2;a=\"\u{1}\"",
        "2;a(b",
        "2;a=b(c",
        "2;a=(b",
        "10000000000000002",
    ] {
        let refusal = chunked(&format!("{line}\r\nok\r\n")).map_err(|reject| reject.status);
        assert_eq!(refusal, Err(Status::BadRequest), "{line}");
    }
    // What follows the CR is taken for no LF.
    assert_eq!(chunked("2\rxok\r\n").map_err(|reject| reject.status), Err(Status::BadRequest));
    // A line may have 4,096 bytes with its CRLF, and all extensions 16,000 with their CRs, but without their first `;`.
    let line = |bytes: usize| format!("1;{}\r\nx\r\n", "a".repeat(bytes - 4));
    assert!(chunked(&line(4_096)).is_ok() && chunked(&line(4_097)).is_err());
    let extensions = |last: usize| line(4_003).repeat(3) + &line(last);
    assert!(chunked(&extensions(4_003)).is_ok(), "four times 4,000");
    assert_eq!(chunked(&extensions(4_004)).map_err(|reject| reject.status), Err(Status::BadRequest));
}

#[test]
fn persistence() {
    for (version, fields, expected) in [
        ("HTTP/1.1", "", Persistence::KeepAlive),
        ("HTTP/1.1", "Connection: keep-alive\r\n", Persistence::KeepAlive),
        ("HTTP/1.1", "Connection: a,, CLOSE\r\n", Persistence::Close),
        ("HTTP/1.1", "Connection: closed\r\n", Persistence::KeepAlive),
        ("HTTP/1.0", "", Persistence::Close),
        ("HTTP/1.0", "Connection: Keep-Alive\r\n", Persistence::KeepAliveSaid),
        ("HTTP/1.0", "Connection: keep-alive\r\nConnection: close\r\n", Persistence::Close),
    ] {
        let request = decode(&format!("GET / {version}\r\nHost: a\r\n{fields}\r\n")).unwrap();
        assert_eq!(request.persistence, expected, "{version} {fields}");
    }
}

#[test]
fn expectations() {
    let step = |version: &str, fields: &str, body: &str| {
        Decoder::new(LIMITS).decode(format!("POST / {version}\r\nHost: a\r\n{fields}\r\n{body}").as_bytes())
    };
    let length = "Expect: 100-Continue, 100-continue\r\nContent-Length: 2\r\n";
    assert!(matches!(step("HTTP/1.1", length, ""), Ok(Step::Continue)));
    assert!(matches!(step("HTTP/1.1", length, "o"), Ok(Step::Need)), "its body is on the way");
    assert!(matches!(step("HTTP/1.0", length, ""), Ok(Step::Need)), "HTTP/1.0 does not know it");
    assert!(matches!(step("HTTP/1.1", "Expect: 100-continue\r\n", ""), Ok(Step::Request(_))), "there is no body");
    assert!(matches!(step("HTTP/1.1", "Expect: 100-continue\r\nContent-Length: 0\r\n", ""), Ok(Step::Request(_))));
    let refused = step("HTTP/1.1", "Expect: 100-continue, tea\r\n", "").map_err(|reject| reject.status);
    assert!(matches!(refused, Err(Status::ExpectationFailed)), "{refused:?}");
}

#[test]
fn phases() {
    let mut decoder = Decoder::new(LIMITS);
    let mut feed = |bytes: &str| {
        let step = decoder.decode(bytes.as_bytes()).unwrap();
        (decoder.phase(), matches!(step, Step::Request(_)))
    };
    assert_eq!(feed(""), (Phase::Idle, false));
    assert_eq!(feed("\r\n"), (Phase::Idle, false));
    assert_eq!(feed("P"), (Phase::Head, false));
    assert_eq!(feed("OST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n"), (Phase::Body, false));
    assert_eq!(feed("o"), (Phase::Body, false));
    assert_eq!(feed("kG"), (Phase::Idle, true));
    assert_eq!(feed(""), (Phase::Head, false));
    assert_eq!(feed("ET / HTTP/1.1\r\nHost: a\r\n\r\n"), (Phase::Idle, true));
}

#[test]
fn refusals_know_whether_they_are_to_head() {
    for (input, expected) in [
        ("HEAD / HTTP/1.1\r\n\r\n", true),
        ("\r\n\r\nHEAD / HTTP/1.1\r\n\r\n", true),
        ("HEAD / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nX: \u{1}", true),
        ("HEADER / HTTP/1.1\r\n\r\n", false),
        ("GET /HEAD HTTP/1.1\r\n\r\n", false),
        ("HEAD / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nx", true),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nx", false),
    ] {
        assert_eq!(decode(input).map_err(|reject| reject.head_only).err(), Some(expected), "{input}");
    }
    for (input, expected) in [
        ("", false),
        ("HEA", false),
        ("HEAD", true),
        ("HEAD /", true),
        ("GET /", false),
        ("HEAD / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n", true),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n", false),
    ] {
        let mut decoder = Decoder::new(LIMITS);
        assert!(matches!(decoder.decode(input.as_bytes()), Ok(Step::Need)), "{input}");
        let late = decoder.too_slow();
        assert_eq!((late.status, late.head_only), (Status::RequestTimeout, expected), "{input}");
    }
}
