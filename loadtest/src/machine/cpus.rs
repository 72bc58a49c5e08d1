//! The CPUs of the server and of the load generator.

use std::str::FromStr;

use anyhow::{Context as _, Result};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

/// A list of CPUs, as for `taskset`: `0`, `0,2`, `0-3`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cpus(Vec<usize>);

/// `SERVER:CLIENT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Split {
    /// The server's.
    pub(crate) server: Cpus,
    /// The load generator's.
    pub(crate) client: Cpus,
}

impl Cpus {
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
        let mut cpus = Vec::new();
        for range in text.split(',') {
            match range.split_once('-') {
                Some((first, last)) => cpus.extend(number(first)?..=number(last)?),
                None => cpus.push(number(range)?),
            }
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
        for text in ["", "0", ":", "0:", "a:1", "3-2:0", "0:1-"] {
            assert!(text.parse::<Split>().is_err(), "{text}");
        }
    }
}
