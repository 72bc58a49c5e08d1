//! How a server is started so that it can neither outlive loadtest nor be metered with it.
//!
//! loadtest starts itself once more, as `loadtest launch`. That process asks the kernel to be killed with its parent, joins
//! the cgroup, and only then becomes the server: whatever the server allocates is charged to the cgroup from the first
//! page on, and `kill -9` of loadtest leaves nothing behind. Doing the same between fork and exec would need `unsafe`.

use std::convert::Infallible;
use std::env;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio, id};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::getppid;

use crate::machine::cpus::Cpus;

/// What the launched process is told.
#[derive(Args, Debug)]
pub(crate) struct LaunchArgs {
    /// The process that starts this one
    #[arg(long)]
    parent: i32,
    /// Files to write the own pid into, in order to join a cgroup
    #[arg(long)]
    join: Vec<PathBuf>,
    /// The CPUs that it may use
    #[arg(long)]
    cpus: Option<Cpus>,
    /// The server and its flags
    #[arg(last = true, required = true)]
    argv: Vec<String>,
}

/// The command that starts `argv`, joined to the cgroup of `join_paths`, on some `cpus` only, in a process group of its own.
///
/// It must be spawned by a thread that lives as long as loadtest: the kernel takes the end of the spawning *thread* for the
/// death of the parent.
pub(crate) fn command(argv: &[String], join_paths: &[PathBuf], cpus: Option<&Cpus>) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.arg("launch").arg("--parent").arg(id().to_string());
    for path in join_paths {
        command.arg("--join").arg(path);
    }
    if let Some(cpus) = cpus {
        command.arg("--cpus").arg(cpus.to_string());
    }
    command.arg("--").args(argv);
    // What a server is told stands in the result: nothing may come from elsewhere.
    for (name, _) in env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("C10K_")) {
        command.env_remove(name);
    }
    // Its own process group: Ctrl-C on the terminal is for loadtest, which then stops the server.
    command.process_group(0).stdin(Stdio::null());
    command
}

/// Becomes the server. Returns only if that fails.
pub(crate) fn exec(args: &LaunchArgs) -> Result<ExitCode> {
    match become_server(args) {
        Ok(never) => match never {},
        Err(error) => Err(error),
    }
}

fn become_server(args: &LaunchArgs) -> Result<Infallible> {
    // Survives exec, unless the server's file has set-user-id or capabilities.
    set_pdeathsig(Signal::SIGKILL).context("the server could not be tied to loadtest")?;
    if getppid().as_raw() != args.parent {
        bail!("loadtest ended while it started the server");
    }
    for path in &args.join {
        join(path)?;
    }
    args.cpus.as_ref().map_or(Ok(()), Cpus::pin)?;
    // Terminals and editors leave descriptors open. They are none of the server's business, and from number 64 on each of
    // its processes would pay for a larger table: 2 kB of the kernel's memory.
    close_fds::set_fds_cloexec(3, &[]);
    let Some((program, flags)) = args.argv.split_first() else { bail!("nothing to start") };
    let error = Command::new(program).args(flags).exec();
    Err(error).with_context(|| format!("{program} cannot be run"))
}

fn join(path: &Path) -> Result<()> {
    fs::write(path, id().to_string()).with_context(|| format!("the cgroup of {} cannot be joined", path.display()))
}
