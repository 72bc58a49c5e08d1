//! Start, stop, and what the operator sees.
#![expect(missing_docs, reason = "the names say it")]

use std::fs;
use std::io;
use std::net::{TcpListener, TcpStream};

use nix::sys::signal::{Signal, kill};

use crate::server::{processes_of_group, run, run_with_variable, wait_until, wait_until_refused};
use crate::{Client, Server, Target};

const SLOW_GET: &[u8] = b"GET /?wait=500ms HTTP/1.1\r\nHost: a\r\n\r\n";
const ENDLESS_GET: &[u8] = b"GET /?wait=60s HTTP/1.1\r\nHost: a\r\n\r\n";

fn drains_at(target: &Target, signal: Signal) {
    let mut server = Server::start(target, &[]);
    let mut clients: Vec<Client> = (0..20).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.send(SLOW_GET);
    }
    server.wait_for_metric("c10k_requests_waiting", 20);
    server.signal(signal);
    wait_until_refused(&server);
    for client in &mut clients {
        let response = client.read_response();
        assert_eq!((response.status, response.field("connection")), (200, Some("close")));
        client.assert_closed();
    }
    assert_eq!(server.wait().code(), Some(0));
}

pub fn in_flight_is_answered(target: &Target) {
    drains_at(target, Signal::SIGTERM);
}

pub fn sigint_drains(target: &Target) {
    drains_at(target, Signal::SIGINT);
}

/// With a drain timeout that the test would not live to see.
fn start_patient(target: &Target) -> Server {
    Server::start(target, &["--drain-timeout", "60s"])
}

pub fn idle_connections_are_closed(target: &Target) {
    let mut server = start_patient(target);
    let (mut used, mut unused) = (server.connect(), server.connect());
    assert_eq!(used.get("/").status, 200);
    server.wait_for_metric("c10k_connections_open", 2);
    server.signal(Signal::SIGTERM);
    used.assert_closed();
    unused.assert_closed();
    assert_eq!(server.wait().code(), Some(0));
}

/// Requests that came may stay unanswered. But the last answer arrives, whole.
pub fn a_client_that_never_pauses_is_drained(target: &Target) {
    let mut server = start_patient(target);
    let mut client = server.connect();
    client.keep_sending(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n");
    for _ in 0..1_000 {
        assert_eq!(client.read_response().status, 200);
    }
    server.signal(Signal::SIGTERM);
    let received = client.read_to_end().expect("the connection is closed, not reset");
    assert!(received.ends_with(b"\r\n\r\nok\n"), "{}", received.escape_ascii());
    assert_eq!(server.wait().code(), Some(0));
}

pub fn half_a_request_does_not_hold_up_the_drain(target: &Target) {
    let mut server = start_patient(target);
    let mut client = server.connect();
    client.send(b"GET / HT");
    server.wait_for_metric("c10k_connections_open", 1);
    server.signal(Signal::SIGTERM);
    assert_eq!(server.wait().code(), Some(0));
    assert!(!client.read_to_end().unwrap_or_default().starts_with(b"HTTP/1.1 200"));
}

pub fn drain_has_a_timeout(target: &Target) {
    let mut server = Server::start(target, &["--drain-timeout", "200ms"]);
    let mut client = server.connect();
    client.send(ENDLESS_GET);
    server.wait_for_metric("c10k_requests_waiting", 1);
    server.signal(Signal::SIGTERM);
    assert_eq!(server.wait().code(), Some(0));
}

pub fn second_signal_forces(target: &Target) {
    let mut server = start_patient(target);
    let mut client = server.connect();
    client.send(ENDLESS_GET);
    server.wait_for_metric("c10k_requests_waiting", 1);
    server.signal(Signal::SIGTERM);
    wait_until_refused(&server);
    server.signal(Signal::SIGTERM);
    assert!(!server.wait().success(), "a forced exit is no success");
    let group = server.pid();
    wait_until(|| processes_of_group(group).is_empty(), || "a child outlives its supervisor".into());
}

pub fn port_in_use(target: &Target) {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = taken.local_addr().expect("it has an address").to_string();
    for flag in ["--listen", "--admin"] {
        let mut flags = vec![flag, &address];
        if flag == "--admin" {
            flags.extend(["--listen", "127.0.0.1:0"]);
        }
        let exit = run(target, &flags);
        assert_eq!(exit.code(), Some(1), "{exit:?}");
        assert!(exit.stderr.contains(&address) && exit.stderr.contains(&format!("with {flag}")), "{exit:?}");
        assert_eq!(exit.stdout, "", "it says that it listens, and does not");
    }
}

pub fn bad_flags(target: &Target) {
    for flags in [
        &["--no-such-flag"][..],
        &["--listen", "here"],
        &["--db-wait", "soon"],
        &["--db-wait", "uniform:2s..1s"],
        &["--max-connections", "0"],
        &["--max-connections", "many"],
        &["--overload", "panic"],
        &["--idle-timeout", "0s"],
        &["--max-body", "much"],
        &["surplus"],
    ] {
        let exit = run(target, flags);
        assert_eq!(exit.code(), Some(2), "{flags:?}: {exit:?}");
        assert!(exit.stderr.contains(flags[0]), "it does not say what is wrong: {exit:?}");
    }
    for flags in [
        ["--db-pool", "10"],
        ["--db-queue", "10"],
        ["--db-pool-timeout", "1s"],
        ["--db-timeout", "1s"],
        ["--db-hold", "1s"],
    ] {
        let exit = run(target, &flags);
        assert_eq!(exit.code(), Some(2), "{flags:?}: {exit:?}");
        assert!(exit.stderr.contains("--db <URL>"), "it does not say what is missing: {exit:?}");
    }
}

pub fn flags_have_units(target: &Target) {
    let sizes = ["--max-connections", "2k", "--backlog", "1k", "--max-head", "64K", "--max-body", "1.5MB"];
    let server = Server::start(target, &[&sizes[..], &["--idle-timeout", "1m 30s"]].concat());
    assert_eq!(server.metric("c10k_connections_max{limited_by=\"flag\"}"), 2_000);
    let field = "x".repeat(40_000);
    let mut client = server.connect();
    client.send(format!("GET / HTTP/1.1\r\nHost: a\r\nX: {field}\r\n\r\n").as_bytes());
    assert_eq!(client.read_response().status, 200);
}

pub fn help(target: &Target) {
    let exit = run(target, &["--help"]);
    assert_eq!(exit.code(), Some(0));
    for flag in [
        "--listen",
        "--admin",
        "--ledger-interval",
        "--db-wait",
        "--db",
        "--db-pool",
        "--db-queue",
        "--db-pool-timeout",
        "--db-timeout",
        "--max-connections",
        "--overload",
        "--backlog",
        "--header-timeout",
        "--body-timeout",
        "--write-timeout",
        "--idle-timeout",
        "--drain-timeout",
        "--max-head",
        "--max-body",
        "--hold",
        "--touch-stack",
        "--burn",
        "--log-format",
        "--log-level",
        "--allow-chaos",
    ] {
        assert!(exit.stdout.contains(flag), "{flag} is not in {}", exit.stdout);
    }
}

/// Every flag, those of one model included.
pub fn flags_are_environment_variables(target: &Target) {
    // A flag of the target's would go before its variable.
    let target = &Target { flags: &[], ..*target };
    let help = run(target, &["--help"]).stdout;
    let flags: Vec<&str> =
        help.lines().filter_map(|line| line.trim_start().strip_prefix("--")?.split([' ', '[']).next()).collect();
    assert!(flags.len() > 17 && flags.contains(&"log-level"), "{flags:?} in {help}");
    for flag in flags {
        let variable = format!("C10K_{}", flag.to_uppercase().replace('-', "_"));
        // That of a URL is not shown: it may have a password.
        let is_named = ["=", "]"].iter().any(|end| help.contains(&format!("[env: {variable}{end}")));
        assert!(is_named, "--{flag} does not name {variable}: {help}");
        for nonsense in ["nonsense", ""] {
            let exit = run_with_variable(target, &variable, nonsense);
            assert_eq!(exit.code(), Some(2), "{variable}={nonsense}: {exit:?}");
            let names = [format!("--{flag}"), format!("environment variable {variable}")];
            assert!(names.iter().all(|name| exit.stderr.contains(name)), "it does not say what is wrong: {exit:?}");
        }
    }
}

/// Addresses, and what to write instead of what is none.
pub fn addresses(target: &Target) {
    for address in ["localhost:0", "8080", "127.0.0.1", ":8080", ""] {
        for flag in ["--listen", "--admin"] {
            let exit = run(target, &[flag, address]);
            assert_eq!(exit.code(), Some(2), "{flag} {address}: {exit:?}");
            assert!(exit.stderr.contains("127.0.0.1:8080"), "it does not say what to write: {exit:?}");
        }
    }
}

/// Chaos is for those who asked for it in so many words, and may reach only them.
pub fn chaos_is_asked_for(target: &Target) {
    let serves = |server: &Server| {
        let mut client = server.connect();
        client.send(b"POST /chaos/leak HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
        client.read_response().status == 200
    };
    for (flag, is_served) in [
        ("--allow-chaos", true),
        ("--allow-chaos=on", true),
        ("--allow-chaos=TRUE", true),
        ("--allow-chaos=anywhere", true),
        ("--allow-chaos=no", false),
        ("--allow-chaos=0", false),
    ] {
        assert_eq!(serves(&Server::start(target, &[flag])), is_served, "{flag}");
    }
    for word in ["disabled", "disable", "none", "2", "localhost"] {
        let exit = run_with_variable(target, "C10K_ALLOW_CHAOS", word);
        assert_eq!(exit.code(), Some(2), "{word}: {exit:?}");
        assert!(exit.stderr.contains("yes, no or anywhere"), "it does not say what to write: {exit:?}");
    }
    for address in ["0.0.0.0:0", "[::]:0"] {
        let exit = run(target, &["--listen", address, "--allow-chaos"]);
        assert_eq!(exit.code(), Some(2), "{address}: {exit:?}");
        assert!(exit.stderr.contains("--allow-chaos=anywhere"), "it does not say what to write: {exit:?}");
    }
}

/// What a server says in a life with a request that panics, one that is cut off, and these flags.
fn log_of(target: &Target, flags: &[&str]) -> Vec<String> {
    let (mut server, log) =
        Server::start_logged(target, &[flags, &["--drain-timeout", "100ms", "--allow-chaos"]].concat());
    let mut panics = server.connect();
    panics.send(b"POST /chaos/panic HTTP/1.1\r\nHost: a\r\n\r\n");
    panics.assert_cut_off();
    let mut client = server.connect();
    client.send(ENDLESS_GET);
    server.wait_for_metric("c10k_requests_waiting", 1);
    server.signal(Signal::SIGTERM);
    assert_eq!(server.wait().code(), Some(0));
    io::read_to_string(log).expect("it is text").lines().map(str::to_owned).collect()
}

pub fn log_lines(target: &Target) {
    let has =
        |log: &[String], start: &str, part: &str| log.iter().any(|line| line.starts_with(start) && line.contains(part));
    let log = log_of(target, &[]);
    assert!(has(&log, "warning: ", "--drain-timeout") && has(&log, "error: ", "panic"), "{log:?}");
    assert!(!has(&log, "info: ", ""), "{log:?}");
    let log = log_of(target, &["--log-level", "error"]);
    assert!(!has(&log, "warning: ", "") && has(&log, "error: ", "panic"), "{log:?}");
    let log = log_of(target, &["--log-level", "info", "--log-format", "json"]);
    assert!(log.iter().all(|line| line.starts_with("{\"timestamp\":\"2") && line.ends_with('}')), "{log:?}");
    for (level, part) in [
        ("INFO", "listening on"),
        ("INFO", "draining"),
        ("WARN", "--drain-timeout"),
        ("ERROR", "panic"),
        ("INFO", "stopped"),
    ] {
        let of_level = |line: &String| line.contains(&format!("\"level\":\"{level}\"")) && line.contains(part);
        assert_eq!(log.iter().filter(|&line| of_level(line)).count(), 1, "{level} {part}: {log:?}");
    }
}

/// A log that cannot be written does no harm.
pub fn log_without_reader(target: &Target) {
    let (mut server, log) = Server::start_logged(target, &["--drain-timeout", "100ms", "--log-level", "info"]);
    drop(log);
    let mut client = server.connect();
    client.send(ENDLESS_GET);
    server.wait_for_metric("c10k_requests_waiting", 1);
    server.signal(Signal::SIGTERM);
    assert_eq!(server.wait().code(), Some(0));
}

pub fn admin(target: &Target) {
    let server = Server::start(target, &[]);
    let ask = |path| Client::connect(server.admin).get(path);
    assert_eq!(ask("/healthz").status, 200);
    assert_eq!(ask("/healthz?from=here").status, 200);
    assert_eq!(ask("/nowhere").status, 404);
    let refused = Client::connect(server.admin).request("DELETE", "/metrics");
    assert_eq!((refused.status, refused.field("allow")), (405, Some("GET, HEAD")));
    assert_eq!(Client::connect(server.admin).request("BREW", "/healthz").status, 501);
    let head = Client::connect(server.admin).request("HEAD", "/readyz");
    assert_eq!((head.status, head.field("content-length")), (200, Some("3")));
    for (malformed, status) in [
        ("GET /healthz HTTP/1.1\r\n\r\n", 400),
        ("GET\r\n\r\n", 400),
        ("\x16\x03\x01", 400),
        ("GET /healthz HTTP/3.0\r\nHost: a\r\n\r\n", 505),
    ] {
        let mut client = Client::connect(server.admin);
        client.send(malformed.as_bytes());
        client.assert_rejected(status);
    }
    let mut posts = Client::connect(server.admin);
    posts.send(b"POST /readyz HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello");
    posts.assert_rejected(405);
    let metrics = ask("/metrics");
    assert_eq!(metrics.status, 200);
    assert!(metrics.field("content-type").is_some_and(|kind| kind.contains("version=")), "{metrics:?}");
    for name in ["c10k_connections_open", "c10k_requests_waiting", "c10k_connections_accepted_total"] {
        assert!(metrics.text().contains(&format!("# TYPE {name} ")), "{}", metrics.text());
    }
    let mut client = server.connect();
    client.get("/");
    assert_eq!(server.metric("c10k_connections_open"), 1);
    assert_eq!(server.metric("c10k_connections_accepted_total"), 1);
    drop(client);
    server.wait_for_metric("c10k_connections_open", 0);
}

pub fn admin_answers_when_full(target: &Target) {
    let server = Server::start(target, &["--max-connections", "3"]);
    let mut clients: Vec<Client> = (0..3).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.send(ENDLESS_GET);
    }
    server.wait_for_metric("c10k_requests_waiting", 3);
    assert_eq!(server.metric("c10k_connections_open"), 3);
    server.connect().assert_rejected(503);
    // Somebody who never asks does not keep it from others.
    let _silent = Client::connect(server.admin);
    assert_eq!(Client::connect(server.admin).get("/healthz").status, 200);
}

/// The kernel keeps signals from the first process of a container, unless it handles them.
pub fn first_process_of_a_container(target: &Target) {
    for (request, signals, code) in [(SLOW_GET, 1, 0), (ENDLESS_GET, 2, 128 + Signal::SIGTERM as i32)] {
        let flags = ["--drain-timeout", "60s"];
        let Some((mut server, first, _stderr)) = Server::start_as_first_process(target, &flags) else { return };
        let status = fs::read_to_string(format!("/proc/{first}/status")).expect("it is there");
        assert!(status.lines().any(|line| line.starts_with("NSpid:") && line.ends_with("\t1")), "{status}");
        let mut client = server.connect();
        client.send(request);
        server.wait_for_metric("c10k_requests_waiting", 1);
        kill(first, Signal::SIGTERM).expect("it is there");
        if signals == 1 {
            let response = client.read_response();
            assert_eq!((response.status, response.field("connection")), (200, Some("close")));
        } else {
            wait_until_refused(&server);
            kill(first, Signal::SIGTERM).expect("it is there");
        }
        assert_eq!(server.wait().code(), Some(code));
    }
}

/// However the process that was started dies.
pub fn leaves_no_orphan(target: &Target) {
    let mut server = Server::start(target, &[]);
    let mut clients: Vec<Client> = (0..5).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.send(ENDLESS_GET);
    }
    server.wait_for_metric("c10k_requests_waiting", 5);
    assert!(!server.processes().is_empty());
    server.signal(Signal::SIGKILL);
    wait_until(|| server.processes().is_empty(), || "a child outlives its supervisor".into());
    assert!(!server.wait().success());
    for client in &mut clients {
        client.assert_cut_off();
    }
    assert!(TcpStream::connect(server.address).is_err(), "somebody still listens");
}
