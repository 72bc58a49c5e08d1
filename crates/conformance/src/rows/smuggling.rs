//! One request inside another: who answers two can be made to answer somebody else's.
//!
//! Each has a body that by one reading is the body, and by another holds `GET /smuggled`. To answer that is to be out of
//! step.

use super::Status::Is;
use super::refused::refused;
use super::{BAD_REQUEST, BAD_REQUEST_CLOSED, CLOSED, Case, Demand, ENDED, Manner, allow, must, should};

/// Row, the fields that say how long the body is, what any server may do. Ours answer 400 to all.
type Framing = (u8, &'static str, Demand);

const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";

/// "Regardless, the server MUST close the connection after responding to such a request." A fold is no way around that.
const BOTH: Demand = must("9112 §6.1", ENDED);
/// Chunked is not the last coding: "the server MUST respond with the 400 status code and then close the connection".
const NOT_CHUNKED: Demand = must("9112 §6.3", allow(&[Is(400), Is(501)], CLOSED));
/// No token has such a character, and so no coding either.
const NO_TOKEN: Demand = must("9112 §6.1", ENDED);

/// The body is chunked and ends at once, or is as long as the length says, what is smuggled included (`LENGTH`).
const ENDS_EARLY: &[Framing] = &[
    (23, "Content-Length: LENGTH\r\nTransfer-Encoding: chunked", BOTH),
    (23, "Transfer-Encoding: chunked\r\nContent-Length: LENGTH", BOTH),
    (23, "Transfer-Encoding: Chunked\r\nContent-Length: LENGTH", BOTH),
    (23, "TRANSFER-ENCODING: chunked\r\nContent-Length: LENGTH", BOTH),
    (23, "Transfer-Encoding: chunked \r\nContent-Length: LENGTH", BOTH),
    (23, "Transfer-Encoding:\tchunked\r\nContent-Length: LENGTH", BOTH),
    (23, "Transfer-Encoding: , chunked\r\nContent-Length: LENGTH", BOTH),
    (23, "Transfer-Encoding: chunked,\r\nContent-Length: LENGTH", BOTH),
    (23, "Transfer-Encoding: chunked, chunked\r\nContent-Length: LENGTH", BOTH),
    (23, "Transfer-Encoding: chunked;a=b\r\nContent-Length: LENGTH", BOTH),
    (23, "Content-Length: +LENGTH\r\nTransfer-Encoding: chunked", BOTH),
    (23, "Content-Length: LENGTHx\r\nTransfer-Encoding: chunked", BOTH),
    (24, "Transfer-Encoding: chunked\r\nContent-Length: LENGTH", BOTH),
    (25, "Transfer-Encoding: xchunked\r\nContent-Length: LENGTH", NOT_CHUNKED),
    (25, "Transfer-Encoding: identity\r\nContent-Length: LENGTH", NOT_CHUNKED),
    (25, "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\nContent-Length: LENGTH", NOT_CHUNKED),
    (25, "Transfer-Encoding:\r\nContent-Length: LENGTH", NOT_CHUNKED),
    (15, "Transfer-Encoding: \x0bchunked\r\nContent-Length: LENGTH", NO_TOKEN),
    (15, "Transfer-Encoding: \x0cchunked\r\nContent-Length: LENGTH", NO_TOKEN),
    (15, "Transfer-Encoding: chunked\0\r\nContent-Length: LENGTH", NO_TOKEN),
    (12, "Transfer-Encoding : chunked\r\nContent-Length: LENGTH", must("9112 §5.1", BAD_REQUEST)),
    (13, "Transfer-Encoding:\r\n chunked\r\nContent-Length: LENGTH", BOTH),
    (27, "Content-Length: 5\r\nContent-Length: LENGTH", must("9112 §6.3", BAD_REQUEST_CLOSED)),
    (12, "Content-Length : 5\r\nContent-Length: LENGTH", must("9112 §5.1", BAD_REQUEST)),
    (14, "Content\tLength: 5\r\nContent-Length: LENGTH", should("9112 §2.2", BAD_REQUEST_CLOSED)),
];

/// All of them, to be played by the probe.
pub(super) fn cases() -> Vec<Case> {
    let early = ENDS_EARLY.iter().map(|&(row, fields, demand)| {
        let body = format!("0\r\n\r\n{SMUGGLED}");
        // What row 24 is about is the version.
        let version = if row == 24 { "1.0" } else { "1.1" };
        let fields = fields.replace("LENGTH", &body.len().to_string());
        case(row, format!("POST / HTTP/{version}\r\nHost: a\r\n{fields}\r\n\r\n{body}"), demand)
    });
    early.chain(others()).collect()
}

/// The body is short by its length, and longer by its chunks; and chunks whose size can be read in two ways.
fn others() -> [Case; 4] {
    let chunk = format!("{:x}\r\n{SMUGGLED}\r\n0\r\n\r\n", SMUGGLED.len());
    let size_bytes = chunk.find('\n').map_or(0, |end| end + 1);
    let both = format!("Transfer-Encoding: chunked\r\nContent-Length: {size_bytes}");
    let folded =
        "OPTIONS / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n";
    let chunked = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let closes = should("9112 §2.2", ENDED);
    [
        case(23, format!("POST / HTTP/1.1\r\nHost: a\r\n{both}\r\n\r\n{chunk}"), BOTH),
        case(13, folded.into(), BOTH),
        case(30, format!("{chunked}+0\r\n\r\n{SMUGGLED}"), closes),
        case(30, format!("{chunked}0x0\r\n\r\n{SMUGGLED}"), closes),
    ]
}

fn case(row: u8, input: String, demand: Demand) -> Case {
    Case { row, input: input.into_bytes().into(), manner: Manner::Alone, demand, ours: refused(400) }
}
