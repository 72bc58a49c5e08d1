//! Forks children ahead of demand, reaps and respawns them, and answers 503 and `/metrics` itself. It has one thread.

use std::net::{self, TcpStream};
use std::os::fd::AsFd as _;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use common::admin::Admin;
use common::config::Overload;
use common::draining::Interrupts;
use common::http::Response;
use common::linger::{Lingerers, TURN_INTERVAL};
use common::listener::{self, AcceptError, EXHAUSTED_PAUSE};
use common::log;
use common::shutdown::Shutdown;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::database::Client;
use crate::process;
use crate::ram::Ram;
use crate::shared::{Child, Shared};

/// The most children forked in a turn, so that a burst does not keep the supervisor from its other duties.
const FORKS_PER_TURN: usize = 256;
/// After so many forks it is asked anew whether there is RAM for more.
const FORKS_PER_RAM_CHECK: usize = 16;
/// How often idle children are counted while there are more than needed.
const SURPLUS_INTERVAL: Duration = Duration::from_secs(1);
/// How long no child is forked after one died of a fault, or after the system refused one: doubled each time...
const FIRST_BACKOFF: Duration = Duration::from_millis(10);
/// ...up to this.
const LAST_BACKOFF: Duration = Duration::from_secs(1);

// Begins at a page, and so do the frames below it, which are those of the children: each has no part of a page more.
#[repr(align(4096))]
pub(crate) struct Supervisor<'a> {
    shared: &'a Shared,
    shutdown: Shutdown,
    admin: Option<Admin>,
    /// How many idle children to keep ready.
    start: usize,
    /// What a child does.
    accept: fn(&Child<'_>),
    /// Becomes readable when a child has ended.
    ended: SignalFd,
    refused: Lingerers,
    ram: Ram,
    /// Connections may be in the backlog that nobody has taken: so until the drain has looked.
    has_backlog: bool,
    /// The children that end now have been killed by this process.
    is_killing: bool,
    /// After children died of faults: whoever connects meanwhile waits in the backlog.
    crashes: Backoff,
    /// After the system refused a fork: whoever connects meanwhile gets a 503.
    refusals: Backoff,
}

impl<'a> Supervisor<'a> {
    /// A supervisor without children. SIGCHLD is blocked from now on, and read from a descriptor.
    pub(crate) fn new(
        shared: &'a Shared,
        shutdown: Shutdown,
        admin: Option<Admin>,
        start: usize,
        accept: fn(&Child<'_>),
    ) -> Result<Self> {
        let signals = SigSet::from_iter([Signal::SIGCHLD]);
        signals.thread_block()?;
        Ok(Self {
            shared,
            shutdown,
            admin,
            start,
            accept,
            ended: SignalFd::with_flags(&signals, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?,
            refused: Lingerers::default(),
            ram: Ram::find(),
            has_backlog: true,
            is_killing: false,
            crashes: Backoff::default(),
            refusals: Backoff::default(),
        })
    }

    /// Supervises until SIGTERM or SIGINT.
    pub(crate) fn run(&mut self) {
        loop {
            self.reap();
            self.spawn_missing();
            self.release_surplus();
            match self.wait() {
                Event::Stop => return,
                Event::Connection if self.is_full() => drop(self.refuse_one()),
                Event::Connection | Event::Nothing => {}
            }
            self.refused.turn();
            self.turn_admin();
        }
    }

    /// Shows the admin port what the children say of themselves.
    pub(crate) fn update_counters(&self) {
        let counters = &self.shared.scoreboard.counters;
        counters.open.store(self.shared.serving.count(), Relaxed);
        counters.waiting.store(self.shared.waiting.count(), Relaxed);
        if let Some(database) = &self.shared.postgres {
            let (waiting, in_use) = database.counts();
            counters.database.waiting.store(waiting, Relaxed);
            counters.database.in_use.store(in_use, Relaxed);
        }
    }

    fn turn_admin(&mut self) {
        self.update_counters();
        if let Some(admin) = &mut self.admin {
            admin.turn(&self.shared.scoreboard.counters, || self.shared.pids().collect());
        }
    }

    pub(crate) fn children(&self) -> usize {
        self.shared.scoreboard.children.load(Relaxed)
    }

    fn idle(&self) -> usize {
        // One that is dying may still have its flag.
        self.children().saturating_sub(self.shared.serving.count() as usize)
    }

    /// Forks until enough children are idle, as far as the limits and the system allow.
    pub(crate) fn spawn_missing(&mut self) {
        for forks in 0..FORKS_PER_TURN {
            if self.idle() >= self.start || !self.pause().is_zero() {
                return;
            }
            let Some(index) = self.free_index() else { return };
            if forks % FORKS_PER_RAM_CHECK == 0 && self.ram.is_short() {
                self.note_refusal("the memory limit of the cgroup is near");
            } else if let Err(errno) = self.spawn(index) {
                self.note_refusal(errno.desc());
            }
        }
    }

    /// No child can be forked now: for a while nobody tries, and who connects gets a 503.
    fn note_refusal(&mut self, why: &str) {
        self.refusals.pause();
        self.shared.scoreboard.counters.spawn_failed("child could be forked", why, self.children());
    }

    /// How long no child may be forked.
    fn pause(&self) -> Duration {
        self.crashes.remaining().max(self.refusals.remaining())
    }

    /// The place of a child that there may be and is not.
    fn free_index(&self) -> Option<usize> {
        let Shared { pids, scoreboard, .. } = self.shared;
        let start = scoreboard.next_index.load(Relaxed);
        let index = (start..pids.len()).chain(0..start).find(|&index| pids[index].load(Relaxed) == 0)?;
        scoreboard.next_index.store((index + 1) % pids.len(), Relaxed);
        Some(index)
    }

    fn spawn(&mut self, index: usize) -> nix::Result<()> {
        let child = Child { shared: self.shared, index, database: Client::new(index) };
        let (admin, refused, ram, accept) = (&self.admin, &self.refused, &self.ram, self.accept);
        let pid = process::spawn(|| {
            ram.offer_this_process();
            // The child has copies of these descriptors, and would keep their connections open.
            if let Some(admin) = admin {
                admin.close_in_child();
            }
            refused.close_in_child();
            accept(&child);
        })?;
        self.shared.pids[index].store(pid.as_raw(), Relaxed);
        self.shared.scoreboard.children.fetch_add(1, Relaxed);
        Ok(())
    }

    /// Reaps dead children. SIGCHLDs coalesce, so one signal may stand for many of them.
    fn reap(&mut self) {
        while self.ended.read_signal().is_ok_and(|signal| signal.is_some()) {}
        loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG | WaitPidFlag::WUNTRACED)) {
                Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return,
                // An orphan, which has become our child if this process is the first of a container.
                Ok(status) if status.pid().is_some_and(|pid| self.index_of(pid).is_none()) => {}
                Ok(WaitStatus::Exited(pid, 0)) => self.forget(pid),
                Ok(WaitStatus::Exited(pid, status)) => {
                    self.forget_crashed(pid, &format!("exited with status {status}"))
                }
                Ok(WaitStatus::Signaled(pid, signal, _)) => {
                    self.forget_crashed(pid, &format!("was killed by {signal}"))
                }
                // It counts as idle or busy, and does nothing, not even time out: better another one.
                Ok(WaitStatus::Stopped(pid, _)) => drop(kill(pid, Signal::SIGKILL)),
                Ok(_) | Err(_) => {}
            }
        }
    }

    fn index_of(&self, pid: Pid) -> Option<usize> {
        self.shared.pids.iter().position(|other| other.load(Relaxed) == pid.as_raw())
    }

    fn forget_crashed(&mut self, pid: Pid, cause: &str) {
        if !self.is_killing {
            log::warn!("child {pid} {cause}");
        }
        self.crashes.pause();
        self.forget(pid);
    }

    fn forget(&self, pid: Pid) {
        if let Some(index) = self.index_of(pid) {
            self.shared.forget(index);
        }
    }

    /// Lets idle children leave when twice as many are idle as are kept ready. They notice when `accept` times out.
    fn release_surplus(&self) {
        let surplus = self.idle().saturating_sub(2 * self.start);
        self.shared.scoreboard.surplus.store(surplus, Relaxed);
    }

    /// Every child is busy, and there can be no more.
    fn is_full(&self) -> bool {
        self.idle() == 0 && (self.children() == self.shared.max_connections || !self.refusals.remaining().is_zero())
    }

    /// Waits until there is something to do.
    fn wait(&self) -> Event {
        let refuses = self.is_full() && self.shared.config.overload == Overload::Reject;
        let listener_interest = if refuses { PollFlags::POLLIN } else { PollFlags::empty() };
        let wakeup = PollFd::new(self.shared.wakeup.as_fd(), PollFlags::POLLIN);
        let admin = self.admin.as_ref().map(|admin| PollFd::new(admin.as_fd(), admin.interest()));
        // No `Vec`: the pages of the heap that we write to between two forks stay behind in the child, as its own.
        let mut ready = [
            PollFd::new(self.shutdown.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.shared.listener.as_fd(), listener_interest),
            PollFd::new(self.ended.as_fd(), PollFlags::POLLIN),
            admin.unwrap_or(wakeup.clone()),
            wakeup,
        ];
        let timeout = self.next_turn().map_or(PollTimeout::NONE, |turn| turn.try_into().unwrap_or(PollTimeout::MAX));
        // EINTR is no matter: the next turn looks at everything again.
        let result = poll(&mut ready, timeout);
        // Clears the wakeup; EAGAIN says that there was none.
        let _ = self.shared.wakeup.read();
        match result {
            Ok(_) if ready[0].any() == Some(true) => Event::Stop,
            Ok(_) if ready[1].any() == Some(true) => Event::Connection,
            _ => Event::Nothing,
        }
    }

    /// How soon the next turn must come if nothing happens.
    fn next_turn(&self) -> Option<Duration> {
        let lingering = (!self.refused.is_empty()).then_some(TURN_INTERVAL);
        let admin = self.admin.as_ref().and_then(Admin::next_turn);
        let missing = self.idle() < self.start && self.children() < self.shared.max_connections;
        let spawning = missing.then(|| self.pause());
        let surplus = (self.children() > 2 * self.start).then_some(SURPLUS_INTERVAL);
        [lingering, admin, spawning, surplus].into_iter().flatten().min()
    }

    /// Answers 503 to the next connection. The listener blocks, for the children: it must not block us if one of them took
    /// the connection. A child that enters `accept` just now finds nothing, and tries again.
    fn refuse_one(&mut self) -> Result<(), AcceptError> {
        let accepted = match self.shared.listener.set_nonblocking(true) {
            Ok(()) => self.shared.listener.accept(),
            Err(error) => Err(error),
        };
        // The flag belongs to the socket, which the children share.
        let _ = self.shared.listener.set_nonblocking(false);
        match accepted {
            Ok((socket, _)) => {
                self.shared.scoreboard.counters.refuse();
                self.refused.push(TcpStream::from(socket), Response::full().encode_to_vec());
                Ok(())
            }
            Err(error) => {
                let meaning = AcceptError::classify(&error);
                if meaning == AcceptError::Exhausted {
                    self.shared.scoreboard.counters.accept_failed(&error);
                    thread::sleep(EXHAUSTED_PAUSE);
                }
                Err(meaning)
            }
        }
    }

    /// Answers 503 to all connections that no child has taken, then closes the port. If descriptors run out before, it stays
    /// as it is: a child that has finished may take them, or the next call.
    pub(crate) fn refuse_backlog(&mut self) {
        while self.has_backlog {
            match self.refuse_one() {
                Ok(()) | Err(AcceptError::TryNext) => {}
                Err(AcceptError::Exhausted) if listener::has_backlog(&self.shared.listener) => return,
                Err(AcceptError::Exhausted | AcceptError::WouldBlock) => {
                    self.has_backlog = false;
                    // Wakes the children that wait in `accept`, all of them: closing our copy would not. It fails on none.
                    let _ = self.shared.listener.shutdown(net::Shutdown::Read);
                }
            }
        }
    }

    /// Kills the children, and closes the connections that were refused.
    pub(crate) fn cut_off(&mut self) {
        self.is_killing = true;
        self.signal(Signal::SIGKILL);
        self.refused = Lingerers::default();
        self.has_backlog = false;
    }

    /// Sends `signal` to every child.
    fn signal(&self, signal: Signal) {
        for pid in self.shared.pids() {
            // It may have died meanwhile, but its pid is not given to another before it is reaped.
            let _ = kill(Pid::from_raw(pid), signal);
        }
    }

    /// Asks the children to stop and waits until every one is gone, and everybody refused; false if that takes longer than
    /// `timeout`. A second signal ends this process at once, and the kernel its children.
    pub(crate) fn wait_for_all(&mut self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        let mut interrupts = Interrupts::default();
        loop {
            self.reap();
            let remaining = deadline.saturating_duration_since(Instant::now());
            self.refuse_backlog();
            let is_over = self.children() == 0 && self.refused.is_empty() && !self.has_backlog;
            if is_over || remaining.is_zero() {
                return is_over;
            }
            if interrupts.is_due() {
                self.signal(Signal::SIGTERM);
            }
            let mut ready = vec![PollFd::new(self.ended.as_fd(), PollFlags::POLLIN)];
            ready.extend(self.admin.as_ref().map(|admin| PollFd::new(admin.as_fd(), admin.interest())));
            let _ = poll(&mut ready, TURN_INTERVAL.min(remaining).try_into().unwrap_or(PollTimeout::MAX));
            self.refused.turn();
            self.turn_admin();
        }
    }
}

/// What the supervisor has waited for.
enum Event {
    /// SIGTERM or SIGINT.
    Stop,
    /// A connection that no child can take.
    Connection,
    Nothing,
}

/// When children may be forked again after something went wrong.
#[derive(Default)]
struct Backoff {
    pause: Duration,
    until: Option<Instant>,
}

impl Backoff {
    /// Pauses for longer than last time, unless that is long ago.
    fn pause(&mut self) {
        let now = Instant::now();
        let is_over = self.until.is_none_or(|until| now > until + LAST_BACKOFF);
        self.pause = if is_over { FIRST_BACKOFF } else { (self.pause * 2).min(LAST_BACKOFF) };
        self.until = Some(now + self.pause);
    }

    fn remaining(&self) -> Duration {
        self.until.map_or(Duration::ZERO, |until| until.saturating_duration_since(Instant::now()))
    }
}
