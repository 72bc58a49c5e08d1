//! The probe against servers that are wrong: every case can fail.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::thread;
use std::time::Duration;

use conformance::rows::{self, Level};
use conformance::{Count, Finding, Verdict, probe};

/// These servers answer at once or never, and on a busy machine "at once" takes a while.
const PATIENCE: Duration = Duration::from_secs(1);

const YES: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
const NO: &str = "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n";

/// A server that answers so to whatever it reads, request or not, and closes when it has done that so many times.
fn parrot(answer: &str, times: usize) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let answer = answer.to_owned();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let answer = answer.clone();
            thread::spawn(move || repeat(stream.unwrap(), &answer, times));
        }
    });
    address
}

fn repeat(mut stream: TcpStream, answer: &str, times: usize) {
    let mut bytes = vec![0; 1 << 20];
    for _ in 0..times {
        if !stream.read(&mut bytes).is_ok_and(|count| count > 0) || stream.write_all(answer.as_bytes()).is_err() {
            break;
        }
    }
}

fn findings(answer: &str) -> Vec<Finding> {
    probe(parrot(answer, usize::MAX), PATIENCE).unwrap()
}

/// The inputs that were judged to break an RFC.
fn failed(findings: &[Finding]) -> BTreeSet<usize> {
    let is_failed = |finding: &Finding| finding.keeps_rfc == Some(false);
    findings.iter().enumerate().filter(|(_, finding)| is_failed(finding)).map(|(index, _)| index).collect()
}

#[test]
fn who_answers_200_to_everything_breaks_what_must_be_refused() {
    let findings = findings(YES);
    for finding in &findings {
        let refusals = ["9112 §3.2", "9112 §5.1", "9112 §6.1", "9112 §6.3"];
        let must_be_refused = (1..=3).contains(&finding.case.row) || (23..=29).contains(&finding.case.row);
        if must_be_refused
            && finding.case.demand.level == Level::Must
            && refusals.contains(&finding.case.demand.section)
        {
            assert_eq!(finding.verdict(), Verdict::Violates, "{finding:?}");
        }
    }
    let must = Count::of_level(&findings, Level::Must);
    assert!(must.failed() > 80, "{must:?}");
}

#[test]
fn who_answers_400_to_everything_breaks_what_must_be_served() {
    let findings = findings(NO);
    for finding in &findings {
        if finding.case.ours.statuses == rows::OK.statuses && finding.case.demand.section == "9110 §9.1" {
            assert_eq!(finding.verdict(), Verdict::Violates, "{finding:?}");
        }
    }
    assert!(Count::of_level(&findings, Level::Must).failed() > 30);
}

#[test]
fn who_says_nothing_breaks_nearly_everything() {
    let findings = findings("");
    let must = Count::of_level(&findings, Level::Must);
    assert!(must.failed() > 130, "{must:?}");
    assert!(findings.iter().all(|finding| finding.came().starts_with("nothing, ")));
}

#[test]
fn who_speaks_something_else_breaks_everything() {
    let findings = findings("SSH-2.0-OpenSSH_9.2\r\n");
    let unharmed: Vec<_> = findings.iter().filter(|finding| finding.keeps_rfc == Some(true)).collect();
    assert_eq!(unharmed.len(), 0, "{unharmed:?}");
}

/// No case is there for decoration: some server that does answer fails it.
#[test]
fn every_case_can_fail() {
    let servers = [
        YES.to_owned(),
        NO.to_owned(),
        // One answer too many.
        YES.repeat(2),
        YES.repeat(3),
        format!("HTTP/1.1 100 Continue\r\n\r\n{YES}"),
        "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n".to_owned(),
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(),
        "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n".to_owned(),
        "HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\n\r\n".to_owned(),
        "HTTP/1.1 206 Partial Content\r\nContent-Length: 0\r\n\r\n".to_owned(),
    ];
    let runs = servers.map(|answer| thread::spawn(move || failed(&findings(&answer))));
    let failed: BTreeSet<usize> = runs.into_iter().flat_map(|run| run.join().unwrap()).collect();
    let cases = rows::all();
    let demanded = cases.iter().enumerate().filter(|(_, case)| case.demand.level != Level::May);
    let unfailed: Vec<_> = demanded.filter(|(index, _)| !failed.contains(index)).map(|(_, case)| case).collect();
    assert_eq!(unfailed.len(), 0, "{unfailed:#?}");
}

#[test]
fn the_program_says_what_failed_and_ends_with_1() {
    let file = std::env::temp_dir().join(format!("probe-{}", std::process::id()));
    let address = parrot(YES, usize::MAX);
    let json = format!("--json={}", file.display());
    let arguments = ["--failed", &json, &format!("wrong/1.0={address}")];
    let output = Command::new(env!("CARGO_BIN_EXE_conformance")).args(arguments).output().unwrap();
    let (text, lines) = (String::from_utf8(output.stdout).unwrap(), std::fs::read_to_string(&file).unwrap());
    std::fs::remove_file(&file).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("row  1  MUST    RFC 9112 §3.2"), "{text}");
    assert!(text.contains("| wrong | 1.0 | "), "{text}");
    assert_eq!(lines.lines().count(), rows::all().len() + 1);
    assert!(lines.lines().all(|line| line.starts_with('{') && line.ends_with('}')), "{lines}");
}

#[test]
fn what_is_no_server_of_http_and_what_is_no_address_are_told_apart() {
    let probe = |address: &str| Command::new(env!("CARGO_BIN_EXE_conformance")).arg(address).output().unwrap();
    let other = probe(&parrot("SSH-2.0-OpenSSH_9.2\r\n", 1).to_string());
    let text = String::from_utf8(other.stderr).unwrap();
    assert!(other.status.code() == Some(1) && text.contains("answers no request with HTTP/1.1"), "{text}");
    for address in ["x", "::1", "http://127.0.0.1", "a=127.0.0.1:99999"] {
        let output = probe(address);
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(2) && text.contains("write HOST:PORT"), "{address}: {text}");
    }
    let nobody = probe("http://127.0.0.1:1/");
    let text = String::from_utf8(nobody.stderr).unwrap();
    assert!(nobody.status.code() == Some(1) && text.contains("is a server listening there?"), "{text}");
    assert!(!text.contains("backtrace"), "{text}");
}

/// Every counterpart that `HTTP11PROBE.md` names is sent.
#[test]
fn the_counterparts_of_http11probe_are_there() {
    let cases: Vec<_> = rows::all().iter().map(|case| (case.row, case.input.escape_ascii().to_string())).collect();
    let mut named = 0;
    for line in include_str!("../HTTP11PROBE.md").lines().filter(|line| line.contains('`')) {
        let (row, input) = line.split('|').nth(2).and_then(|cell| cell.trim().split_once(' ')).unwrap();
        let (row, input) = (row.parse::<u8>().unwrap(), input.trim_matches('`'));
        assert!(cases.iter().any(|(other, sent)| *other == row && sent.starts_with(input)), "not sent: {line}");
        named += 1;
    }
    assert!(named > 180, "{named}");
}
