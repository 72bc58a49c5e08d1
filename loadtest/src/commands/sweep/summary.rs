//! The summary of a sweep.

use quantity::format::{self, UNKNOWN};
use report::table_of;
use results::statistics::{Line, Spread};
use results::{RunResult, Target};

use super::outcome::holds;

const NOTES: &str = "\
Medians, and below them the lowest and highest of all rounds. RAM is the peak, while every connection waits for its
query; keep-alive is what the same connections cost before that: open and idle, each after one answer without a query.
";
const SLOPE_NOTE: &str = "\
A connection more costs the slope of RAM over connections (least squares); its 95 % confidence interval is below it.
";
const TCP_NOTE: &str = "\
The limit of cgroup v1 excludes TCP buffers, which RAM includes: RAM may be above the limit.
";

/// A table of all cells of a sweep, and one of the slopes or of where the servers failed.
pub(crate) fn text(results: &[RunResult]) -> String {
    let Some(first) = results.first() else { return String::new() };
    let ram_limit_bytes = first.sweep.as_ref().and_then(|plan| plan.ram_limit_bytes);
    let is_measured = |target: &Target| results.iter().any(|result| result.target == target.name());
    let models: Vec<_> =
        Target::ALL.into_iter().filter(is_measured).map(|target| Model::new(target, results)).collect();
    let rows = models.iter().flat_map(Model::rows).collect::<Vec<_>>();
    let cells = table_of(
        ["model", "connections", "rounds", "RAM", "above idle", "keep-alive", "requests/s", "possible", "p99"],
        rows,
    );
    let conclusion = match ram_limit_bytes {
        Some(limit_bytes) => {
            let header = ["model", "holds", "fails at", &format!("within {}, by", format::bytes(Some(limit_bytes)))];
            table_of(header, models.iter().map(Model::limits))
        }
        None => table_of(["a connection more", "active", "keep-alive"], models.iter().map(Model::slopes)),
    };
    let is_v1 = results.iter().any(|result| result.memory.source.as_deref() == Some("cgroup v1"));
    let note = match ram_limit_bytes {
        None => SLOPE_NOTE,
        Some(_) if is_v1 => TCP_NOTE,
        Some(_) => "",
    };
    format!("{cells}\n\n{conclusion}\n{NOTES}{note}")
}

/// All cells of one server.
struct Model<'a> {
    target: Target,
    results: Vec<&'a RunResult>,
}

impl<'a> Model<'a> {
    fn new(target: Target, results: &'a [RunResult]) -> Self {
        let results = results.iter().filter(|result| result.target == target.name()).collect();
        Self { target, results }
    }

    /// A row for each number of connections.
    fn rows(&self) -> Vec<[String; 9]> {
        let mut connections: Vec<_> = self.results.iter().map(|result| result.connections.requested).collect();
        connections.sort_unstable();
        connections.dedup();
        connections.into_iter().map(|connections| self.row(connections)).collect()
    }

    fn row(&self, connections: usize) -> [String; 9] {
        let all: Vec<_> =
            self.results.iter().copied().filter(|result| result.connections.requested == connections).collect();
        let sound: Vec<_> = all.iter().copied().filter(|result| result.is_sound()).collect();
        let rounds =
            if sound.len() == all.len() { all.len().to_string() } else { format!("{} of {}", sound.len(), all.len()) };
        let bytes = |figure: fn(&RunResult) -> Option<u64>| {
            spread(sound.iter().filter_map(|result| figure(result)).map(|bytes| bytes as f64), |value| {
                format::bytes(Some(value as u64))
            })
        };
        let rate = |figure: fn(&RunResult) -> Option<f64>| {
            spread(sound.iter().filter_map(|result| figure(result)), format::count)
        };
        [
            self.target.name().to_owned(),
            format::count(connections as f64),
            rounds,
            bytes(|result| result.memory.peak_bytes),
            bytes(|result| Some(result.memory.peak_bytes?.saturating_sub(result.memory.idle_bytes?))),
            bytes(|result| result.memory.keep_alive_bytes),
            rate(|result| result.rps),
            rate(|result| result.rps_ceiling),
            p99(&sound),
        ]
    }

    fn slopes(&self) -> [String; 3] {
        let slope = |figure: fn(&RunResult) -> Option<u64>| {
            line(&self.results, figure).map_or(UNKNOWN.into(), |line| slope(&line))
        };
        let active = slope(|result| result.memory.peak_bytes);
        [self.target.name().to_owned(), active, slope(|result| result.memory.keep_alive_bytes)]
    }

    /// The most connections held, the fewest not held, and the cause.
    fn limits(&self) -> [String; 4] {
        let connections = |result: &&RunResult| result.connections.requested;
        let (held, failed): (Vec<_>, Vec<_>) = self.results.iter().copied().partition(|result| holds(result));
        let held = held.iter().map(connections).max();
        let failed = failed.into_iter().min_by_key(connections);
        let number = |number: Option<usize>| number.map_or(UNKNOWN.into(), |number| format::count(number as f64));
        let cause = failed.and_then(|result| result.cause_in_words());
        let cause = match (cause, held) {
            (Some(cause), _) => cause,
            (None, Some(_)) => "nothing, up to there".into(),
            (None, None) => UNKNOWN.into(),
        };
        [self.target.name().to_owned(), number(held), number(failed.as_ref().map(connections)), cause]
    }
}

/// Fits a line to a figure over connections.
pub(crate) fn line(results: &[&RunResult], figure: fn(&RunResult) -> Option<u64>) -> Option<Line> {
    let sound = results.iter().filter(|result| result.is_sound());
    let points = sound.filter_map(|result| Some((result.connections.open_peak as f64, figure(result)? as f64)));
    Line::through(&points.collect::<Vec<_>>())
}

fn slope(line: &Line) -> String {
    // A negative slope is noise.
    let bytes = |value: f64| format::bytes(Some(value.max(0.0) as u64));
    match line.slope_interval {
        Some((low, high)) => format!("{}\n{}", bytes(line.slope), range(&bytes(low), &bytes(high))),
        None => bytes(line.slope),
    }
}

fn spread(figures: impl Iterator<Item = f64>, text: impl Fn(f64) -> String) -> String {
    match Spread::new(figures) {
        None => UNKNOWN.into(),
        Some(Spread { median, min, max }) => match [median, min, max].map(text) {
            [median, min, max] if min == max => median,
            [median, min, max] => format!("{median}\n{}", range(&min, &max)),
        },
    }
}

/// `2.74..2.81 MB`: a common unit appears once.
fn range(low: &str, high: &str) -> String {
    match (low.rsplit_once(' '), high.rsplit_once(' ')) {
        (Some((low, unit)), Some((_, same))) if unit == same => format!("{low}..{high}"),
        _ => format!("{low}..{high}"),
    }
}

/// The 99th percentile, marked if it is a lower bound in any round.
fn p99(sound: &[&RunResult]) -> String {
    let latencies = sound.iter().filter_map(|result| result.latency_us.as_ref());
    let text = spread(latencies.clone().map(|latency| latency.p99 as f64), |us| format::micros(us as u64));
    let is_bound = latencies.into_iter().any(|latency| latency.is_lower_bound("p99"));
    if is_bound { format!("≥ {text}") } else { text }
}
