//! Starts a server so that nothing of it outlives loadtest, and it is metered apart from it.
//!
//! loadtest starts itself again twice. `loadtest guard` stays: when loadtest ends, however that happens, it kills whatever
//! descends from the server, also what left its process group and whose parents died. Its child, `loadtest launch`, joins
//! the cgroup and only then becomes the server. So everything the server allocates is charged to the cgroup from the first
//! page on, and nothing else is. Doing the same between fork and exec would need `unsafe`.

use std::convert::Infallible;
use std::env;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{self, Child, Command, ExitCode, ExitStatus, Stdio, id};
use std::sync::{Arc, Mutex};
use std::thread;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use nix::sys::prctl::{set_child_subreaper, set_pdeathsig};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{Signal, raise};
use nix::unistd::getppid;

use crate::machine::cpus::Cpus;
use crate::machine::descent;
use crate::machine::host;

/// The arguments of `loadtest guard` and `loadtest launch`.
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
    /// The soft limit of open files that loadtest was started with
    #[arg(long)]
    nofile: Option<u64>,
    /// The server and its flags
    #[arg(last = true, required = true)]
    argv: Vec<String>,
}

/// A started server, or another program, behind its guard.
#[derive(Debug)]
pub(crate) struct Guarded {
    /// The guard, which ends as its program does.
    pub(crate) guard: Child,
    /// The pid of the program itself.
    pub(crate) pid: i32,
    /// Its end is ours: the guard watches for it.
    _lifeline: UnixStream,
}

/// Starts `argv` behind a guard, in the cgroup of `join_paths`, on `cpus` only, in a process group of its own. `prepare`
/// may change the command, such as its output.
///
/// # Errors
/// It cannot be started.
pub(crate) fn start(
    argv: &[String],
    join_paths: &[PathBuf],
    cpus: Option<&Cpus>,
    prepare: impl FnOnce(&mut Command),
) -> Result<Guarded> {
    let args = LaunchArgs {
        parent: id() as i32,
        join: join_paths.to_vec(),
        cpus: cpus.cloned(),
        nofile: host::soft_nofile_at_start(),
        argv: argv.to_vec(),
    };
    // Whatever the guard leaves becomes our child, and not that of init.
    set_child_subreaper(true).context("cannot become the reaper of the server's processes")?;
    let (mut lifeline, theirs) = UnixStream::pair().context("no socket pair for the server's guard")?;
    let mut command = args.command("guard");
    // The result records the server's flags, so none may come from loadtest's environment.
    for (name, _) in env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("C10K_")) {
        command.env_remove(name);
    }
    // A process group of its own: Ctrl-C on the terminal goes to loadtest alone, which then stops the server.
    command.process_group(0).stdin(Stdio::from(std::os::fd::OwnedFd::from(theirs)));
    prepare(&mut command);
    let guard = command.spawn()?;
    // The command holds the guard's end of the pair.
    drop(command);
    let mut pid = [0; 4];
    lifeline.read_exact(&mut pid).context("its guard ended")?;
    Ok(Guarded { guard, pid: i32::from_ne_bytes(pid), _lifeline: lifeline })
}

impl LaunchArgs {
    /// The command that runs this subcommand of loadtest with these arguments.
    fn command(&self, subcommand: &str) -> Command {
        let mut command = Command::new("/proc/self/exe");
        command.arg(subcommand).arg("--parent").arg(self.parent.to_string());
        for path in &self.join {
            command.arg("--join").arg(path);
        }
        if let Some(cpus) = &self.cpus {
            command.arg("--cpus").arg(cpus.to_string());
        }
        if let Some(limit) = self.nofile {
            command.arg("--nofile").arg(limit.to_string());
        }
        command.arg("--").args(&self.argv);
        command
    }
}

/// Starts the server, and ends as it does; or kills all that descends from it as soon as loadtest ends.
///
/// # Errors
/// The server cannot be started.
pub(crate) fn guard(args: LaunchArgs) -> Result<ExitCode> {
    set_child_subreaper(true).context("cannot become the reaper of the server's processes")?;
    let mut lifeline = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let loadtest_pid = args.parent;
    let launch = LaunchArgs { parent: id() as i32, ..args };
    // From this thread, which lives on: for the kernel, its end would be the death of the parent.
    let mut server = launch.command("launch").stdin(Stdio::null()).spawn().context("the server cannot be started")?;
    lifeline.write_all(&(server.id() as i32).to_ne_bytes())?;
    // Whoever has it ends the guard, and the other waits: the first to be killed must not end it before the last.
    let ending = Arc::new(Mutex::new(()));
    let at_end = ending.clone();
    thread::spawn(move || {
        // Nothing is ever sent: this is the end of loadtest.
        let _ = lifeline.read(&mut [0]);
        let _ending = at_end.lock();
        descent::kill_all();
        process::exit(1);
    });
    // It may fail: the other one reaps all that it kills, the server too.
    let status = server.wait();
    let _ending = ending.lock();
    if getppid().as_raw() != loadtest_pid {
        descent::kill_all();
    }
    end_as(status?)
}

/// Ends this process with the same status, so that its parent sees how the server ended.
fn end_as(status: ExitStatus) -> Result<ExitCode> {
    if let Some(signal) = status.signal().and_then(|number| Signal::try_from(number).ok()) {
        // One core file is enough.
        setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
        raise(signal)?;
    }
    process::exit(status.code().unwrap_or(1))
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
    args.nofile.map_or(Ok(()), host::set_soft_nofile)?;
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
