//! What a load's clients do with servers that close, stall, answer early or not at all.

mod doctored;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::process::{Command, Output};
use std::thread;
use std::time::Duration;

use doctored::{answer, read_head, serve};
use serde_json::Value;
use tempfile::TempDir;

/// Runs loadtest, and returns the result and the output.
fn measure(arguments: &[&str]) -> (Value, Output) {
    let directory = TempDir::new().unwrap();
    let json = directory.path().join("run.json");
    let arguments = [&["--json", json.to_str().unwrap()], arguments].concat();
    let output = Command::new(env!("CARGO_BIN_EXE_loadtest")).args(arguments).output().unwrap();
    (serde_json::from_slice(&fs::read(json).unwrap_or_else(|_| panic!("{output:?}"))).unwrap(), output)
}

fn script(text: &str) -> (TempDir, String) {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("script.lua");
    fs::write(&file, text).unwrap();
    let path = file.to_str().unwrap().to_owned();
    (directory, path)
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn warnings(result: &Value) -> Vec<&str> {
    result["warnings"].as_array().unwrap().iter().map(|warning| warning["kind"].as_str().unwrap()).collect()
}

fn total_errors(result: &Value) -> u64 {
    result["errors"].as_object().unwrap().values().map(|count| count.as_u64().unwrap()).sum()
}

#[test]
fn a_connection_that_the_server_closes_while_it_is_idle_is_replaced_before_the_next_request() {
    let url = serve(|_, mut connection| {
        // Between two requests of a user, and far from both, or a close could meet a request on its way.
        connection.set_read_timeout(Some(Duration::from_millis(700))).unwrap();
        while read_head(&mut connection) && answer(&mut connection, 200, "") {}
    });
    // Each of five users sends every second.
    let (result, output) = measure(&["-t1", "-c5", "-d3s", "-R5", &url]);
    assert_eq!(total_errors(&result), 0, "{}", stderr(&output));
    assert!(result["requests"].as_u64() >= Some(12), "{result}");
    assert!(result["connections"]["reconnected"].as_u64() >= Some(5), "{result}");
}

#[test]
fn a_request_is_sent_while_its_answer_comes_in() {
    /// More than all socket buffers between them hold.
    const BODY_BYTES: usize = 48 << 20;
    // It echoes what it has read before it reads on, and so both directions must move.
    let url = serve(|_, mut connection| {
        while read_head(&mut connection) {
            if write!(connection, "HTTP/1.1 200 OK\r\nContent-Length: {BODY_BYTES}\r\n\r\n").is_err() {
                return;
            }
            let (mut left, mut buffer) = (BODY_BYTES, vec![0; 64 << 10]);
            while left > 0 {
                let Ok(count @ 1..) = connection.read(&mut buffer) else { return };
                if connection.write_all(&buffer[..count]).is_err() {
                    return;
                }
                left -= count;
            }
        }
    });
    let (_directory, script) = script(&format!("wrk.method = 'POST'; wrk.body = string.rep('x', {BODY_BYTES})"));
    let (result, output) = measure(&["-t1", "-c1", "-d4s", "-s", &script, &url]);
    assert!(result["requests"].as_u64() > Some(0), "{}", stderr(&output));
    assert_eq!(total_errors(&result), 0, "{}", stderr(&output));
}

#[test]
fn an_early_answer_to_a_request_that_the_server_does_not_want_counts() {
    let url = serve(|_, mut connection| {
        read_head(&mut connection);
        answer(&mut connection, 413, "Connection: close\r\n");
        // Closing now would reset the connection, and could destroy the answer.
        thread::sleep(Duration::from_millis(50));
    });
    let (_directory, script) = script("wrk.method = 'POST'; wrk.body = string.rep('x', 16 * 1024 * 1024)");
    let (result, output) = measure(&["-t1", "-c2", "-d1s", "-s", &script, &url]);
    assert!(result["errors"]["status"].as_u64() > Some(0), "{}", stderr(&output));
    assert_eq!(result["errors"]["write"], 0, "{}", stderr(&output));
    assert_eq!(result["error_reasons"][0]["reason"], "status 413");
}

#[test]
fn every_pipelined_answer_counts_also_before_a_close() {
    // Of each three requests: one good answer, one refusal, and then it closes.
    let url = serve(|_, mut connection| {
        let _ = read_head(&mut connection) && answer(&mut connection, 200, "");
        let _ = read_head(&mut connection) && answer(&mut connection, 404, "");
        let _ = read_head(&mut connection);
    });
    let (_directory, script) = script(
        "init = function() request_of_three = string.rep(wrk.format(), 3) end
         request = function() return request_of_three end",
    );
    let (result, output) = measure(&["-t1", "-c2", "-d1s", "-s", &script, &url]);
    let good = result["requests"].as_u64().unwrap();
    let errors = &result["errors"];
    assert!(good > 0 && good.abs_diff(errors["status"].as_u64().unwrap()) <= 2, "{}", stderr(&output));
    assert!(good.abs_diff(errors["read"].as_u64().unwrap()) <= 2, "{errors}");
    // wrk's printout counts the same answers.
    let stdout = String::from_utf8(output.stdout).unwrap();
    let printed: u64 = stdout.split(" requests in").next().unwrap().rsplit(' ').next().unwrap().parse().unwrap();
    assert!(printed.abs_diff(2 * good) <= 4, "{stdout}");
}

#[test]
fn requests_that_were_due_and_never_sent_count() {
    // It answers ten requests a second on each connection: a twentieth of the rate.
    let url = serve(|_, mut connection| {
        while read_head(&mut connection) {
            thread::sleep(Duration::from_millis(100));
            answer(&mut connection, 200, "");
        }
    });
    let (result, output) = measure(&["-t1", "-c5", "-d3s", "-R1000", "--fail-if", "rate < 99%", &url]);
    let rate = |name: &str| result["rate"][name].as_f64().unwrap();
    assert!((rate("due") / 3000.0 - 1.0).abs() < 0.05, "{}", result["rate"]);
    assert!(rate("sent") <= 160.0 && rate("answered") <= rate("sent"), "{}", result["rate"]);
    assert!(result["in_flight"].as_u64() <= Some(5), "{}", result["in_flight"]);
    // 19 of 20 have waited for 1.5 s on average when the window closes.
    assert!(result["latency_us"]["p50"].as_u64() > Some(1_000_000), "{}", result["latency_us"]);
    assert!(result["latency_us"]["lower_bounds"].as_array().unwrap().contains(&"p99".into()), "{result}");
    assert!(warnings(&result).contains(&"rate_missed"), "{}", stderr(&output));
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    assert!(stderr(&output).contains("rate < 99%"), "{}", stderr(&output));
}

#[test]
fn a_rate_that_a_dead_server_cannot_answer_shows_in_the_latency() {
    let (sender, is_dead) = std::sync::mpsc::channel::<()>();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    // After a second it closes everything, and listens no more.
    thread::spawn(move || {
        listener.set_nonblocking(true).unwrap();
        let start = std::time::Instant::now();
        while start.elapsed() < Duration::from_secs(1) {
            if let Ok((mut connection, _)) = listener.accept() {
                connection.set_nonblocking(false).unwrap();
                connection.set_read_timeout(Some(Duration::from_millis(900))).unwrap();
                thread::spawn(move || {
                    while read_head(&mut connection) && answer(&mut connection, 200, "") {
                        if start.elapsed() > Duration::from_secs(1) {
                            break;
                        }
                    }
                });
            }
            thread::sleep(Duration::from_millis(1));
        }
        drop((listener, sender));
    });
    let (result, output) = measure(&["-t1", "-c5", "-d4s", "-R200", &url]);
    assert!(is_dead.recv().is_err());
    let latency = &result["latency_us"];
    assert!(latency["p99"].as_u64() > Some(1_000_000), "{latency} {}", stderr(&output));
    assert!(latency["lower_bounds"].as_array().unwrap().contains(&"p99".into()), "{latency}");
    let refused = "Connection refused (ECONNREFUSED)";
    assert!(result["error_reasons"].as_array().unwrap().iter().any(|reason| reason["reason"] == refused), "{result}");
    assert!(stderr(&output).contains(refused), "{}", stderr(&output));
    assert!(result["connections"]["connect_pauses"].as_u64() > Some(0), "{}", result["connections"]);
}

#[test]
fn connections_without_any_answer_are_counted() {
    let url = serve(|number, mut connection| {
        while read_head(&mut connection) {
            // The first connection only looks whether somebody listens.
            if number > 3 {
                thread::sleep(Duration::from_secs(60));
            }
            thread::sleep(Duration::from_millis(10));
            answer(&mut connection, 200, "");
        }
    });
    let (result, output) = measure(&["-t1", "-c20", "-d2s", &url]);
    assert_eq!(result["connections"]["never_answered"], 17, "{}", stderr(&output));
    assert!(warnings(&result).contains(&"never_answered"), "{}", stderr(&output));
    assert!((result["connections"]["in_flight_mean"].as_f64().unwrap() / 20.0 - 1.0).abs() < 0.1, "{result}");
}

#[test]
fn a_user_needs_one_descriptor_also_while_it_reconnects() {
    let url = serve(|_, mut connection| {
        let _ = read_head(&mut connection) && answer(&mut connection, 200, "Connection: close\r\n");
    });
    // As many as it asks for at the start, and not one more.
    let limited = "ulimit -n 164; exec \"$@\"";
    let arguments = ["-c", limited, "sh", env!("CARGO_BIN_EXE_loadtest"), "-t1", "-c100", "-d1s", &url];
    let output = Command::new("sh").args(arguments).output().unwrap();
    assert!(output.status.success() && !stderr(&output).contains("descriptor"), "{}", stderr(&output));
}

#[test]
fn a_server_that_closes_each_connection_at_once_is_not_hammered() {
    let url = serve(|_, connection| drop(connection));
    let (result, output) = measure(&["-t1", "-c2", "-d2s", "-R1", &url]);
    let pauses = result["connections"]["connect_pauses"].as_u64().unwrap();
    assert!((10..1000).contains(&pauses), "{}", stderr(&output));
}

#[test]
fn whatever_a_server_may_send_is_an_answer() {
    let many: String = (0..300).map(|number| format!("X-Field-{number}: {number}\r\n")).collect();
    let answers = [
        format!("HTTP/1.1 200 OK\r\n{many}Content-Length: 2\r\n\r\nok"),
        "HTTP/1.1 200 OK\r\nX-Folded: a\r\n\tb\r\nContent-Length: 2\r\n\r\nok".into(),
        "\r\nHTTP/1.1 200\r\nContent-Length: 2, 2\r\n\r\nok\r\n".into(),
        "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n2  ;x=y\nok\n0\nTrailer: x\n\n".into(),
        "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nConnection: Upgrade, close\r\nContent-Length: 2\r\n\r\nok"
            .into(),
    ];
    let url = serve(move |_, mut connection| {
        for answer in &answers {
            if !read_head(&mut connection) || connection.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    });
    let (result, output) = measure(&["-t1", "-c5", "-d1s", &url]);
    assert_eq!((total_errors(&result), &result["cause"]), (0, &Value::Null), "{}", stderr(&output));
    let reconnected = result["connections"]["reconnected"].as_f64().unwrap();
    let requests = result["requests"].as_f64().unwrap();
    // Only the last of the five answers ends its connection. Some reconnect after the measured time.
    assert!((4.0..5.5).contains(&(requests / reconnected)), "{requests} and {reconnected}");
}

#[test]
fn a_script_that_loops_ends_the_run_with_an_error_on_time() {
    let url = serve(|_, mut connection| while read_head(&mut connection) && answer(&mut connection, 200, "") {});
    let failing = |text: &str, expected: &str| {
        let (_directory, script) = script(text);
        let output =
            Command::new(env!("CARGO_BIN_EXE_loadtest")).args(["-t1", "-c2", "-d3s", "-s", &script, &url]).output();
        let output = output.unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(stderr(&output).contains(expected), "{expected:?} is missing in {}", stderr(&output));
    };
    let loops = "while true do end";
    thread::scope(|scope| {
        // The first call is made before the load starts.
        let later =
            format!("n = 0; request = function() n = n + 1; if n > 5 then {loops} end; return wrk.format() end");
        scope.spawn(move || failing(&later, "the script's request() did not return within 1 s"));
        scope.spawn(|| failing(&format!("request = function() {loops} end"), "the script did not return within 20 s"));
        scope.spawn(|| failing(&format!("done = function() {loops} end"), "the script did not return within 20 s"));
        scope
            .spawn(|| failing(&format!("response = function() {loops} end"), "the script's response() did not return"));
    });
}

#[test]
fn files_are_written_although_the_script_fails_at_the_end() {
    let url = serve(|_, mut connection| while read_head(&mut connection) && answer(&mut connection, 200, "") {});
    let (_directory, script) = script("done = function() error('no') end");
    let (result, output) = measure(&["-t1", "-c2", "-d1s", "-s", &script, &url]);
    assert!(result["requests"].as_u64() > Some(0), "{result}");
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains(": no"), "{}", stderr(&output));
}

#[test]
fn scripts_may_send_chunked_bodies() {
    let url = serve(|_, mut connection| {
        while read_head(&mut connection) {
            let mut body = [0; 13];
            let is_whole = connection.read_exact(&mut body).is_ok() && body == *b"3\r\nabc\r\n0\r\n\r\n";
            if !answer(&mut connection, if is_whole { 200 } else { 400 }, "") {
                return;
            }
        }
    });
    let (_directory, script) = script(
        "wrk.method = 'POST'; wrk.headers['Transfer-Encoding'] = 'chunked'; wrk.body = '3\\r\\nabc\\r\\n0\\r\\n\\r\\n'",
    );
    let (result, output) = measure(&["-t1", "-c2", "-d1s", "-s", &script, &url]);
    assert!(result["requests"].as_u64() > Some(0) && total_errors(&result) == 0, "{}", stderr(&output));
}

#[test]
fn ffi_is_there_if_it_is_asked_for() {
    let url = serve(|_, mut connection| while read_head(&mut connection) && answer(&mut connection, 200, "") {});
    let (_directory, script) = script("local ffi = require('ffi'); assert(ffi.sizeof('int') == 4 and debug.getinfo)");
    let run = |more: &[&str]| {
        let arguments = [&["-t1", "-c1", "-d1s", "-s", &script], more, &[&url]].concat();
        Command::new(env!("CARGO_BIN_EXE_loadtest")).args(arguments).output().unwrap()
    };
    assert!(run(&["--unsafe-lua"]).status.success(), "{}", stderr(&run(&["--unsafe-lua"])));
    let refused = run(&[]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("module 'ffi' not found"), "{}", stderr(&refused));
}

#[test]
fn a_late_answer_is_a_timeout_with_a_reason() {
    let url = serve(|_, mut connection| {
        while read_head(&mut connection) {
            thread::sleep(Duration::from_millis(400));
            if !answer(&mut connection, 200, "") {
                return;
            }
        }
    });
    let (result, output) = measure(&["-t1", "-c2", "-d2s", "--timeout", "100ms", &url]);
    let reason = &result["error_reasons"][0];
    assert_eq!(
        (&reason["kind"], &reason["reason"]),
        (&"timeout".into(), &"answered after --timeout".into()),
        "{result}"
    );
    assert_eq!(reason["count"], result["errors"]["timeout"]);
    assert!(
        stderr(&output).contains("failed: 8 × answered after --timeout") || reason["count"] != 8,
        "{}",
        stderr(&output)
    );
}
