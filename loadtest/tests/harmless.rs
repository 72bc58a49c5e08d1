//! Metering does no harm: not to the server, not to the machine, whatever the server is and however loadtest ends.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

const LOADTEST: &str = env!("CARGO_BIN_EXE_loadtest");
const TIMEOUT: Duration = Duration::from_secs(60);

/// A server for `--exec`, with a shell command that starts before it.
struct Server {
    directory: TempDir,
    port: u16,
}

impl Server {
    fn new() -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        Self { directory: TempDir::new().unwrap(), port }
    }

    /// The shell command: `before`, the null server behind its port, `after`.
    fn command(&self, before: &str, after: &str) -> String {
        format!("{before} {LOADTEST} null-server --port {} {after}", self.port)
    }

    fn path(&self, name: &str) -> String {
        self.directory.path().join(name).to_str().unwrap().to_owned()
    }

    /// loadtest with this server, for `seconds`; `prefix` is a shell command that runs before it in the same process.
    fn loadtest(&self, prefix: &str, exec: &str, seconds: u32) -> Child {
        let arguments = ["-t1", "-c5", "-d", &format!("{seconds}s"), "--exec", exec].map(String::from);
        let mut command = Command::new("sh");
        command.args(["-c", &format!("{prefix} exec \"$@\""), "sh", LOADTEST]).args(arguments);
        command.args(["--json", &self.path("run.json"), &format!("http://127.0.0.1:{}/", self.port)]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// What a server in the background of a shell writes when it is asked to stop.
    fn asked(&self) -> String {
        let asked = self.path("asked");
        let serve = self.command("", "");
        format!("sh -c 'trap \"echo asked > {asked}; kill \\$!; exit 0\" TERM; {serve} & wait'; true")
    }

    fn measure(&self, prefix: &str, exec: &str) -> (Value, Output) {
        let output = self.loadtest(prefix, exec, 1).wait_with_output().unwrap();
        let json = fs::read(self.path("run.json")).unwrap_or_else(|_| panic!("{output:?}"));
        (serde_json::from_slice(&json).unwrap(), output)
    }

    fn wait_until(&self, is_listening: bool) {
        let deadline = Instant::now() + TIMEOUT;
        while TcpStream::connect(("127.0.0.1", self.port)).is_ok() != is_listening {
            assert!(Instant::now() < deadline, "listening is not {is_listening}");
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// How many processes have this in their command line, apart from those that only start them.
fn count(command_line: &str) -> usize {
    let of = |pid: i32| fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let pids = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|&pid| String::from_utf8_lossy(&of(pid)).replace('\0', " ").trim() == command_line).count()
}

fn wait_for_count(command_line: &str, expected: usize) {
    let deadline = Instant::now() + TIMEOUT;
    while count(command_line) != expected {
        assert!(Instant::now() < deadline, "not {expected} of {command_line}");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn whatever_the_server_prints_it_lives_on_and_we_stay_small() {
    let server = Server::new();
    // Bytes that are no text, a line of 40 MB, and 40 MB of lines; on both streams.
    let flood = "printf '\\377\\376\\000\\n' && head -c 40000000 /dev/zero && yes 'warning: nobody reads this' | head -c 40000000 &&";
    let exec = server.command(&format!("({flood} true) >&2 && {flood} exec"), "");
    let (result, output) = server.measure("", &exec);
    assert!(output.status.success() && result["complete"] == true, "{output:?}");
    assert!(result["client"]["rss_peak_bytes"].as_u64().unwrap() < 80_000_000, "{}", result["client"]);
}

#[test]
fn the_server_has_the_limits_and_the_streams_that_it_was_given() {
    let server = Server::new();
    let limits = server.path("limits");
    let exec = server.command(&format!("ulimit -Sn > {limits}; ls /proc/self/fd | wc -l >> {limits}; exec"), "");
    let (_, output) = server.measure("ulimit -Sn 777;", &exec);
    assert!(output.status.success(), "{output:?}");
    let limits = fs::read_to_string(limits).unwrap();
    let lines: Vec<&str> = limits.split_whitespace().collect();
    // Its three streams, and the folder that ls reads.
    assert_eq!(lines, ["777", "4"]);
}

#[test]
fn nothing_is_left_behind_that_left_its_group_or_lost_its_parent() {
    let server = Server::new();
    let exec = server.command("setsid sleep 4711 & (setsid sh -c 'sleep 4712 & sleep 4713' &) ; cd /;", "; true");
    let (result, output) = server.measure("", &exec);
    assert!(output.status.success() && result["complete"] == true, "{output:?}");
    for sleeping in ["sleep 4711", "sleep 4712", "sleep 4713"] {
        assert_eq!(count(sleeping), 0, "{sleeping}");
    }
    server.wait_until(false);
}

#[test]
fn nothing_is_left_behind_if_loadtest_is_killed() {
    let server = Server::new();
    let exec = server.command("(setsid sleep 4721 &) ; cd /;", "; true");
    let mut loadtest = server.loadtest("", &exec, 60);
    server.wait_until(true);
    wait_for_count("sleep 4721", 1);
    loadtest.kill().unwrap();
    loadtest.wait().unwrap();
    server.wait_until(false);
    wait_for_count("sleep 4721", 0);
}

#[test]
fn a_signal_that_is_ignored_stays_so() {
    for signal in [Signal::SIGHUP, Signal::SIGINT] {
        let server = Server::new();
        let exec = server.command("exec", "");
        let name = signal.as_str().trim_start_matches("SIG");
        let loadtest = server.loadtest(&format!("trap '' {name};"), &exec, 2);
        server.wait_until(true);
        thread::sleep(Duration::from_millis(500));
        kill(Pid::from_raw(loadtest.id() as i32), signal).unwrap();
        let output = loadtest.wait_with_output().unwrap();
        assert!(output.status.success(), "{signal}: {output:?}");
        let result: Value = serde_json::from_slice(&fs::read(server.path("run.json")).unwrap()).unwrap();
        assert_eq!(result["complete"], true, "{signal}");
    }
}

#[test]
fn a_cgroup_of_an_earlier_process_with_our_pid_is_in_nobodys_way() {
    let probe = format!("loadtest-probe-{}", std::process::id());
    let Ok(group) = meter::Cgroup::create(&probe) else {
        eprintln!("skipped: this needs the right to create a cgroup");
        return;
    };
    let parent = group.join_paths()[0].parent().and_then(|dir| dir.parent()).unwrap().to_owned();
    drop(group);
    let server = Server::new();
    // The shell's pid becomes loadtest's.
    let stale = format!("{}/c10k-loadtest-$$", parent.display());
    let prefix = format!("mkdir {stale}; echo {stale} > {};", server.path("stale"));
    let (result, output) = server.measure(&prefix, &server.command("exec", ""));
    assert!(output.status.success(), "{output:?}");
    assert!(result["memory"]["source"].as_str().unwrap().starts_with("cgroup"), "{}", result["memory"]);
    let stale = fs::read_to_string(server.path("stale")).unwrap();
    // The next run removes it: its creator is gone.
    server.measure("", &server.command("exec", ""));
    assert!(!fs::exists(stale.trim()).unwrap(), "{stale}");
}

#[test]
fn a_server_behind_a_shell_is_asked_to_stop() {
    let server = Server::new();
    let (result, output) = server.measure("", &server.asked());
    assert!(output.status.success(), "{output:?}");
    assert_eq!(fs::read_to_string(server.path("asked")).unwrap_or_default(), "asked\n", "{output:?}");
    assert_eq!(result["server"]["exit"], "exit status 0");
}
