//! Other servers: started with `--exec`, already running with `--pid`, doing nothing with `--null`, over TLS, and
//! remote.

use std::fs;
use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{ALL_VERSIONS, ServerConfig, ServerConnection, StreamOwned, SupportedProtocolVersion};

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_loadtest")).args(arguments).output().unwrap()
}

/// Runs loadtest, and returns the result, stdout and stderr.
fn measure(arguments: &[&str]) -> (Value, String, String) {
    let directory = TempDir::new().unwrap();
    let json = directory.path().join("run.json");
    let output = run(&[&["--json", json.to_str().unwrap()], arguments].concat());
    let [stdout, stderr] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    assert!(output.status.success(), "{stdout}{stderr}");
    (serde_json::from_slice(&fs::read(json).unwrap()).unwrap(), stdout, stderr)
}

/// The executable of a server, built by loadtest.
fn server_executable() -> String {
    let (result, ..) = measure(&["--target", "prefork", "-c", "1", "-d", "1s", "--db-wait", "10ms"]);
    result["command"][0].as_str().unwrap().to_owned()
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn is_listening(port: u16) -> bool {
    TcpStream::connect(("127.0.0.1", port)).is_ok()
}

#[test]
fn a_server_started_for_a_url_is_metered_and_stopped() {
    let port = free_port();
    let command = format!("{} --listen 127.0.0.1:{port} --db-wait 20ms", server_executable());
    let url = format!("http://127.0.0.1:{port}/");
    let (result, stdout, stderr) = measure(&["-c", "20", "-d", "2s", "--exec", &command, &url]);
    assert!(stdout.starts_with("Running 2s test") && stdout.trim_end().ends_with('B'), "{stdout}");
    assert!(stderr.contains("RAM") && stderr.contains("in flight at the end"), "{stderr}");
    assert_eq!((&result["target"], &result["command"][2]), (&Value::from(url), &Value::from(command)));
    assert!(result["memory"]["pss_bytes"].as_u64() > Some(100_000), "{result}");
    assert!(result["memory"]["processes"].as_u64() > Some(20), "{result}");
    let series = result["series"].as_array().unwrap();
    assert!(series.last().unwrap()["end_s"].as_f64() >= Some(1.9), "the last second is missing: {series:?}");
    assert!(!is_listening(port));
}

#[test]
fn a_command_that_does_not_serve_is_reported() {
    let url = format!("http://127.0.0.1:{}/", free_port());
    for (command, expected) in [("echo oh no >&2; exit 3", "oh no"), ("true", "it must stay in the foreground")] {
        let output = run(&["--exec", command, &url]);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1));
        assert!(stderr.contains(expected), "{stderr}");
    }
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let output = run(&["--exec", "sleep 60", &format!("http://{}/", taken.local_addr().unwrap())]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("somebody listens"), "{output:?}");
}

#[test]
fn a_server_inherits_no_descriptors_of_loadtest() {
    let shell = "exec 9</dev/null; exec \"$@\"";
    let list = "ls -1 /proc/self/fd >&2; exit 3";
    let url = format!("http://127.0.0.1:{}/", free_port());
    let arguments = ["-c", shell, "sh", env!("CARGO_BIN_EXE_loadtest"), "--exec", list, &url];
    let output = Command::new("sh").args(arguments).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    let has = |number: &str| stderr.lines().any(|line| line.trim() == format!("stderr: {number}"));
    assert!(has("2") && !has("9"), "{stderr}");
}

#[test]
fn a_server_that_dies_under_the_load_is_reported() {
    let port = free_port();
    let command = format!("{} --listen 127.0.0.1:{port} & sleep 1.5; kill -9 $!; exit 7", server_executable());
    let output = run(&["-d", "10s", "--exec", &command, &format!("http://127.0.0.1:{port}/")]);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("exit status 7"), "{stderr}");
    assert!(!is_listening(port));
}

/// A child process, killed and reaped with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_running_server_is_metered_with_its_children_and_left_running() {
    let mut command = Command::new(server_executable());
    command.args(["--listen", "127.0.0.1:0", "--db-wait", "20ms", "--start", "10"]);
    let mut server = Running(command.stdout(Stdio::piped()).spawn().unwrap());
    let mut line = String::new();
    BufReader::new(server.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let url = line.trim().trim_start_matches("listening on ");
    let pid = server.0.id().to_string();
    let (result, ..) = measure(&["-c", "10", "-d", "1s", "--pid", &pid, url]);
    assert_eq!(result["memory"]["source"], "pss");
    assert!(result["memory"]["processes"].as_u64() > Some(10), "{result}");
    assert!(result["server"]["cpu_s"].as_f64() > Some(0.0), "{result}");
    assert!(Path::new(&format!("/proc/{pid}/fd/0")).exists());
    assert!(server.0.try_wait().unwrap().is_none());
    let output = run(&["--pid", "999999999", url]);
    assert_eq!(output.status.code(), Some(1));
}

fn has_warning(result: &Value, kind: &str) -> bool {
    result["warnings"].as_array().unwrap().iter().any(|warning| warning["kind"] == kind)
}

#[test]
fn a_metered_process_that_ends_is_a_failure() {
    let port = free_port();
    let mut server = null_server(port);
    let directory = TempDir::new().unwrap();
    let json = directory.path().join("run.json").to_str().unwrap().to_owned();
    let (pid, url) = (server.0.id().to_string(), format!("http://127.0.0.1:{port}/"));
    let running = thread::spawn(move || (run(&["-c5", "-d20s", "--pid", &pid, "--json", &json, &url]), json));
    thread::sleep(Duration::from_secs(2));
    server.0.kill().unwrap();
    server.0.wait().unwrap();
    let (output, json) = running.join().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let result: Value = serde_json::from_slice(&fs::read(json).unwrap()).unwrap();
    assert_eq!((&result["complete"], &result["cause"]), (&false.into(), &"server_died".into()), "{result}");
}

/// The null server at this port.
fn null_server(port: u16) -> Running {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadtest"));
    command.args(["null-server", "--port", &port.to_string()]).stdout(Stdio::null());
    let server = Running(command.spawn().unwrap());
    while !is_listening(port) {
        thread::sleep(Duration::from_millis(10));
    }
    server
}

#[test]
fn children_that_have_ended_count_in_the_cpu_time_of_a_tree() {
    let port = free_port();
    let mut command = Command::new(server_executable());
    command.args(["--listen", &format!("127.0.0.1:{port}"), "--db-wait", "0ms"]).stdout(Stdio::null());
    let server = Running(command.spawn().unwrap());
    while !is_listening(port) {
        thread::sleep(Duration::from_millis(10));
    }
    // A process for each request.
    let (pid, url) = (server.0.id().to_string(), format!("http://127.0.0.1:{port}/"));
    let (result, ..) = measure(&["-c", "10", "-d", "3s", "-H", "Connection: close", "--pid", &pid, &url]);
    let per_request_us = result["server"]["cpu_s"].as_f64().unwrap() * 1e6 / result["requests"].as_f64().unwrap();
    // Less than that no kernel needs to fork.
    assert!(per_request_us > 30.0, "{per_request_us} in {}", result["server"]);
}

#[test]
fn who_is_metered_must_be_who_listens() {
    let port = free_port();
    let server = null_server(port);
    let mut sleeping = Running(Command::new("sleep").arg("60").spawn().unwrap());
    let url = format!("http://127.0.0.1:{port}/");
    let with_pid = |pid: u32| measure(&["-c", "5", "-d", "1s", "--pid", &pid.to_string(), &url]).0;
    assert!(!has_warning(&with_pid(server.0.id()), "not_the_server"));
    assert!(has_warning(&with_pid(sleeping.0.id()), "not_the_server"));
    assert!(sleeping.0.try_wait().unwrap().is_none());
}

#[test]
fn a_remote_target_is_polled_and_left_running() {
    let (mut server, remote) = start_remote("prefork");
    let arguments = ["--target", "all", "--remote", &remote, "-c", "20", "-d", "1s", "--db-wait", "100ms"];
    let (results, stdout, _) = measure(&arguments);
    let [result] = &results.as_array().unwrap()[..] else { panic!("{results}") };
    assert_eq!((&result["target"], &result["connections"]["held_peak"]), (&"prefork".into(), &20.into()), "{stdout}");
    assert!(result["latency_us"]["min"].as_u64() >= Some(99_000), "{result}");
    assert_eq!(result["command"], Value::Array(Vec::new()));
    assert!(server.0.try_wait().unwrap().is_none());
}

/// Processes that end would disturb whoever is measured next.
#[test]
fn a_remote_server_is_as_it_was_before() {
    let (_server, remote) = start_remote("prefork");
    let before = children(&remote);
    let (results, stdout, _) =
        measure(&["--target", "all", "--remote", &remote, "-c", "200", "-d", "1s", "--db-wait", "100ms"]);
    assert_eq!(results[0]["connections"]["open_peak"], 200, "{stdout}");
    let after = children(&remote);
    assert!(before > 0 && after <= 2 * before, "{before} children before, {after} after");
}

/// What the server of an entry for `--remote` says of its children.
fn children(remote: &str) -> usize {
    let admin = remote.rsplit("http://").next().unwrap().trim_end_matches('/');
    let mut stream = TcpStream::connect(admin).unwrap();
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.lines().find_map(|line| line.strip_prefix("c10k_children ")).unwrap().parse().unwrap()
}

#[test]
fn the_null_server_answers_everything() {
    let (result, stdout, _) = measure(&["--null", "-c", "20", "-d", "1s"]);
    assert!(stdout.contains("requests in"), "{stdout}");
    assert!(result["requests"].as_u64() > Some(100));
    let errors = result["errors"].as_object().unwrap();
    assert!(errors.values().all(|count| count == 0), "{result}");
}

#[test]
fn cpus_are_pinned() {
    let output = run(&["--null", "-d", "1s", "--cpus", "0:0"]);
    assert!(output.status.success(), "{output:?}");
    let output = run(&["--null", "-d", "1s", "--cpus", "0:4095"]);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && stderr.contains("--cpus"), "{stderr}");
}

/// A server with a self-signed certificate of version 3. Answers each request head that comes in one piece.
fn start_tls_server() -> u16 {
    let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = own.signing_key.serialize_der();
    start_tls_server_with(own.cert.der().to_vec(), key, ALL_VERSIONS)
}

/// Presents one certificate, whatever rustls thinks of it.
#[derive(Debug)]
struct Presents(Arc<CertifiedKey>);

impl ResolvesServerCert for Presents {
    fn resolve(&self, _client_hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
}

fn start_tls_server_with(certificate: Vec<u8>, key: Vec<u8>, versions: &[&'static SupportedProtocolVersion]) -> u16 {
    let key = aws_lc_rs::sign::any_supported_type(&key.try_into().unwrap()).unwrap();
    let presents = Presents(Arc::new(CertifiedKey::new(vec![certificate.into()], key)));
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let config = config.with_protocol_versions(versions).unwrap().with_no_client_auth();
    let config = Arc::new(config.with_cert_resolver(Arc::new(presents)));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for tcp in listener.incoming().flatten() {
            let config = config.clone();
            thread::spawn(move || {
                let mut stream = StreamOwned::new(ServerConnection::new(config).unwrap(), tcp);
                let mut bytes = [0; 4096];
                while stream.read(&mut bytes).is_ok_and(|count| count > 0) {
                    thread::sleep(Duration::from_millis(5));
                    if stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello").is_err() {
                        return;
                    }
                }
            });
        }
    });
    port
}

#[test]
fn https_works() {
    let url = format!("https://localhost:{}/", start_tls_server());
    let (result, stdout, _) = measure(&["-c", "10", "-d", "1s", &url]);
    assert!(stdout.contains("requests in") && !stdout.contains("Socket errors"), "{stdout}");
    assert!(result["requests"].as_u64() > Some(10), "{result}");
}

#[test]
fn a_certificate_of_version_1_is_taken() {
    let [certificate, key] = [&include_bytes!("data/x509-v1.der")[..], include_bytes!("data/x509-v1-key.der")];
    for version in ALL_VERSIONS {
        let url = format!("https://localhost:{}/", start_tls_server_with(certificate.into(), key.into(), &[version]));
        let (result, stdout, _) = measure(&["-c", "10", "-d", "1s", &url]);
        assert!(!stdout.contains("Socket errors"), "{version:?}: {stdout}");
        assert!(result["requests"].as_u64() > Some(10), "{version:?}: {result}");
    }
}

/// A remote server and its entry for `--remote` or C10K_REMOTES; killed with the test.
fn start_remote(name: &str) -> (Running, String) {
    let mut command = Command::new(server_executable());
    command.args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
    let mut server = Running(command.stdout(Stdio::piped()).spawn().unwrap());
    let lines: Vec<_> = BufReader::new(server.0.stdout.take().unwrap()).lines().take(2).flatten().collect();
    let [url, admin] = [0, 1].map(|index: usize| lines[index].split(" on ").nth(1).unwrap());
    let remote = format!("{name}={url},{admin}");
    (server, remote)
}

#[test]
fn results_are_served_until_stopped() {
    let (_server, remote) = start_remote("prefork");
    let directory = TempDir::new().unwrap();
    let out = directory.path().join("results");
    let port = free_port();
    let listen = format!("127.0.0.1:{port}");
    let arguments =
        ["serve", "--target", "all", "-c", "10", "-d", "1s", "--db-wait", "50ms", "--listen", &listen, "--out"];
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadtest"));
    command.args(arguments).arg(&out).env("C10K_REMOTES", &remote).stdout(Stdio::null());
    let mut loadtest = Running(command.stderr(Stdio::piped()).spawn().unwrap());
    let stderr = BufReader::new(loadtest.0.stderr.take().unwrap());
    assert!(stderr.lines().map_while(Result::ok).any(|line| line.contains(&format!("http://{listen}/"))));
    let get = |path: &str| {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {listen}\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    let has_ended = || fs::read_to_string(out.join("runs/0001.jsonl")).is_ok_and(|run| run.contains("\"ended\""));
    let deadline = Instant::now() + Duration::from_secs(60);
    while !has_ended() {
        assert!(Instant::now() < deadline, "the run does not end");
        thread::sleep(Duration::from_millis(50));
    }
    let report = ("/index.html", "10 connections: what they cost");
    for (path, expected) in
        [("/", "Connections, live"), report, ("/results.json", "\"target\": \"prefork\""), ("/no", "404")]
    {
        let answer = get(path);
        assert!(answer.contains(expected), "{path}: {answer}");
    }
    kill(Pid::from_raw(loadtest.0.id() as i32), Signal::SIGTERM).unwrap();
    assert!(loadtest.0.wait().unwrap().success());
    for file in ["index.html", "results.json", "results.csv", "results.md"] {
        assert!(out.join(file).is_file(), "{file}");
    }
}

#[test]
fn serving_once_ends_with_the_last_run() {
    let (_server, remote) = start_remote("prefork");
    let directory = TempDir::new().unwrap();
    let out = directory.path().to_str().unwrap();
    let arguments =
        ["serve", "--once", "--target", "prefork", "-c", "10", "-d", "1s", "--out", out, "--remote", &remote];
    assert!(run(&arguments).status.success());
    assert!(directory.path().join("index.html").is_file());
    assert_eq!(run(&["serve", "--once", "--out", out]).status.code(), Some(2));
}

/// An admin port that reports a MiB more with each request.
fn start_growing_admin() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for (count, mut stream) in (1..).zip(listener.incoming().flatten()) {
            let mut line = String::new();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            while reader.read_line(&mut line).is_ok_and(|length| length > 2) {}
            let body = format!("c10k_cgroup_memory_bytes {}\n", count << 20);
            let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        }
    });
    port
}

#[test]
fn the_ram_of_a_server_behind_a_url_is_polled() {
    let admin = format!("http://127.0.0.1:{}/", start_growing_admin());
    let url = format!("https://localhost:{}/", start_tls_server());
    let (result, ..) = measure(&["-c", "2", "-t", "1", "-d", "3s", "--admin-url", &admin, &url]);
    assert_eq!(result["memory"]["source"], "admin");
    assert!(result["memory"]["peak_bytes"].as_u64() >= Some(3 << 20), "{result}");
    let ram = |index: usize| result["series"][index]["ram_bytes"].as_u64().unwrap();
    assert!(ram(1) > ram(0), "{result}");
}

#[test]
fn answers_after_the_timeout_are_counted_and_still_in_the_latencies() {
    let url = format!("https://localhost:{}/", start_tls_server());
    let (result, stdout, _) = measure(&["-c", "2", "-t", "1", "-d", "1s", "-T", "1ms", &url]);
    let timeouts = result["errors"]["timeout"].as_u64().unwrap();
    assert!(timeouts > 0 && stdout.contains(&format!("timeout {timeouts}")), "{stdout}");
    assert!(result["latency_us"]["p50"].as_u64() >= Some(5_000), "{result}");
}
