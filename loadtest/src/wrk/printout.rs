//! wrk's output, to the column.

use std::fmt;
use std::time::Duration;

use super::script::ScriptSummary;
use super::spectrum::Spectrum;
use super::stats::Stats;
use super::units::{format_binary, format_metric, format_time_s, format_time_us, padded};
use results::run::Errors;

/// The first two lines, printed before the load starts.
pub(crate) fn heading(url: &str, duration: Duration, threads: usize, connections: usize) -> String {
    let duration = format_time_s(duration.as_secs_f64());
    format!("Running {duration} test @ {url}\n  {threads} threads and {connections} connections\n")
}

/// The rest, printed at the end.
#[derive(Debug)]
pub(crate) struct Printout {
    /// Latencies in microseconds.
    pub(crate) latency: Stats,
    /// Requests per second of one thread, sampled every tenth of a second.
    pub(crate) requests_per_s: Stats,
    /// Whether to print a few percentiles.
    pub(crate) has_percentiles: bool,
    /// With a rate: the distributions, if requested.
    pub(crate) spectra: Vec<Spectrum>,
    /// The totals.
    pub(crate) summary: ScriptSummary,
}

impl fmt::Display for Printout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "  Thread Stats{:>6}{:>11}{:>8}{:>12}", "Avg", "Stdev", "Max", "+/- Stdev")?;
        write_stats(f, "Latency", &self.latency, format_time_us)?;
        write_stats(f, "Req/Sec", &self.requests_per_s, format_metric)?;
        for (number, spectrum) in self.spectra.iter().enumerate() {
            write!(f, "{}{spectrum}", if number > 0 { "\n" } else { "" })?;
        }
        if self.has_percentiles {
            writeln!(f, "  Latency Distribution")?;
            for percent in [50.0, 75.0, 90.0, 99.0] {
                let latency_us = self.latency.percentile(percent);
                writeln!(f, "{percent:7.0}%{}", padded(&format_time_us(latency_us as f64), 10))?;
            }
        }
        let ScriptSummary { complete, bytes, .. } = self.summary;
        let runtime_s = self.summary.runtime.as_secs_f64();
        let (runtime, total) = (format_time_us(runtime_s * 1e6), format_binary(bytes as f64));
        writeln!(f, "  {complete} requests in {runtime}, {total}B read")?;
        let Errors { connect, read, write, timeout, status } = self.summary.errors;
        if connect + read + write + timeout > 0 {
            writeln!(f, "  Socket errors: connect {connect}, read {read}, write {write}, timeout {timeout}")?;
        }
        if status > 0 {
            writeln!(f, "  Non-2xx or 3xx responses: {status}")?;
        }
        writeln!(f, "Requests/sec: {:9.2}", complete as f64 / runtime_s)?;
        writeln!(f, "Transfer/sec: {:>10}B", format_binary(bytes as f64 / runtime_s))
    }
}

fn write_stats(f: &mut fmt::Formatter<'_>, name: &str, stats: &Stats, format: impl Fn(f64) -> String) -> fmt::Result {
    let figures = [(stats.mean(), 8), (stats.stdev(), 10), (stats.max() as f64, 9)];
    write!(f, "    {name:<10}")?;
    for (figure, width) in figures {
        write!(f, "{}", padded(&format(figure), width))?;
    }
    // glibc, and so wrk, gives its NaN a sign.
    let percent = stats.within_stdev_percent();
    let percent = if percent.is_nan() { "-nan".to_owned() } else { format!("{percent:.2}") };
    writeln!(f, "{percent:>8}%")
}

#[cfg(test)]
mod tests {
    use super::*;
    use hdrhistogram::Histogram;

    fn stats(values: &[(u64, u64)]) -> Stats {
        let mut histogram = Histogram::<u64>::new(5).unwrap();
        for &(value, count) in values {
            histogram.record_n(value, count).unwrap();
        }
        Stats::up_to(u64::MAX, [&histogram])
    }

    /// All conditional lines at once. `tests/wrk.rs` compares with the real wrk.
    #[test]
    fn the_layout_is_wrks() {
        let report = Printout {
            latency: stats(&[(250, 3), (1_000, 1), (12_920, 1)]),
            requests_per_s: stats(&[(900, 1), (56_000, 2)]),
            has_percentiles: true,
            spectra: Vec::new(),
            summary: ScriptSummary {
                runtime: Duration::from_millis(10_100),
                complete: 5,
                bytes: 3_000_000,
                errors: Errors { connect: 1, read: 2, write: 3, timeout: 4, status: 5 },
            },
        };
        let expected = "  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     2.93ms    5.59ms  12.92ms   80.00%
    Req/Sec    37.63k    31.81k   56.00k    66.67%
  Latency Distribution
     50%  250.00us
     75%    1.00ms
     90%   12.92ms
     99%   12.92ms
  5 requests in 10.10s, 2.86MB read
  Socket errors: connect 1, read 2, write 3, timeout 4
  Non-2xx or 3xx responses: 5
Requests/sec:      0.50
Transfer/sec:    290.07KB
";
        assert_eq!(report.to_string(), expected);
    }

    #[test]
    fn the_heading_is_wrks() {
        let heading = heading("http://127.0.0.1:8080/", Duration::from_secs(120), 2, 100);
        assert_eq!(heading, "Running 2m test @ http://127.0.0.1:8080/\n  2 threads and 100 connections\n");
    }
}
