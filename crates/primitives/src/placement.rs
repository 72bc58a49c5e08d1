//! Which CPUs the two sides of a measurement use.

use nix::errno::Errno;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// Where the one that creates or wakes runs, and where the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// Both on one CPU.
    OneCpu,
    /// Each on a CPU of its own.
    TwoCpus,
    /// Wherever the scheduler puts them.
    Unpinned,
}

impl Placement {
    /// All of them.
    pub const ALL: [Placement; 3] = [Placement::OneCpu, Placement::TwoCpus, Placement::Unpinned];

    /// Its name in figures.
    pub fn name(self) -> &'static str {
        match self {
            Placement::OneCpu => "one_cpu",
            Placement::TwoCpus => "two_cpus",
            Placement::Unpinned => "unpinned",
        }
    }

    /// In words.
    pub fn describe(self) -> &'static str {
        match self {
            Placement::OneCpu => "on one CPU",
            Placement::TwoCpus => "across two CPUs",
            Placement::Unpinned => "unpinned",
        }
    }
}

/// The CPUs that this process may use.
#[derive(Clone, Debug)]
pub struct Cpus {
    allowed: CpuSet,
    numbers: Vec<usize>,
}

impl Cpus {
    /// Those of now.
    ///
    /// # Errors
    /// The kernel does not say.
    pub fn allowed() -> nix::Result<Self> {
        let allowed = sched_getaffinity(Pid::from_raw(0))?;
        let numbers = (0..CpuSet::count()).filter(|&cpu| allowed.is_set(cpu).unwrap_or(false)).collect();
        Ok(Self { allowed, numbers })
    }

    /// Whether this placement is possible.
    pub fn allow(&self, placement: Placement) -> bool {
        placement != Placement::TwoCpus || self.numbers.len() > 1
    }

    /// Moves the calling thread to where the first side belongs.
    pub fn place_first(&self, placement: Placement) -> nix::Result<()> {
        match placement {
            Placement::OneCpu | Placement::TwoCpus => self.pin(0),
            Placement::Unpinned => self.release(),
        }
    }

    /// Moves the calling thread to where the other side belongs.
    pub fn place_second(&self, placement: Placement) -> nix::Result<()> {
        match placement {
            Placement::OneCpu => self.pin(0),
            Placement::TwoCpus => self.pin(1),
            Placement::Unpinned => self.release(),
        }
    }

    /// Lets the calling thread run anywhere again.
    pub fn release(&self) -> nix::Result<()> {
        sched_setaffinity(Pid::from_raw(0), &self.allowed)
    }

    fn pin(&self, index: usize) -> nix::Result<()> {
        let mut set = CpuSet::new();
        set.set(*self.numbers.get(index).ok_or(Errno::EINVAL)?)?;
        sched_setaffinity(Pid::from_raw(0), &set)
    }
}
