//! The latest second of a run in one line, for live views.

use std::time::Duration;

use quantity::format;
use results::run::Second;

/// How many seconds the sparkline shows.
const SPARKS: usize = 20;
const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// The last row of a series, and a sparkline of RAM.
pub fn line(series: &[Second]) -> String {
    let Some(latest) = series.last() else { return String::new() };
    let time = |time_us: Option<u64>| time_us.map_or("-".into(), |us| format::duration(Duration::from_micros(us)));
    let ram: Vec<u64> = series.iter().filter_map(|second| second.ram_bytes).collect();
    let open = latest.open.map_or_else(String::new, |open| format!("{} open, ", format::count(open as f64)));
    format!(
        "{open}{} requests/s, p50 {}, p99 {}, RAM {} {}",
        format::count(latest.rps),
        time(latest.p50_us),
        time(latest.p99_us),
        format::bytes(latest.ram_bytes),
        sparkline(&ram[ram.len().saturating_sub(SPARKS)..])
    )
}

/// A bar for each figure, scaled from 0, so that small changes look small.
fn sparkline(figures: &[u64]) -> String {
    let greatest = figures.iter().copied().max().unwrap_or(0).max(1);
    figures.iter().map(|figure| LEVELS[(figure * 7 / greatest) as usize]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sparkline_scales_from_zero_to_the_maximum() {
        assert_eq!(sparkline(&[0, 50, 100]), "▁▄█");
        assert_eq!(sparkline(&[7, 7]), "██");
        assert_eq!(sparkline(&[0]), "▁");
        assert_eq!(sparkline(&[]), "");
    }

    #[test]
    fn the_line_shows_the_latest_second() {
        let second = |rps, ram_bytes| Second { rps, ram_bytes: Some(ram_bytes), ..Second::default() };
        let latest = Second { open: Some(1_000), p50_us: Some(100_400), ..second(498.6, 20_000_000) };
        let expected = "1,000 open, 499 requests/s, p50 100 ms, p99 -, RAM 20.00 MB ▄█";
        assert_eq!(line(&[second(1.0, 10_000_000), latest]), expected);
        assert_eq!(line(&[]), "");
        assert!(line(&[second(1.0, 0)]).starts_with("1 requests/s"), "what is unknown is absent");
    }
}
