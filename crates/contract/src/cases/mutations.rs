//! Requests that were damaged at random, several on a connection, cut anywhere: every server must find in them what the
//! decoder of requests finds when it gets them whole. What the decoder itself must find is said by the other cases.

use std::env;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use common::app;
use common::http::reply::read_head;
use common::http::{Decoder, Limits, Persistence, Response, Step};
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};

use crate::{Client, Server, Target};

/// How many inputs are tried, always the same, unless this variable says for how many seconds to try others.
const INPUTS: u64 = 400;
const SECONDS_VARIABLE: &str = "CONTRACT_MUTATIONS_S";

const LIMITS: Limits = Limits { max_head_bytes: 400, max_body_bytes: 40 };

const MESSAGES: &[&[u8]] = &[
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /health HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: h2c\r\n\r\n",
    b"HEAD / HTTP/1.1\r\nHost: a:80\r\n\r\n",
    b"GET http://a/health?x=1 HTTP/1.1\r\nHost: a\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
    b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
    b"\r\nHEAD /nowhere HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
    b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nok",
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;a=\"b\"\r\nabc\r\n2\r\nde\r\n0\r\nX: y\r\n\r\n",
    b"HEAD / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
];

/// What often matters where it does not belong.
const FRAGMENTS: &[&[u8]] = &[
    b"\r\n",
    b"\n",
    b"\r",
    b" ",
    b"\t",
    b"\0",
    b",",
    b";",
    b":",
    b"=",
    b"\"",
    b"0",
    b"1",
    b"f",
    b"-",
    b"+",
    b"%41",
    b"#",
    b"\xe4",
    b"close",
    b"chunked",
    b"Host: b\r\n",
    b"Content-Length: 1\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Connection: close\r\n",
    b"Expect: 100-continue\r\n",
    b"Upgrade: websocket\r\n",
    b"X: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n",
];

/// An answer, as far as it is the same whenever it is given.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    status: u16,
    closes: bool,
    body: Vec<u8>,
}

/// Rows 39 and 50, and whatever else may follow upon each other.
pub fn all_find_the_same(target: &Target) {
    let server = Server::start(target, &["--max-head", "400", "--max-body", "40"]);
    let seconds = env::var(SECONDS_VARIABLE).ok().and_then(|seconds| seconds.parse().ok());
    let start = Instant::now();
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    let first = if seconds.is_some() { now.as_micros() as u64 } else { 0 };
    for seed in first.. {
        let is_over = seconds.map_or(seed == INPUTS, |seconds| start.elapsed() > Duration::from_secs(seconds));
        if is_over {
            return;
        }
        let mut random = SmallRng::seed_from_u64(seed);
        let input = input(&mut random);
        let (expected, to_head) = expected(&input);
        let received = send(&mut server.connect(), &input, &mut random);
        let answers = answers(&received, &to_head);
        assert_eq!(answers, expected, "seed {seed}: {} brought {}", input.escape_ascii(), received.escape_ascii());
    }
}

fn input(random: &mut SmallRng) -> Vec<u8> {
    let count = random.random_range(1..4);
    (0..count).flat_map(|_| damaged(MESSAGES.choose(random).copied().unwrap_or_default(), random)).collect()
}

fn damaged(message: &[u8], random: &mut SmallRng) -> Vec<u8> {
    let mut bytes = message.to_vec();
    for _ in 0..random.random_range(0..3) {
        let at = random.random_range(0..=bytes.len());
        let end = (at + random.random_range(0..3)).min(bytes.len());
        let fragment = FRAGMENTS.choose(random).copied().unwrap_or_default();
        match random.random_range(0..3) {
            0 => drop(bytes.splice(at..at, fragment.iter().copied())),
            1 => drop(bytes.splice(at..end, fragment.iter().copied())),
            _ => drop(bytes.drain(at..end)),
        }
    }
    bytes
}

/// The answers that are due, and whether each is to HEAD.
fn expected(input: &[u8]) -> (Vec<Answer>, Vec<bool>) {
    let mut decoder = Decoder::new(LIMITS);
    let mut responses: Vec<Response> = Vec::new();
    let mut bytes = input;
    while responses.last().is_none_or(|last| last.persistence != Persistence::Close) {
        match decoder.decode(std::mem::take(&mut bytes)) {
            Ok(Step::Request(request)) => responses.push(app::plan(request, false).response),
            Ok(Step::Continue) => {}
            Ok(Step::Need) => break,
            Err(reject) => responses.push(reject.into()),
        }
    }
    let answer = |response: &Response| Answer {
        status: response.status.code(),
        closes: response.persistence == Persistence::Close,
        body: if response.sends_body() { response.body.to_vec() } else { Vec::new() },
    };
    (responses.iter().map(answer).collect(), responses.iter().map(|response| response.head_only).collect())
}

/// Sends the input in pieces, and reads to the end.
fn send(client: &mut Client, input: &[u8], random: &mut SmallRng) -> Vec<u8> {
    let mut rest = input;
    for _ in 0..random.random_range(0..4) {
        let (piece, after) = rest.split_at(random.random_range(0..=rest.len()));
        // Who was refused may find the connection closed.
        let _ = client.try_send(piece);
        thread::sleep(Duration::from_micros(random.random_range(0..1_000)));
        rest = after;
    }
    let _ = client.try_send(rest);
    client.shut_write();
    client.read_to_end().unwrap_or_else(|error| panic!("{error} after {}", input.escape_ascii()))
}

/// The answers in what was received; interim ones depend on how the input was cut, and are left out.
fn answers(mut received: &[u8], to_head: &[bool]) -> Vec<Answer> {
    let mut answers = Vec::new();
    while let Ok(Some(head)) = read_head(received) {
        received = &received[head.length..];
        if head.status < 200 {
            continue;
        }
        let field = |name: &str| head.fields.iter().find(|(other, _)| other.eq_ignore_ascii_case(name));
        let text = |name: &str| field(name).map(|(_, value)| String::from_utf8_lossy(value).into_owned());
        let is_to_head = to_head.get(answers.len()) == Some(&true);
        let length = text("content-length").filter(|_| !is_to_head).and_then(|length| length.parse().ok()).unwrap_or(0);
        let (body, rest) = received.split_at(received.len().min(length));
        answers.push(Answer {
            status: head.status,
            closes: text("connection").as_deref() == Some("close"),
            body: body.to_vec(),
        });
        received = rest;
    }
    assert!(received.is_empty(), "behind the last answer: {}", received.escape_ascii());
    answers
}
