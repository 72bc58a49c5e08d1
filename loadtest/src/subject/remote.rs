//! Servers that run elsewhere: they are neither built nor started nor stopped, and tell of their RAM themselves.

use std::env;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::SystemTime;

use anyhow::{Context as _, Result};

use super::admin::{ServerCounters, ServerMemory};
use load::net::Url;
use quantity::format;
use results::Target;
use results::run::Memory;

/// Names servers, with spaces between.
const VARIABLE: &str = "C10K_REMOTES";

/// From this share of its limit on, a server that dies has most likely been killed by it: between two questions it may
/// have grown by the rest.
const NEAR_LIMIT: f64 = 0.8;

/// Where a target runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Remote {
    /// Which it is.
    pub(crate) target: Target,
    /// Where it serves.
    pub(crate) url: Url,
    /// Where it tells about itself.
    pub(crate) admin: Url,
}

impl FromStr for Remote {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, urls) = text.split_once('=').ok_or("write NAME=URL,ADMIN-URL")?;
        let (url, admin) = urls.split_once(',').ok_or("there is no ADMIN-URL: write NAME=URL,ADMIN-URL")?;
        let target = Target::from_name(name).ok_or_else(|| {
            let known = Target::ALL.map(Target::name).join(", ");
            format!("{name:?} is none of {known}")
        })?;
        Ok(Self { target, url: Url::parse(url)?, admin: Url::parse(admin)? })
    }
}

impl Remote {
    /// What the environment names: not by way of the flag, which would be in the way of URLs and subcommands.
    ///
    /// # Errors
    /// That is no server.
    pub(crate) fn from_environment() -> Result<Vec<Self>, String> {
        let text = env::var(VARIABLE).unwrap_or_default();
        text.split_whitespace()
            .map(str::parse)
            .collect::<Result<_, _>>()
            .map_err(|why: String| format!("{VARIABLE}: {why}"))
    }

    /// Where it serves, and where it tells about itself.
    ///
    /// # Errors
    /// It is not there.
    pub(crate) fn addresses(&self) -> Result<(SocketAddr, SocketAddr)> {
        let name = self.target.name();
        let address = self.url.connectable_address().with_context(|| format!("{name} is not there"))?;
        let admin = self.admin.connectable_address().with_context(|| format!("{name} has no admin port there"))?;
        Ok((address, admin))
    }
}

/// What a server has told of its RAM.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RemoteMemory {
    /// Where it tells.
    admin: SocketAddr,
    at_start: ServerMemory,
    last: ServerMemory,
    /// The highest total of all that it told.
    highest_bytes: Option<u64>,
    /// When the window began, in seconds since 1970.
    window_start_s: Option<u64>,
}

impl RemoteMemory {
    /// Asks for the first time.
    ///
    /// # Errors
    /// There is no answer.
    pub(crate) fn ask(admin: SocketAddr) -> Result<Self> {
        let counters = ServerCounters::fetch(admin).with_context(|| format!("nobody tells of a server at {admin}"))?;
        let memory = counters.memory;
        Ok(Self { admin, at_start: memory, last: memory, highest_bytes: memory.total_bytes, window_start_s: None })
    }

    /// The window begins.
    pub(crate) fn begin(&mut self) {
        let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        self.window_start_s = since_1970.ok().map(|time| time.as_secs());
    }

    /// Asks again. Who does not answer has told nothing new.
    pub(crate) fn ask_again(&mut self) {
        if let Ok(counters) = ServerCounters::fetch(self.admin) {
            self.note(counters.memory);
        }
    }

    /// It has told again.
    pub(crate) fn note(&mut self, memory: ServerMemory) {
        self.highest_bytes = self.highest_bytes.max(memory.total_bytes);
        self.last = memory;
    }

    /// What is charged to its cgroup now.
    pub(crate) fn current_bytes(&self) -> Option<u64> {
        self.last.total_bytes
    }

    /// Its cgroup's peak, if that is of this run; else the highest total that it told.
    pub(crate) fn peak_bytes(&self) -> Option<u64> {
        self.last.peak_bytes.filter(|_| self.last.peak_bytes > self.at_start.peak_bytes).or(self.highest_bytes)
    }

    /// Processes killed for want of memory since the start.
    pub(crate) fn oom_kills(&self) -> u64 {
        self.last.oom_kills.saturating_sub(self.at_start.oom_kills)
    }

    /// Whether it was about to reach its limit when it last told.
    pub(crate) fn is_at_limit(&self) -> bool {
        let total_and_limit = self.highest_bytes.zip(self.last.limit_bytes);
        total_and_limit.is_some_and(|(total, limit)| total as f64 > limit as f64 * NEAR_LIMIT)
    }

    /// How near it was to its limit when it last told: what may have ended it since.
    pub(crate) fn describe(&self) -> String {
        let figure = |bytes: Option<u64>| bytes.map(|bytes| format::bytes(Some(bytes)));
        match (figure(self.last.total_bytes), figure(self.last.limit_bytes)) {
            (Some(total), Some(limit)) => format!("its cgroup had {total} of at most {limit} when it last told"),
            (Some(total), None) => format!("its cgroup had {total}, without a limit, when it last told"),
            (None, _) => "it told nothing of its RAM".into(),
        }
    }

    /// Its own ledger, if it has read that within the window, while it had all connections.
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

    fn told(start: ServerMemory, window_start_s: Option<u64>) -> RemoteMemory {
        let admin = SocketAddr::from(([127, 0, 0, 1], 1));
        RemoteMemory { admin, at_start: start, last: start, highest_bytes: start.total_bytes, window_start_s }
    }

    #[test]
    fn the_peak_of_an_earlier_run_is_not_ours() {
        let memory =
            |total, peak| ServerMemory { total_bytes: Some(total), peak_bytes: Some(peak), ..ServerMemory::default() };
        let mut told = told(memory(10, 100), None);
        told.note(memory(50, 100));
        told.note(memory(40, 100));
        assert_eq!(told.peak_bytes(), Some(50));
        told.note(memory(90, 120));
        assert_eq!(told.peak_bytes(), Some(120));
    }

    #[test]
    fn a_ledger_of_before_the_window_is_not_shown() {
        let last = ServerMemory { pss_bytes: Some(5), ledger_at_s: Some(100), ..ServerMemory::default() };
        let pss = |window_start_s| told(last, window_start_s).ledger(&Memory::default()).pss_bytes;
        assert_eq!([None, Some(101), Some(100)].map(pss), [None, None, Some(5)]);
    }
}
