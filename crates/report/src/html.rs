//! Results as a page: charts, figures and their limits, in one self-contained HTML file.
//!
//! The charts are inline SVG in the page's light or dark colours. There is no script.

mod axis;
mod chart;
mod claims;
mod cost;
mod document;
mod lines;
mod live;
mod models;
mod page;
mod palette;
mod pools;
mod sweep;
mod words;

use anyhow::{Context as _, Result, ensure};

use crate::compare::Comparison;
use results::claim::Judgement;
use results::pools::PoolStudy;
use results::run::RunResult;
use results::slo;

use models::Study;

/// The page for one run, several servers, a sweep, or pools of connections to a database.
///
/// # Errors
/// A chart cannot be drawn, or the runs are steps of a search for the highest rate.
pub fn page(results: &[RunResult]) -> Result<String> {
    let is_search = results.iter().any(slo::is_step);
    ensure!(!is_search, "--report has no charts of a search of --slo: take --markdown, --csv or --json");
    if let Some(study) = PoolStudy::new(results) {
        return Ok(pools::page(&study, results)?.into_string());
    }
    Ok(page::page(&Study::new(results), results)?.into_string())
}

/// The page of an article's claims.
///
/// # Errors
/// A chart cannot be drawn.
pub fn claims_page(judgement: &Judgement) -> Result<String> {
    Ok(claims::page(judgement)?.into_string())
}

/// The style of every page.
pub const STYLE: &str = document::STYLE;

/// The charts of runs that may still go on, each with its figures as a table, as a part of a page.
///
/// # Errors
/// A chart cannot be drawn.
pub fn live_charts(results: &[RunResult]) -> Result<String> {
    Ok(live::charts(&Study::new(results))?.into_string())
}

/// The verdicts on an article's claims so far, as a part of a page.
pub fn claims_part(judgement: &Judgement) -> String {
    claims::part(judgement).into_string()
}

/// A comparison of two files or runs as a part of a page: what it compares, its tables, and how to read them.
pub fn comparison(comparison: &Comparison) -> String {
    comparison.html().into_string()
}

/// The page's first chart as an SVG image: RAM beside what the article says, or what each pool of connections to a database
/// brings.
///
/// # Errors
/// No run has what it draws, or the chart cannot be drawn.
pub fn first_chart(results: &[RunResult]) -> Result<String> {
    if let Some(study) = PoolStudy::new(results) {
        return pools::image(&study)?.context("--chart draws requests/s, and no run answered any");
    }
    cost::ram_image(&Study::new(results))?.context("--chart draws RAM, and no run measured it")
}

#[cfg(test)]
mod tests {
    use super::*;
    use results::samples::{empty, failed, measured, with_pool};
    use results::{Warning, WarningKind};

    fn rendered(results: &[RunResult]) -> String {
        page(results).unwrap()
    }

    #[test]
    fn the_articles_claim_appears_only_with_10_000_connections() {
        let claimed = rendered(&[measured("threads", 10_000, 377)]);
        assert!(claimed.contains("the article says 10 GB, 26.5 times as much"), "{claimed}");
        let other = rendered(&[measured("threads", 1_000, 38)]);
        assert!(other.contains("38.0 MB") && !other.contains("article"), "{other}");
        assert!(!rendered(&[measured("nginx", 10_000, 30)]).contains("the article says 10"));
    }

    #[test]
    fn pools_have_a_page_and_a_chart_of_their_own() {
        let asynchronous =
            [(10, 900.0), (100, 4_000.0), (1_000, 4_010.0)].map(|(pool, rps)| with_pool("async", pool, rps));
        let runs = [&asynchronous[..], &[with_pool("threads", 10, 800.0)]].concat();
        let page = rendered(&runs);
        for expected in
            ["How many connections to PostgreSQL?", "100 for async", "10 or more (the most", "for a connection</li>"]
        {
            assert!(page.contains(expected), "{expected}: {page}");
        }
        assert_eq!(page.matches("<figure>").count(), 2);
        let image = first_chart(&runs).unwrap();
        assert!(image.contains("Requests answered per second") && image.contains(">threads</text>"), "{image}");
    }

    #[test]
    fn the_standalone_chart_has_a_title_and_a_legend() {
        let image = first_chart(&[measured("threads", 10_000, 377)]).unwrap();
        for expected in ["RAM with 10,000 connections</text>", ">measured here</text>", ">the article, and its ratio"] {
            assert!(image.contains(expected), "{expected}: {image}");
        }
    }

    #[test]
    fn a_sweep_has_charts_of_its_own_and_names_what_failed() {
        let one = [measured("threads", 100, 4), measured("async", 100, 2)];
        assert!(!rendered(&one).contains("by number of connections"));
        let mut one = one;
        let mut more = [measured("threads", 1_000, 40), failed("prefork", 1_000, "no processes left")];
        for run in one.iter_mut().chain(&mut more[..1]) {
            (run.requests, run.connections.open_peak) = (10, Some(run.connections.requested as u64));
        }
        let page = rendered(&[&one[..], &more].concat());
        assert_eq!(page.matches("<h3>RAM by number of connections</h3>").count(), 1);
        assert!(page.contains("threads: 40.0 kB a connection") && page.contains("the ceiling"), "{page}");
        assert!(page.contains("Not measured here: threadpool, async-codec and async-uring."), "{page}");
        assert!(page.contains("prefork with 1,000 connections failed: no processes left"), "{page}");
    }

    #[test]
    fn results_are_never_taken_for_markup() {
        let hostile = "<script>alert(1)</script>\"'><img src=x>";
        let mut result = measured(hostile, 100, 4);
        result.command = vec![hostile.into()];
        result.wait.spec = hostile.into();
        result.warnings.push(Warning::new(WarningKind::Server, hostile));
        let page = rendered(&[result, failed(hostile, 200, hostile)]);
        assert!(!page.contains("<script") && !page.contains("<img"), "{page}");
    }

    #[test]
    fn there_is_a_page_even_if_figures_are_missing() {
        assert!(rendered(&[]).contains("Nothing was measured"));
        assert!(rendered(&[failed("threads", 100, "it died")]).contains("it died"));
        let elsewhere = RunResult { command: Vec::new(), ..empty("http://127.0.0.1/", 100) };
        assert!(!rendered(&[elsewhere]).contains("database wait of"));
    }
}
