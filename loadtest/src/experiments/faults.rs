//! One request goes wrong while others wait: how many of them notice, and how long until a new one is answered.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use quantity::format::count;
use results::Target;
use results::claim::Unit;
use results::statistics::Estimate;

use super::crowd::{Client, Crowd};
use super::lab::{Lab, Started};
use crate::machine::host;
use crate::machine::walls::Asked;

const TARGETS: [Target; 3] = [Target::Prefork, Target::Threads, Target::Async];
const FAULTS: [&str; 3] = ["panic", "abort", "segv"];
/// How long a server is given to answer again.
const RECOVERY_TIMEOUT: Duration = Duration::from_secs(2);
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// Tries every fault under every model.
pub(super) fn run(lab: &mut Lab<'_>) -> Result<()> {
    let others = lab.quick_or(100, 10_000);
    host::prepare_for(&Asked::new(others, &TARGETS))?;
    for target in TARGETS {
        for fault in FAULTS {
            strike(lab, target, fault, others)?;
        }
        leak(lab, target)?;
    }
    Ok(())
}

fn strike(lab: &mut Lab<'_>, target: Target, fault: &str, others: usize) -> Result<()> {
    // All of them must have been forked before the first is answered.
    let full_s = if target == Target::Prefork { 5 } else { 3 };
    let wait = lab.quick_or(Duration::from_millis(300), Duration::from_secs(full_s));
    let mut server = lab.start(target, wait, &["--allow-chaos"], None)?;
    let crowd = Crowd::gather(server.address, others, "/")?;
    let waiting = server.wait_for_waiting(others as u64, wait.mul_f64(0.9));
    if waiting != Some(others as u64) {
        let why = format!("{} of {others} connections were held when the fault was to strike", waiting.unwrap_or(0));
        lab.record_missing(format!("faults.{}.{fault}", target.name()), why);
        return Ok(());
    }
    let client = Client::new(server.address)?;
    client.ask_one("POST", &format!("/chaos/{fault}"));
    let struck = Instant::now();
    let recovery = recovery(&client, struck, &mut server);
    let fates = crowd.fates();
    lab.check_interrupt()?;
    let what = format!("a request's {fault} while {} others wait, {}", count(others as f64), target.name());
    let name = format!("faults.{}.{fault}", target.name());
    let lost = Estimate::exact(fates.lost as f64 / others as f64);
    lab.record(
        format!("{name}.lost"),
        format!("share of the others that lost their answer: {what}"),
        Unit::Share,
        Some(lost),
    );
    match recovery {
        Some(recovery) => {
            let recovery = Some(Estimate::exact(recovery.as_nanos() as f64));
            let what = format!("time from its end until a new request was answered: {what}");
            let note = Some("measured once".to_owned());
            lab.record_noted(format!("{name}.recovery"), what, Unit::Ns, recovery, note);
        }
        None => lab.record_missing(format!("{name}.recovery"), "never: the server is gone until somebody restarts it"),
    }
    Ok(())
}

/// The time from the fault until somebody new is served.
fn recovery(client: &Client, struck: Instant, server: &mut Started) -> Option<Duration> {
    while struck.elapsed() < RECOVERY_TIMEOUT && !server.subject.is_gone() {
        if client.ask_one("GET", "/health").is_some() {
            return Some(struck.elapsed());
        }
        thread::sleep(POLL_INTERVAL);
    }
    None
}

/// A mebibyte is never freed: by whom it is kept.
fn leak(lab: &mut Lab<'_>, target: Target) -> Result<()> {
    const LEAKS: usize = 64;
    let mut server = lab.start(target, Duration::ZERO, &["--allow-chaos"], None)?;
    let client = Client::new(server.address)?;
    client.ask_one("GET", "/");
    let before = server.subject.total_bytes();
    for _ in 0..LEAKS {
        client.ask_one("POST", "/chaos/leak");
    }
    let after = server.subject.total_bytes();
    lab.check_interrupt()?;
    let kept =
        before.zip(after).map(|(before, after)| Estimate::exact(after.saturating_sub(before) as f64 / LEAKS as f64));
    let what = format!("RAM that a request's leak of 1 MiB leaves behind, {}", target.name());
    lab.record(format!("faults.{}.leak", target.name()), what, Unit::Bytes, kept);
    Ok(())
}
