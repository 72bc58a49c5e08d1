//! What is longer than some servers take.

use super::Status::{Class, Is};
use super::refused::{CHUNKED, refused};
use super::{Allowed, Case, Demand, ENDED, IN_STEP, KEPT_OR_CLOSED, Manner, OK, Then, allow, may, must, should};

/// "MUST respond with a 414": or it is parsed.
const TARGET: Demand = must("9112 §3", allow(&[Is(414), Class(2), Class(3), Is(404)], KEPT_OR_CLOSED));
/// "MUST respond with an appropriate 4xx status code": or it is read.
const FIELDS: Demand = must("9110 §5.4", allow(&[Class(4), Class(2), Class(3)], KEPT_OR_CLOSED));
/// "A server that receives a method longer than any that it implements SHOULD respond with a 501."
const METHOD: Demand = should("9112 §3", allow(&[Is(501)], KEPT_OR_CLOSED));
/// "RECOMMENDED that all recipients support, at a minimum, request-line lengths of 8000 octets."
const LINE: Demand = should("9112 §3", OK);

/// All of them, to be played by the probe.
pub(super) fn cases() -> Vec<Case> {
    let long = "a".repeat(100_000);
    let head = |line: &str, fields: &str| format!("{line}\r\nHost: a\r\n{fields}\r\n");
    let get = "GET / HTTP/1.1";
    let fields: String = (0..10_000).map(|number| format!("X-{number}: a\r\n")).collect();
    let served = allow(&[Is(200)], &[Then::Served]);
    vec![
        case(16, head(&format!("GET /{long} HTTP/1.1"), ""), TARGET, refused(414)),
        case(16, head(&format!("GET /?{} HTTP/1.1", &long[..7984]), ""), LINE, served),
        case(18, head(&format!("{} / HTTP/1.1", &long[..200].to_uppercase()), ""), METHOD, NOT_IMPLEMENTED),
        case(18, head(&format!("{} / HTTP/1.1", long.to_uppercase()), ""), METHOD, refused(501)),
        case(17, head(get, &format!("X: {long}\r\n")), FIELDS, refused(431)),
        case(17, head(get, &format!("{long}: X\r\n")), FIELDS, refused(431)),
        case(17, head(get, &fields), FIELDS, refused(431)),
        case(31, format!("{CHUNKED}5;x={}\r\nhello\r\n0\r\n\r\n", &long[..5_000]), may("9112 §7.1.1"), refused(400)),
        case(
            31,
            format!("{CHUNKED}5;x={}\r\nhello\r\n0\r\n\r\n", &long[..65_000]),
            must("9112 §9.3", IN_STEP),
            refused(400),
        ),
        case(56, format!("{CHUNKED}5\r\nhello\r\n0\r\nX: {long}\r\n\r\n"), must("9112 §9.3", IN_STEP), refused(431)),
        case(41, body(8 << 20), must("9112 §9.3", allow(ENDED.statuses, KEPT_OR_CLOSED)), refused(413)),
    ]
}

const NOT_IMPLEMENTED: Allowed = allow(&[Is(501)], &[Then::Served]);
/// An upload whose refusal must not be lost to a reset.
fn body(bytes: usize) -> String {
    format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {bytes}\r\n\r\n{}", "x".repeat(bytes))
}

fn case(row: u8, input: String, demand: Demand, ours: Allowed) -> Case {
    Case { row, input: input.into_bytes().into(), manner: Manner::Alone, demand, ours }
}
