//! Starts a server so that it cannot outlive loadtest and is metered apart from it.
//!
//! loadtest starts itself again as `loadtest launch`. That process asks the kernel to kill it with its parent, joins
//! the cgroup, and only then becomes the server. So everything the server allocates is charged to the cgroup from the
//! first page on, and `kill -9` of loadtest leaves nothing behind. Doing the same between fork and exec would need
//! `unsafe`.

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

/// The arguments of `loadtest launch`.
#[derive(Args, Debug)]
pub(crate) struct LaunchArgs {
    /// The pid of the starting process
    #[arg(long)]
    parent: i32,
    /// Files to write this process's pid into, to join a cgroup
    #[arg(long)]
    join: Vec<PathBuf>,
    /// The CPUs that the server may use
    #[arg(long)]
    cpus: Option<Cpus>,
    /// The server and its flags
    #[arg(last = true, required = true)]
    argv: Vec<String>,
}

/// The command that starts `argv` in the cgroup of `join_paths`, on `cpus` only, in a process group of its own.
///
/// Spawn it from a thread that lives as long as loadtest: for the kernel, the end of the spawning *thread* is the death
/// of the parent.
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
    // The result records the server's flags, so none may come from the environment.
    for (name, _) in env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("C10K_")) {
        command.env_remove(name);
    }
    // A process group of its own: Ctrl-C on the terminal goes to loadtest alone, which then stops the server.
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
    // The setting survives exec, unless the server's file is set-user-id or has capabilities.
    set_pdeathsig(Signal::SIGKILL).context("cannot tie the server to loadtest")?;
    if getppid().as_raw() != args.parent {
        bail!("loadtest exited while starting the server");
    }
    for path in &args.join {
        join(path)?;
    }
    args.cpus.as_ref().map_or(Ok(()), Cpus::pin)?;
    // Terminals and editors leak descriptors. From number 64 on, each process of the server would pay for a larger
    // table: 2 kB of kernel memory.
    close_fds::set_fds_cloexec(3, &[]);
    let Some((program, flags)) = args.argv.split_first() else { bail!("nothing to start") };
    let error = Command::new(program).args(flags).exec();
    Err(error).with_context(|| format!("cannot run {program}"))
}

fn join(path: &Path) -> Result<()> {
    fs::write(path, id().to_string()).with_context(|| format!("cannot join the cgroup of {}", path.display()))
}
