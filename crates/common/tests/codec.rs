//! The codec must find the same requests however the bytes are split.

use common::http::{Decoder, Limits, Reject, Request, Status, Step};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

const LIMITS: Limits = Limits { max_head_bytes: 512, max_body_bytes: 64 };

/// Messages, good and bad, out of which inputs are strung together.
const MESSAGES: &[&[u8]] = &[
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"\r\n\r\nHEAD /health HTTP/1.0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n00\r\nTrailer: x\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nok",
    b"GET / HTTP/1.1\r\n\r\n",
    b"GET / HTTP/9.9\r\nHost: a\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 65\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n41\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nx",
    b"GET / HTTP/1.1\nHost: a\n\n",
    b"\x16\x03\x01\x02\x00",
    b"GET /half",
];

/// What the decoder finds when it gets the pieces one after the other.
fn decode(pieces: &[&[u8]]) -> (Vec<Request>, Option<Reject>) {
    let mut decoder = Decoder::new(LIMITS);
    let mut requests = Vec::new();
    for piece in pieces {
        let mut bytes = *piece;
        loop {
            match decoder.decode(std::mem::take(&mut bytes)) {
                Ok(Step::Request(request)) => requests.push(request),
                Ok(Step::Continue) => {}
                Ok(Step::Need) => break,
                Err(reject) => return (requests, Some(reject)),
            }
        }
    }
    (requests, None)
}

fn split<'a>(input: &'a [u8], cuts: &[Index]) -> Vec<&'a [u8]> {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(input.len() + 1)).collect();
    cuts.sort_unstable();
    cuts.push(input.len());
    let starts = std::iter::once(0).chain(cuts.iter().copied());
    starts.zip(&cuts).map(|(start, &end)| &input[start..end]).collect()
}

proptest! {
    #[test]
    fn splits_change_nothing(messages in vec(select(MESSAGES), 1..6), cuts in vec(any::<Index>(), 0..12)) {
        let input = messages.concat();
        let pieces = split(&input, &cuts);
        prop_assert_eq!(decode(&pieces), decode(&[&input]));
    }

    #[test]
    fn noise_is_survived(noise in vec(any::<u8>(), 0..600), cuts in vec(any::<Index>(), 0..12)) {
        let pieces = split(&noise, &cuts);
        prop_assert_eq!(decode(&pieces), decode(&[&noise]));
    }
}

#[test]
fn every_byte_on_its_own() {
    let input = MESSAGES[..5].concat();
    let bytes: Vec<&[u8]> = input.chunks(1).collect();
    let (requests, reject) = decode(&bytes);
    assert_eq!((requests.len(), reject), (5, None));
    assert_eq!(requests[3].body, b"hello");
}

/// Whether a refusal is to HEAD does not depend on what comes behind it.
#[test]
fn a_refusal_knows_its_method_however_the_bytes_are_split() {
    for input in [&b"\rHEAD / HTTP/1.1\r\n"[..], b"HEAD / HTTP/1.1\n", b"\x01HEAD /", b"HEAD\nHEAD /", b"HEADX\n"] {
        let bytes: Vec<&[u8]> = input.chunks(1).collect();
        let reject = decode(&[input]).1.expect("it is malformed");
        assert_eq!(decode(&bytes).1, Some(reject), "{}", input.escape_ascii());
    }
}

/// What only the codec can show: the contract suite sends the same through sockets, but cannot see the reason.
#[test]
fn rejections() {
    let cases: &[(&[u8], Status)] = &[
        (b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", Status::BadRequest),
        (b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n", Status::BadRequest),
        (b"GET / HTTP/1.10\r\nHost: a\r\n\r\n", Status::BadRequest),
        (b"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", Status::BadRequest),
        (b"GET http://a@b/ HTTP/1.1\r\nHost: a\r\n\r\n", Status::BadRequest),
        (b"GET / HTTP/1.1\r\nHost: a:b\r\n\r\n", Status::BadRequest),
        (b"GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", Status::BadRequest),
        (b"GET / HTTP/1.1\r\nHost: a,b\r\n\r\n", Status::BadRequest),
        (b"GET / HTTP/0.9\r\nHost: a\r\n\r\n", Status::HttpVersionNotSupported),
        (b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", Status::NotImplemented),
        (b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", Status::NotImplemented),
        (b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, gzip\r\n\r\n", Status::BadRequest),
        (b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n\r\n", Status::BadRequest),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n", Status::BadRequest),
        (b"GET / HTTP/1.1\r\nHost: a\r\nExpect: tea\r\n\r\n", Status::ExpectationFailed),
    ];
    for (input, status) in cases {
        let (requests, reject) = decode(&[input]);
        assert!(requests.is_empty(), "{}", input.escape_ascii());
        assert_eq!(reject.map(|reject| reject.status), Some(*status), "{}", input.escape_ascii());
    }
}

#[test]
fn what_is_too_long_is_blamed_on_the_right_part() {
    let long = "a".repeat(600);
    let target = format!("GET /{long} HTTP/1.1\r\nHost: a\r\n\r\n");
    let field = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {long}\r\n\r\n");
    let fields = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "a:\r\n".repeat(100));
    let status = |input: &str| decode(&[input.as_bytes()]).1.map(|reject| reject.status);
    assert_eq!(status(&long), Some(Status::NotImplemented));
    assert_eq!(status(&target), Some(Status::UriTooLong));
    assert_eq!(status(&field), Some(Status::RequestHeaderFieldsTooLarge));
    assert_eq!(status(&fields), Some(Status::RequestHeaderFieldsTooLarge));
}
