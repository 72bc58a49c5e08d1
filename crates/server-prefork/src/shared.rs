//! What the supervisor and its children share.

use std::sync::atomic::{AtomicI32, AtomicU8, AtomicUsize, Ordering::Relaxed};

use common::config::Config;
use common::counters::Counters;
use common::db::Database;
use nix::sys::eventfd::EventFd;
use socket2::Socket;

/// What the supervisor and all children have: every child has a copy, and its references point to the same memory.
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) max_connections: usize,
    pub(crate) listener: Socket,
    pub(crate) scoreboard: &'static Scoreboard,
    /// A slot for each child that there may be.
    pub(crate) slots: &'static [Slot],
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
    /// How many slots are taken.
    pub(crate) children: AtomicUsize,
    /// Where the search for a free slot goes on.
    pub(crate) next_slot: AtomicUsize,
}

impl Shared {
    /// The children.
    pub(crate) fn pids(&self) -> impl Iterator<Item = i32> {
        self.slots.iter().map(|slot| slot.pid.load(Relaxed)).filter(|&pid| pid != 0)
    }
}

/// What the supervisor knows of a child; in shared memory, as the [`Scoreboard`] is.
#[derive(Default)]
pub(crate) struct Slot {
    /// Zero if the slot is free.
    pub(crate) pid: AtomicI32,
    /// What the child does, so that the supervisor can correct the counters if it is killed.
    pub(crate) state: AtomicU8,
}

/// What a child does.
pub(crate) mod state {
    pub(crate) const IDLE: u8 = 0;
    pub(crate) const SERVING: u8 = 1;
    pub(crate) const WAITING: u8 = 2;
}

/// One child.
pub(crate) struct Child<'a> {
    pub(crate) shared: &'a Shared,
    pub(crate) slot: &'a Slot,
}

impl Child<'_> {
    /// Lets the supervisor know what the child does until the guard is dropped, also by a panic.
    pub(crate) fn enter(&self, state: u8) -> Entered<'_> {
        Entered { slot: self.slot, before: self.slot.state.swap(state, Relaxed) }
    }

    /// Takes one of the places of idle children that may leave.
    pub(crate) fn may_leave(&self) -> bool {
        self.shared.scoreboard.surplus.try_update(Relaxed, Relaxed, |surplus| surplus.checked_sub(1)).is_ok()
    }
}

/// What the child does now, and what it did before.
pub(crate) struct Entered<'a> {
    slot: &'a Slot,
    before: u8,
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.slot.state.store(self.before, Relaxed);
    }
}
