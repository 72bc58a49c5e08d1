//! Whatever comes as a head: its end is found wherever it is cut, what no head may hold is refused, and what is accepted
//! reads the same to a second parser.

#![no_main]

use common::http::body::Framing;
use common::http::head::{Head, parse};
use common::http::lines::Scanner;
use common::http::{Limits, Method, Reject};
use fuzz::Sent;
use libfuzzer_sys::fuzz_target;

const LIMITS: Limits = Limits { max_head_bytes: 1024, max_body_bytes: 1000 };
/// As many fields as a head may have.
const MAX_FIELDS: usize = 100;

/// Where the head ends in bytes that come in pieces, if it does.
fn scan<'a>(bytes: &[u8], pieces: impl Iterator<Item = &'a [u8]>) -> Result<Option<usize>, Reject> {
    let mut scanner = Scanner::head();
    let mut come = 0;
    for piece in pieces {
        come += piece.len();
        if let Some(end) = scanner.scan(&bytes[..come], &LIMITS)? {
            return Ok(Some(end));
        }
    }
    Ok(None)
}

/// The lines of a head, without the empty ones around them.
fn lines(head: &[u8]) -> Vec<&str> {
    let text = str::from_utf8(head).ok();
    text.map_or_else(Vec::new, |text| text.split("\r\n").filter(|line| !line.is_empty()).collect())
}

/// The values of a field, found in the plainest way.
fn values<'h>(lines: &[&'h str], name: &str) -> Vec<&'h str> {
    let fields = lines.iter().skip(1).filter_map(|line| line.split_once(':'));
    fields
        .filter(|(found, _)| found.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim_matches([' ', '\t']))
        .collect()
}

fn check_bytes(head: &[u8]) {
    assert!(head.len() <= LIMITS.max_head_bytes, "longer than the limit");
    assert!(head.ends_with(b"\r\n\r\n"));
    for pair in head.windows(2) {
        assert_eq!(pair[0] == b'\r', pair[1] == b'\n', "a bare CR or LF");
    }
    assert!(!head.iter().any(|byte| byte.is_ascii_control() && !b"\r\n\t".contains(byte)), "a control character");
}

fn check_request(head: &Head, lines: &[&str]) {
    let words: Vec<&str> = lines[0].split(' ').collect();
    let [method, target, version] = words[..] else { panic!("{} words", words.len()) };
    assert_eq!(head.request.method, Method::from_token(method.as_bytes()));
    assert!(head.request.body.is_empty());
    let understood = head.request.target.as_str();
    assert!(understood.starts_with('/') || (understood == "*" && method == "OPTIONS"), "{understood}");
    assert!(understood.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#'), "{understood}");
    assert!(target.ends_with(understood.trim_start_matches('/')), "{target} became {understood}");

    let hosts = values(lines, "host");
    assert!(hosts.len() == 1 || (hosts.is_empty() && version == "HTTP/1.0"), "{} Hosts", hosts.len());
    assert!(!hosts.iter().any(|host| host.contains([',', '@', '/', ' '])), "{hosts:?}");
}

fn check_framing(head: &Head, lines: &[&str]) {
    let (lengths, codings) = (values(lines, "content-length"), values(lines, "transfer-encoding"));
    match head.framing {
        Framing::Chunked => {
            assert!(lengths.is_empty(), "two lengths");
            let members =
                codings.iter().flat_map(|value| value.split(',')).map(|member| member.trim_matches([' ', '\t']));
            let members: Vec<&str> = members.filter(|member| !member.is_empty()).collect();
            assert!(members.len() == 1 && members[0].eq_ignore_ascii_case("chunked"), "{codings:?}");
        }
        Framing::Length(length) => {
            assert!(codings.is_empty() && lengths.len() <= 1, "{codings:?} {lengths:?}");
            assert!(lengths.iter().all(|text| text.parse() == Ok(length)), "{lengths:?} became {length}");
            assert!(length == 0 || !lengths.is_empty());
            assert!(length <= LIMITS.max_body_bytes as u64);
        }
    }
    if head.expects_continue {
        assert!(head.framing != Framing::Length(0) && !values(lines, "expect").is_empty());
    }
}

/// A more lenient parser accepts it too, and sees the same request line and as many fields.
fn check_with_httparse(head: &[u8], lines: &[&str]) {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut request = httparse::Request::new(&mut fields);
    match request.parse(head) {
        // It knows no minor version above 1, and those are read as 1 (RFC 9110 §2.5).
        Err(httparse::Error::Version) => assert!(!lines[0].ends_with(['0', '1'])),
        outcome => {
            assert_eq!(outcome, Ok(httparse::Status::Complete(head.len())));
            let line = format!("{} {} HTTP/1.", request.method.unwrap_or_default(), request.path.unwrap_or_default());
            assert_eq!(lines[0].strip_suffix(['0', '1']), Some(line.as_str()));
            assert_eq!(request.headers.len(), lines.len() - 1);
        }
    }
}

fuzz_target!(|input: &[u8]| {
    let sent = Sent::new(input);
    let whole = scan(sent.bytes, sent.whole());
    assert_eq!(whole, scan(sent.bytes, sent.pieces()));
    assert_eq!(whole, scan(sent.bytes, sent.single_bytes()));
    let Ok(Some(end)) = whole else { return };
    let bytes = &sent.bytes[..end];
    check_bytes(bytes);
    let Ok(head) = parse(bytes, &LIMITS) else { return };
    let lossy = String::from_utf8_lossy(bytes);
    let lines = lines(lossy.as_bytes());
    check_request(&head, &lines);
    check_framing(&head, &lines);
    check_with_httparse(bytes, &lines);
});
