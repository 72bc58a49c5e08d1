//! What ours refuse with one status, and close. The suite plays these, too.

use super::Status::{Class, Is, Nothing};
use super::{
    Allowed, BAD_REQUEST, BAD_REQUEST_CLOSED, CLOSED, Case, Demand, ENDED, IN_STEP, KEPT_OR_CLOSED, Manner, Refusal,
    Then, allow, may, must, should,
};

/// "A server MUST respond with a 400 to any HTTP/1.1 request message that lacks a Host header field and to any request
/// message that contains more than one Host header field line or a Host header field with an invalid field value."
const HOST: Demand = must("9112 §3.2", BAD_REQUEST);
/// What matches no grammar: "the server SHOULD respond with a 400 response and close the connection".
const GRAMMAR: Demand = should("9112 §2.2", BAD_REQUEST_CLOSED);
/// "Recipients of an invalid request-line SHOULD respond with either a 400 error or a 301 redirect."
const REQUEST_LINE: Demand = should("9112 §3", allow(&[Is(400), Is(301)], KEPT_OR_CLOSED));
/// "Recipients MAY instead parse on whitespace-delimited word boundaries."
const WHITESPACE: Demand = may("9112 §3");
/// "A recipient MAY recognize a single LF as a line terminator."
const BARE_LF: Demand = may("9112 §2.2");
/// "MUST consider that element to be invalid or replace each bare CR with SP": never is it the end of a line.
const BARE_CR: Demand = must("9112 §2.2", allow(&[Class(4), Nothing], KEPT_OR_CLOSED));
/// "MUST either reject the message by sending a 400, or replace each received obs-fold with one or more SP octets."
const OBS_FOLD: Demand = must("9112 §5.2", allow(&[Is(400), Is(200)], KEPT_OR_CLOSED));
/// "MUST either reject the message or replace each of those characters with SP."
const NUL: Demand = must("9110 §5.5", allow(&[Is(200), Class(4), Nothing], KEPT_OR_CLOSED));
/// "The server MUST respond with the 400 status code and then close the connection."
const FRAMING: Demand = must("9112 §6.3", BAD_REQUEST_CLOSED);
/// The same, unless the coding is not understood, which is a 501 (§6.1).
const CODING: Demand = must("9112 §6.3", allow(&[Is(400), Is(501)], CLOSED));
/// "Regardless, the server MUST close the connection after responding to such a request."
const CLOSE_AFTER: Demand = must("9112 §6.1", ENDED);
/// What is wrong inside a body may be found after the answer: what matters is that the connection is closed.
const CHUNK: Demand = should("9112 §2.2", ENDED);
/// Content is never sent in answer to HEAD.
const HEAD: Demand = must("9110 §9.3.2", IN_STEP);
/// Who cannot read the request line need not see that it is of a HEAD.
const UNREAD_HEAD: Demand = may("9110 §9.3.2");
/// "Recipients MUST anticipate potentially large numerals and prevent parsing errors due to integer conversion overflows."
/// To wait for so many bytes is no error.
const LARGE: Allowed = allow(ENDED.statuses, &[Then::Closed, Then::Open]);
const NOISE_ENDS: Allowed = allow(&[Is(400), Nothing], CLOSED);

/// Heads.
pub const HEADS: &[Refusal] = &[
    (1, b"GET / HTTP/1.1\r\n\r\n", 400, HOST),
    (2, b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, HOST),
    (2, b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400, HOST),
    (2, b"GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n", 400, HOST),
    (3, b"GET / HTTP/1.1\r\nHost: a@b\r\n\r\n", 400, HOST),
    (3, b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400, HOST),
    (3, b"GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", 400, HOST),
    (3, b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400, HOST),
    (3, b"GET / HTTP/1.1\r\nHost: a:port\r\n\r\n", 400, HOST),
    (5, b"GET / HTTP/9.9\r\nHost: a\r\n\r\n", 505, may("9110 §15.6.6")),
    (5, b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505, may("9110 §15.6.6")),
    (7, b"GET /\r\n\r\n", 400, REQUEST_LINE),
    (7, b"GET HTTP/1.1\r\nHost: a\r\n\r\n", 400, REQUEST_LINE),
    (7, b"GET  HTTP/1.1\r\nHost: a\r\n\r\n", 400, REQUEST_LINE),
    (7, b"GET /\r\nHost: a\r\n\r\n", 400, REQUEST_LINE),
    (7, b"GET / http/1.1\r\nHost: a\r\n\r\n", 400, REQUEST_LINE),
    (7, b"GET / x HTTP/1.1\r\nHost: a\r\n\r\n", 400, REQUEST_LINE),
    (7, b"GET / HTTP/1.1x\r\nHost: a\r\n\r\n", 400, REQUEST_LINE),
    (7, b"GET / HTTP/1\r\nHost: a\r\n\r\n", 400, REQUEST_LINE),
    (7, b"GET / HTTP/01.01\r\nHost: a\r\n\r\n", 400, REQUEST_LINE),
    (7, b"GET / HTTP/ 1.1\r\nHost: a\r\n\r\n", 400, REQUEST_LINE),
    (7, b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400, WHITESPACE),
    (7, b"GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", 400, WHITESPACE),
    (9, b"GET / HTTP/1.1\nHost: a\n\n", 400, BARE_LF),
    (9, b"GET / HTTP/1.1\nHost: a\r\n\r\n", 400, BARE_LF),
    (9, b"GET / HTTP/1.1\r\nHost: a\n\r\n", 400, BARE_LF),
    (9, b"GET / HTTP/1.1\r\nHost: a\r\n\n", 400, BARE_LF),
    (9, b"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400, BARE_LF),
    (10, b"GET / HTTP/1.1\rHost: a\r\n\r\n", 400, BARE_CR),
    (10, b"GET / HTTP/1.1\r\nHost: a\rb\r\n\r\n", 400, BARE_CR),
    (10, b"GET / HTTP/1.1\r\nHost: a\r\nX: a\rHost: b\r\n\r\n", 400, NUL),
    (11, b"GET / HTTP/1.1\r\n Host: a\r\n\r\n", 400, must("9112 §2.2", allow(&[Class(4), Nothing], KEPT_OR_CLOSED))),
    (11, b"GET / HTTP/1.1\r\n \r\nHost: a\r\n\r\n", 400, must("9112 §2.2", NUL.allowed)),
    (11, b" GET / HTTP/1.1\r\nHost: a\r\n\r\n", 400, WHITESPACE),
    (12, b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400, must("9112 §5.1", BAD_REQUEST)),
    (12, b"GET / HTTP/1.1\r\nHost: a\r\nX\t: a\r\n\r\n", 400, must("9112 §5.1", BAD_REQUEST)),
    (13, b"GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n", 400, OBS_FOLD),
    (13, b"GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n\tb\r\n\r\n", 400, OBS_FOLD),
    (14, b"GET / HTTP/1.1\r\nHost: a\r\n: a\r\n\r\n", 400, GRAMMAR),
    (14, b"GET / HTTP/1.1\r\nHost: a\r\nX(: a\r\n\r\n", 400, GRAMMAR),
    (14, b"GET / HTTP/1.1\r\nHost: a\r\nX[Y: a\r\n\r\n", 400, GRAMMAR),
    (14, b"GET / HTTP/1.1\r\nHost: a\r\nX\xc3\xab: a\r\n\r\n", 400, GRAMMAR),
    (14, b"GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n", 400, GRAMMAR),
    (15, b"GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n", 400, NUL),
    (15, b"GET / HTTP/1.1\r\nHost: a\r\nX: a\x01b\r\n\r\n", 400, may("9110 §5.5")),
    (15, b"GET / HTTP/1.1\r\nHost: a\r\nX: a\x07\x08\x0bb\r\n\r\n", 400, may("9110 §5.5")),
    (15, b"GET / HTTP/1.1\r\nHost: a\r\nX: a\x7fb\r\n\r\n", 400, may("9110 §5.5")),
    (20, b"GET * HTTP/1.1\r\nHost: a\r\n\r\n", 400, REQUEST_LINE),
    (21, b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n", 501, may("9110 §9.3.6")),
    (22, b"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", 400, REQUEST_LINE),
    (22, b"GET /\xc3\xa4 HTTP/1.1\r\nHost: a\r\n\r\n", 400, REQUEST_LINE),
    (22, b"GET /\xc0\xaf HTTP/1.1\r\nHost: a\r\n\r\n", 400, REQUEST_LINE),
    (22, b"GET /\0a HTTP/1.1\r\nHost: a\r\n\r\n", 400, REQUEST_LINE),
    (22, b"GET a HTTP/1.1\r\nHost: a\r\n\r\n", 400, REQUEST_LINE),
    (51, b"GET / HTTP/1.1\r\nHost:\r\n\r\n", 400, may("9112 §3.3")),
    (51, b"GET / HTTP/1.1\r\nHost: \t\r\n\r\n", 400, may("9112 §3.3")),
    (51, b"GET / HTTP/1.1\r\nHost: :80\r\n\r\n", 400, may("9112 §3.3")),
    (51, b"GET / HTTP/1.1\r\nHost: []\r\n\r\n", 400, HOST),
    (51, b"GET http://:80/ HTTP/1.1\r\nHost: a\r\n\r\n", 400, EMPTY_HOST),
    (51, b"GET http:/// HTTP/1.1\r\nHost: a\r\n\r\n", 400, EMPTY_HOST),
];

/// "A recipient that processes such a URI reference MUST reject it as invalid."
const EMPTY_HOST: Demand = must("9110 §4.2.1", allow(&[Class(4), Nothing], KEPT_OR_CLOSED));

/// Answers to HEAD.
pub const HEADS_OF_HEAD: &[Refusal] = &[
    (49, b"HEAD / HTTP/1.1\r\n\r\n", 400, HEAD),
    (49, b"HEAD\r\n\r\n", 400, UNREAD_HEAD),
    (49, b"\r\n\r\nHEAD / HTTP/1.1\r\nHost: a b\r\n\r\n", 400, UNREAD_HEAD),
    (49, b"HEAD / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n", 400, must("9110 §9.3.2", ENDED)),
    (49, b"HEAD / HTTP/1.1\r\nHost: a\r\nExpect: tea\r\n\r\n", 417, HEAD),
    (49, b"HEAD / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: tea\r\n\r\n", 501, HEAD),
    (49, b"HEAD / HTTP/2.0\r\nHost: a\r\n\r\n", 505, UNREAD_HEAD),
];

/// How long a body is.
pub const FRAMES: &[Refusal] = &[
    (
        23,
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
        CLOSE_AFTER,
    ),
    (
        23,
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        400,
        CLOSE_AFTER,
    ),
    (24, b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, CLOSE_AFTER),
    (25, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: tea\r\n\r\n", 501, CODING),
    (25, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 501, CODING),
    (25, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501, GZIP),
    (25, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n", 501, CODING),
    (26, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, gzip\r\n\r\n", 400, CODING),
    (26, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n", 400, may("9112 §6.1")),
    (
        26,
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
        400,
        may("9112 §6.1"),
    ),
    (27, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello", 400, FRAMING),
    (27, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 6\r\n\r\nhello", 400, FRAMING),
    (28, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello", 400, SAME_LENGTH),
    (28, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5\r\n\r\nhello", 400, SAME_LENGTH),
    (28, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5, 5\r\n\r\nhello", 400, SAME_LENGTH),
    (29, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\nhello", 400, FRAMING),
    (29, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 400, FRAMING),
    (29, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -0\r\n\r\n", 400, FRAMING),
    (29, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x5\r\n\r\nhello", 400, FRAMING),
    (29, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0o5\r\n\r\nhello", 400, FRAMING),
    (29, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1_0\r\n\r\nhellohello", 400, FRAMING),
    (29, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: five\r\n\r\nhello", 400, FRAMING),
    (29, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n", 400, FRAMING),
    (29, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551616\r\n\r\n", 400, must("9110 §8.6", LARGE)),
    (29, b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1 2\r\n\r\n", 400, FRAMING),
];

/// "A server that receives a request message with a transfer coding it does not understand SHOULD respond with 501."
const GZIP: Demand = should("9112 §6.1", allow(&[Is(501)], KEPT_OR_CLOSED));
/// "All values in the list are the same, in which case the message is processed with that single value"; or it is rejected.
const SAME_LENGTH: Demand = must("9110 §8.6", IN_STEP);

/// What comes before [`CHUNKS`].
pub const CHUNKED: &str = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";

/// Chunked bodies.
pub const CHUNKS: &[Refusal] = &[
    (30, b"\r\nhello\r\n0\r\n\r\n", 400, CHUNK),
    (30, b"0x5\r\nhello\r\n0\r\n\r\n", 400, CHUNK),
    (30, b"+5\r\nhello\r\n0\r\n\r\n", 400, CHUNK),
    (30, b"-1\r\nhello\r\n0\r\n\r\n", 400, CHUNK),
    (30, b" 5\r\nhello\r\n0\r\n\r\n", 400, CHUNK),
    (30, b"5 \r\nhello\r\n0\r\n\r\n", 400, CHUNK),
    (30, b"5g\r\nhello\r\n0\r\n\r\n", 400, CHUNK),
    (30, b"5_0\r\nhello\r\n0\r\n\r\n", 400, CHUNK),
    (30, b"10000000000000005\r\nhello\r\n0\r\n\r\n", 400, must("9112 §7.1", LARGE)),
    (54, b"5;\r\nhello\r\n0\r\n\r\n", 400, CHUNK),
    (54, b"5; \r\nhello\r\n0\r\n\r\n", 400, CHUNK),
    (54, b"5;;x\r\nhello\r\n0\r\n\r\n", 400, CHUNK),
    (54, b"5;=x\r\nhello\r\n0\r\n\r\n", 400, CHUNK),
    (54, b"5;x=\r\nhello\r\n0\r\n\r\n", 400, CHUNK),
    (54, b"5;x y\r\nhello\r\n0\r\n\r\n", 400, CHUNK),
    (54, b"5;x=\"y\r\nhello\r\n0\r\n\r\n", 400, CHUNK),
    (54, b"5;x=\"y\"z\r\nhello\r\n0\r\n\r\n", 400, CHUNK),
    (54, b"5;x=(\r\nhello\r\n0\r\n\r\n", 400, CHUNK),
    (54, b"5;x[=y\r\nhello\r\n0\r\n\r\n", 400, CHUNK),
    (54, b"5;x\0\r\nhello\r\n0\r\n\r\n", 400, CHUNK),
    (54, b"5\r\nhello\r\n0;\r\n\r\n", 400, CHUNK),
    (31, b"5;x=\na\r\nhello\r\n0\r\n\r\n", 400, CHUNK),
    (31, b"5;\nhello\r\n0\r\n\r\n", 400, CHUNK),
    (31, b"5;x=\ra\r\nhello\r\n0\r\n\r\n", 400, must("9112 §2.2", IN_STEP)),
    (32, b"5\r\nhelloX\r\n0\r\n\r\n", 400, CHUNK),
    (32, b"5\r\nhello!!\r\n0\r\n\r\n", 400, CHUNK),
    (32, b"5\r\nhello0\r\n\r\n", 400, CHUNK),
    (32, b"5\r\nhello\n0\r\n\r\n", 400, CHUNK),
    (32, b"5\nhello\r\n0\r\n\r\n", 400, CHUNK),
    (32, b"5\rhello\r\n0\r\n\r\n", 400, CHUNK),
    (33, b"5\r\nhello\r\n0\r\nno colon\r\n\r\n", 400, CHUNK),
    (33, b"5\r\nhello\r\n0\r\nX: a\n\r\n", 400, BARE_LF),
    (33, b"5\r\nhello\r\n0\r\n\n", 400, BARE_LF),
];

/// What is not HTTP/1.1 at all; or looks like the start of something that could still become a request.
pub const NOISE: &[Refusal] = &[
    (46, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, should("9112 §2.2", NOISE_ENDS)),
    (46, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, may("9110 §15.6.6")),
    (46, b"\0\0\0\0", 400, should("9112 §2.2", NOISE_ENDS)),
    (46, b"SSH-2.0-OpenSSH_9.2\r\n\r\n", 400, should("9112 §2.2", NOISE_ENDS)),
    (46, b"\xff\xfe\xfd \xfc\r\n\r\n", 400, should("9112 §2.2", NOISE_ENDS)),
    (46, b"   \r\n\r\n", 400, should("9112 §2.2", NOISE_ENDS)),
];

/// All of them, to be played by the probe.
pub(super) fn cases() -> Vec<Case> {
    let played = |refusals: &'static [Refusal], manner| refusals.iter().map(move |refusal| case(refusal, manner));
    let chunks = played(CHUNKS, Manner::Alone)
        .map(|case| Case { input: [CHUNKED.as_bytes(), &case.input].concat().into(), ..case });
    let alone = [HEADS, HEADS_OF_HEAD, FRAMES].into_iter().flat_map(|refusals| played(refusals, Manner::Alone));
    alone.chain(chunks).chain(played(NOISE, Manner::Ended)).collect()
}

fn case(&(row, input, status, demand): &'static Refusal, manner: Manner) -> Case {
    Case { row, input: input.into(), manner, demand, ours: refused(status) }
}

/// Ours close after every refusal of this kind.
pub(super) const fn refused(status: u16) -> Allowed {
    let statuses = match status {
        400 => &[Is(400)],
        413 => &[Is(413)],
        414 => &[Is(414)],
        417 => &[Is(417)],
        431 => &[Is(431)],
        501 => &[Is(501)],
        505 => &[Is(505)],
        _ => panic!("this status refuses nothing"),
    };
    allow(statuses, CLOSED)
}
