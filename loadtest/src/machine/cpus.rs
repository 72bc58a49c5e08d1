//! The CPUs of the server and of the load generator.

use std::collections::BTreeSet;
use std::str::FromStr;

use anyhow::{Context as _, Result};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use super::command_line::WrongArguments;

/// A list of CPUs, as for `taskset`: `0`, `0,2`, `0-3`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cpus(BTreeSet<usize>);

/// `SERVER:CLIENT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Split {
    /// The server's.
    pub(crate) server: Cpus,
    /// The load generator's.
    pub(crate) client: Cpus,
}

impl Split {
    /// Pins this process to the load generator's.
    ///
    /// # Errors
    /// One of them does not exist, or is not available to this process.
    pub(crate) fn pin_client(&self) -> Result<(), WrongArguments> {
        self.client.pin().map_err(|error| WrongArguments::from(&error))
    }
}

impl Cpus {
    /// The CPUs that a process may use, or the calling thread for pid 0. `None` if there is no such process.
    pub(crate) fn allowed(pid: i32) -> Option<Self> {
        let set = sched_getaffinity(Pid::from_raw(pid)).ok()?;
        Some(Self((0..CpuSet::count()).filter(|&cpu| set.is_set(cpu).unwrap_or(false)).collect()))
    }

    /// How many they are.
    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// Whether this is one of them.
    pub(crate) fn contains(&self, cpu: usize) -> bool {
        self.0.contains(&cpu)
    }

    /// Whether they have a CPU in common.
    pub(crate) fn overlap(&self, other: &Self) -> bool {
        !self.0.is_disjoint(&other.0)
    }

    /// Those of both.
    pub(crate) fn union(&self, other: &Self) -> Self {
        Self(&self.0 | &other.0)
    }

    /// Pins the calling thread, and all threads and processes that it starts from now on, to these CPUs.
    ///
    /// # Errors
    /// A CPU does not exist, or is not available to this process.
    pub(crate) fn pin(&self) -> Result<()> {
        let mut set = CpuSet::new();
        for &cpu in &self.0 {
            set.set(cpu).with_context(|| format!("--cpus: there is no CPU {cpu}"))?;
        }
        let list = self.to_string();
        sched_setaffinity(Pid::from_raw(0), &set)
            .with_context(|| format!("--cpus: CPUs {list} are not available; see nproc"))
    }
}

impl std::fmt::Display for Cpus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let list: Vec<String> = self.0.iter().map(usize::to_string).collect();
        f.write_str(&list.join(","))
    }
}

impl FromStr for Cpus {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| text.parse::<usize>().map_err(|error| format!("{text:?}: {error}"));
        let mut cpus = BTreeSet::new();
        for range in text.split(',') {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            cpus.extend(number(first)?..=number(last)?);
        }
        if cpus.is_empty() { Err(format!("{text:?} is empty")) } else { Ok(Self(cpus)) }
    }
}

impl FromStr for Split {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (server, client) = text.split_once(':').ok_or("write SERVER:CLIENT, such as 0:1 or 0-1:2,3")?;
        Ok(Self { server: server.parse()?, client: client.parse()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_parse_as_in_taskset() {
        let split: Split = "0-1:2,5".parse().unwrap();
        assert_eq!((split.server.to_string(), split.client.to_string()), ("0,1".into(), "2,5".into()));
        let [one, other] = ["0-1", "1,3"].map(|text| text.parse::<Cpus>().unwrap());
        assert_eq!((one.union(&other).to_string(), one.overlap(&other)), ("0,1,3".into(), true));
        assert!(!one.overlap(&"2-3".parse().unwrap()) && one.count() == 2);
        for text in ["", "0", ":", "0:", "a:1", "3-2:0", "0:1-"] {
            assert!(text.parse::<Split>().is_err(), "{text}");
        }
    }
}
