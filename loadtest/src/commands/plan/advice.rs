//! Recommends one of the models that fit.

use quantity::format;
use results::Target;
use serde::Serialize;

use super::need::Need;
use super::verdict::Verdict;

/// The recommendation.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Advice {
    /// The model to choose; `None` if none fits.
    pub(super) target: Option<&'static str>,
    /// Why, in sentences.
    pub(super) why: Vec<String>,
}

/// Recommends the simplest code that leaves half of the RAM to the application.
pub(super) fn advise(verdicts: &[Verdict], need: &Need) -> Advice {
    let fitting = |target: Target| verdicts.iter().find(|verdict| verdict.target == target.name() && verdict.fits());
    let is_small = |verdict: &&Verdict| verdict.ram_bytes <= need.ram_bytes / 2;
    let ram = |verdict: &Verdict| format::bytes(Some(verdict.ram_bytes));
    if need.isolation
        && let Some(verdict) = fitting(Target::Prefork)
    {
        return take(
            verdict,
            &format!("A crash ends only one connection, and a process each costs {} in all.", ram(verdict)),
        );
    }
    if let Some(verdict) = fitting(Target::Threads).filter(is_small) {
        let why = format!(
            "Blocking code is the simplest to write and to debug, and a thread each costs {} in all, which leaves more than half of \
             the RAM to what the requests themselves need.",
            ram(verdict)
        );
        return take(verdict, &why);
    }
    if let Some(verdict) = fitting(Target::Threadpool).filter(|verdict| is_narrow(verdict, need)) {
        let workers = verdict.workers.unwrap_or(0);
        let why = format!(
            "Only {} of {} connections wait at once (Little's law: rate × wait, with some to spare). That many workers \
             (--workers {workers}) can run blocking code, and cost {} in all.",
            format::count(workers as f64),
            format::count(need.connections as f64),
            ram(verdict)
        );
        return take(verdict, &why);
    }
    if let Some(verdict) = fitting(Target::Async) {
        let why = format!(
            "A task each costs {} in all, while a thread each does not fit or needs more than half of the RAM.",
            ram(verdict)
        );
        return take(verdict, &why);
    }
    if let Some(verdict) = fitting(Target::AsyncCodec) {
        let why = format!("Tasks fit, with {}, if their HTTP is as lean as this project's own codec.", ram(verdict));
        return take(verdict, &why);
    }
    match [Target::Threads, Target::Threadpool, Target::Prefork].into_iter().find_map(fitting) {
        Some(verdict) => take(verdict, &format!("It is the only model that fits, with {}.", ram(verdict))),
        None => Advice { target: None, why: nothing_fits(verdicts, need) },
    }
}

/// Whether a pool pays off: only few of its connections wait at once.
fn is_narrow(verdict: &Verdict, need: &Need) -> bool {
    verdict.workers.is_some_and(|workers| workers <= need.connections as u64 / 4)
}

fn take(verdict: &Verdict, why: &str) -> Advice {
    let cautions = verdict.cautions.iter().map(|caution| format!("But: {caution}."));
    Advice { target: Some(verdict.target), why: [why.to_owned()].into_iter().chain(cautions).collect() }
}

/// Names the model with the fewest objections, and of several the one that needs the least RAM. No RAM buys isolation.
fn nothing_fits(verdicts: &[Verdict], need: &Need) -> Vec<String> {
    let isolates = |verdict: &&Verdict| !need.isolation || verdict.target == Target::Prefork.name();
    let nearest = verdicts.iter().filter(isolates).min_by_key(|verdict| (verdict.against.len(), verdict.ram_bytes));
    let nearest = nearest.map(|nearest| format!("The closest is {}; below is what speaks against it.", nearest.target));
    ["None of the models fits.".to_owned()].into_iter().chain(nearest).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEED: Need = Need {
        connections: 10_000,
        wait_s: 1.0,
        ram_bytes: 1 << 30,
        cpu_per_request_s: 0.0,
        rate: 10_000.0,
        isolation: false,
        pool: None,
    };

    fn verdict(target: Target, ram_bytes: u64) -> Verdict {
        Verdict {
            target: target.name(),
            against: if ram_bytes > NEED.ram_bytes { vec!["too much RAM".into()] } else { Vec::new() },
            cautions: Vec::new(),
            ram_bytes,
            per_connection_bytes: ram_bytes / 10_000,
            per_connection_high_bytes: ram_bytes / 10_000,
            connections_in_ram: 1,
            workers: (target == Target::Threadpool).then_some(10_000),
            cpus: None,
        }
    }

    fn taken(threads: u64, hyper: u64, pool_workers: u64, isolation: bool) -> Option<&'static str> {
        let pool = Verdict { workers: Some(pool_workers), ..verdict(Target::Threadpool, 50 << 20) };
        let verdicts = [verdict(Target::Threads, threads), verdict(Target::Async, hyper), pool];
        let mut verdicts = [&verdicts[..], &[verdict(Target::Prefork, 900 << 20)]].concat();
        if isolation {
            verdicts[..3].iter_mut().for_each(|verdict| verdict.against.push("no isolation".into()));
        }
        advise(&verdicts, &Need { isolation, ..NEED }).target
    }

    #[test]
    fn the_simplest_that_fits_is_taken() {
        const MIB: u64 = 1 << 20;
        assert_eq!(taken(400 * MIB, 150 * MIB, 10_000, false), Some("threads"));
        assert_eq!(taken(600 * MIB, 150 * MIB, 10_000, false), Some("async"));
        assert_eq!(taken(600 * MIB, 150 * MIB, 400, false), Some("threadpool"));
        assert_eq!(taken(600 * MIB, 2_000 * MIB, 10_000, false), Some("threads"));
        assert_eq!(taken(400 * MIB, 150 * MIB, 10_000, true), Some("prefork"));
        assert_eq!(advise(&[verdict(Target::Threads, 2_000 * MIB)], &NEED).target, None);
    }
}
