//! What children say of themselves: a flag for each.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A flag for each child, in shared memory, as the [`Scoreboard`](crate::shared::Scoreboard) is. How many are set is counted and kept nowhere: a child
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
