//! The answer in a sentence or two, and the command that people want next. It stands below the figures, where a terminal
//! ends.

use quantity::format::{count, exact_bytes, micros, short_bytes, significant};
use results::sweep::{ModelSummary, Sweep};
use results::target::ARTICLE_CONNECTIONS;
use results::{RunResult, Target};

/// What one run or several runs say, and what to do next. Empty without runs.
pub fn answer(results: &[RunResult]) -> String {
    let sweep = Sweep::new(results);
    let (sentences, next) = match (results, &sweep) {
        ([], _) => return String::new(),
        (_, Some(sweep)) => sweep_answer(sweep),
        ([one], _) => one_answer(one),
        (several, _) => several_answer(several),
    };
    let doubts = match results.iter().map(|result| result.warnings.len()).sum::<usize>() {
        0 => "",
        _ if sweep.is_some() => " Some runs gave warnings: `loadtest report FILE --report page.html` shows them.",
        1 => " Read the warning above first.",
        _ => " Read the warnings above first.",
    };
    format!("{sentences}{doubts}\nNext: {next}\n")
}

fn one_answer(result: &RunResult) -> (String, String) {
    if let Some(failed) = failed(result) {
        let next = match result.complete {
            true => "look at the errors and their reasons above, or offer less load (-c)".into(),
            false if result.duration_s.is_none() => "nothing was measured; above is why".into(),
            false => "the figures above are partial; measure again".into(),
        };
        return (failed, next);
    }
    let connections = count(result.connections.requested as f64);
    let latency = latency(result).map_or_else(String::new, |latency| format!(", {latency}"));
    let rps = count(result.rps.unwrap_or_default());
    match result.memory.peak_bytes {
        Some(peak_bytes) => {
            let claim = claim(result).map_or_else(String::new, |claim| format!(" ({claim})"));
            let peak = short_bytes(peak_bytes as f64);
            let next = match Target::from_name(&result.target) {
                Some(_) => "loadtest --target all    compares the models",
                // A server at a URL is none of the models.
                None => "add --report page.html, and loadtest draws charts of the run",
            };
            (
                format!(
                    "{} took {peak} of RAM for {connections} connections{claim}, and answered {rps} requests/s{latency}.",
                    result.target
                ),
                next.into(),
            )
        }
        None => (
            format!("{} answered {rps} requests/s over {connections} connections{latency}.", result.target),
            "add --pid PID or --exec 'CMD', and loadtest meters the server's RAM and CPU".into(),
        ),
    }
}

fn several_answer(results: &[RunResult]) -> (String, String) {
    let mut sentences: Vec<String> = results.iter().filter_map(failed).collect();
    let peak = |result: &RunResult| result.memory.peak_bytes.filter(|_| failed(result).is_none());
    let mut measured: Vec<_> = results.iter().filter_map(|result| Some((result, peak(result)?))).collect();
    let claims: Vec<_> =
        measured.iter().filter_map(|(result, _)| Some(format!("{}: {}", result.target, claim(result)?))).collect();
    measured.sort_by_key(|(_, peak_bytes)| *peak_bytes);
    if let [(least, least_bytes), .., (most, most_bytes)] = measured.as_slice() {
        let connections = count(least.connections.requested as f64);
        sentences.push(format!(
            "{connections} connections took least RAM with {} ({}) and most with {} ({}, {} times as much).",
            least.target,
            short_bytes(*least_bytes as f64),
            most.target,
            short_bytes(*most_bytes as f64),
            significant(*most_bytes as f64 / *least_bytes as f64)
        ));
    }
    if !claims.is_empty() {
        sentences.push(format!("{}.", claims.join("; ")));
    }
    if sentences.is_empty() {
        sentences.push("No RAM was measured.".into());
    }
    (sentences.join(" "), "loadtest sweep --json sweep.json    what does one connection more cost?".into())
}

fn sweep_answer(sweep: &Sweep) -> (String, String) {
    let limit = sweep.plan.ram_limit_bytes;
    let of_model = |model: &ModelSummary| match limit {
        Some(_) => Some(format!("{} holds {}", model.target, model.holds.map_or("none".into(), |n| count(n as f64)))),
        None => Some(format!("{} with {}", short_bytes(model.active?.bytes.max(0.0)), model.target)),
    };
    let models: Vec<_> = sweep.models.iter().filter_map(of_model).collect();
    let sentence = match limit {
        _ if models.is_empty() => "Too little was measured for a slope: it takes two numbers of connections.".into(),
        Some(limit_bytes) => format!("Within {}, {}.", exact_bytes(limit_bytes), models.join(", ")),
        None => format!("A connection more costs {}.", models.join(", ")),
    };
    (sentence, "loadtest plan -c 10k -w 1s -r 1GiB --from FILE    which model fits?".into())
}

/// That a run failed, and why; `None` if it did not.
fn failed(result: &RunResult) -> Option<String> {
    let cause = result.cause_in_words()?;
    let had = count(result.connections.established as f64);
    let requested = count(result.connections.requested as f64);
    Some(format!("{} failed with {had} of {requested} connections: {cause}.", result.target))
}

/// `p99 1.00 s`, and what of it is not the database wait.
fn latency(result: &RunResult) -> Option<String> {
    let latency = result.latency_us.as_ref()?;
    let mark = if latency.is_lower_bound("p99") { "at least " } else { "" };
    let above = result.above_wait_us.map(|above| format!(", {} above the wait", micros(above.p99)));
    Some(format!("99 % of them within {mark}{}{}", micros(latency.p99), above.unwrap_or_default()))
}

/// `the article's 10 GB is 26.6 times as much`
fn claim(result: &RunResult) -> Option<String> {
    let claimed = result.claimed_bytes().filter(|_| result.connections.requested == ARTICLE_CONNECTIONS)? as f64;
    let measured = result.memory.peak_bytes.filter(|bytes| *bytes > 0)? as f64;
    let claimed_text = short_bytes(claimed);
    Some(match claimed / measured {
        ratio if ratio >= 1.0 => format!("the article's {claimed_text} is {} times as much", significant(ratio)),
        ratio => format!("{} times the article's {claimed_text}", significant(1.0 / ratio)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use results::Cause;
    use results::run::SweepPlan;
    use results::samples::{empty, measured, sample};

    #[test]
    fn one_run_is_answered_with_its_ram_or_its_failure() {
        let text = answer(&[sample("threads")]);
        for expected in
            ["377 MB of RAM for 10,000 connections", "the article's 10.0 GB is 26.5 times", "above the wait"]
        {
            assert!(text.contains(expected), "{expected}: {text}");
        }
        assert!(text.lines().count() == 2 && text.contains("\nNext: loadtest --target all "), "{text}");
        let failed = RunResult { cause: Some(Cause::ServerDied), ..empty("threads", 10) };
        assert!(answer(&[failed]).starts_with("threads failed with 0 of 10 connections: the server died."));
        let url = RunResult { complete: true, rps: Some(99.0), ..empty("http://localhost/", 10) };
        assert!(answer(&[url]).contains("answered 99 requests/s over 10 connections.\nNext: add --pid"));
        let metered = answer(&[measured("http://localhost/", 10, 30)]);
        assert!(metered.contains("30.0 MB of RAM") && metered.contains("\nNext: add --report"), "{metered}");
    }

    #[test]
    fn several_runs_are_answered_with_the_extremes_and_the_article() {
        let all =
            [measured("prefork", 10_000, 1_200), measured("threads", 10_000, 375), measured("async", 10_000, 155)];
        let text = answer(&all);
        for expected in [
            "least RAM with async (155 MB) and most with prefork (1.20 GB, 7.74 times as much)",
            "async: 1.94 times the article's 80.0 MB",
            "threads: the article's 10.0 GB is 26.7 times as much",
        ] {
            assert!(text.contains(expected), "{expected}: {text}");
        }
        assert_eq!(answer(&[]), "");
    }

    #[test]
    fn a_sweep_is_answered_with_its_slopes_or_limits() {
        let run = |connections: usize, megabytes| {
            let mut run = measured("threads", connections, megabytes);
            (run.requests, run.connections.open_peak) = (10, Some(connections as u64));
            RunResult { sweep: Some(SweepPlan::sample()), ..run }
        };
        let mut runs = vec![run(100, 11), run(200, 21)];
        assert!(answer(&runs).starts_with("A connection more costs 100 kB with threads."), "{}", answer(&runs));
        let plan = SweepPlan { ram_limit_bytes: Some(512 << 20), ..SweepPlan::sample() };
        runs.iter_mut().for_each(|run| run.sweep = Some(plan.clone()));
        assert!(answer(&runs).starts_with("Within 512 MiB, threads holds 200."), "{}", answer(&runs));
    }
}
