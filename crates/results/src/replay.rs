//! A stream of events as results: what a run would say if it ended at some moment.

use crate::event::{Event, Observation, Timed};
use crate::run::{ErrorReason, Host, RunResult, Second, Wait};

/// The results of the runs in a stream up to `until_s`. A run that is over has its own; one that goes on has what was seen
/// of it so far, as if it had finished.
pub fn results_until<'e>(events: impl IntoIterator<Item = &'e Timed>, until_s: f64) -> Vec<RunResult> {
    let mut results: Vec<RunResult> = Vec::new();
    for Timed { event, .. } in events.into_iter().take_while(|timed| timed.at_s <= until_s) {
        if let Event::Started { target, connections, started_at, wait, .. } = event {
            let mut result = RunResult::new(target, Vec::new(), *connections, Host::default(), started_at.clone());
            (result.wait, result.complete) = (Wait { spec: wait.clone() }, true);
            results.push(result);
        }
        let Some(result) = results.last_mut() else { continue };
        match event {
            Event::Observed(observation) => observe(result, observation),
            Event::Second(second) => add_second(result, *second),
            Event::Warned(warning) => result.warnings.push(warning.clone()),
            Event::Finished(finished) => result.clone_from(finished),
            _ => {}
        }
    }
    results
}

/// Whether every run of the stream is over.
pub fn is_finished<'e>(events: impl IntoIterator<Item = &'e Timed>) -> bool {
    let running = events.into_iter().fold(0, |running, timed| match timed.event {
        Event::Started { .. } => running + 1,
        Event::Finished(_) => running - 1,
        _ => running,
    });
    running == 0
}

fn observe(result: &mut RunResult, seen: &Observation) {
    let (memory, connections) = (&mut result.memory, &mut result.connections);
    memory.idle_bytes = memory.idle_bytes.or(seen.ram_bytes);
    (memory.end_bytes, memory.peak_bytes) = (seen.ram_bytes, memory.peak_bytes.max(seen.ram_bytes));
    (memory.limit_bytes, memory.cgroup) = (seen.ram_limit_bytes, seen.ram_parts);
    connections.established = seen.established as usize;
    connections.open_peak = connections.open_peak.max(seen.open);
    connections.waiting_peak = connections.waiting_peak.max(seen.waiting);
    let held = seen.waiting.zip(seen.queued).map(|(waiting, queued)| waiting + queued);
    connections.held_peak = connections.held_peak.max(held);
    result.error_reasons = ErrorReason::merge(&seen.failures);
    let wait_s = result.wait.fixed().map(|wait| wait.as_secs_f64());
    result.rps_ceiling = connections.waiting_peak.zip(wait_s).map(|(waiting, wait_s)| waiting as f64 / wait_s);
}

fn add_second(result: &mut RunResult, second: Second) {
    let length_s = second.end_s - result.series.last().map_or(0.0, |last| last.end_s);
    result.requests = result.requests.saturating_add((second.rps * length_s).round() as u64);
    result.rps = (second.end_s > 0.0).then(|| result.requests as f64 / second.end_s);
    result.duration_s = Some(second.end_s);
    result.series.push(second);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream() -> Vec<Timed> {
        let started = Event::Started {
            target: "threads".into(),
            connections: 100,
            round: None,
            started_at: String::new(),
            wait: "500ms".into(),
            duration_s: 2.0,
        };
        let seen = |ram_bytes, waiting| {
            Event::Observed(Observation {
                ram_bytes: Some(ram_bytes),
                waiting: Some(waiting),
                ..Observation::default()
            })
        };
        let second = |end_s, rps| Event::Second(Second { end_s, rps, ..Second::default() });
        let finished = RunResult::new("threads", Vec::new(), 100, Host::default(), String::new());
        let finished = Event::Finished(Box::new(RunResult { requests: 305, ..finished }));
        let events = [started, seen(5, 0), seen(9, 100), second(1.0, 200.0), seen(7, 90), second(2.0, 100.0), finished];
        events.into_iter().zip(0..).map(|(event, at)| Timed { at_s: f64::from(at), event }).collect()
    }

    #[test]
    fn a_run_that_goes_on_has_what_was_seen_so_far() {
        let results = results_until(&stream(), 5.5);
        let [result] = results.as_slice() else { panic!("{results:?}") };
        assert_eq!(
            (result.memory.peak_bytes, result.memory.end_bytes, result.memory.idle_bytes),
            (Some(9), Some(7), Some(5))
        );
        assert_eq!((result.rps, result.rps_ceiling, result.requests), (Some(150.0), Some(200.0), 300));
        assert_eq!(result.series.len(), 2);
        assert!(results_until(&stream(), -1.0).is_empty());
    }

    #[test]
    fn a_run_that_is_over_has_its_own_result() {
        assert_eq!(results_until(&stream(), f64::INFINITY)[0].requests, 305);
        assert!(is_finished(&stream()) && !is_finished(&stream()[..3]));
    }
}
