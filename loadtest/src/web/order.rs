//! What may be ordered on the page: typed, and bounded by what this machine allows.

use std::fmt;
use std::time::Duration;

use common::app::MAX_BURN;
use common::db::Latency;
use results::Target;
use results::walls::first;
use serde::{Deserialize, Serialize};

use crate::machine::readings;
use crate::machine::walls::{self, Asked, Readings};
use crate::subject::memory::MemorySource;
use crate::subject::remote::Remote;

const MAX_DURATION_S: u64 = 600;
const MAX_WAIT: Duration = Duration::from_secs(60);
/// Less cannot hold any of the servers.
const MIN_RAM_MIB: u64 = 8;

/// A run that somebody asks for.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Order {
    /// The servers' names.
    pub(super) targets: Vec<String>,
    pub(super) connections: usize,
    pub(super) duration_s: u64,
    /// The value of `--db-wait`.
    pub(super) wait: String,
    /// The limit of each server's RAM.
    pub(super) ram_limit_mib: Option<u64>,
    /// The CPU time of each query: the value of the servers' `--burn`.
    pub(super) burn: Option<String>,
    /// What to inject within the window.
    pub(super) fault: Option<Fault>,
}

/// A fault to inject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Fault {
    /// A panic in a handler.
    Panic,
    /// The process that serves the request dies of SIGABRT.
    Abort,
    /// A mebibyte is never freed.
    Leak,
    /// SIGKILL for a child of the server, if it has any, or else for the server.
    KillWorker,
}

/// What this machine allows.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Bounds {
    targets: Vec<TargetBound>,
    duration_s: u64,
    min_ram_mib: u64,
    max_ram_mib: u64,
    /// Why RAM cannot be limited, if it cannot.
    no_ram_limit: Option<String>,
    /// Why the servers can be given no flags, if they cannot.
    no_flags: Option<&'static str>,
    #[serde(skip)]
    remotes: Vec<Remote>,
}

/// What this machine allows one model.
#[derive(Clone, Debug, Serialize)]
struct TargetBound {
    name: &'static str,
    connections: usize,
    /// What the limit is, and how to raise it.
    why: String,
}

impl Bounds {
    /// What this machine allows, or these servers elsewhere, of which only connections are known.
    pub(crate) fn of_machine(remotes: Vec<Remote>) -> Self {
        let bound = |target: Target| {
            // The limits of another machine are not known here.
            let here = if remotes.is_empty() { vec![target] } else { Vec::new() };
            let mut walls = walls::walls(&Asked::new(1, &here), &Readings::now(), readings::may);
            walls.retain(|wall| !wall.is_estimate);
            let first = first(&walls, target.name());
            TargetBound {
                name: target.name(),
                connections: first.and_then(|wall| wall.allows).map_or(usize::MAX, |allows| allows as usize),
                why: first.map(report::walls::sentence).unwrap_or_default(),
            }
        };
        let is_there = |target: &Target| remotes.is_empty() || remotes.iter().any(|remote| remote.target == *target);
        let targets = Target::ALL.into_iter().filter(is_there).map(bound).collect();
        let elsewhere = (!remotes.is_empty()).then_some("the servers run elsewhere");
        let no_cgroup = match MemorySource::open() {
            MemorySource::Processes { why } => Some(why),
            _ => None,
        };
        Self {
            targets,
            duration_s: MAX_DURATION_S,
            min_ram_mib: MIN_RAM_MIB,
            max_ram_mib: meter::machine::ram_bytes().unwrap_or(u64::MAX) >> 20,
            no_ram_limit: elsewhere.map(str::to_owned).or(no_cgroup),
            no_flags: elsewhere,
            remotes,
        }
    }

    /// The arguments of loadtest for an order.
    ///
    /// # Errors
    /// It is beyond the bounds.
    pub(super) fn arguments(&self, order: &Order) -> Result<Vec<String>, Refused> {
        let refuse = |why: String| Err(Refused(why));
        if order.targets.is_empty() {
            return refuse("choose a server".into());
        }
        for name in &order.targets {
            let Some(bound) = self.targets.iter().find(|bound| bound.name == name) else {
                return refuse(format!("there is no server {name:?}"));
            };
            if order.connections == 0 || order.connections > bound.connections {
                let TargetBound { connections, why, .. } = bound;
                return refuse(format!("{name} can have 1 to {connections} connections here: {why}"));
            }
        }
        if !(1..=self.duration_s).contains(&order.duration_s) {
            return refuse(format!("measure for 1 to {} s", self.duration_s));
        }
        let wait: Latency = order.wait.parse().map_err(|why| Refused(format!("the wait: {why}")))?;
        if matches!(wait, Latency::Fixed(wait) if wait > MAX_WAIT) {
            return refuse(format!("wait at most {} s", MAX_WAIT.as_secs()));
        }
        let mut arguments = vec!["--target".into(), order.targets.join(",")];
        arguments.extend(["--connections".into(), order.connections.to_string()]);
        arguments.extend(["--duration".into(), format!("{}s", order.duration_s)]);
        arguments.extend(["--db-wait".into(), wait.to_string()]);
        arguments.extend(self.ram_limit(order)?);
        arguments.extend(self.remotes.iter().flat_map(|remote| ["--remote".into(), remote.to_string()]));
        arguments.extend(self.server_flags(order)?);
        Ok(arguments)
    }

    fn ram_limit(&self, order: &Order) -> Result<Vec<String>, Refused> {
        let Some(mib) = order.ram_limit_mib else { return Ok(Vec::new()) };
        if let Some(why) = &self.no_ram_limit {
            return Err(Refused(format!("RAM cannot be limited: {why}")));
        }
        if !(self.min_ram_mib..=self.max_ram_mib).contains(&mib) {
            return Err(Refused(format!("limit RAM to {} to {} MiB", self.min_ram_mib, self.max_ram_mib)));
        }
        Ok(vec!["--ram-limit".into(), format!("{mib}MiB")])
    }

    /// What the servers are told.
    fn server_flags(&self, order: &Order) -> Result<Vec<String>, Refused> {
        let mut flags = Vec::new();
        if let Some(burn) = &order.burn {
            let time = quantity::duration(burn).map_err(|why| Refused(format!("the CPU time: {why}")))?;
            if time > MAX_BURN {
                return Err(Refused(format!("let a query cost at most {} s of CPU time", MAX_BURN.as_secs())));
            }
            flags.extend(["--burn".into(), burn.clone()]);
        }
        if order.fault.is_some() {
            flags.push("--allow-chaos".into());
        }
        match self.no_flags {
            _ if flags.is_empty() => Ok(flags),
            Some(why) => Err(Refused(format!("neither CPU time nor faults: {why}"))),
            None => Ok([vec!["--".into()], flags].concat()),
        }
    }
}

/// Why an order is not taken.
#[derive(Debug)]
pub(super) struct Refused(pub(super) String);

impl Fault {
    /// Its name in events.
    pub(super) fn name(self) -> &'static str {
        match self {
            Fault::Panic => "panic",
            Fault::Abort => "abort",
            Fault::Leak => "leak",
            Fault::KillWorker => "kill-worker",
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn arguments(change: serde_json::Value) -> Result<String, String> {
        let mut order = json!({"targets": ["threads", "async"], "connections": 100, "duration_s": 5, "wait": "1s"});
        order.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let order = serde_json::from_value(order).map_err(|error| error.to_string())?;
        let bounds = Bounds { no_ram_limit: None, ..Bounds::of_machine(Vec::new()) };
        bounds.arguments(&order).map(|arguments| arguments.join(" ")).map_err(|refused| refused.to_string())
    }

    #[test]
    fn an_order_becomes_arguments() {
        let plain = "--target threads,async --connections 100 --duration 5s --db-wait 1s";
        assert_eq!(arguments(json!({})).unwrap(), plain);
        let all = arguments(json!({"ram_limit_mib": 64, "burn": "1.5ms", "fault": "panic"})).unwrap();
        assert_eq!(all, format!("{plain} --ram-limit 64MiB -- --burn 1.5ms --allow-chaos"));
    }

    #[test]
    fn what_the_machine_does_not_allow_is_refused_with_the_reason() {
        for (change, expected) in [
            (json!({"targets": []}), "choose a server"),
            (json!({"targets": ["--exec"]}), "no server \"--exec\""),
            (json!({"connections": 0}), "1 to "),
            (json!({"connections": 10_000_000}), "connections here: "),
            (json!({"duration_s": 0}), "1 to 600 s"),
            (json!({"wait": "--exec"}), "the wait"),
            (json!({"wait": "2h"}), "at most 60 s"),
            (json!({"ram_limit_mib": 1}), "limit RAM"),
            (json!({"burn": "1"}), "the CPU time"),
            (json!({"burn": "11s"}), "at most 10 s"),
            (json!({"fault": "rm"}), "unknown variant"),
            (json!({"exec": "true"}), "unknown field"),
        ] {
            let refused = arguments(change.clone()).unwrap_err();
            assert!(refused.contains(expected), "{change}: {refused}");
        }
    }
}
