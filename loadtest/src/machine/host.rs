//! Describes this machine, and refuses a run that its limits do not allow.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use anyhow::{Context as _, Result, bail};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use results::Target;
use results::run::Host;
use results::walls::Wall;

use super::cpus::{Cpus, Split};
use super::readings;
use super::walls::{self, Asked, Readings};

static SOFT_NOFILE_AT_START: OnceLock<u64> = OnceLock::new();

/// Describes this machine, with the CPUs of this thread and those that the server gets.
pub(crate) fn describe(split: Option<&Split>) -> Host {
    let cpus = Cpus::allowed(0).map(|own| split.map_or(own.clone(), |split| own.union(&split.server)));
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").ok();
    Host {
        kernel: kernel.map(|release| release.trim().to_owned()),
        cpus: cpus.map_or(1, |cpus| cpus.count() as u64),
        cpu_quota: meter::cpu_quota().map(|quota| quota.cpus),
        ram_bytes: meter::machine::ram_bytes(),
        // The hard limit, which every run raises the soft one to.
        nofile: getrlimit(Resource::RLIMIT_NOFILE).ok().map(|(_, hard)| hard),
        somaxconn: read_number("/proc/sys/net/core/somaxconn"),
    }
}

/// Raises the limit of open files, and refuses what is asked if this machine cannot hold it, before anything is built or
/// started. Returns what may go wrong all the
/// same, in words: what only some of the servers hit, and what is only an estimate.
///
/// # Errors
/// A limit is too low for all of them: the message says which comes first, and what to do.
pub(crate) fn prepare_for(asked: &Asked) -> Result<Vec<String>> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).context("cannot read the open-file limit")?;
    // Only the first call sees it.
    let _ = SOFT_NOFILE_AT_START.set(soft);
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).context("cannot raise the open-file limit")?;
    let targets: Vec<_> = asked.targets().collect();
    check(&walls::walls(asked, &Readings::now(), readings::may), asked.connections, &targets)
}

fn check(walls: &[Wall], connections: usize, targets: &[Target]) -> Result<Vec<String>> {
    let hit: Vec<_> = walls.iter().filter(|wall| wall.is_hit).collect();
    let is_certain = |wall: &&&Wall| !wall.is_estimate;
    let stops = |target: &Target| hit.iter().filter(is_certain).any(|wall| wall.concerns(target.name()));
    let lowest = hit.iter().filter(is_certain).min_by_key(|wall| wall.allows);
    if let Some(first) = lowest
        && targets.iter().all(stops)
    {
        bail!(
            "this machine cannot hold {connections} connections: {}; or hold fewer with -c {}, or share them \
             out with --processes, --workers and --bind. `loadtest doctor -c {connections}` shows all limits",
            report::walls::sentence(first),
            most(&hit, targets)
        );
    }
    Ok(hit.into_iter().map(report::walls::sentence).collect())
}

/// What the server that can have the most can have; without one, what the load generator can.
fn most(hit: &[&Wall], targets: &[Target]) -> u64 {
    let allows = |target: &str| {
        let certain = hit.iter().filter(|wall| !wall.is_estimate && wall.concerns(target));
        certain.filter_map(|wall| wall.allows).min().unwrap_or(0)
    };
    targets.iter().map(|target| allows(target.name())).max().unwrap_or_else(|| allows(""))
}

/// The soft limit of open files that this process was started with, if [`prepare_for`] has raised it since. A server is
/// started with the same: it is not for us to raise.
pub(crate) fn soft_nofile_at_start() -> Option<u64> {
    SOFT_NOFILE_AT_START.get().copied()
}

/// Sets the soft limit of open files.
///
/// # Errors
/// It is above the hard one.
pub(crate) fn set_soft_nofile(soft: u64) -> Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).context("cannot read the open-file limit")?;
    setrlimit(Resource::RLIMIT_NOFILE, soft.min(hard), hard).context("cannot set the open-file limit")
}

/// The longest backlog that the kernel allows.
pub(crate) fn somaxconn() -> u64 {
    read_number("/proc/sys/net/core/somaxconn").unwrap_or(128)
}

fn read_number(path: impl AsRef<Path>) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// Whether one of the folders of `path`, in the form of `PATH`, has this program.
pub(crate) fn is_in(path: &OsStr, program: &str) -> bool {
    env::split_paths(path).any(|directory| directory.join(program).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;
    use results::walls::{Remedy, Side};

    fn wall(name: &str, targets: &[&str], allows: u64, is_estimate: bool) -> Wall {
        let remedy = Remedy { command: format!("raise {name}"), is_permitted: true, why_not: None };
        Wall {
            name: name.to_owned(),
            side: Side::Server,
            targets: targets.iter().map(ToString::to_string).collect(),
            limit: allows,
            unit: "files".into(),
            allows: Some(allows),
            is_hit: allows < 10_000,
            is_estimate,
            remedy: Some(remedy),
        }
    }

    #[test]
    fn what_stops_all_servers_is_refused_and_what_stops_some_is_said() {
        let both = [Target::Prefork, Target::Threads];
        let check = |walls: &[Wall]| check(walls, 10_000, &both).map_err(|error| error.to_string());
        let (tasks, maps) =
            (wall("pid_max", &["prefork", "threads"], 4_000, false), wall("maps", &["threads"], 300, false));
        let error = check(&[tasks.clone(), maps.clone()]).unwrap_err();
        assert!(error.contains("maps") && error.contains("-c 4000"), "{error}");
        let (some, fits) = (check(std::slice::from_ref(&maps)).unwrap(), wall("files", &[], 10_000, false));
        assert!(some.len() == 1 && some[0].contains("raise maps"), "{some:?}");
        // An estimate never stops a run.
        assert_eq!(check(&[wall("RAM", &[], 5_000, true), fits.clone()]).unwrap().len(), 1);
        assert_eq!(check(&[fits]).unwrap(), [""; 0]);
    }

    #[test]
    fn a_load_generator_alone_has_limits_too() {
        let error = check(&[wall("ports", &[], 4_032, false)], 10_000, &[]).unwrap_err().to_string();
        assert!(error.contains("raise ports") && error.contains("-c 4032"), "{error}");
    }

    #[test]
    fn the_open_file_limit_is_the_same_before_and_after_a_run_raises_it() {
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        setrlimit(Resource::RLIMIT_NOFILE, hard - 1, hard).unwrap();
        let before = describe(None).nofile;
        prepare_for(&Asked::new(1, &[])).unwrap();
        assert_eq!((before, describe(None).nofile), (Some(hard), Some(hard)));
    }
}
