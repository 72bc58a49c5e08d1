//! The real program, with real commands, processes and cgroups.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use meter::Cgroup;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

const RAMLEDGER: &str = env!("CARGO_BIN_EXE_ramledger");
const TIMEOUT: Duration = Duration::from_secs(60);
const MIB: u64 = 1 << 20;
/// Holds 64 MiB until its standard input ends.
const HOLD: &str = "{ head -c 67108864 /dev/zero; cat; } | tail -c 67108864 > /dev/null";

fn ramledger(arguments: &[&str]) -> Output {
    Command::new(RAMLEDGER).args(arguments).stdin(Stdio::null()).output().unwrap()
}

/// The last line of JSON, which nothing else may follow.
fn json(text: &[u8]) -> Value {
    let text = String::from_utf8_lossy(text);
    let last = text.lines().next_back().unwrap_or_default();
    serde_json::from_str(last).unwrap_or_else(|_| panic!("{text}"))
}

/// A shell command with a pipe to its standard input, killed with all that it started.
struct Shell(Child);

impl Shell {
    fn start(script: &str) -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::null());
        Self(std::os::unix::process::CommandExt::process_group(&mut command, 0).spawn().unwrap())
    }

    fn pid(&self) -> i32 {
        self.0.id() as i32
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let _ = nix::sys::signal::killpg(Pid::from_raw(self.pid()), Signal::SIGKILL);
        let _ = self.0.wait();
    }
}

fn eventually(what: &str, is_true: impl Fn() -> bool) {
    let deadline = Instant::now() + TIMEOUT;
    while !is_true() {
        assert!(Instant::now() < deadline, "{what}");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn the_status_and_the_output_are_the_commands() {
    for (script, status) in [("exit 0", 0), ("echo out; exit 7", 7), ("kill -KILL $$", 137)] {
        let output = ramledger(&["--", "sh", "-c", script]);
        assert_eq!(output.status.code(), Some(status), "{script}: {output:?}");
        let expected = if script.contains("out") { "out\n" } else { "" };
        assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
        assert!(String::from_utf8_lossy(&output.stderr).starts_with("sh -c "), "{output:?}");
    }
    assert_eq!(ramledger(&["--", "no-such-command"]).status.code(), Some(127));
}

#[test]
fn what_cannot_be_written_is_said_before_the_command_runs() {
    let directory = tempfile::tempdir().unwrap();
    let marker = directory.path().join("ran");
    let output = ramledger(&["-o", "/no/such/directory/a", "--", "touch", marker.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(125));
    assert!(String::from_utf8_lossy(&output.stderr).contains("/no/such/directory/a"), "{output:?}");
    assert!(!marker.exists());
}

#[test]
fn the_parts_add_up_to_the_total_and_the_peak_is_not_lower() {
    let script = format!("(sleep 1) | {HOLD}");
    let output = ramledger(&["--json", "--", "sh", "-c", &script]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let account = json(&output.stderr);
    assert_eq!(account["schema"], "ramledger/1");
    assert!(account["seen"]["pss_bytes"].as_u64() >= Some(64 * MIB), "{account}");
    let charged = &account["charged"];
    if charged.is_null() {
        eprintln!("skipped in part: this needs the right to create a cgroup");
        return;
    }
    let total_bytes = charged["total_bytes"].as_u64().unwrap();
    let sum_bytes = charged["sum_bytes"].as_u64().unwrap();
    assert!(charged["anonymous_bytes"].as_u64() >= Some(64 * MIB), "{account}");
    // The kernel charges in batches of 64 pages for each CPU.
    let batches = thread::available_parallelism().unwrap().get() as u64 * MIB / 4;
    assert!(sum_bytes.abs_diff(total_bytes) <= total_bytes / 100 + batches, "{account}");
    assert!(account["peak_bytes"].as_u64() >= Some(total_bytes), "{account}");
}

#[test]
fn nothing_is_left_behind() {
    let output = ramledger(&["--", "sh", "-c", "cat /proc/self/cgroup"]);
    let groups = String::from_utf8_lossy(&output.stdout).into_owned();
    let Some(name) = groups.lines().find_map(|line| Some(line.rsplit_once("/ramledger-")?.1)) else {
        eprintln!("skipped: this needs the right to create a cgroup");
        return;
    };
    let find = format!("find /sys/fs/cgroup -name ramledger-{name}");
    let found = Command::new("sh").args(["-c", &find]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&found.stdout), "");
}

#[test]
fn a_process_is_read_with_all_that_descends_from_it() {
    let shell = Shell::start(HOLD);
    let read = || json(&ramledger(&["--json", "--pid", &shell.pid().to_string()]).stdout);
    eventually("64 MiB", || read()["seen"]["private_dirty_bytes"].as_u64() >= Some(64 * MIB));
    assert!(read()["seen"]["processes"].as_u64() >= Some(2));
    let pid = shell.pid().to_string();
    drop(shell);
    let output = ramledger(&["--pid", &pid]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains(&pid), "{output:?}");
}

#[test]
fn a_cgroup_is_read_with_all_its_processes() {
    let Ok(cgroup) = Cgroup::create(&format!("ramledger-test-{}", std::process::id())) else {
        eprintln!("skipped: this needs the right to create a cgroup");
        return;
    };
    let join = cgroup.join_paths().iter().map(|path| format!("echo 0 > {}; ", path.display())).collect::<String>();
    let shell = Shell::start(&format!("{join} {HOLD}"));
    let directory = cgroup.join_paths()[0].parent().unwrap().to_str().unwrap().to_owned();
    let read = || ramledger(&["--json", "--cgroup", &directory]);
    eventually("64 MiB", || {
        let output = read();
        output.status.success() && json(&output.stdout)["charged"]["anonymous_bytes"].as_u64() >= Some(64 * MIB)
    });
    drop(shell);
    let output = ramledger(&["--cgroup", "/sys"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
}

#[test]
fn watching_ends_with_the_process() {
    let shell = Shell::start("sleep 1");
    let pid = shell.pid().to_string();
    let watching = Command::new(RAMLEDGER)
        .args(["--watch", "--interval", "100ms", "--json", "--pid", &pid])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut shell = shell;
    assert!(shell.0.wait().unwrap().success());
    let output = watching.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&output.stdout).lines().count() >= 2, "{output:?}");
}

#[test]
fn a_signal_reaches_the_command_whose_end_is_ours() {
    let directory = tempfile::tempdir().unwrap();
    let ready = directory.path().join("ready");
    let script = format!("trap 'exit 9' TERM; touch {}; while :; do sleep 0.05; done", ready.display());
    let child = Command::new(RAMLEDGER).args(["--", "sh", "-c", &script]).stderr(Stdio::piped()).spawn().unwrap();
    eventually("the command runs", || ready.exists());
    kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.status.signal()), (Some(9), None));
    assert!(String::from_utf8_lossy(&output.stderr).contains("exit status 9"), "{output:?}");
}

#[test]
fn a_report_that_nobody_takes_does_not_end_the_command() {
    let directory = tempfile::tempdir().unwrap();
    let marker = directory.path().join("ran");
    let script = format!("sleep 0.5; touch {}", marker.display());
    let output = ramledger(&["-o", "/dev/full", "--watch", "--interval", "20ms", "--", "sh", "-c", &script]);
    assert_eq!(output.status.code(), Some(125), "{output:?}");
    assert!(marker.exists(), "the command was left or killed");
    let mut command = Command::new(RAMLEDGER);
    command.args(["--watch", "--interval", "20ms", "--", "sleep", "0.3"]).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(child.stderr.take());
    assert_eq!(child.wait().unwrap().code(), Some(125));
}

#[test]
fn the_command_gets_its_arguments_and_variables_as_they_are() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;
    let mut command = Command::new(RAMLEDGER);
    command.args(["--", "sh", "-c", r#"printf %s "$1""#, "sh"]);
    let output = command.arg(OsStr::from_bytes(b"\xff")).output().unwrap();
    assert!(output.stdout.starts_with(b"\xff"), "{output:?}");
    let output = Command::new(RAMLEDGER).args(["--", "env"]).env("a.b", "1").output().unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).contains("a.b=1"), "{output:?}");
}

#[test]
fn a_signal_that_is_ignored_is_so_for_the_command() {
    let script = format!("trap '' HUP; exec {RAMLEDGER} -- grep SigIgn /proc/self/status");
    let output = Command::new("sh").args(["-c", &script]).output().unwrap();
    let mask = String::from_utf8_lossy(&output.stdout);
    let mask = u64::from_str_radix(mask.trim_start_matches("SigIgn:").trim(), 16).unwrap();
    assert_eq!(mask & 1, 1, "{mask:x}");
}

#[test]
fn a_tree_in_several_cgroups_is_said_to_be_so() {
    let Ok(cgroup) = Cgroup::create(&format!("ramledger-test-{}-2", std::process::id())) else {
        eprintln!("skipped: this needs the right to create a cgroup");
        return;
    };
    let join = cgroup.join_paths().iter().map(|path| format!("echo 0 > {}; ", path.display())).collect::<String>();
    let shell = Shell::start(&format!("(sleep 60) & {join} sleep 60"));
    let read = || json(&ramledger(&["--json", "--pid", &shell.pid().to_string()]).stdout);
    eventually("a note", || read()["notes"].to_string().contains("in another cgroup"));
    drop(shell);
}

#[test]
fn there_is_a_manual_page() {
    let output = ramledger(&["--generate-man"]);
    assert!(output.status.success());
    let page = String::from_utf8_lossy(&output.stdout);
    assert!(page.contains(".TH ramledger 1") && page.contains("EXIT STATUS") | page.contains("Exit status"), "{page}");
}

#[test]
fn a_file_gets_the_report_and_the_streams_stay_the_commands() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("report");
    let output = ramledger(&["-o", file.to_str().unwrap(), "--", "sh", "-c", "echo out; echo err >&2"]);
    assert_eq!((&output.stdout[..], &output.stderr[..]), (&b"out\n"[..], &b"err\n"[..]));
    assert!(fs::read_to_string(file).unwrap().contains("exit status 0"));
}
