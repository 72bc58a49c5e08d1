//! The same command line, given to the real wrk and to loadtest, one after the other, against the same server: the same
//! output comes out, but for the noise.
//!
//! They need wrk (Debian's package), which nothing else does: `cargo test -p loadtest --test wrk -- --ignored`.

mod origin;

use std::process::{Command, Output};

use origin::Origin;

fn run(program: &str, arguments: &[&str]) -> Output {
    Command::new(program).args(arguments).output().unwrap_or_else(|error| panic!("{program}: {error}"))
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// What both print.
fn both(arguments: &[&str]) -> (String, String) {
    let (wrk, ours) = (run("wrk", arguments), run(env!("CARGO_BIN_EXE_loadtest"), arguments));
    assert!(!stdout(&wrk).is_empty(), "{wrk:?}");
    (stdout(&wrk), stdout(&ours))
}

/// The text with each figure and its unit replaced, and each gap made one space.
fn shape(text: &str) -> Vec<String> {
    let word = |word: &str| {
        let unit =
            word.trim_start_matches('-').trim_start_matches(|letter: char| letter.is_ascii_digit() || letter == '.');
        let is_figure = unit.len() < word.len() || word.starts_with("-nan");
        if is_figure && !word.starts_with("http") { "#".to_owned() } else { word.to_owned() }
    };
    text.lines().map(|line| line.split_whitespace().map(word).collect::<Vec<_>>().join(" ")).collect()
}

/// Lines whose columns have fixed widths.
fn is_table(line: &str) -> bool {
    ["  Thread", "    Latency", "    Req/Sec", "     50%", "     99%", "Requests/sec", "Transfer/sec"]
        .iter()
        .any(|start| line.starts_with(start))
}

#[track_caller]
fn assert_same_shape(arguments: &[&str]) -> (String, String) {
    let (wrk, ours) = both(arguments);
    assert_eq!(shape(&wrk), shape(&ours), "\n{wrk}\n{ours}");
    for (theirs, ours) in wrk.lines().zip(ours.lines()).filter(|(line, _)| is_table(line)) {
        assert_eq!(theirs.len(), ours.len(), "{theirs:?} {ours:?}");
    }
    (wrk, ours)
}

/// The first figure after `label`, whose unit is known to the caller.
fn figure(text: &str, label: &str) -> f64 {
    let rest = text.split_once(label).unwrap_or_else(|| panic!("no {label:?} in {text}")).1.trim_start();
    let end = rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(rest.len());
    rest[..end].parse().unwrap_or_else(|_| panic!("no figure after {label:?} in {text}"))
}

#[track_caller]
fn assert_close(wrk: &str, ours: &str, label: &str) {
    let (theirs, ours) = (figure(wrk, label), figure(ours, label));
    assert!((theirs / ours - 1.0).abs() < 0.15, "{label}: wrk {theirs}, loadtest {ours}");
}

#[test]
#[ignore = "needs wrk"]
fn figures_and_columns_are_wrks() {
    let origin = Origin::start();
    let url = origin.url("/");
    let (wrk, ours) = assert_same_shape(&["-t", "2", "-c", "20", "-d", "2s", "--latency", &url]);
    assert_close(&wrk, &ours, "Requests/sec:");
    assert_close(&wrk, &ours, "Latency");
    assert_close(&wrk, &ours, "     50%");
}

#[test]
#[ignore = "needs wrk"]
fn the_conditional_lines_are_wrks() {
    let origin = Origin::start();
    for path in ["/missing", "/chunked", "/close"] {
        assert_same_shape(&["-c", "10", "-d", "1", &origin.url(path)]);
    }
    // Longer than the timeout: a socket error, and not in the latencies.
    let (wrk, ours) = assert_same_shape(&["-c", "4", "-d", "2", "--timeout", "1", &origin.url("/slow")]);
    for text in [&wrk, &ours] {
        assert_eq!(figure(text, "timeout "), 4.0, "{text}");
    }
    // Cut off without an answer: read errors.
    let (wrk, ours) = both(&["-c", "4", "-d", "1", &origin.url("/cut")]);
    for text in [&wrk, &ours] {
        assert!(figure(text, ", read ") > 0.0, "{text}");
    }
}

#[test]
#[ignore = "needs wrk"]
fn requests_are_wrks() {
    let send = |program: &str| {
        let origin = Origin::start();
        run(program, &["-c", "2", "-d", "1", "-H", "X-A: 1", "-H", "User-Agent: me", &origin.url("/a?b=c")]);
        let request = origin.requests().into_iter().next().unwrap();
        // Each origin has its own port, and wrk's fields come in the order of a hash table.
        let mut lines: Vec<_> = request.lines().filter(|line| !line.starts_with("Host:")).map(str::to_owned).collect();
        lines[1..].sort_unstable();
        lines
    };
    assert_eq!(send("wrk"), send(env!("CARGO_BIN_EXE_loadtest")));
}

#[test]
#[ignore = "needs wrk"]
fn failures_to_start_fail_as_in_wrk() {
    for arguments in [&["http://127.0.0.1:1/"][..], &["-c", "1", "-t", "2", "http://127.0.0.1:1/"], &["-d", "1"]] {
        assert!(!run("wrk", arguments).status.success());
        assert!(!run(env!("CARGO_BIN_EXE_loadtest"), arguments).status.success());
    }
}
