//! Processes that never outlive their test.

use std::env;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// A child in a process group of its own. On drop the whole group is killed and the child reaped.
pub(crate) struct Started(Child);

impl Started {
    pub(crate) fn command(command: &mut Command) -> Started {
        Started(command.process_group(0).spawn().expect("spawn"))
    }

    /// A shell script whose output nobody reads, so that a process that writes a lot blocks and keeps its memory.
    pub(crate) fn shell(script: &str) -> Started {
        Started::command(Command::new("sh").args(["-c", script]).stdout(Stdio::piped()))
    }

    /// The same, in a cgroup.
    pub(crate) fn shell_in(join_paths: &[PathBuf], script: &str) -> Started {
        let script = format!(r#"for procs; do echo 0 > "$procs" || exit; done; {script}"#);
        let mut shell = Command::new("sh");
        Started::command(shell.args(["-c", &script, "sh"]).args(join_paths).stdout(Stdio::piped()))
    }

    /// This test binary again in one of its [`roles`](crate::roles), once it prints that it is ready.
    pub(crate) fn role(role: &str, envs: &[(&str, &str)]) -> Started {
        let mut binary = role_command(role);
        let mut started = Started::command(binary.envs(envs.iter().copied()).stdout(Stdio::piped()));
        started.wait_until_ready();
        started
    }

    /// The same, in a cgroup.
    pub(crate) fn role_in(join_paths: &[PathBuf], role: &str) -> Started {
        let binary = env::current_exe().expect("own path");
        let script = format!("exec {} {} roles::{role}", binary.display(), ROLE_ARGS.join(" "));
        let mut started = Started::shell_in(join_paths, &script);
        started.wait_until_ready();
        started
    }

    /// The role that creates a cgroup and exits without removing it.
    pub(crate) fn creator_of_a_stale_cgroup() -> Started {
        Started::command(role_command("leave_a_stale_cgroup").stdout(Stdio::null()))
    }

    pub(crate) fn pid(&self) -> i32 {
        self.0.id() as i32
    }

    pub(crate) fn wait(&mut self) -> bool {
        self.0.wait().expect("wait").success()
    }

    fn wait_until_ready(&mut self) {
        let output = BufReader::new(self.0.stdout.as_mut().expect("piped"));
        let ready = output.lines().map_while(Result::ok).any(|line| line.contains("ready"));
        assert!(ready, "it ended before it was ready");
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        let _ = killpg(Pid::from_raw(self.pid()), Signal::SIGKILL);
        let _ = self.0.wait();
    }
}

fn role_command(role: &str) -> Command {
    let mut binary = Command::new(env::current_exe().expect("own path"));
    binary.args(ROLE_ARGS).arg(format!("roles::{role}"));
    binary
}

/// One test thread, so that the harness adds no thread of its own.
const ROLE_ARGS: [&str; 4] = ["--ignored", "--nocapture", "--test-threads=1", "--exact"];
