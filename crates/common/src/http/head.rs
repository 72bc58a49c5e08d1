//! The head of a request: request line and fields (§2 to §6).

use std::ops::Range;

use smol_str::{SmolStr, format_smolstr};

use super::body::Framing;
use super::lines::{FEW_FIELDS, is_token_byte, parse_fields};
use super::{Limits, Method, Persistence, Reject, Request, Status};

/// The longest target, in bytes, however long `--max-head` lets a head be: hyper takes none above 65,534.
const MAX_TARGET_BYTES: usize = 65_000;

/// A head that was understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The request, its body still empty.
    pub request: Request,
    /// How long the body is.
    pub framing: Framing,
    /// The client waits for `100 Continue` before it sends the body (RFC 9110 §10.1.1).
    pub expects_continue: bool,
}

/// Understands a head that [`Scanner`](super::lines::Scanner) found complete.
///
/// # Errors
/// The answer to give to a head that is malformed, or asks for what no server here does.
pub fn parse(head: &[u8], limits: &Limits) -> Result<Head, Reject> {
    let Range { start, end: line_end } = request_line(head);
    let line = RequestLine::parse(&head[start..line_end])?;

    let mut few = [httparse::EMPTY_HEADER; FEW_FIELDS];
    let mut many = Vec::new();
    let fields = parse_fields(&head[line_end + 2..], &mut few, &mut many)?;
    if line.method_token == b"CONNECT" {
        return Err(Reject::new(Status::NotImplemented, "CONNECT is not served"));
    }
    let target = line.path_and_query()?;
    check_host(fields, line.is_1_0)?;
    let framing = framing(fields, line.is_1_0, limits)?;
    let expects_continue = expects_continue(fields, line.is_1_0)? && framing != Framing::Length(0);
    Ok(Head {
        request: Request {
            method: Method::from_token(line.method_token),
            target,
            persistence: persistence(fields, line.is_1_0),
            body: Vec::new(),
        },
        framing,
        expects_continue,
    })
}

/// Whether the method at the start of a head is HEAD, whatever may be wrong with the rest.
pub fn is_to_head(head: &[u8]) -> bool {
    let after = head[line_start(head)..].strip_prefix(b"HEAD");
    after.is_some_and(|after| after.first().is_none_or(|&byte| !is_token_byte(byte)))
}

/// Where the first line is that is not empty: those before it are skipped (§2.2).
fn line_start(head: &[u8]) -> usize {
    head.iter().position(|&byte| byte != b'\r' && byte != b'\n').unwrap_or(head.len())
}

/// Where the request line is, without its CRLF.
fn request_line(head: &[u8]) -> Range<usize> {
    let start = line_start(head);
    let length = head[start..].iter().position(|&byte| byte == b'\r').unwrap_or(0);
    start..start + length
}

struct RequestLine<'b> {
    method_token: &'b [u8],
    target: &'b str,
    is_1_0: bool,
}

impl<'b> RequestLine<'b> {
    /// `method SP request-target SP HTTP-version` (§3), with exactly one space between.
    fn parse(line: &'b [u8]) -> Result<Self, Reject> {
        const MALFORMED: Reject = Reject::bad("the request line is not `METHOD TARGET HTTP/1.1`");
        if line == b"PRI * HTTP/2.0" {
            return Err(Reject::bad("HTTP/2 is not spoken here"));
        }
        let mut parts = line.split(|&byte| byte == b' ');
        let (Some(method_token), Some(target), Some(version), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(MALFORMED);
        };
        if method_token.is_empty() || !method_token.iter().all(|&byte| is_token_byte(byte)) || target.is_empty() {
            return Err(MALFORMED);
        }
        let is_1_0 = match version {
            [b'H', b'T', b'T', b'P', b'/', b'1', b'.', minor @ b'0'..=b'9'] => *minor == b'0',
            [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => {
                return Err(Reject::new(Status::HttpVersionNotSupported, "only HTTP/1.x is spoken here"));
            }
            _ => return Err(MALFORMED),
        };
        if target.len() > MAX_TARGET_BYTES {
            return Err(Reject::new(Status::UriTooLong, "the target is too long"));
        }
        if !target.iter().all(|&byte| is_target_byte(byte)) {
            return Err(Reject::bad("a character that no target may hold"));
        }
        let target = str::from_utf8(target).map_err(|_| MALFORMED)?;
        Ok(Self { method_token, target, is_1_0 })
    }

    /// The path and query of an origin-form or absolute-form target, or `*` (§3.2).
    fn path_and_query(&self) -> Result<SmolStr, Reject> {
        if self.target.starts_with('/') || (self.target == "*" && self.method_token == b"OPTIONS") {
            return Ok(self.target.into());
        }
        let rest = strip_scheme(self.target).ok_or(Reject::bad("a target that is neither a path nor a URI"))?;
        let authority_end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path_and_query) = rest.split_at(authority_end);
        if !is_host(authority.as_bytes()) {
            return Err(Reject::bad("a URI with an invalid authority"));
        }
        let slash = if path_and_query.starts_with('/') { "" } else { "/" };
        Ok(format_smolstr!("{slash}{path_and_query}"))
    }
}

fn strip_scheme(target: &str) -> Option<&str> {
    let (scheme, rest) = target.split_once("://")?;
    (scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https")).then_some(rest)
}

/// What a target may be made of: visible ASCII without what RFC 3986 forbids everywhere. `[ ] { } |` are forbidden there
/// too, but browsers send them.
fn is_target_byte(byte: u8) -> bool {
    byte.is_ascii_graphic() && !b"#\"<>\\^`".contains(&byte)
}

/// `uri-host [ ":" port ]` (RFC 9110 §7.2), and in `http` no host is empty (RFC 9110 §4.2.1). A comma would be legal in a name, but only a list of hosts has one.
fn is_host(value: &[u8]) -> bool {
    let (host, port) = match value {
        [b'[', rest @ ..] => match rest.iter().position(|&byte| byte == b']') {
            Some(end) if end > 0 && rest[..end].iter().all(|&b| b.is_ascii_hexdigit() || b":.".contains(&b)) => {
                (&rest[..end], &rest[end + 1..])
            }
            _ => return false,
        },
        _ => value.split_at(value.iter().position(|&byte| byte == b':').unwrap_or(value.len())),
    };
    let is_port = matches!(port, [] | [b':', ..]) && port.iter().skip(1).all(u8::is_ascii_digit);
    let is_name_byte = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+;=:".contains(byte);
    is_port && !host.is_empty() && host.iter().all(is_name_byte)
}

fn values<'h>(fields: &'h [httparse::Header<'_>], name: &'static str) -> impl Iterator<Item = &'h [u8]> {
    fields.iter().filter(move |field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value.trim_ascii())
}

/// The members of a comma-separated list that may be spread over several fields. Empty ones are ignored (RFC 9110 §5.6.1.2).
fn members<'h>(fields: &'h [httparse::Header<'_>], name: &'static str) -> impl Iterator<Item = &'h [u8]> {
    let all = values(fields, name).flat_map(|value| value.split(|&byte| byte == b',')).map(<[u8]>::trim_ascii);
    all.filter(|member| !member.is_empty())
}

/// HTTP/1.1 wants exactly one valid Host, HTTP/1.0 at most one (§3.2).
fn check_host(fields: &[httparse::Header<'_>], is_1_0: bool) -> Result<(), Reject> {
    let mut hosts = values(fields, "host");
    match (hosts.next(), hosts.next()) {
        (None, _) if is_1_0 => Ok(()),
        (None, _) => Err(Reject::bad("no Host")),
        (Some(_), Some(_)) => Err(Reject::bad("more than one Host")),
        (Some(host), None) if is_host(host) => Ok(()),
        (Some(_), None) => Err(Reject::bad("an invalid Host")),
    }
}

/// The length of the body (§6.3). Whatever could be read in two ways is refused: that is how requests are smuggled.
fn framing(fields: &[httparse::Header<'_>], is_1_0: bool, limits: &Limits) -> Result<Framing, Reject> {
    let mut lengths = values(fields, "content-length");
    let length = lengths.next();
    if lengths.next().is_some() {
        return Err(Reject::bad("more than one Content-Length"));
    }
    if values(fields, "transfer-encoding").next().is_none() {
        return length.map_or(Ok(Framing::Length(0)), |value| content_length(value, limits));
    }
    if length.is_some() {
        return Err(Reject::bad("both Content-Length and Transfer-Encoding"));
    }
    if is_1_0 {
        return Err(Reject::bad("Transfer-Encoding in HTTP/1.0"));
    }
    check_transfer_codings(fields)?;
    Ok(Framing::Chunked)
}

fn content_length(value: &[u8], limits: &Limits) -> Result<Framing, Reject> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(Reject::bad("Content-Length is not a number"));
    }
    let length: u64 = str::from_utf8(value)
        .ok()
        .and_then(|digits| digits.parse().ok())
        .ok_or(Reject::bad("Content-Length overflows"))?;
    if length > limits.max_body_bytes as u64 {
        return Err(Reject::new(Status::ContentTooLarge, "the body is too long"));
    }
    Ok(Framing::Length(length))
}

/// Only `chunked` is understood, once and last (§6.1, §7).
fn check_transfer_codings(fields: &[httparse::Header<'_>]) -> Result<(), Reject> {
    let codings: Vec<&[u8]> = members(fields, "transfer-encoding").collect();
    let is_chunked = |coding: &&[u8]| coding.eq_ignore_ascii_case(b"chunked");
    match codings.split_last() {
        None => Err(Reject::bad("an empty Transfer-Encoding")),
        Some((_, before)) if before.iter().any(is_chunked) => {
            Err(Reject::bad("chunked is not the last transfer coding, or is there twice"))
        }
        Some((last, [])) if is_chunked(last) => Ok(()),
        Some(_) => Err(Reject::new(Status::NotImplemented, "an unknown transfer coding")),
    }
}

/// RFC 9110 §10.1.1. HTTP/1.0 knows no expectations: there they are ignored.
fn expects_continue(fields: &[httparse::Header<'_>], is_1_0: bool) -> Result<bool, Reject> {
    let mut expects = false;
    for expectation in members(fields, "expect").filter(|_| !is_1_0) {
        if !expectation.eq_ignore_ascii_case(b"100-continue") {
            return Err(Reject::new(Status::ExpectationFailed, "an unknown expectation"));
        }
        expects = true;
    }
    Ok(expects)
}

/// Whether the connection outlives the answer (§9.3).
fn persistence(fields: &[httparse::Header<'_>], is_1_0: bool) -> Persistence {
    let has = |option: &[u8]| members(fields, "connection").any(|member| member.eq_ignore_ascii_case(option));
    if has(b"close") || (is_1_0 && !has(b"keep-alive")) {
        Persistence::Close
    } else if is_1_0 {
        Persistence::KeepAliveSaid
    } else {
        Persistence::KeepAlive
    }
}
