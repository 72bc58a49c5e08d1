//! The live page of `loadtest serve` in a real browser, and what it refuses.

mod browser;

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tempfile::TempDir;

use browser::Browser;

/// A run takes some seconds, and a busy machine several times that.
const PATIENCE: Duration = Duration::from_secs(120);

/// `loadtest serve`, ended with the test.
struct Page {
    process: Child,
    /// Its address, without the fragment.
    url: String,
    /// The line that says it.
    line: String,
}

impl Page {
    fn start(out: &Path, listen: &str, arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_loadtest"));
        command.arg("serve").args(["--listen", listen]).arg("--out").arg(out).args(arguments);
        Self::spawn(&mut command)
    }

    fn spawn(command: &mut Command) -> Self {
        let mut process = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines().map_while(Result::ok);
        let line = lines.find(|line| line.contains("http://")).unwrap();
        // Nobody reads what the runs say, and it must not block them.
        thread::spawn(move || lines.for_each(drop));
        let url = line.split_whitespace().find(|word| word.starts_with("http://")).unwrap();
        let url = url.split('#').next().unwrap().to_owned();
        Self { process, url, line }
    }

    /// The status and the content of an answer.
    fn ask(&self, request: &str, headers: &[(&str, &str)], body: &str) -> (u16, String) {
        let address = self.url.trim_start_matches("http://").trim_end_matches('/').replace("localhost", "127.0.0.1");
        let mut stream = TcpStream::connect(&address).unwrap();
        let host = headers.iter().find(|(name, _)| *name == "Host").map_or(address.as_str(), |(_, host)| host);
        let others = headers.iter().filter(|(name, _)| *name != "Host");
        let others: String = others.map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let length = body.len();
        let head = format!("{request} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: {length}\r\n");
        stream.write_all(format!("{head}{others}\r\n{body}").as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        (answer[9..12].parse().unwrap(), answer)
    }

    fn end(mut self) {
        kill(Pid::from_raw(self.process.id() as i32), Signal::SIGTERM).unwrap();
        assert!(self.process.wait().unwrap().success());
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn wait_for(what: &str, mut is_there: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_there() {
        assert!(Instant::now() < deadline, "{what} does not come");
        thread::sleep(Duration::from_millis(100));
    }
}

fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

fn order(targets: &[&str], duration_s: u64) -> String {
    let order = json!({ "targets": targets, "connections": 40, "duration_s": duration_s, "wait": "100ms" });
    order.to_string()
}

/// The lines of a kept run.
fn lines(out: &Path, id: u32) -> Vec<Value> {
    let text = fs::read_to_string(out.join(format!("runs/{id:04}.jsonl"))).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn has_ended(out: &Path, id: u32) -> bool {
    lines(out, id).last().is_some_and(|last| last["event"] == "ended")
}

#[test]
fn another_site_reads_and_starts_nothing() {
    let out = TempDir::new().unwrap();
    let page = Page::start(out.path(), "127.0.0.1:0", &[]);
    let order = order(&["async"], 1);
    for (request, headers) in [
        ("POST /api/runs", ("Origin", "http://evil.example")),
        ("POST /api/runs", ("Origin", "null")),
        ("POST /api/runs", ("Sec-Fetch-Site", "cross-site")),
        ("POST /api/runs", ("Host", "evil.example")),
        ("GET /api/events", ("Origin", "http://evil.example")),
        ("GET /api/about", ("Host", "evil.example")),
        ("GET /api/plan", ("Sec-Fetch-Site", "cross-site")),
        ("GET /runs/1/replay.html", ("Sec-Fetch-Site", "same-site")),
    ] {
        let (status, answer) = page.ask(request, &[headers], &order);
        assert_eq!(status, 403, "{request} {headers:?}: {answer}");
        assert!(!answer.to_lowercase().contains("access-control-allow"), "{answer}");
    }
    let (_, answer) = page.ask("GET /", &[], "");
    let policy = answer.lines().find(|line| line.to_lowercase().starts_with("content-security-policy:")).unwrap();
    assert!(policy.contains("script-src 'self'") && !policy.contains("unsafe"), "{policy}");
    assert_eq!(fs::read_dir(out.path().join("runs")).unwrap().count(), 0, "a run was started");
    page.end();
}

#[test]
fn beyond_loopback_a_run_needs_the_token_that_was_printed() {
    let out = TempDir::new().unwrap();
    let page = Page::start(out.path(), "0.0.0.0:0", &[]);
    let token = page.line.split("#token=").nth(1).unwrap().split_whitespace().next().unwrap();
    let stop = "POST /api/runs/7/stop";
    assert_eq!(page.ask(stop, &[], "").0, 403);
    assert_eq!(page.ask(stop, &[("Authorization", "Bearer 00")], "").0, 403);
    assert_eq!(page.ask(stop, &[("Authorization", &format!("Bearer {token}"))], "").0, 204);
    assert_eq!(page.ask("GET /api/about", &[], "").0, 200);
}

#[test]
fn one_run_at_a_time_and_a_queued_one_can_be_stopped() {
    let out = TempDir::new().unwrap();
    let page = Page::start(out.path(), "127.0.0.1:0", &[]);
    assert_eq!(page.ask("POST /api/runs", &[], "{\"targets\":[\"--exec\"]}").0, 400);
    for _ in 0..3 {
        let (status, answer) = page.ask("POST /api/runs", &[], &order(&["async"], 2));
        assert_eq!(status, 202, "{answer}");
    }
    assert_eq!(page.ask("POST /api/runs/2/stop", &[], "").0, 204);
    wait_for("the end of the third run", || has_ended(out.path(), 3));
    assert_eq!(lines(out.path(), 2).last().unwrap()["sentence"], "Stopped before it began.");
    for id in [1, 3] {
        assert!(lines(out.path(), id).iter().any(|line| line["event"] == "finished"), "run {id}");
    }
    let (status, compared) = page.ask("GET /api/compare?one=1&other=3", &[], "");
    assert!(status == 200 && compared.contains("async: 40 connections"), "{compared}");
    page.end();
}

#[test]
fn a_run_that_is_stopped_keeps_what_it_measured_and_nothing_is_left() {
    let out = TempDir::new().unwrap();
    let page = Page::start(out.path(), "127.0.0.1:0", &[]);
    assert_eq!(page.ask("POST /api/runs", &[], &order(&["threads"], 300)).0, 202);
    let has = |event: &str| lines(out.path(), 1).iter().any(|line| line["event"] == event);
    wait_for("a second of the run", || has("second"));
    let listening = lines(out.path(), 1).into_iter().find(|line| line["event"] == "listening").unwrap();
    // The end of the page stops what runs, and waits for it.
    page.end();
    assert!(has("finished") && has_ended(out.path(), 1), "{:?}", lines(out.path(), 1).last());
    assert!(!Path::new(&format!("/proc/{}", listening["pid"])).exists(), "the server is left");
}

#[test]
fn a_fault_is_injected_and_cpu_time_is_used() {
    let out = TempDir::new().unwrap();
    let page = Page::start(out.path(), "127.0.0.1:0", &[]);
    let order = json!({
        "targets": ["prefork"], "connections": 20, "duration_s": 3, "wait": "100ms", "burn": "2ms", "fault": "kill-worker",
    });
    assert_eq!(page.ask("POST /api/runs", &[], &order.to_string()).0, 202);
    wait_for("the end of the run", || has_ended(out.path(), 1));
    let lines = lines(out.path(), 1);
    assert!(lines.iter().any(|line| line["event"] == "injected" && line["fault"] == "kill-worker"));
    let result = lines.iter().find(|line| line["event"] == "finished").unwrap();
    // A process died, and with it one connection.
    assert_eq!(result["errors"]["read"], 1, "{}", result["errors"]);
    // Not counted is what the child used that was killed.
    let (cpu_s, requests) = (result["server"]["cpu_s"].as_f64().unwrap(), result["requests"].as_f64().unwrap());
    assert!(cpu_s > 0.0015 * requests, "{cpu_s} s for {requests} requests");
    page.end();
}

#[test]
fn the_plan_is_fed_by_the_runs_that_are_kept() {
    let out = TempDir::new().unwrap();
    let page =
        Page::start(out.path(), "127.0.0.1:0", &["--target", "threads", "-c", "50", "-d", "1s", "--db-wait", "50ms"]);
    let plan = |page: &Page| {
        page.ask("GET /api/plan?connections=2000&wait_ms=50&ram_mib=4096&cpu_us=0&isolation=false", &[], "")
    };
    let (status, why) = plan(&page);
    assert!(status == 400 && why.contains("start a run"), "{why}");
    wait_for("the end of the run", || has_ended(out.path(), 1));
    let (status, answer) = plan(&page);
    let answer: Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
    assert_eq!((status, &answer["verdicts"][0]["target"]), (200, &json!("threads")), "{answer}");
    page.end();
}

#[test]
fn claims_are_checked_in_their_turn_and_stopped_with_the_page() {
    let out = TempDir::new().unwrap();
    let page = Page::start(out.path(), "127.0.0.1:0", &[]);
    assert_eq!(page.ask("GET /api/claims", &[], "").0, 204);
    assert_eq!(page.ask("POST /api/claims", &[("Sec-Fetch-Site", "cross-site")], "").0, 403);
    assert_eq!(page.ask("POST /api/claims", &[], "").0, 202);
    wait_for("the first verdicts", || out.path().join("claims.json").metadata().is_ok_and(|file| file.len() > 0));
    let (status, rows) = page.ask("GET /api/claims", &[], "");
    assert!(status == 200 && rows.contains("A thread's stack"), "{rows}");
    page.end();
    assert!(has_ended(out.path(), 1));
}

/// The figures of a server on the page.
const FIGURES: &str = "Object.fromEntries([...document.querySelectorAll('.model')].map(model => [model.dataset.target,
    Object.fromEntries([...model.querySelectorAll('dd')].map(dd => [dd.dataset.figure, dd.dataset.value ?? dd.textContent]))]))";

fn figures(browser: &mut Browser, target: &str) -> Value {
    browser.evaluate(FIGURES)[target].clone()
}

fn is_over(browser: &mut Browser, target: &str) -> bool {
    browser.evaluate(&format!("document.querySelector('.model.over[data-target={target}]') != null")) == true
}

#[test]
#[ignore = "needs chromium"]
fn a_run_is_started_watched_in_two_tabs_and_agrees_with_its_json() {
    let out = TempDir::new().unwrap();
    let page = Page::start(out.path(), "127.0.0.1:0", &[]);
    let mut tabs = [Browser::start(), Browser::start()];
    tabs.iter_mut().for_each(|tab| tab.show(&page.url, 1280, "light"));
    wait_for("the form", || tabs[0].evaluate("document.querySelectorAll('[name=targets]').length") != 0);
    tabs[0].evaluate(
        "for (const box of document.querySelectorAll('[name=targets]')) box.checked = ['threads', 'async'].includes(box.value);
         const { elements } = document.getElementById('order');
         elements.connections.value = 50; elements.duration_s.value = 4; elements.wait.value = '100ms';
         document.getElementById('order').requestSubmit();",
    );
    // The other tab follows by itself, and both see the dots fill and the figures move.
    for tab in &mut tabs {
        wait_for("connections that wait", || figures(tab, "threads")["waiting"] == "50");
        wait_for("a first figure", || !["", "null"].contains(&figures(tab, "threads")["rps"].as_str().unwrap_or("")));
    }
    wait_for("charts", || tabs[1].evaluate("document.querySelectorAll('#charts svg').length") != 0);
    tabs.iter_mut().for_each(|tab| wait_for("the end", || is_over(tab, "async")));
    wait_for("the end of the run", || has_ended(out.path(), 1));
    let (_, answer) = page.ask("GET /runs/1/results.json", &[], "");
    let results: Vec<Value> = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
    for (result, target) in results.iter().zip(["threads", "async"]) {
        for tab in &mut tabs {
            let shown = figures(tab, target);
            let expected = [
                ("rps", &result["rps"]),
                ("p99", &result["latency_us"]["p99"]),
                ("ram", &result["memory"]["peak_bytes"]),
            ];
            for (name, value) in expected.into_iter().filter(|(_, value)| !value.is_null()) {
                let shown: f64 = shown[name].as_str().unwrap().parse().unwrap();
                assert_eq!(shown, value.as_f64().unwrap(), "{target}: {name}");
            }
        }
    }
    tabs.iter().for_each(|tab| assert_eq!(tab.console_messages(), Vec::<Value>::new()));
    page.end();
}

#[test]
#[ignore = "needs chromium"]
fn a_browser_reconnects_after_a_restart_and_misses_nothing() {
    let out = TempDir::new().unwrap();
    let listen = free_address();
    let page = Page::start(out.path(), &listen, &["--target", "async", "-c", "20", "-d", "1s", "--db-wait", "50ms"]);
    let mut browser = Browser::start();
    browser.show(&page.url, 1280, "dark");
    wait_for("the end", || is_over(&mut browser, "async"));
    wait_for("the end of the run", || has_ended(out.path(), 1));
    page.end();
    wait_for("word of it", || browser.evaluate("document.getElementById('link').hidden") == false);
    let page = Page::start(out.path(), &listen, &[]);
    wait_for("the connection", || browser.evaluate("document.getElementById('link').hidden") == true);
    // It has each line of the run once: it asked only for those that it had not.
    let expected = lines(out.path(), 1).len();
    wait_for("the list", || browser.evaluate("document.querySelectorAll('#run-list li').length") == 1);
    assert_eq!(browser.evaluate("window.live.events.length"), expected);
    assert_eq!(page.ask("POST /api/runs", &[], &order(&["threads"], 1)).0, 202);
    wait_for("the next run", || is_over(&mut browser, "threads"));
    page.end();
}

/// Lists what does not fit, is too small to touch, or has no name.
const LAYOUT_CHECK: &str = r"
width_px => {
    const problems = [];
    if (document.documentElement.scrollWidth > width_px) problems.push('the page scrolls sideways');
    for (const element of document.querySelectorAll('dt, dd, h1, h2, h3, button, label, input, select, canvas, summary')) {
        const { left, right, width } = element.getBoundingClientRect();
        if (width && (left < 0 || right > width_px + 0.5)) problems.push(`${element.tagName} ${element.textContent} is cut off`);
    }
    for (const input of document.querySelectorAll('input, select, button')) {
        const name = input.getAttribute('aria-label') || input.labels?.[0]?.textContent.trim() || input.textContent.trim();
        if (!name) problems.push(`${input.outerHTML} has no name`);
    }
    for (const canvas of document.querySelectorAll('canvas')) {
        if (!canvas.width || !canvas.height || !canvas.getAttribute('aria-label')) problems.push('no dots');
    }
    return problems;
}";

#[test]
#[ignore = "needs chromium"]
fn a_replay_fits_every_screen_as_a_page_and_as_a_file_that_loads_nothing() {
    let directory = TempDir::new().unwrap();
    let [run, file] = ["run.jsonl", "run.html"].map(|name| directory.path().join(name));
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadtest"));
    command.args(["--target", "threads,async", "-c", "300", "-d", "2s", "--db-wait", "100ms", "--events"]).arg(&run);
    assert!(command.output().unwrap().status.success());
    let replay = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_loadtest"));
        command.arg("serve").arg("--replay").arg(&run).args(arguments);
        command
    };
    assert!(replay(&["--html", file.to_str().unwrap()]).status().unwrap().success());
    let page = Page::spawn(&mut replay(&["--listen", "127.0.0.1:0"]));
    assert_eq!(page.ask("POST /api/runs", &[], &order(&["async"], 1)).0, 400);
    let file_url = format!("file://{}", file.display());
    let mut browser = Browser::start();
    for url in [page.url.as_str(), &file_url] {
        for (width_px, scheme) in [(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark"), (320, "light")] {
            browser.show(url, width_px, scheme);
            wait_for("the end", || is_over(&mut browser, "async"));
            wait_for("charts", || browser.evaluate("document.querySelectorAll('#charts svg').length") != 0);
            let problems = browser.evaluate(&format!("({LAYOUT_CHECK})({width_px})"));
            assert_eq!(problems, json!([]), "{url}, {width_px} px, {scheme}");
        }
        // Back to the beginning, where nothing is connected, and forward again.
        let seek = |at: &str| {
            format!(
                "(slider => {{ slider.value = {at}; slider.dispatchEvent(new Event('input')); }})(document.getElementById('replay-at'))"
            )
        };
        browser.evaluate(&seek("0"));
        assert_eq!(figures(&mut browser, "async"), Value::Null, "it has not started yet");
        browser.evaluate(&seek("1e9"));
        assert!(is_over(&mut browser, "async"));
    }
    let from_file = browser.requests().iter().filter(|url| url.starts_with("file:") && **url != file_url).count();
    assert_eq!(from_file, 0, "{:?}", browser.requests());
    assert_eq!(browser.console_messages(), Vec::<Value>::new());
    page.end();
}
