//! Runs the real wrk and loadtest with the same command line against the same server: the outputs agree except for
//! noise.
//!
//! Most tests need wrk (Debian's package): `cargo test -p loadtest --test wrk -- --ignored`.

mod origin;

use std::process::{Command, Output};

use origin::Origin;

fn run(program: &str, arguments: &[&str]) -> Output {
    Command::new(program).args(arguments).output().unwrap_or_else(|error| panic!("{program}: {error}"))
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// The output of both.
fn both(arguments: &[&str]) -> (String, String) {
    let (wrk, ours) = (run("wrk", arguments), run(env!("CARGO_BIN_EXE_loadtest"), arguments));
    assert!(!stdout(&wrk).is_empty(), "{wrk:?}");
    (stdout(&wrk), stdout(&ours))
}

/// The text with each figure and its unit replaced by #, and single spaces.
fn shape(text: &str) -> Vec<String> {
    let word = |word: &str| {
        let unit =
            word.trim_start_matches('-').trim_start_matches(|letter: char| letter.is_ascii_digit() || letter == '.');
        let is_figure = unit.len() < word.len() || word.starts_with("-nan");
        if is_figure && !word.starts_with("http") { "#".to_owned() } else { word.to_owned() }
    };
    text.lines().map(|line| line.split_whitespace().map(word).collect::<Vec<_>>().join(" ")).collect()
}

/// Whether a line has columns of fixed width.
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

/// The first figure after `label`; the caller knows its unit.
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
fn figures_and_columns_match_wrk() {
    let origin = Origin::start();
    let url = origin.url("/");
    let (wrk, ours) = assert_same_shape(&["-t", "2", "-c", "20", "-d", "2s", "--latency", &url]);
    assert_close(&wrk, &ours, "Requests/sec:");
    assert_close(&wrk, &ours, "Latency");
    assert_close(&wrk, &ours, "     50%");
}

#[test]
#[ignore = "needs wrk"]
fn the_conditional_lines_match_wrk() {
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
fn requests_match_wrk() {
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

/// The output of a program with a script, and the requests received, without Host and with sorted fields.
struct Scripted {
    output: String,
    requests: Vec<String>,
}

fn run_script(program: &str, script: &str, arguments: &[&str], rest: &[&str]) -> Scripted {
    let origin = Origin::start();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("script.lua");
    std::fs::write(&file, script).unwrap();
    let url = origin.url("/start");
    let arguments = [arguments, &["-s", file.to_str().unwrap(), &url], rest].concat();
    let output = run(program, &arguments);
    assert!(output.status.success(), "{output:?}");
    let port = url.split([':', '/']).nth(4).unwrap();
    let requests = origin.requests().iter().map(|request| in_order(request)).collect();
    Scripted { output: stdout(&output).replace(port, "PORT"), requests }
}

/// Sorts a request's fields, which wrk sends in the order of a hash table.
fn in_order(request: &str) -> String {
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    let mut lines: Vec<_> = head.lines().filter(|line| !line.starts_with("Host:")).collect();
    lines[1..].sort_unstable();
    format!("{}|{body}", lines.join("|"))
}

/// Runs a script with wrk and with loadtest, on one connection for a second.
fn scripted(script: &str) -> [Scripted; 2] {
    ["wrk", env!("CARGO_BIN_EXE_loadtest")].map(|program| run_script(program, script, &["-t1", "-c1", "-d1"], &[]))
}

#[track_caller]
fn assert_same_requests(script: &str, count: usize) {
    let [wrk, ours] = scripted(script);
    assert!(wrk.requests.len() >= count && ours.requests.len() >= count, "{:?} {:?}", wrk.requests, ours.requests);
    assert_eq!(wrk.requests[..count], ours.requests[..count]);
}

#[test]
#[ignore = "needs wrk"]
fn a_script_posts_a_body() {
    assert_same_requests(
        "wrk.method = 'POST'\nwrk.body = 'a=1&b=2'\nwrk.headers['Content-Type'] = 'application/x-www-form-urlencoded'",
        3,
    );
}

#[test]
#[ignore = "needs wrk"]
fn a_script_counts_its_requests() {
    let script = "n = 0
        function request()
            wrk.headers['X-N'] = n
            n = n + 1
            return wrk.format('PUT', '/' .. n, nil, 'body ' .. n)
        end";
    assert_same_requests(script, 10);
}

#[test]
#[ignore = "needs wrk"]
fn a_script_takes_a_token_from_an_answer() {
    let script = "path = '/authenticate'
        function request() return wrk.format(nil, path) end
        function response(status, headers, body)
            if headers['X-Token'] then
                wrk.headers['X-Token'] = headers['X-Token'] .. status .. body
                path = '/resource'
            end
        end";
    assert_same_requests(script, 5);
}

#[test]
#[ignore = "needs wrk"]
fn a_script_sends_several_requests_at_once() {
    let script = "local all
        function init() all = wrk.format(nil, '/a') .. wrk.format('POST', '/b', {}, 'x') .. wrk.format(nil, '/missing') end
        function request() return all end";
    assert_same_requests(script, 9);
    let [wrk, ours] = scripted(script);
    assert_eq!(shape(&wrk.output), shape(&ours.output));
    assert_close(&wrk.output, &ours.output, "Requests/sec:");
}

#[test]
#[ignore = "needs wrk"]
fn a_script_delays_its_requests() {
    let [wrk, ours] = scripted("function delay() return 80 end");
    // 80 ms and the 20 ms of the answer: ten a second.
    for count in [wrk.requests.len(), ours.requests.len()] {
        assert!((8..=12).contains(&count), "{count}");
    }
    assert_close(&wrk.output, &ours.output, "Latency");
}

#[test]
#[ignore = "needs wrk"]
fn a_script_talks_to_its_threads() {
    let script = "local threads, made = {}, 0
        function setup(thread)
            made = made + 1
            thread:set('id', {number = made, name = 'thread ' .. made})
            table.insert(threads, thread)
        end
        function init(args)
            sent, answers = 0, 0
            print(id.name, wrk.thread.addr, wrk.host, wrk.port, wrk.path, wrk.scheme, #args, args[1], args[2])
        end
        function request() sent = sent + 1; return wrk.request() end
        function response() answers = answers + 1; if answers == 5 then wrk.thread:stop() end end
        function done(summary, latency, requests)
            for _, thread in ipairs(threads) do
                local id = thread:get('id')
                print(id.number, id.name, thread:get('answers'), thread:get('nothing'))
            end
        end";
    let [wrk, ours] = ["wrk", env!("CARGO_BIN_EXE_loadtest")]
        .map(|program| run_script(program, script, &["-t2", "-c2", "-d1"], &["--", "one", "two"]));
    let lines =
        |text: &str| text.lines().filter(|line| line.contains("thread ")).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(lines(&wrk.output), lines(&ours.output), "{}", ours.output);
    assert_eq!(lines(&ours.output).len(), 4, "{}", ours.output);
    assert_eq!(shape(&wrk.output), shape(&ours.output));
    assert_eq!((wrk.requests.len(), ours.requests.len()), (10, 10));
}

#[test]
#[ignore = "needs wrk"]
fn a_script_reports_in_csv() {
    let script = "function done(summary, latency, requests)
            io.write('duration,requests,bytes,errors\\n')
            local e = summary.errors
            io.write(string.format('%d,%d,%d,%d\\n', summary.duration, summary.requests, summary.bytes,
                e.connect + e.read + e.write + e.status + e.timeout))
            for _, p in ipairs({50, 90, 99, 99.999}) do
                io.write(string.format('%g%%,%d\\n', p, latency:percentile(p)))
            end
            io.write(string.format('of %d: %d %d %g %g\\n', #latency, latency.min, latency.max, latency.mean, latency.stdev))
            local value, count = latency(1)
            print(value == latency.min, count > 0, #requests > 0, requests.max > 0)
        end";
    let [wrk, ours] = scripted(script);
    assert_eq!(shape(&wrk.output), shape(&ours.output), "{}", ours.output);
    assert_close(&wrk.output, &ours.output, "50%,");
    assert!(ours.output.contains("true\ttrue\ttrue\ttrue"), "{}", ours.output);
}

#[test]
#[ignore = "needs wrk"]
fn a_script_chooses_an_address() {
    let script = "function setup(thread)
            local addrs = wrk.lookup(wrk.host, wrk.port)
            print(#addrs > 0, wrk.connect(addrs[1]))
            thread.addr = addrs[1]
        end
        function init() print(string.format('%s', wrk.thread.addr)) end";
    let [wrk, ours] = scripted(script);
    let first = |text: &str| text.lines().take(2).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(first(&wrk.output), first(&ours.output));
    assert_eq!(shape(&wrk.output), shape(&ours.output));
}

#[test]
fn a_rate_is_kept() {
    let origin = Origin::start();
    let output = run(env!("CARGO_BIN_EXE_loadtest"), &["-c", "20", "-d", "2", "-R", "200", "-L", &origin.url("/")]);
    let text = stdout(&output);
    assert!((figure(&text, "Requests/sec:") / 200.0 - 1.0).abs() < 0.1, "{text}");
    assert!(text.contains("  Latency Distribution (HdrHistogram - Recorded Latency)\n 50.000%"), "{text}");
    assert!(text.contains("#[Buckets =           27, SubBuckets     =         2048]"), "{text}");
}

/// Two requests every 100 ms, each answered after 1.5 s: they queue in the client, which adds to the latency.
#[test]
fn with_a_rate_requests_are_timed_from_when_they_were_due() {
    let origin = Origin::start();
    let arguments = ["-t", "1", "-c", "2", "-d", "5", "-R", "20", "-U", &origin.url("/slow")];
    let text = stdout(&run(env!("CARGO_BIN_EXE_loadtest"), &arguments));
    let medians: Vec<f64> = text.split("Latency Distribution").skip(1).map(|part| figure(part, "50.000%")).collect();
    let [corrected_s, uncorrected_s] = medians[..] else { panic!("{text}") };
    assert!(uncorrected_s >= 1.5 && corrected_s > 1.5 * uncorrected_s, "{text}");
}

#[test]
fn a_failing_script_is_reported_with_its_line() {
    let origin = Origin::start();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("broken.lua");
    let broken = [
        ("x = = 1", "broken.lua:1:"),
        ("\nerror('outside')", "broken.lua:2: outside"),
        ("function init()\n local x = nil + 1\nend", "broken.lua:2:"),
        ("function request()\n\n error('here')\nend", "broken.lua:3: here"),
        ("function response()\n error('there')\nend", "broken.lua:2: there"),
        ("function done()\n error('at last')\nend", "broken.lua:2: at last"),
        ("function request() return 'GET / HTTP/1.1\\r\\n' end", "number 1 is incomplete"),
    ];
    for (script, expected) in broken {
        std::fs::write(&file, script).unwrap();
        let arguments = ["-d", "1", "-s", file.to_str().unwrap(), &origin.url("/")];
        let output = run(env!("CARGO_BIN_EXE_loadtest"), &arguments);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{script}: {stderr}");
        assert!(stderr.contains(expected), "{script}: {stderr}");
    }
    let output = run(env!("CARGO_BIN_EXE_loadtest"), &["-s", "/nowhere.lua", &origin.url("/")]);
    assert_eq!(output.status.code(), Some(1));
}

#[test]
#[ignore = "needs wrk"]
fn failures_to_start_fail_as_in_wrk() {
    for arguments in [&["http://127.0.0.1:1/"][..], &["-c", "1", "-t", "2", "http://127.0.0.1:1/"], &["-d", "1"]] {
        assert!(!run("wrk", arguments).status.success());
        assert!(!run(env!("CARGO_BIN_EXE_loadtest"), arguments).status.success());
    }
}
