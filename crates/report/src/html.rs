//! The result as a page: charts, figures, and what they do not show, in one HTML file that needs nothing else.
//!
//! The charts are SVG within the page, in its colours, light or dark, and there is no script.

mod axis;
mod chart;
mod cost;
mod lines;
mod models;
mod page;
mod palette;
mod sweep;
mod words;

use anyhow::{Context as _, Result};

use results::run::RunResult;

use models::Study;

/// The page of these results: of one run, of several servers, or of a sweep.
///
/// # Errors
/// A chart cannot be drawn.
pub fn page(results: &[RunResult]) -> Result<String> {
    Ok(page::page(&Study::new(results), results)?.into_string())
}

/// The page's first chart as an SVG image: RAM, and what the article says.
///
/// # Errors
/// There is no RAM to draw, or the chart cannot be drawn.
pub fn ram_chart(results: &[RunResult]) -> Result<String> {
    cost::ram_image(&Study::new(results))?.context("no run has the RAM that --chart draws")
}

#[cfg(test)]
mod tests {
    use super::*;
    use results::samples::{empty, failed, measured};
    use results::{Warning, WarningKind};

    fn page_of(results: &[RunResult]) -> String {
        page(results).unwrap()
    }

    #[test]
    fn the_article_s_claim_is_of_10_000_connections_alone() {
        let claimed = page_of(&[measured("threads", 10_000, 377)]);
        assert!(claimed.contains("the article says 10 GB, 26.5 times as much"), "{claimed}");
        let other = page_of(&[measured("threads", 1_000, 38)]);
        assert!(other.contains("38.0 MB") && !other.contains("article"), "{other}");
        assert!(!page_of(&[measured("nginx", 10_000, 30)]).contains("the article says 10"));
    }

    #[test]
    fn a_sweep_has_charts_of_its_own_and_names_what_failed() {
        let one = [measured("threads", 100, 4), measured("async", 100, 2)];
        assert!(!page_of(&one).contains("by number of connections"));
        let more = [measured("threads", 1_000, 40), failed("prefork", 1_000, "no processes left")];
        let page = page_of(&[&one[..], &more].concat());
        assert_eq!(page.matches("<h3>RAM by number of connections</h3>").count(), 1);
        assert!(page.contains("prefork with 1,000 connections failed: no processes left"), "{page}");
    }

    #[test]
    fn nothing_in_a_result_is_taken_for_markup() {
        let hostile = "<script>alert(1)</script>\"'><img src=x>";
        let mut result = measured(hostile, 100, 4);
        result.command = vec![hostile.into()];
        result.wait.spec = hostile.into();
        result.warnings.push(Warning::new(WarningKind::Server, hostile));
        let page = page_of(&[result, failed(hostile, 200, hostile)]);
        assert!(!page.contains("<script") && !page.contains("<img"), "{page}");
    }

    #[test]
    fn there_is_a_page_whatever_is_missing() {
        assert!(page_of(&[]).contains("Nothing was measured"));
        assert!(page_of(&[failed("threads", 100, "it died")]).contains("it died"));
        let elsewhere = RunResult { command: Vec::new(), ..empty("http://127.0.0.1/", 100) };
        assert!(!page_of(&[elsewhere]).contains("database wait of"));
    }
}
