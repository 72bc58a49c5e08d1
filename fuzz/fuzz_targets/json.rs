//! Whatever is in a file of results: it is read or refused with a reason, what was read is read again from what is written,
//! and all reports can be made of it.

#![no_main]

use libfuzzer_sys::fuzz_target;
use report::compare::Comparison;
use results::RunResult;
use results::file::{Source, from_json, to_json};
use results::merge::merge;
use results::sweep::Sweep;

/// Reports draw a chart for each run, and more of them say nothing new.
const MAX_RUNS: usize = 4;

fn read(content: &[u8]) -> anyhow::Result<Source> {
    from_json("results.json".to_owned(), content)
}

fn check_written(source: &Source) {
    let json = to_json(&source.results, source.is_list).expect("what was read can be written");
    let again = read(&json).expect("what was written can be read");
    let values = |results: &[RunResult]| serde_json::to_value(results).expect("a result is JSON");
    assert_eq!(values(&source.results), values(&again.results));
    assert!(source.is_list || !again.is_list);
}

/// Makes every report, as `loadtest report` does.
fn check_reports(source: &Source) {
    let results = &source.results;
    report::answer(results);
    results.iter().for_each(|run| drop(report::text::run(run)));
    report::text::all_runs(results, Some(80));
    report::markdown::runs(results);
    let _ = (report::csv::runs(results), report::csv::series(results));
    let _ = (report::html::page(results), report::html::ram_chart(results));
    if let Some(sweep) = Sweep::new(results) {
        report::sweep::text(&sweep);
        report::sweep::markdown(&sweep);
    }
}

/// Two load generators whose files differ in what tells them apart.
fn check_two(source: &Source) {
    let mut other = source.clone();
    other.results.iter_mut().for_each(|run| run.started_at.push('0'));
    let sources = [source.clone(), other];
    if let Ok(comparison) = Comparison::new(&sources) {
        comparison.text();
        comparison.markdown();
    }
    let _ = merge(&sources);
}

fuzz_target!(|content: &[u8]| {
    match read(content) {
        Ok(source) => {
            assert!(!source.results.is_empty());
            check_written(&source);
            if source.results.len() <= MAX_RUNS {
                check_reports(&source);
                check_two(&source);
            }
        }
        Err(error) => assert!(error.to_string().contains("results.json"), "{error:#}"),
    }
});
