//! What a server says of itself.
#![expect(missing_docs, reason = "the names say it")]

use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::server::{rss_bytes, wait_until};
use crate::{Client, Server, Target};

fn answers_with(code: u16) -> String {
    format!("c10k_requests_total{{code=\"{code}\"}}")
}

/// Waits until all of these were counted: an answer can be read just before it is.
fn wait_for_answers(server: &Server, expected: &[(u16, u64)]) {
    for &(code, count) in expected {
        server.wait_for_metric(&answers_with(code), count);
    }
    let total: u64 = expected.iter().map(|(_, count)| count).sum();
    assert_eq!(server.metrics("c10k_requests_total{").iter().sum::<u64>(), total, "others were counted");
}

pub fn answers_are_counted(target: &Target) {
    let server = Server::start(target, &[]);
    wait_for_answers(&server, &[(200, 0), (204, 0), (404, 0), (503, 0)]);
    let mut client = server.connect();
    for path in ["/", "/health", "/nowhere", "/?wait=soon", "/", "/cpu?for=1ms"] {
        client.get(path);
    }
    client.request("HEAD", "/");
    client.request("OPTIONS", "/");
    client.request("BREW", "/");
    client.request("PUT", "/");
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
    assert_eq!(client.read_response().status, 100);
    client.send(b"hello");
    assert_eq!(client.read_response().status, 200);
    client.send(&b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n".repeat(20));
    for _ in 0..20 {
        assert_eq!(client.read_response().status, 200);
    }
    let expected = [(200, 26), (204, 1), (400, 1), (404, 1), (405, 1), (501, 1)];
    wait_for_answers(&server, &expected);
    // An answer that nobody could take is none.
    let mut client = server.connect();
    client.send(b"GET /?wait=100ms HTTP/1.1\r\nHost: a\r\n\r\n");
    server.wait_for_metric("c10k_requests_waiting", 1);
    client.reset();
    server.wait_for_metric("c10k_connections_open", 1);
    wait_for_answers(&server, &expected);
}

pub fn refusals_are_counted(target: &Target) {
    let server = Server::start(target, &["--max-body", "10", "--header-timeout", "100ms", "--max-connections", "1"]);
    for (input, code) in [
        (&b"GET / HTTP/1.1\r\n\r\n"[..], 400),
        (b"GET / HTTP/9.9\r\nHost: a\r\n\r\n", 505),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\n", 413),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello0\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\n", 408),
    ] {
        let mut client = server.connect();
        client.send(input);
        client.assert_rejected(code);
        drop(client);
        server.wait_for_metric("c10k_connections_open", 0);
    }
    let mut kept = server.connect();
    assert_eq!(kept.get("/").status, 200);
    // That one did not get as far as to ask.
    server.connect().assert_rejected(503);
    wait_for_answers(&server, &[(200, 1), (400, 2), (408, 1), (413, 1), (505, 1), (503, 0)]);
    assert_eq!(server.metric("c10k_connections_refused_total"), 1);
    server.wait_for_metric("c10k_request_duration_seconds_count", 1);
}

pub fn durations_are_of_whole_requests(target: &Target) {
    let server = Server::start(target, &[]);
    let mut client = server.connect();
    client.send(b"GET /?wait=300ms HTTP/1.1\r\nHo");
    // That the client took its time is not the server's doing.
    thread::sleep(Duration::from_millis(300));
    client.send(b"st: a\r\n\r\n");
    assert_eq!(client.read_response().status, 200);
    let bucket = |bound| format!("c10k_request_duration_seconds_bucket{{le=\"{bound}\"}}");
    server.wait_for_metric(&bucket("+Inf"), 1);
    assert_eq!(server.metric(&bucket("0.25")), 0, "it took 300 ms");
    let sum = server.number("c10k_request_duration_seconds_sum");
    assert!(sum >= 0.3, "{sum}");
    for _ in 0..9 {
        client.get("/health");
    }
    server.wait_for_metric("c10k_request_duration_seconds_count", 10);
    let counts = server.metrics("c10k_request_duration_seconds_bucket{");
    assert!(counts.is_sorted() && counts.last() == Some(&10), "{counts:?}");
    assert_eq!(server.metric(&bucket("10")), 10, "all are within the histogram");
}

pub fn readiness(target: &Target) {
    let mut server = Server::start(target, &["--max-connections", "2", "--drain-timeout", "60s"]);
    let admin = server.admin;
    let ask = |path: &str| Client::connect(admin).get(path).status;
    assert_eq!((ask("/healthz"), ask("/readyz")), (200, 200));
    let (mut client, other) = (server.connect(), server.connect());
    server.wait_for_metric("c10k_connections_open", 2);
    assert_eq!((ask("/healthz"), ask("/readyz")), (200, 503), "it is full");
    drop(other);
    server.wait_for_metric("c10k_connections_open", 1);
    assert_eq!(ask("/readyz"), 200);
    client.send(b"GET /?wait=1s HTTP/1.1\r\nHost: a\r\n\r\n");
    server.wait_for_metric("c10k_requests_waiting", 1);
    server.signal(Signal::SIGTERM);
    server.wait_for_metric("c10k_draining", 1);
    assert_eq!((ask("/healthz"), ask("/readyz")), (200, 503), "it is draining");
    assert_eq!(client.read_response().status, 200);
    assert_eq!(server.wait().code(), Some(0));
}

pub fn memory_is_told(target: &Target) {
    let server = Server::start(target, &["--ledger-interval", "100ms"]);
    let has = |name: &str| Client::connect(server.admin).get("/metrics").text().contains(name);
    // The first that asks has it taken.
    wait_until(|| has("\nc10k_memory_timestamp_seconds "), || "no ledger was taken".into());
    let part = |part| server.metric(&format!("c10k_memory_bytes{{part=\"{part}\"}}"));
    assert!(part("pss") > 100_000, "less than a process can do with: {}", part("pss"));
    assert!(part("page_tables") > 0 && part("sockets") > 0);
    assert!(part("kernel_stacks") >= server.metric("c10k_children") * 16_384);
    assert!(server.metric("c10k_memory_rss_sum_bytes") >= part("pss"));
    let first = server.number("c10k_memory_timestamp_seconds");
    wait_until(|| server.number("c10k_memory_timestamp_seconds") > first, || "it is not taken again".into());
    let group = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    if group.lines().any(|line| line.contains(":memory:/") && !line.ends_with(":/")) {
        assert!(server.metric("c10k_cgroup_memory_peak_bytes") >= server.metric("c10k_cgroup_memory_bytes") / 2);
        assert!(has("\nc10k_cgroup_oom_kills_total "));
    }
}

/// What the flags make a request keep is there while it waits, and no stack overflows.
pub fn held_memory_is_there(target: &Target) {
    const HELD: u64 = 8 << 20;
    let server = Server::start(target, &["--hold", "8M", "--touch-stack", "1M"]);
    let all = || rss_bytes(&server);
    let before = all();
    let mut clients = [(); 3].map(|()| server.connect());
    for client in &mut clients {
        client.send(b"GET /?wait=1s HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    server.wait_for_metric("c10k_requests_waiting", 3);
    wait_until(|| all() >= before + 3 * HELD, || format!("{} of {} bytes are there", all() - before, 3 * HELD));
    for client in &mut clients {
        assert_eq!(client.read_response().status, 200);
    }
    wait_until(|| all() < before + 2 * HELD, || format!("{} bytes are still there", all() - before));
}

/// One child of prefork's leaks what all have leaked, if it has answered all.
pub fn a_leak_stays(target: &Target) {
    const LEAKS: u64 = 32;
    let server = Server::start(target, &["--allow-chaos"]);
    let mut client = server.connect();
    assert_eq!(client.get("/health").status, 200);
    let before = rss_bytes(&server);
    for _ in 0..LEAKS {
        client.send(b"POST /chaos/leak HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(client.read_response().status, 200);
    }
    let leaked = rss_bytes(&server).saturating_sub(before);
    assert!(leaked >= LEAKS << 20, "{LEAKS} leaks of a mebibyte left {leaked} bytes");
}

pub fn children_and_threads_are_counted(target: &Target) {
    let server = Server::start(target, &[]);
    let children = || server.processes().len() as u64 - 1;
    wait_until(|| server.metric("c10k_children") == children(), || format!("there are {} children", children()));
    let count = |pid: i32| fs::read_dir(format!("/proc/{pid}/task")).map_or(0, |threads| threads.count() as u64);
    let threads = || server.processes().into_iter().map(count).sum::<u64>();
    wait_until(|| server.metric("c10k_threads") == threads(), || format!("there are {} threads", threads()));
}

/// By the conventions of Prometheus, whose tool says so.
pub fn promtool_has_no_complaint(target: &Target) {
    let server = Server::start(target, &["--ledger-interval", "1ms"]);
    server.connect().get("/");
    let metrics = || Client::connect(server.admin).get("/metrics");
    wait_until(|| metrics().text().contains("c10k_memory_bytes"), || "no ledger was taken".into());
    assert_promtool_agrees(&server);
}

/// Prometheus' own tool finds nothing wrong with the metrics of this server.
pub fn assert_promtool_agrees(server: &Server) {
    let metrics = Client::connect(server.admin).get("/metrics");
    let mut promtool = Command::new("promtool");
    promtool.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut promtool = promtool.spawn().expect("promtool is installed (Debian: prometheus)");
    let mut stdin = promtool.stdin.take().expect("it is piped");
    stdin.write_all(metrics.text().as_bytes()).expect("promtool reads");
    drop(stdin);
    let output = promtool.wait_with_output().expect("promtool ends");
    let complaint = [output.stdout, output.stderr].concat();
    assert!(output.status.success() && complaint.is_empty(), "{}", String::from_utf8_lossy(&complaint));
}
