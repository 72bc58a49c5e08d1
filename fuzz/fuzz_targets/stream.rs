//! Whatever comes on a connection: the decoder finds the same requests and the same refusal however the bytes are cut, and
//! holds no more memory than its limits allow.

#![no_main]

use std::alloc::System;

use cap::Cap;
use common::http::{Decoder, Limits, Phase, Reject, Request, Step};
use fuzz::Sent;
use libfuzzer_sys::fuzz_target;

/// Counts what is on the heap.
#[global_allocator]
static HEAP: Cap<System> = Cap::new(System, usize::MAX);

const LIMITS: Limits = Limits { max_head_bytes: 512, max_body_bytes: 1000 };

/// The most that a decoder may hold of a connection that sends byte by byte. A vector that grows has up to twice the room it
/// needs: the head or the trailers, and the body. A target is a copy of a part of the head.
const MAX_HELD_BYTES: usize = 3 * LIMITS.max_head_bytes + 2 * LIMITS.max_body_bytes + 1024;

/// What was found on a connection.
#[derive(Debug, Default, PartialEq)]
struct Found {
    requests: Vec<Request>,
    reject: Option<Reject>,
    /// Whether the connection is between requests at the end.
    is_idle: bool,
}

/// The requests, and for each of them, and for what is unfinished at the end, whether the client was told to continue.
fn decode<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Found, Vec<bool>) {
    let mut decoder = Decoder::new(LIMITS);
    let (mut found, mut continues) = (Found::default(), vec![false]);
    for piece in pieces {
        let mut bytes = piece;
        loop {
            match decoder.decode(std::mem::take(&mut bytes)) {
                Ok(Step::Need) => break,
                Ok(Step::Continue) => {
                    let told = continues.last_mut().expect("one more than requests");
                    assert!(!std::mem::replace(told, true), "told to continue twice");
                }
                Ok(Step::Request(request)) => {
                    check(&request);
                    found.requests.push(request);
                    continues.push(false);
                }
                Err(reject) => {
                    found.reject = Some(reject);
                    return (found, continues);
                }
            }
        }
    }
    found.is_idle = decoder.phase() == Phase::Idle;
    (found, continues)
}

fn check(request: &Request) {
    assert!(request.target.starts_with('/') || request.target == "*", "{}", request.target);
    assert!(request.target.len() <= LIMITS.max_head_bytes && request.body.len() <= LIMITS.max_body_bytes);
}

/// Decodes byte by byte, lets go of each request, and looks at the heap after each byte.
fn check_memory(sent: Sent) {
    let before = HEAP.allocated();
    let mut decoder = Decoder::new(LIMITS);
    for byte in sent.single_bytes() {
        let outcome = decoder.decode(byte);
        let held = HEAP.allocated().saturating_sub(before);
        assert!(held <= MAX_HELD_BYTES, "{held} bytes are held");
        if outcome.is_err() {
            break;
        }
    }
    drop(decoder);
    assert!(HEAP.allocated() <= before, "a decoder that is gone holds memory");
}

fuzz_target!(|input: &[u8]| {
    let sent = Sent::new(input);
    let (whole, told_whole) = decode(sent.whole());
    let (pieces, told_pieces) = decode(sent.pieces());
    let (bytes, told_bytes) = decode(sent.single_bytes());
    assert_eq!(whole, pieces);
    assert_eq!(whole, bytes);
    // Whoever sent a part of the body does not need to be told: the smaller the pieces, the more are.
    for (fewer, more) in told_whole.iter().chain(&told_pieces).zip(told_bytes.iter().chain(&told_bytes)) {
        assert!(fewer <= more, "told to continue only if it comes in larger pieces");
    }
    check_memory(sent);
});
