//! The child between us and the command: it joins the cgroup and becomes the command. So all that the command allocates is
//! charged there, and nothing of ours.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

/// Our first argument in that child. Nobody types it, for it is no option.
const JOIN: &str = "join-and-run";
/// As of a shell, env(1) and timeout(1).
const NOT_FOUND: u8 = 127;
const NOT_RUN: u8 = 126;

/// The command that joins the cgroup of these files and becomes `argv`.
pub(crate) fn command(join_paths: &[PathBuf], argv: &[OsString]) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.arg(JOIN).arg(join_paths.len().to_string()).args(join_paths).args(argv);
    command
}

/// Becomes the command, if this process is such a child; `None` if it is not, and the exit status if that fails.
pub(crate) fn join_if_asked() -> Option<u8> {
    let mut arguments = env::args_os().skip(1);
    if arguments.next().as_deref() != Some(OsStr::new(JOIN)) {
        return None;
    }
    let count = arguments.next().and_then(|count| count.to_str()?.parse().ok()).unwrap_or(0);
    for path in arguments.by_ref().take(count) {
        // 0 stands for the writer.
        if let Err(error) = fs::write(&path, "0") {
            return Some(fail(&path, &error));
        }
    }
    let program = arguments.next()?;
    let error = Command::new(&program).args(arguments).exec();
    Some(fail(&program, &error))
}

fn fail(what: &OsStr, error: &io::Error) -> u8 {
    let _ = writeln!(io::stderr(), "ramledger: {}: {error}", what.display());
    if error.kind() == io::ErrorKind::NotFound { NOT_FOUND } else { NOT_RUN }
}
