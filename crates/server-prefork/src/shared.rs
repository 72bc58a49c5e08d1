//! What the supervisor and its children share.

use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering::Relaxed};

use common::config::Config;
use common::counters::Counters;
use common::db::Database;
use nix::sys::eventfd::EventFd;
use socket2::Socket;

use crate::database;
use crate::flags::{Flags, Raised};

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

/// One child.
pub(crate) struct Child<'a> {
    pub(crate) shared: &'a Shared,
    pub(crate) index: usize,
    /// Its own connection to a real database.
    pub(crate) database: database::Client,
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
