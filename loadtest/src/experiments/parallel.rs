//! Whether two requests that compute run at once, and what they do to others on an event loop.

use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use results::Target;
use results::claim::Unit;
use results::statistics::Estimate;

use super::crowd::Client;
use super::lab::Lab;

/// How long each request computes.
const BURN: &str = "/cpu?for=100ms";
/// What starves an event loop.
const LONG_BURN: &str = "/cpu?for=200ms";
const PAUSE: Duration = Duration::from_millis(2);

/// A server, and how it is to run what computes.
struct Setup {
    name: &'static str,
    what: &'static str,
    target: Target,
    flags: &'static [&'static str],
}

const ON_LOOP: &[&str] = &["--allow-chaos", "--burn-on-loop", "--threads", "1"];
const SETUPS: &[Setup] = &[
    Setup { name: "prefork", what: "processes", target: Target::Prefork, flags: &[] },
    Setup { name: "threads", what: "threads", target: Target::Threads, flags: &[] },
    Setup { name: "pool_of_1", what: "a pool of one thread", target: Target::Threadpool, flags: &["--workers", "1"] },
    Setup { name: "pool_of_2", what: "a pool of two threads", target: Target::Threadpool, flags: &["--workers", "2"] },
    Setup { name: "loop_of_1", what: "one event loop", target: Target::AsyncCodec, flags: ON_LOOP },
    Setup {
        name: "loop_of_2",
        what: "tasks on two threads",
        target: Target::AsyncCodec,
        flags: &["--allow-chaos", "--burn-on-loop", "--threads", "2"],
    },
];

/// Two requests that compute, compared with one after the other.
pub(super) fn parallel(lab: &mut Lab<'_>) -> Result<()> {
    if thread::available_parallelism().map_or(1, usize::from) < 2 {
        lab.record_missing("parallel", "one CPU runs nothing in parallel");
        return Ok(());
    }
    let is_quick = lab.is_quick;
    let is_wanted = |setup: &&Setup| !is_quick || setup.target != Target::Threadpool;
    for setup in SETUPS.iter().filter(is_wanted) {
        let server = lab.start(setup.target, Duration::ZERO, setup.flags, None)?;
        let client = Client::new(server.address)?;
        client.ask_one("GET", BURN);
        let rounds: Result<Vec<f64>> = (0..lab.quick_or(3, 15)).map(|_| speedup(lab, &client)).collect();
        let what =
            format!("speed-up of two requests that compute, at once instead of one after the other: {}", setup.what);
        lab.record(format!("parallel.{}", setup.name), what, Unit::Ratio, Estimate::mean(&rounds?));
    }
    Ok(())
}

fn speedup(lab: &Lab<'_>, client: &Client) -> Result<f64> {
    lab.check_interrupt()?;
    let one = client.ask("GET", &[BURN]);
    let two = client.ask("GET", &[BURN, BURN]);
    let longest = |times: &[Option<Duration>]| times.iter().copied().collect::<Option<Vec<_>>>()?.into_iter().max();
    match (longest(&one), longest(&two)) {
        (Some(one), Some(two)) => Ok(2.0 * one.as_secs_f64() / two.as_secs_f64()),
        _ => bail!("a request was not answered"),
    }
}

/// How long `/health` takes while somebody computes.
pub(super) fn starve(lab: &mut Lab<'_>) -> Result<()> {
    let setups: [(&str, &str, Target, &[&str]); 4] = [
        ("on_loop", "on the event loop", Target::Async, ON_LOOP),
        ("spawn_blocking", "beside the event loop (spawn_blocking)", Target::Async, &["--threads", "1"]),
        ("threads", "in a thread of its own", Target::Threads, &[]),
        ("prefork", "in a process of its own", Target::Prefork, &[]),
    ];
    for (name, what, target, flags) in setups.into_iter().take(lab.quick_or(2, 4)) {
        let server = lab.start(target, Duration::ZERO, flags, None)?;
        let client = Client::new(server.address)?;
        client.ask_one("GET", "/health");
        let burner = client.keep_asking(LONG_BURN);
        let samples = lab.quick_or(5, 60);
        let rounds: Result<Vec<f64>> = (0..3).map(|_| longest_ns(lab, &client, samples)).collect();
        ensure!(!burner.is_finished(), "the request that computes was refused");
        burner.abort();
        let what = format!("the longest of {samples} /health while a request computes 200 ms {what}");
        lab.record(format!("starve.{name}.longest"), what, Unit::Ns, Estimate::mean(&rounds?));
    }
    Ok(())
}

fn longest_ns(lab: &Lab<'_>, client: &Client, samples: usize) -> Result<f64> {
    let mut times = Vec::with_capacity(samples);
    for _ in 0..samples {
        lab.check_interrupt()?;
        let Some(time) = client.ask_one("GET", "/health") else { bail!("/health was not answered") };
        times.push(time);
        thread::sleep(PAUSE);
    }
    times.into_iter().max().map(|time| time.as_nanos() as f64).context("nothing was asked")
}
