//! The faults.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use nix::sys::signal::{Signal, kill};

use contract::trial::Subject;
use contract::trial::crowd::{Crowd, ask_once, leak};

/// How many more connections knock while something is used up.
const KNOCKS: usize = 100;
/// How long it is used up.
const SHORTAGE: Duration = Duration::from_secs(2);
/// What a cgroup allows beyond what the server has, in bytes.
const SPARE_RAM: &str = "67108864";

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Fault {
    /// A process that serves is killed
    WorkerKilled,
    /// A process that serves is stopped
    WorkerStopped,
    /// A request panics (--allow-chaos)
    Panic,
    /// A request aborts (--allow-chaos)
    Abort,
    /// A request causes SIGSEGV (--allow-chaos)
    Segv,
    /// No process of the server gets another descriptor: EMFILE
    Descriptors,
    /// The system refuses processes and threads: EAGAIN
    Processes,
    /// accept fails with ENFILE, ECONNABORTED, EINTR and ENOMEM, one after the other
    Accept,
    /// The kernel refuses memory, for a thread's stack and for a new process: ENOMEM
    Memory,
    /// A process takes memory until that of the cgroup is used up, and the kernel kills (--allow-chaos)
    LeakToLimit,
    /// SIGTERM while every connection waits for its answer
    SigtermUnderLoad,
    /// The first process is killed
    SupervisorKilled,
}

/// What a fault did.
pub(crate) struct Effect {
    pub(crate) since: Instant,
    /// It has ended the server.
    pub(crate) ends_server: bool,
    /// How many connections it takes with it, as it must.
    pub(crate) may_take: usize,
    /// How many were answered for the last time meanwhile.
    pub(crate) answered: usize,
}

impl Effect {
    fn taking(may_take: usize) -> Self {
        Self { since: Instant::now(), ends_server: false, may_take, answered: 0 }
    }
}

impl Fault {
    pub(crate) const ALL: [Fault; 12] = [
        Fault::WorkerKilled,
        Fault::WorkerStopped,
        Fault::Panic,
        Fault::Abort,
        Fault::Segv,
        Fault::Descriptors,
        Fault::Processes,
        Fault::Accept,
        Fault::Memory,
        Fault::LeakToLimit,
        Fault::SigtermUnderLoad,
        Fault::SupervisorKilled,
    ];

    pub(crate) fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// Why it could not happen.
    pub(crate) fn why_not(self) -> &'static str {
        match self {
            Fault::WorkerKilled | Fault::WorkerStopped => "the server is one process",
            Fault::Panic | Fault::Abort | Fault::Segv => "the server has no /chaos",
            Fault::Processes => "no pids cgroup here, or not root",
            Fault::Accept | Fault::Memory => "no strace here",
            Fault::LeakToLimit => "the server has no /chaos, or no memory cgroup (v1) here, or not root",
            _ => "",
        }
    }

    /// Causes it. `None` if it cannot happen to this server, or not here.
    pub(crate) fn cause(self, subject: &mut Subject, crowd: &mut Crowd) -> anyhow::Result<Option<Effect>> {
        Ok(match self {
            Fault::WorkerKilled => signal_worker(subject, Signal::SIGKILL)?,
            Fault::WorkerStopped => signal_worker(subject, Signal::SIGSTOP)?,
            Fault::Panic => chaos(subject, "panic"),
            Fault::Abort => chaos(subject, "abort"),
            Fault::Segv => chaos(subject, "segv"),
            Fault::Descriptors => Some(use_up_descriptors(subject, crowd)?),
            Fault::Processes => refuse_processes(subject, crowd)?,
            Fault::Accept => fail_accepts(subject, crowd)?,
            Fault::Memory => refuse_memory(subject, crowd)?,
            Fault::LeakToLimit => leak_to_limit(subject)?,
            Fault::SigtermUnderLoad => Some(sigterm_under_load(subject, crowd)?),
            Fault::SupervisorKilled => {
                kill(subject.pid(), Signal::SIGKILL)?;
                thread::sleep(Duration::from_secs(1));
                Some(Effect { ends_server: true, ..Effect::taking(usize::MAX) })
            }
        })
    }
}

/// What a process that serves takes with it: the connections that it held.
fn held_by(pid: i32) -> usize {
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let targets = descriptors.filter_map(|entry| fs::read_link(entry.path()).ok());
    targets.filter(|target| target.to_string_lossy().starts_with("socket:")).count()
}

fn signal_worker(subject: &Subject, signal: Signal) -> anyhow::Result<Option<Effect>> {
    let Some(worker) = subject.worker() else { return Ok(None) };
    let effect = Effect::taking(held_by(worker.as_raw()));
    kill(worker, signal)?;
    Ok(Some(effect))
}

/// A request that causes a fault: what is served by the same process goes with it, if the process does.
fn chaos(subject: &Subject, fault: &str) -> Option<Effect> {
    let processes = subject.processes();
    let may_take = if processes.len() > 1 || fault == "panic" { 0 } else { usize::MAX };
    let effect = Effect::taking(may_take);
    // The connection is cut; a server without /chaos answers.
    match ask_once(subject.address, &format!("/chaos/{fault}")) {
        Ok(_) => None,
        Err(_) => Some(effect),
    }
}

fn prlimit(pid: i32, files: &str) {
    // A process may have ended meanwhile.
    let _ = Command::new("prlimit").args([format!("--pid={pid}"), format!("--nofile={files}:")]).output();
}

fn use_up_descriptors(subject: &Subject, crowd: &Crowd) -> anyhow::Result<Effect> {
    let limited: Vec<i32> = subject.processes().into_iter().take(64).chain([subject.pid().as_raw()]).collect();
    for &pid in &limited {
        let next = (0..).find(|number| !PathBuf::from(format!("/proc/{pid}/fd/{number}")).exists()).unwrap_or(3);
        prlimit(pid, &next.to_string());
    }
    let knocks = crowd.knock(KNOCKS);
    thread::sleep(SHORTAGE);
    limited.iter().for_each(|&pid| prlimit(pid, "20000"));
    drop(knocks);
    Ok(Effect::taking(0))
}

/// A cgroup (v1) around the server, which it leaves again at the end.
struct Group<'a> {
    subject: &'a Subject,
    controller: PathBuf,
    path: PathBuf,
}

impl<'a> Group<'a> {
    /// `None` without this controller, or without the right to use it.
    fn around(subject: &'a Subject, controller: &str) -> anyhow::Result<Option<Self>> {
        let controller = PathBuf::from("/sys/fs/cgroup").join(controller);
        let path = controller.join(format!("faults-{}", subject.pid()));
        if fs::create_dir(&path).is_err() {
            return Ok(None);
        }
        let group = Self { subject, controller, path };
        for pid in subject.processes() {
            fs::write(group.path.join("cgroup.procs"), pid.to_string())?;
        }
        Ok(Some(group))
    }
}

impl Drop for Group<'_> {
    fn drop(&mut self) {
        for pid in self.subject.processes() {
            let _ = fs::write(self.controller.join("cgroup.procs"), pid.to_string());
        }
        let _ = fs::remove_dir(&self.path);
    }
}

/// Puts the server into a cgroup that allows no more processes than there are.
fn refuse_processes(subject: &Subject, crowd: &Crowd) -> anyhow::Result<Option<Effect>> {
    let Some(group) = Group::around(subject, "pids")? else { return Ok(None) };
    let current = fs::read_to_string(group.path.join("pids.current"))?;
    fs::write(group.path.join("pids.max"), current.trim())?;
    let knocks = crowd.knock(KNOCKS);
    thread::sleep(SHORTAGE);
    fs::write(group.path.join("pids.max"), "max")?;
    drop(knocks);
    Ok(Some(Effect::taking(0)))
}

/// Puts the server into a cgroup that allows little more RAM, and lets one process take more than that.
fn leak_to_limit(subject: &Subject) -> anyhow::Result<Option<Effect>> {
    let effect = if subject.processes().len() > 1 { Effect::taking(0) } else { Effect::taking(usize::MAX) };
    let Some(group) = Group::around(subject, "memory")? else { return Ok(None) };
    fs::write(group.path.join("memory.limit_in_bytes"), SPARE_RAM)?;
    // A server without /chaos answers to the end.
    Ok(leak(subject.address).is_err().then_some(effect))
}

/// Lets some calls of accept fail in the first process and in a few others.
fn fail_accepts(subject: &Subject, crowd: &Crowd) -> anyhow::Result<Option<Effect>> {
    for error in ["ENFILE", "ECONNABORTED", "EINTR", "ENOMEM"] {
        if !fail_calls("accept,accept4", error, subject, crowd)? {
            return Ok(None);
        }
    }
    Ok(Some(Effect::taking(0)))
}

/// Lets some of the calls fail that ask for a mapping, a thread or a process.
fn refuse_memory(subject: &Subject, crowd: &Crowd) -> anyhow::Result<Option<Effect>> {
    let could_fail = fail_calls("mmap,clone,clone3,fork", "ENOMEM", subject, crowd)?;
    Ok(could_fail.then(|| Effect::taking(0)))
}

/// Lets every other one of these calls fail while connections come, in the first process and in a few others. Returns
/// whether it can: there is strace.
fn fail_calls(calls: &str, error: &str, subject: &Subject, crowd: &Crowd) -> anyhow::Result<bool> {
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={calls}"), "-e"]);
    strace.arg(format!("inject={calls}:error={error}:when=1+2"));
    strace.args(["-p", &subject.pid().to_string()]);
    for pid in subject.processes().into_iter().filter(|&pid| pid != subject.pid().as_raw()).take(8) {
        strace.args(["-p", &pid.to_string()]);
    }
    let Ok(mut strace) = strace.spawn() else { return Ok(false) };
    // Ten thousand threads take a while.
    let deadline = Instant::now() + SHORTAGE * 10;
    while Instant::now() < deadline && !is_traced(subject.pid().as_raw()) {
        thread::sleep(Duration::from_millis(50));
    }
    let knocks = crowd.knock(KNOCKS / 4);
    thread::sleep(SHORTAGE / 4);
    drop(knocks);
    kill(nix::unistd::Pid::from_raw(strace.id() as i32), Signal::SIGTERM)?;
    strace.wait()?;
    Ok(true)
}

/// Whether each thread of this process has a tracer.
fn is_traced(pid: i32) -> bool {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    // One that has ended meanwhile needs none.
    let mut states = threads.filter_map(|thread| fs::read_to_string(thread.path().join("status")).ok());
    states.all(|state| !state.contains("TracerPid:\t0\n"))
}

fn sigterm_under_load(subject: &Subject, crowd: &mut Crowd) -> anyhow::Result<Effect> {
    crowd.send_all("/?wait=3s")?;
    thread::sleep(Duration::from_millis(1_500));
    kill(subject.pid(), Signal::SIGTERM)?;
    let answered = crowd.read_all();
    Ok(Effect { ends_server: true, answered, ..Effect::taking(0) })
}
