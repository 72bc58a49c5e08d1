//! Servers that run elsewhere. They are not built, started or stopped here, and report their own RAM.

use std::env;
use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::SystemTime;

use anyhow::{Context as _, Result};

use super::admin::{ServerCounters, ServerMemory};
use load::net::Url;
use quantity::format;
use results::Target;
use results::run::Memory;

/// Lists servers, separated by spaces.
const VARIABLE: &str = "C10K_REMOTES";

/// A server that dies above this share of its limit was most likely killed by it: it may have grown by the rest since
/// the last poll.
const NEAR_LIMIT: f64 = 0.8;

/// Where a target runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Remote {
    /// The target.
    pub(crate) target: Target,
    /// The URL that it serves.
    pub(crate) url: Url,
    /// The URL of its admin port.
    pub(crate) admin: Url,
}

impl FromStr for Remote {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, urls) = text.split_once('=').ok_or("write NAME=URL,ADMIN-URL")?;
        let (url, admin) = urls.split_once(',').ok_or("the ADMIN-URL is missing: write NAME=URL,ADMIN-URL")?;
        let target = Target::from_name(name).ok_or_else(|| {
            let known = Target::ALL.map(Target::name).join(", ");
            format!("{name:?} is not one of {known}")
        })?;
        Ok(Self { target, url: Url::parse(url)?, admin: Url::parse(admin)? })
    }
}

impl fmt::Display for Remote {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}={},{}", self.target.name(), self.url.as_str(), self.admin.as_str())
    }
}

impl Remote {
    /// The servers named in the environment. Not an `env` of the flag, which would conflict with URLs and subcommands.
    ///
    /// # Errors
    /// An entry is not a server.
    pub(crate) fn from_environment() -> Result<Vec<Self>, String> {
        let text = env::var(VARIABLE).unwrap_or_default();
        text.split_whitespace()
            .map(str::parse)
            .collect::<Result<_, _>>()
            .map_err(|why: String| format!("{VARIABLE}: {why}"))
    }

    /// The addresses of the server and of its admin port.
    ///
    /// # Errors
    /// It cannot be reached.
    pub(crate) fn addresses(&self) -> Result<(SocketAddr, SocketAddr)> {
        let name = self.target.name();
        let address = self.url.connectable_address().with_context(|| format!("cannot reach {name}"))?;
        let admin =
            self.admin.connectable_address().with_context(|| format!("cannot reach the admin port of {name}"))?;
        Ok((address, admin))
    }
}

/// The RAM that a remote server reports.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RemoteMemory {
    /// Its admin port.
    admin: SocketAddr,
    at_start: ServerMemory,
    last: ServerMemory,
    /// The highest total reported.
    highest_bytes: Option<u64>,
    /// When the window opened, in seconds since 1970.
    window_start_s: Option<u64>,
}

impl RemoteMemory {
    /// Fetches the first report.
    ///
    /// # Errors
    /// The admin port does not answer.
    pub(crate) fn fetch(admin: SocketAddr) -> Result<Self> {
        let counters =
            ServerCounters::fetch(admin).with_context(|| format!("no server reports its state at {admin}"))?;
        let memory = counters.memory;
        Ok(Self { admin, at_start: memory, last: memory, highest_bytes: memory.total_bytes, window_start_s: None })
    }

    /// Records when the window opens.
    pub(crate) fn start_window(&mut self) {
        let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        self.window_start_s = since_1970.ok().map(|time| time.as_secs());
    }

    /// Fetches a new report. Without an answer, the last report stands.
    pub(crate) fn refresh(&mut self) {
        if let Ok(counters) = ServerCounters::fetch(self.admin) {
            self.update(counters.memory);
        }
    }

    /// Takes a new report.
    pub(crate) fn update(&mut self, memory: ServerMemory) {
        self.highest_bytes = self.highest_bytes.max(memory.total_bytes);
        self.last = memory;
    }

    /// The total of its cgroup in the last report.
    pub(crate) fn current_bytes(&self) -> Option<u64> {
        self.last.total_bytes
    }

    /// The limit of its cgroup in the last report.
    pub(crate) fn limit_bytes(&self) -> Option<u64> {
        self.last.limit_bytes
    }

    /// Its cgroup's peak if that grew during this run, or else the highest total reported.
    pub(crate) fn peak_bytes(&self) -> Option<u64> {
        self.last.peak_bytes.filter(|_| self.last.peak_bytes > self.at_start.peak_bytes).or(self.highest_bytes)
    }

    /// Processes killed since the start because memory ran out.
    pub(crate) fn oom_kills(&self) -> u64 {
        self.last.oom_kills.saturating_sub(self.at_start.oom_kills)
    }

    /// Whether it was near its limit in its highest report.
    pub(crate) fn is_near_limit(&self) -> bool {
        let total_and_limit = self.highest_bytes.zip(self.last.limit_bytes);
        total_and_limit.is_some_and(|(total, limit)| total as f64 > limit as f64 * NEAR_LIMIT)
    }

    /// Describes how near it was to its limit, which may be what killed it.
    pub(crate) fn describe_usage(&self) -> String {
        let figure = |bytes: Option<u64>| bytes.map(|bytes| format::bytes(Some(bytes)));
        match (figure(self.last.total_bytes), figure(self.last.limit_bytes)) {
            (Some(total), Some(limit)) => format!("its last report was {total} of at most {limit} in its cgroup"),
            (Some(total), None) => format!("its last report was {total} in its cgroup, without a limit"),
            (None, _) => "it did not report its RAM".into(),
        }
    }

    /// `memory` with its own ledger, if that was read within the window, when all connections were open.
    pub(crate) fn ledger(&self, memory: &Memory) -> Memory {
        let limit_bytes = self.last.limit_bytes;
        if self.window_start_s.is_none() || self.last.ledger_at_s < self.window_start_s {
            return Memory { limit_bytes, ..memory.clone() };
        }
        let ServerMemory { pss_bytes, page_tables_bytes, kernel_stacks_bytes, sockets_bytes, .. } = self.last;
        Memory {
            rss_sum_bytes: self.last.rss_sum_bytes,
            pss_bytes,
            page_tables_bytes,
            kernel_stacks_bytes,
            sockets_bytes,
            limit_bytes,
            ..memory.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_remote_server_has_a_name_and_two_addresses() {
        let remote: Remote = "threads=http://a:8082/,http://a:9082/".parse().unwrap();
        assert_eq!((remote.target, remote.admin.as_str()), (Target::Threads, "http://a:9082/"));
        for text in ["", "threads", "threads=http://a/", "fork=http://a/,http://b/", "threads=a,b"] {
            assert!(text.parse::<Remote>().is_err(), "{text}");
        }
    }

    fn remote(start: ServerMemory, window_start_s: Option<u64>) -> RemoteMemory {
        let admin = SocketAddr::from(([127, 0, 0, 1], 1));
        RemoteMemory { admin, at_start: start, last: start, highest_bytes: start.total_bytes, window_start_s }
    }

    #[test]
    fn the_peak_of_an_earlier_run_is_ignored() {
        let memory =
            |total, peak| ServerMemory { total_bytes: Some(total), peak_bytes: Some(peak), ..ServerMemory::default() };
        let mut remote = remote(memory(10, 100), None);
        remote.update(memory(50, 100));
        remote.update(memory(40, 100));
        assert_eq!(remote.peak_bytes(), Some(50));
        remote.update(memory(90, 120));
        assert_eq!(remote.peak_bytes(), Some(120));
    }

    #[test]
    fn a_ledger_from_before_the_window_is_ignored() {
        let last = ServerMemory { pss_bytes: Some(5), ledger_at_s: Some(100), ..ServerMemory::default() };
        let pss = |window_start_s| remote(last, window_start_s).ledger(&Memory::default()).pss_bytes;
        assert_eq!([None, Some(101), Some(100)].map(pss), [None, None, Some(5)]);
    }
}
