//! What the supervisor and its children share.

use std::cell::Cell;
use std::sync::atomic::{AtomicI32, AtomicU64, AtomicUsize, Ordering::Relaxed};

use common::config::Config;
use common::counters::Counters;
use common::db::Database;
use common::postgres::session::Session;
use nix::sys::eventfd::EventFd;
use socket2::Socket;

use crate::database;

/// What the supervisor and all children have: every child has a copy, and its references point to the same memory.
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) max_connections: usize,
    pub(crate) listener: Socket,
    pub(crate) scoreboard: &'static Scoreboard,
    /// The pid of each child that there may be; zero if there is none.
    pub(crate) pids: &'static [AtomicI32],
    /// Which of them have a connection...
    pub(crate) serving: Flags,
    /// ...and which of those wait for the database.
    pub(crate) waiting: Flags,
    /// A real database, if there is one.
    pub(crate) postgres: Option<database::Database>,
    /// Written to by a child that became busy: fewer are idle now.
    pub(crate) wakeup: EventFd,
}

/// What changes while children are forked. It is in shared memory, not only because several processes change it: a page
/// that the supervisor changes after a fork would stay behind in the child, as its own copy.
pub(crate) struct Scoreboard {
    pub(crate) database: Database,
    pub(crate) counters: Counters,
    /// How many idle children may leave.
    pub(crate) surplus: AtomicUsize,
    /// How many children there are.
    pub(crate) children: AtomicUsize,
    /// Where the search for a free place goes on.
    pub(crate) next_index: AtomicUsize,
}

impl Shared {
    /// The children.
    pub(crate) fn pids(&self) -> impl Iterator<Item = i32> {
        self.pids.iter().map(|pid| pid.load(Relaxed)).filter(|&pid| pid != 0)
    }

    /// Frees the place of a child that is gone, and takes back what it said of itself, wherever it was when it was killed.
    pub(crate) fn forget(&self, index: usize) {
        self.serving.clear(index);
        self.waiting.clear(index);
        if let Some(database) = &self.postgres {
            database.forget(index);
        }
        self.pids[index].store(0, Relaxed);
        self.scoreboard.children.fetch_sub(1, Relaxed);
    }
}

/// A flag for each child, in shared memory, as the [`Scoreboard`] is. How many are set is counted and kept nowhere: a child
/// may be killed between any two instructions, and whatever it had to write twice would not agree.
#[derive(Clone, Copy)]
pub(crate) struct Flags(pub(crate) &'static [AtomicU64]);

impl Flags {
    /// How many words have room for so many flags.
    pub(crate) fn words(flags: usize) -> usize {
        flags.div_ceil(64)
    }

    pub(crate) fn set(self, index: usize) {
        self.0[index / 64].fetch_or(1 << (index % 64), Relaxed);
    }

    pub(crate) fn clear(self, index: usize) {
        self.0[index / 64].fetch_and(!(1 << (index % 64)), Relaxed);
    }

    /// How many are set: for 12,000 flags, this looks at 188 words.
    pub(crate) fn count(self) -> u64 {
        self.0.iter().map(|word| u64::from(word.load(Relaxed).count_ones())).sum()
    }
}

/// One child.
pub(crate) struct Child<'a> {
    pub(crate) shared: &'a Shared,
    pub(crate) index: usize,
    /// Its own connection to a real database.
    pub(crate) session: Cell<Option<Session>>,
}

impl Child<'_> {
    /// Says that this child has a connection until the guard is dropped, also by a panic.
    pub(crate) fn serve(&self) -> Raised {
        self.shared.scoreboard.counters.accepted.fetch_add(1, Relaxed);
        Raised::new(self.shared.serving, self.index)
    }

    /// Says that this child waits for the database until the guard is dropped.
    pub(crate) fn wait(&self) -> Raised {
        let raised = Raised::new(self.shared.waiting, self.index);
        self.shared.scoreboard.counters.waiting_peak.fetch_max(self.shared.waiting.count(), Relaxed);
        raised
    }

    /// Takes one of the places of idle children that may leave.
    pub(crate) fn may_leave(&self) -> bool {
        self.shared.scoreboard.surplus.try_update(Relaxed, Relaxed, |surplus| surplus.checked_sub(1)).is_ok()
    }
}

/// A flag that is set until this is dropped.
pub(crate) struct Raised {
    flags: Flags,
    index: usize,
}

impl Raised {
    pub(crate) fn new(flags: Flags, index: usize) -> Self {
        flags.set(index);
        Self { flags, index }
    }
}

impl Drop for Raised {
    fn drop(&mut self) {
        self.flags.clear(self.index);
    }
}
