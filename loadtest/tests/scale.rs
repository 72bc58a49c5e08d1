//! More than one process and one address can have: `--processes`, `--workers` and `--bind`, with real servers.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

/// Includes building the servers.
const PATIENCE: Duration = Duration::from_secs(600);
const POLL_INTERVAL: Duration = Duration::from_millis(50);
const CONNECTIONS: usize = 400;
/// Two processes of the server, two of the load generator, and three addresses.
const SHARED: [&str; 12] = [
    "--target",
    "async-codec",
    "-c",
    "400",
    "--processes",
    "2",
    "--workers",
    "2",
    "--bind",
    "127.0.0.1-127.0.0.3",
    "--db-wait",
    "3s",
];

/// A running loadtest, which ends with the test.
struct Loadtest(Option<Child>);

impl Loadtest {
    fn start(arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_loadtest"));
        Self(Some(command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()))
    }

    fn pid(&self) -> i32 {
        self.0.as_ref().unwrap().id() as i32
    }

    fn output(mut self) -> Output {
        self.0.take().unwrap().wait_with_output().unwrap()
    }

    fn first_line(&mut self) -> String {
        let mut line = String::new();
        BufReader::new(self.0.as_mut().unwrap().stdout.take().unwrap()).read_line(&mut line).unwrap();
        line
    }
}

impl Drop for Loadtest {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn run(arguments: &[&str]) -> Output {
    Loadtest::start(arguments).output()
}

/// All that was printed.
fn printed(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}

fn json_in(directory: &TempDir) -> PathBuf {
    directory.path().join("run.json")
}

fn read_json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "it never happened that {what}");
        thread::sleep(POLL_INTERVAL);
    }
}

/// The servers that a loadtest has started.
fn servers_of(loadtest: &Loadtest) -> Vec<i32> {
    let is_server = |pid: &i32| {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        name.starts_with("server-") && !is_gone(*pid)
    };
    meter::process_tree(loadtest.pid()).into_iter().filter(is_server).collect()
}

fn is_gone(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.is_empty() || stat.contains(") Z ")
}

/// An established connection of this machine over IPv4, as one of its ends sees it.
struct Connection {
    local: (Ipv4Addr, u16),
    remote: (Ipv4Addr, u16),
    inode: String,
}

fn established() -> Vec<Connection> {
    const ESTABLISHED: &str = "01";
    let address = |text: &str| {
        let (address, port) = text.split_once(':').unwrap();
        let address = u32::from_str_radix(address, 16).unwrap().to_le_bytes();
        (address.into(), u16::from_str_radix(port, 16).unwrap())
    };
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    let rows = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    let rows = rows.filter(|row| row.len() > 9 && row[3] == ESTABLISHED);
    rows.map(|row| Connection { local: address(row[1]), remote: address(row[2]), inode: row[9].to_owned() }).collect()
}

/// The sockets of a process.
fn socket_inodes(pid: i32) -> BTreeSet<String> {
    let files = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let links = files.filter_map(|file| fs::read_link(file.path()).ok());
    let inode = |link: PathBuf| Some(link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned());
    links.filter_map(inode).collect()
}

/// The port that the servers of a run share, once they listen.
fn port_in(events: &Path) -> Option<u16> {
    let text = fs::read_to_string(events).ok()?;
    let line = text.lines().find(|line| line.contains("\"listening\""))?;
    let event: Value = serde_json::from_str(line).ok()?;
    event["address"].as_str()?.rsplit(':').next()?.parse().ok()
}

#[test]
fn all_addresses_are_used_and_all_processes_and_a_signal_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (json, events) = (json_in(&directory), directory.path().join("events.jsonl"));
    let files = ["-d", "10m", "--json", json.to_str().unwrap(), "--events", events.to_str().unwrap()];
    let loadtest = Loadtest::start(&[&SHARED[..], &files].concat());
    let of_clients = |port: u16| {
        let mut counts = BTreeMap::<Ipv4Addr, usize>::new();
        let clients = established().into_iter().filter(|connection| connection.remote.1 == port);
        clients.for_each(|connection| *counts.entry(connection.local.0).or_default() += 1);
        counts
    };
    let mut port = None;
    wait_until("all connections are there", || {
        port = port_in(&events);
        port.is_some_and(|port| of_clients(port).values().sum::<usize>() == CONNECTIONS)
    });
    let port = port.unwrap();
    let counts = of_clients(port);
    assert!(counts.len() == 3 && counts.values().all(|count| *count > CONNECTIONS / 4), "{counts:?}");
    let servers = servers_of(&loadtest);
    let held = |pid: &i32| {
        let inodes = socket_inodes(*pid);
        established().iter().filter(|end| end.local.1 == port && inodes.contains(&end.inode)).count()
    };
    wait_until("the servers have accepted all", || servers.iter().map(held).sum::<usize>() == CONNECTIONS);
    let counts: Vec<_> = servers.iter().map(held).collect();
    assert!(counts.len() == 2 && counts.iter().all(|count| *count > CONNECTIONS / 4), "{counts:?}");

    let tree = meter::process_tree(loadtest.pid());
    kill(Pid::from_raw(loadtest.pid()), Signal::SIGTERM).unwrap();
    let output = loadtest.output();
    assert_eq!(output.status.code(), Some(130), "{}", printed(&output));
    assert_eq!(read_json(&json)["complete"], false);
    wait_until("nothing is left", || tree.iter().all(|pid| is_gone(*pid)));
}

#[test]
fn several_processes_are_one_server() {
    let directory = tempfile::tempdir().unwrap();
    let json = json_in(&directory);
    let output = run(&[&SHARED[..], &["-d", "4s", "--json", json.to_str().unwrap()]].concat());
    assert!(output.status.success(), "{}", printed(&output));
    let result = read_json(&json);
    let connections = &result["connections"];
    assert_eq!((&connections["open_peak"], &connections["held_peak"]), (&CONNECTIONS.into(), &CONNECTIONS.into()));
    assert_eq!((&result["complete"], &result["errors"]["connect"]), (&true.into(), &0.into()), "{result}");
    assert_eq!((&result["memory"]["processes"], &result["server"]["exit"]), (&2.into(), &"exit status 0".into()));
    assert!(result["memory"]["pss_bytes"].is_u64() && result["server"]["cpu_s"].as_f64() > Some(0.0), "{result}");
    // A part, a tenth of it, and 64.
    let command = command_line(&result);
    assert!(command.contains("--max-connections 284 --reuse-port"), "{command}");
}

/// The command line of the server.
fn command_line(result: &Value) -> String {
    result["command"].as_array().unwrap().iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" ")
}

#[test]
fn the_server_lets_connections_idle_until_all_are_there() {
    for (flags, expected) in [(&[][..], "--idle-timeout 600s"), (&["--", "--idle-timeout", "5m"], "--idle-timeout 5m")]
    {
        let directory = tempfile::tempdir().unwrap();
        let json = json_in(&directory);
        let arguments = ["--target", "async-codec", "-c", "100", "-d", "500ms", "--db-wait", "1ms", "--json"];
        run(&[&arguments[..], &[json.to_str().unwrap()], flags].concat());
        let command = command_line(&read_json(&json));
        assert!(command.contains(expected) && command.matches("--idle-timeout").count() == 1, "{command}");
    }
}

#[test]
fn every_model_shares_a_port() {
    let directory = tempfile::tempdir().unwrap();
    let json = json_in(&directory);
    let arguments = ["--target", "all", "-c", "60", "--processes", "3", "-d", "1s"];
    let output = run(&[&arguments[..], &["--db-wait", "1s", "--json", json.to_str().unwrap()]].concat());
    assert!(output.status.success(), "{}", printed(&output));
    let results = read_json(&json);
    assert_eq!(results.as_array().map(Vec::len), Some(6), "{results}");
    for result in results.as_array().unwrap() {
        assert_eq!((&result["connections"]["open_peak"], &result["complete"]), (&60.into(), &true.into()), "{result}");
        assert!(result["memory"]["processes"].as_u64() >= Some(3), "{result}");
    }
}

#[test]
fn a_process_that_dies_is_said_and_the_others_are_stopped() {
    let directory = tempfile::tempdir().unwrap();
    let json = json_in(&directory);
    let loadtest = Loadtest::start(&[&SHARED[..], &["-d", "10m", "--json", json.to_str().unwrap()]].concat());
    wait_until("both processes run", || servers_of(&loadtest).len() == 2);
    let tree = meter::process_tree(loadtest.pid());
    let servers = servers_of(&loadtest);
    wait_until("one has connections", || socket_inodes(servers[1]).len() > CONNECTIONS / 4);
    kill(Pid::from_raw(servers[1]), Signal::SIGKILL).unwrap();
    let output = loadtest.output();
    assert_eq!(output.status.code(), Some(1), "{}", printed(&output));
    let result = read_json(&json);
    assert_eq!((&result["complete"], &result["cause"]), (&false.into(), &"server_died".into()), "{result}");
    let failure = result["failure"].as_str().unwrap();
    assert!(failure.contains("one of 2 processes ended") && failure.contains("SIGKILL"), "{failure}");
    wait_until("nothing is left", || tree.iter().all(|pid| is_gone(*pid)));
}

/// Writes a program.
fn script(path: &Path, text: &str) {
    fs::write(path, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn a_process_that_does_not_start_is_said_and_the_others_are_stopped() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    let artifact = format!(
        r#"{{"reason":"compiler-artifact","target":{{"name":"server-async","kind":["bin"]}},"executable":"{}"}}"#,
        path("server")
    );
    script(Path::new(&path("cargo")), &format!("echo '{artifact}'"));
    // Only the first can make the folder.
    let lines = "echo listening on http://127.0.0.1:1; echo admin on http://127.0.0.1:2";
    let server = format!("mkdir {0} && {{ echo $$ > {0}/pid; {lines}; exec sleep 600; }}", path("first"));
    script(Path::new(&path("server")), &format!("{server}\necho no second >&2\nexit 1"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadtest"));
    command.args(["--target", "async", "-c", "4", "--processes", "2"]).env("CARGO", path("cargo"));
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", printed(&output));
    let said = printed(&output);
    assert!(said.contains("process 2 of 2: server-async died: exit status 1") && said.contains("no second"), "{said}");
    let first = fs::read_to_string(path("first/pid")).unwrap().trim().parse().unwrap();
    wait_until("the first is gone", || is_gone(first));
}

/// A server that never answers, and where its connections come from.
fn silent_server() -> (SocketAddr, Arc<Mutex<BTreeSet<IpAddr>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, seen) = (listener.local_addr().unwrap(), Arc::<Mutex<BTreeSet<IpAddr>>>::default());
    let peers = seen.clone();
    thread::spawn(move || {
        let mut open = Vec::new();
        while let Ok((stream, peer)) = listener.accept() {
            open.push(stream);
            peers.lock().unwrap().insert(peer.ip());
        }
    });
    (address, seen)
}

/// Loads a silent server until its connections come from these addresses of 127.0.0.0/24, and from no others.
fn load_from(expected: &[&str], arguments: &[&str]) {
    let (address, seen) = silent_server();
    let url = format!("http://{address}/");
    let loadtest = Loadtest::start(&[&["-c", "4", "-d", "10m", &url], arguments].concat());
    let last = || -> Vec<String> {
        seen.lock().unwrap().iter().map(|address| address.to_string().replace("127.0.0.", "")).collect()
    };
    wait_until("all addresses are used", || last().len() >= expected.len());
    kill(Pid::from_raw(loadtest.pid()), Signal::SIGTERM).unwrap();
    let output = loadtest.output();
    assert_eq!(last(), expected, "{}", printed(&output));
}

#[test]
fn a_url_is_loaded_from_the_addresses_of_this_process_or_of_the_worker() {
    // The first is that of a look whether somebody listens.
    load_from(&["1", "5", "7", "8"], &["--bind", "127.0.0.5,127.0.0.7-127.0.0.8"]);

    let token = tempfile::NamedTempFile::new().unwrap();
    fs::write(token.path(), "a token of the tests").unwrap();
    let token = ["--token-file", token.path().to_str().unwrap()];
    let arguments = ["worker", "--listen", "127.0.0.1:0", "--bind", "127.0.0.9-127.0.0.10"];
    let mut worker = Loadtest::start(&[&arguments[..], &token].concat());
    let line = worker.first_line();
    let address = line.trim().strip_prefix("listening on ").unwrap();
    load_from(&["1", "9", "10"], &["--workers", address, token[0], token[1]]);
}

#[test]
fn addresses_that_cannot_be_are_refused_before_anything_runs() {
    for (bind, status, why) in [
        ("127.0.0.3-127.0.0.1", 2, "backwards: write 127.0.0.1-127.0.0.3"),
        ("127.0.0.0/8", 2, "no IPv4 address"),
        ("127.0.0.0-127.255.255.255", 2, "more than 1024 addresses"),
        ("::1", 2, "no IPv4 address"),
        // Kept for documents: nobody has it.
        ("127.0.0.1,192.0.2.1", 2, "--bind 192.0.2.1: connections cannot come from there"),
    ] {
        let commands = [&["--null"][..], &["doctor"], &["worker", "--join", "127.0.0.1:1", "--patience", "0s"]];
        for command in commands {
            let count: &[&str] = if command[0] == "worker" { &[] } else { &["-c", "10"] };
            let output = run(&[command, count, &["--bind", bind]].concat());
            assert!(output.status.code() == Some(status) && printed(&output).contains(why), "{bind}: {output:?}");
        }
    }
    let output = run(&["-c", "10", "-d", "1s", "--bind", "127.0.0.1", "--workers", "127.0.0.1:1", "--null"]);
    assert!(printed(&output).contains("write it to each `loadtest worker`"), "{output:?}");
    for arguments in [&["--null", "--processes", "2"][..], &["--target", "async", "--processes", "0"]] {
        assert_eq!(run(arguments).status.code(), Some(2), "{arguments:?}");
    }
}

#[test]
fn doctor_counts_processes_and_addresses() {
    let limited = |arguments: &[&str]| {
        let mut command = Command::new("prlimit");
        command.args(["--nofile=4096:4096", env!("CARGO_BIN_EXE_loadtest"), "doctor", "--json", "-"]);
        let output = command.args(["-c", "10k", "--target", "async-codec"]).args(arguments).output().unwrap();
        let diagnosis: Value = serde_json::from_slice(&output.stdout).unwrap();
        let allows = |name: &str, side: &str| {
            let walls = diagnosis["walls"].as_array().unwrap().iter();
            walls.filter(|wall| wall["name"] == name && wall["side"] == side).find_map(|wall| wall["allows"].as_u64())
        };
        [("open files", "client"), ("open files", "server"), ("net.ipv4.ip_local_port_range", "client")]
            .map(|(name, side)| allows(name, side).unwrap())
    };
    let [clients, server, ports] = limited(&[]);
    assert_eq!((clients, server), (4_096 - 64, 4_096 - 512));
    let several = limited(&["--processes", "4", "--workers", "3", "--bind", "127.0.0.1-127.0.0.5"]);
    assert_eq!(several, [3 * clients, 4 * ((server - 64) / 11 * 10), 5 * ports]);
}
