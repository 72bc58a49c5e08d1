//! What is a request, however odd, and what is only a part of one.

use super::Manner::{Alone, Ended, HeadFirst, Pieces, Together};
use super::Status::{Class, Is, Nothing};
use super::refused::refused;
use super::{
    Allowed, CLOSED, Case, Check, Demand, ENDED, IN_STEP, KEPT_OR_CLOSED, Manner, OK, Then, UNDERSTOOD, allow, may,
    must, should,
};

/// Row, input, how it is sent, what any server may do, what ours do.
type Served = (u8, &'static [u8], Manner, Demand, Allowed);

const SERVED: &[Then] = &[Then::Served];

/// Ours answer 200, and the connection is kept.
const OURS: Allowed = allow(&[Is(200)], SERVED);
/// Ours answer 200, and the connection is closed.
const OURS_CLOSED: Allowed = allow(&[Is(200)], CLOSED);
/// Ours send the body back.
const ECHO: Allowed = OURS.with(Check::Body("hello"));
const NO_CONTENT: Allowed = allow(&[Is(204)], SERVED);
const NOT_FOUND: Allowed = allow(&[Is(404)], SERVED);
const NOT_ALLOWED: Allowed = allow(&[Is(405)], SERVED).with(Check::AllowIn405);
const NOT_IMPLEMENTED: Allowed = allow(&[Is(501)], SERVED);

/// "A server MUST read the entire request message body or close the connection after sending its response."
const READ_OR_CLOSE: Demand = must("9112 §9.3", UNDERSTOOD);
/// "A field parsing implementation MUST exclude such whitespace prior to evaluating the field value."
const WHITESPACE: Demand = must("9110 §5.5", UNDERSTOOD);
/// "A recipient MUST be able to parse and decode the chunked transfer coding."
const DECODE: Demand = must("9112 §7.1", UNDERSTOOD);
/// "A server that receives a close connection option MUST initiate closure after it sends the final response."
const CLOSE: Demand = must("9112 §9.6", allow(&[Is(200)], CLOSED));
/// "A recipient MUST parse and ignore a reasonable number of empty list elements."
const EMPTY_MEMBERS: Demand = must("9110 §5.6.1.2", UNDERSTOOD);
/// "It MUST send the corresponding responses in the same order that the requests were received."
const ORDER: &str = "9112 §9.3.2";
/// "An origin server MUST send either an immediate response with a final status code or an immediate 100 response."
const CONTINUE: Demand = must("9110 §10.1.1", UNDERSTOOD.with(Check::BeforeBody));
/// "The recipient MUST consider the message to be incomplete and close the connection."
const INCOMPLETE: Demand = must("9112 §6.3", ENDED);
/// Ours do not even begin.
const UNANSWERED: Allowed = allow(&[Nothing], CLOSED);
/// A protocol is switched to only if it is known, and from HTTP/1.1.
const NO_SWITCH: Allowed = allow(&[Class(2), Class(3), Class(4)], KEPT_OR_CLOSED);

const REQUESTS: &[Served] = &[
    (39, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", Alone, must("9110 §9.1", OK), OURS),
    (39, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", Together, must("9110 §6.6.1", OK.with(Check::Date)), OURS.with(Check::Date)),
    (39, b"GET / HTTP/1.1\r\nHost:a\r\nAccept: text/html\r\n\r\n", Together, should("9110 §8.3", OK.with(Check::ContentType)), OURS.with(Check::ContentType)),
    (37, b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", Together, must("9110 §9.3.2", OK), OURS),
    (37, b"HEAD /nowhere HTTP/1.1\r\nHost: a\r\n\r\n", Together, must("9110 §9.3.2", IN_STEP), NOT_FOUND),
    (20, b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", Together, may("9112 §3.2.4"), NO_CONTENT),
    (20, b"OPTIONS / HTTP/1.1\r\nHost: a\r\n\r\n", Together, must("9110 §8.6", IN_STEP.with(Check::NoLengthIn204)), NO_CONTENT.with(Check::NoLengthIn204)),
    (20, b"OPTIONS / HTTP/1.1\r\nHost: a\r\n\r\n", Alone, should("9110 §9.3.7", IN_STEP.with(Check::AllowIn2xx)), NO_CONTENT.with(Check::AllowIn2xx)),
    (18, b"BREW / HTTP/1.1\r\nHost: a\r\n\r\n", Together, should("9110 §9.1", allow(&[Is(501)], KEPT_OR_CLOSED)), NOT_IMPLEMENTED),
    (18, b"get / HTTP/1.1\r\nHost: a\r\n\r\n", Together, should("9110 §9.1", allow(&[Is(501)], KEPT_OR_CLOSED)), NOT_IMPLEMENTED),
    (18, b"DELETE / HTTP/1.1\r\nHost: a\r\n\r\n", Together, must("9110 §15.5.6", IN_STEP.with(Check::AllowIn405)), NOT_ALLOWED),
    (18, b"TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", Together, may("9110 §9.3.8"), NOT_ALLOWED),
    (18, b"TRACE / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", Together, must("9112 §9.3", IN_STEP), NOT_ALLOWED),
    (19, b"GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n", Together, must("9112 §3.2.2", OK), OURS),
    (19, b"GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n", Together, must("9112 §3.2.2", OK), OURS),
    (19, b"GET HTTP://a:80/ HTTP/1.1\r\nHost: a\r\n\r\n", Together, must("9112 §3.2.2", OK), OURS),
    (21, b"CONNECT a: HTTP/1.1\r\nHost: a\r\n\r\n", Alone, must("9110 §9.3.6", allow(&[Class(4), Class(5), Nothing], KEPT_OR_CLOSED)), refused(501)),
    (22, b"GET /a\\b HTTP/1.1\r\nHost: a\r\n\r\n", Together, should("9112 §3", allow(&[Is(400), Is(301)], KEPT_OR_CLOSED)), refused(400)),
    (22, b"GET /a%00b HTTP/1.1\r\nHost: a\r\n\r\n", Together, may("9112 §3.2"), NOT_FOUND),
    (22, b"GET /a%0d%0aX:%20b HTTP/1.1\r\nHost: a\r\n\r\n", Together, may("9112 §3.2"), NOT_FOUND),
    (4, b"GET / HTTP/1.0\r\n\r\n", Together, may("9112 §9.3"), OURS_CLOSED),
    (4, b"GET / HTTP/1.0\r\nHost: a\r\n\r\n", Together, must("9112 §6.1", OK.with(Check::NoCoding)), OURS_CLOSED.with(Check::NoCoding)),
    (4, b"GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n", Together, may("9112 §9.3"), OURS),
    (57, b"GET / HTTP/1.0\r\n\r\n", Together, should("9110 §2.5", OK.with(Check::Http11)), OURS_CLOSED.with(Check::Http11)),
    (6, b"GET / HTTP/1.2\r\nHost: a\r\n\r\n", Together, should("9110 §2.5", OK), OURS),
    (8, b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Together, should("9112 §2.2", OK), OURS),
    (8, b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Together, may("9112 §2.2"), OURS),
    (38, b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", Together, CLOSE, OURS_CLOSED),
    (38, b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Close\r\n\r\n", Together, CLOSE, OURS_CLOSED),
    (38, b"GET / HTTP/1.1\r\nHost: a\r\nConnection: x, close\r\n\r\n", Together, CLOSE, OURS_CLOSED),
    (38, b"GET / HTTP/1.1\r\nHost: a\r\nConnection: x\r\nConnection: close\r\n\r\n", Together, CLOSE, OURS_CLOSED),
    (38, b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", Alone, should("9112 §9.6", OK.with(Check::SaysClose)), OURS_CLOSED.with(Check::SaysClose)),
    (52, b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close, ,x\r\n\r\n", Together, CLOSE, OURS_CLOSED),
    (53, b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close, \xe4\r\n\r\n", Together, may("9110 §5.5"), OURS_CLOSED),
    (39, b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /nowhere HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Together, must(ORDER, OK.with(Check::Order(&[200, 404, 200]))), OURS.with(Check::Order(&[200, 404, 200]))),
    (39, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", Pieces(1), must("9110 §9.1", OK), OURS),
    (39, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", Pieces(13), must("9110 §9.1", OK), OURS),
    (40, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", Ended, may("9112 §9.6"), OURS_CLOSED),
    (35, b"GET / HT", Ended, should("9112 §2.2", allow(&[Class(4), Nothing], CLOSED)), UNANSWERED),
    (35, b"GET / HTTP/1.1\r\nHost: a\r\n", Ended, should("9112 §2.2", allow(&[Class(4), Nothing], CLOSED)), UNANSWERED),
    (35, b"", Ended, may("9112 §9.5"), UNANSWERED),
    (35, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello", Ended, INCOMPLETE, UNANSWERED),
    (35, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 999999\r\n\r\n", Ended, INCOMPLETE, UNANSWERED),
    (35, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", Ended, INCOMPLETE, UNANSWERED),
    (50, b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: tea/1.0\r\n\r\n", Together, must("9110 §7.8", NO_SWITCH), OURS),
    (50, b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n", Together, may("9110 §7.8"), OURS),
    (50, b"GET / HTTP/1.0\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n", Together, must("9110 §7.8", NO_SWITCH), OURS_CLOSED),
    (50, b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 99\r\n\r\n", Together, may("9110 §7.8"), OURS),
    (50, b"POST / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n", Together, may("9110 §7.8"), OURS),
    (50, b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n", Together, may("9110 §7.8"), OURS),
];

const BODIES: &[Served] = &[
    (39, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", Together, READ_OR_CLOSE, ECHO),
    (39, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", Pieces(1), READ_OR_CLOSE, ECHO),
    (39, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", Together, READ_OR_CLOSE, OURS),
    (39, b"POST / HTTP/1.1\r\nHost: a\r\n\r\n", Together, must("9112 §6.3", UNDERSTOOD), OURS),
    (39, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 005\r\n\r\nhello", Together, READ_OR_CLOSE, ECHO),
    (39, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0011\r\n\r\nhello hello", Together, must("9110 §8.6", UNDERSTOOD), OURS.with(Check::Body("hello hello"))),
    (39, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 00\r\n\r\n", Together, READ_OR_CLOSE, OURS),
    (39, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length:  \t5 \t\r\n\r\nhello", Together, WHITESPACE, ECHO),
    (39, b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", Together, must("9112 §9.3", IN_STEP), OURS),
    (39, b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 40\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\nX: ab\r\n", Together, must("9112 §9.3", IN_STEP), OURS),
    (39, b"OPTIONS / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", Together, must("9112 §9.3", IN_STEP), NO_CONTENT),
    (37, b"HEAD / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", Together, must("9112 §9.3", IN_STEP), OURS),
    (39, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nRange: bytes=0-1\r\n\r\nhello", Together, must("9110 §14.2", allow(&[Is(200), Is(201), Is(204), Class(3), Class(4)], KEPT_OR_CLOSED)), ECHO),
    (39, b"GET / HTTP/1.1\r\nHost: a\r\nRange: lines=1-2\r\n\r\n", Together, must("9110 §14.2", OK), OURS),
    (39, b"POST / HTTP/1.1\r\nHost: a\r\nContent_Length: 99\r\nContent-Length: 5\r\n\r\nhello", Together, READ_OR_CLOSE, ECHO),
    (39, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer_Encoding: chunked\r\nContent-Length: 5\r\n\r\nhello", Together, READ_OR_CLOSE, ECHO),
    (39, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", Together, DECODE, ECHO),
    (39, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", Pieces(1), DECODE, ECHO),
    (39, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n", Together, DECODE, ECHO),
    (39, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Together, DECODE, OURS),
    (39, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n000A\r\nhellohello\r\n00\r\n\r\n", Together, DECODE, OURS.with(Check::Body("hellohello"))),
    (39, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", Together, must("9112 §7", UNDERSTOOD), ECHO),
    (39, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\tchunked \r\n\r\n5\r\nhello\r\n0\r\n\r\n", Together, WHITESPACE, ECHO),
    (31, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y;z=\"a b\"\r\nhello\r\n0;last\r\n\r\n", Together, must("9112 §7.1.1", UNDERSTOOD), ECHO),
    (31, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5 ; x = y ; z=\"a;\\\"b\"\r\nhello\r\n0\r\n\r\n", Together, must("9110 §5.6.3", UNDERSTOOD), ECHO),
    (33, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Checksum: abc\r\n\r\n", Together, must("9112 §7.1.2", UNDERSTOOD), ECHO),
    (33, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nContent-Length: 50\r\n\r\n", Together, must("9112 §7.1.2", IN_STEP), ECHO),
    (33, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n", Together, must("9112 §7.1.2", IN_STEP), ECHO),
    (33, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nHost: b\r\nAuthorization: x\r\nContent-Type: text/html\r\n\r\n", Together, must("9112 §7.1.2", IN_STEP), ECHO),
    (52, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: ,chunked, \r\n\r\n5\r\nhello\r\n0\r\n\r\n", Together, EMPTY_MEMBERS, ECHO),
    (52, b"POST / HTTP/1.1\r\nHost: a\r\nExpect: ,\r\nContent-Length: 5\r\n\r\nhello", Together, EMPTY_MEMBERS, ECHO),
    (52, b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue,\r\nContent-Length: 5\r\n\r\nhello", HeadFirst, CONTINUE, ECHO.with(Check::BeforeBody)),
    (36, b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello", HeadFirst, CONTINUE, ECHO.with(Check::BeforeBody)),
    (36, b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", HeadFirst, CONTINUE, ECHO.with(Check::BeforeBody)),
    (36, b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello", Together, READ_OR_CLOSE, ECHO),
    (36, b"POST / HTTP/1.0\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello", Together, must("9110 §15.2", UNDERSTOOD.with(Check::NoInterim)), OURS_CLOSED.with(Check::NoInterim)),
    (36, b"GET / HTTP/1.1\r\nHost: a\r\nExpect: tea\r\n\r\n", Alone, may("9110 §10.1.1"), refused(417)),
];

/// All of them, to be played by the probe.
pub(super) fn cases() -> Vec<Case> {
    let case = |&(row, input, manner, demand, ours): &Served| Case { row, input: input.into(), manner, demand, ours };
    [REQUESTS, BODIES].into_iter().flatten().map(case).collect()
}
