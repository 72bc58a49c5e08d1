//! The figures of a result by their JSON names: one list for the table, CSV, comparisons and `--fail-if`.

use std::time::Duration;

use serde_json::Value;

use crate::latency::Bounded;
use crate::run::RunResult;
use quantity::format::{self, UNKNOWN};

/// A figure, named by its path in the JSON, with dots between the parts. An object counts as the sum of its values, a
/// list as its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Figure(pub &'static str);

/// Every figure in JSON order, with its short name if it has one.
const FIGURES: [(&str, &str); 97] = [
    ("host.cpus", ""),
    ("host.cpu_quota", ""),
    ("host.ram_bytes", ""),
    ("host.nofile", ""),
    ("host.somaxconn", ""),
    ("connections.requested", "connections"),
    ("connections.established", "established"),
    ("connections.connected_after_us", "connected_after"),
    ("connections.established_mean", ""),
    ("connections.in_flight_mean", ""),
    ("connections.never_answered", "never_answered"),
    ("connections.open_peak", "open"),
    ("connections.held_peak", "held"),
    ("connections.held_mean", "held.mean"),
    ("connections.waiting_peak", "waiting"),
    ("connections.queued_peak", "queued"),
    ("connections.reconnected", "reconnected"),
    ("connections.connect_pauses", "connect_pauses"),
    ("duration_s", ""),
    ("requests", ""),
    ("rps", ""),
    ("rps_ceiling", ""),
    ("in_flight", ""),
    ("errors_before", ""),
    ("errors_before.connect", ""),
    ("errors_before.read", ""),
    ("errors_before.write", ""),
    ("errors_before.timeout", ""),
    ("errors_before.status", ""),
    ("errors", ""),
    ("errors.connect", ""),
    ("errors.read", ""),
    ("errors.write", ""),
    ("errors.timeout", ""),
    ("errors.status", ""),
    ("rate.due", ""),
    ("rate.sent", ""),
    ("rate.answered", ""),
    ("rate.sent_share", "rate"),
    ("latency_us.min", "min"),
    ("latency_us.mean", "mean"),
    ("latency_us.stdev", "stdev"),
    ("latency_us.p50", "p50"),
    ("latency_us.p75", "p75"),
    ("latency_us.p90", "p90"),
    ("latency_us.p99", "p99"),
    ("latency_us.p999", "p999"),
    ("latency_us.max", "max"),
    ("above_wait_us.p50", "above.p50"),
    ("above_wait_us.p90", "above.p90"),
    ("above_wait_us.p99", "above.p99"),
    ("above_wait_us.p999", "above.p999"),
    ("above_wait_us.max", "above.max"),
    ("memory.peak_bytes", ""),
    ("memory.idle_bytes", ""),
    ("memory.keep_alive_bytes", ""),
    ("memory.end_bytes", ""),
    ("memory.per_connection_bytes", ""),
    ("memory.rss_sum_bytes", ""),
    ("memory.pss_bytes", ""),
    ("memory.private_dirty_bytes", ""),
    ("memory.page_tables_bytes", ""),
    ("memory.kernel_stacks_bytes", ""),
    ("memory.sockets_bytes", ""),
    ("memory.uncharged_sockets_bytes", ""),
    ("memory.limit_bytes", ""),
    ("memory.processes", "processes"),
    ("memory.threads", "threads"),
    ("memory.cgroup.total_bytes", ""),
    ("memory.cgroup.anon_bytes", ""),
    ("memory.cgroup.file_bytes", ""),
    ("memory.cgroup.kernel_bytes", ""),
    ("memory.cgroup.sockets_bytes", ""),
    ("memory.cgroup.slab_bytes", ""),
    ("memory.cgroup.page_tables_bytes", ""),
    ("memory.cgroup.kernel_stacks_bytes", ""),
    ("server.cpu_s", ""),
    ("server.stopped_after_us", "stopped_after"),
    ("server.oom_kills", "oom_kills"),
    ("database.pool", "pool"),
    ("database.hold_us", ""),
    ("database.pipeline", ""),
    ("database.answers", ""),
    ("database.connection_wait_us", "connection_wait"),
    ("database.answer_wait_us", "answer_wait"),
    ("database.connects", ""),
    ("database.errors", ""),
    ("database.postgres_bytes", ""),
    ("database.postgres_processes", "backends"),
    ("database.postgres_cpu_us", ""),
    ("client.cpu_s", ""),
    ("client.rss_peak_bytes", ""),
    ("client.lag_p99_us", "client.lag"),
    ("fleet.start_skew_us", "start_skew"),
    ("fleet.start_skew_error_us", ""),
    ("fleet.workers", "workers"),
    ("warnings", ""),
];

/// The unit of a figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Microseconds.
    Micros,
    /// Seconds.
    Seconds,
    /// Bytes.
    Bytes,
    /// A part of a whole: 1 is all.
    Share,
    /// A plain number, or a number per second.
    Count,
}

impl Figure {
    /// Every figure, in JSON order.
    pub fn all() -> impl Iterator<Item = Figure> {
        FIGURES.iter().map(|(name, _)| Figure(name))
    }

    /// Finds a figure by its JSON name (`latency_us.p99`), the name without units (`latency.p99`), or its short name
    /// (`p99`).
    pub fn from_name(text: &str) -> Option<Figure> {
        let is_it = |(name, short): &&(&str, &str)| text == *name || text == *short || text == without_units(name);
        FIGURES.iter().find(is_it).filter(|_| !text.is_empty()).map(|(name, _)| Figure(name))
    }

    /// The shortest name of each figure, for help texts and errors.
    pub fn names() -> String {
        let shortest = |(name, short): &(&str, &str)| match *short {
            "" => without_units(name),
            short => short.to_owned(),
        };
        FIGURES.iter().map(shortest).collect::<Vec<_>>().join(", ")
    }

    /// The unit, which is part of the name.
    pub fn unit(self) -> Unit {
        let ends = |suffix| self.0.split('.').any(|part| part.ends_with(suffix));
        match self {
            _ if ends("_us") => Unit::Micros,
            _ if ends("_bytes") => Unit::Bytes,
            _ if ends("_s") => Unit::Seconds,
            _ if ends("_share") => Unit::Share,
            _ => Unit::Count,
        }
    }

    /// A value of this figure as text, with its unit.
    pub fn text(self, value: Option<Bounded<f64>>) -> String {
        let Some(Bounded { value, is_lower_bound }) = value else { return UNKNOWN.into() };
        // A file from elsewhere may hold any number.
        let time = |time_s| Duration::try_from_secs_f64(time_s).map_or(UNKNOWN.into(), format::duration);
        let text = match self.unit() {
            Unit::Micros => time(value / 1e6),
            Unit::Seconds => time(value),
            Unit::Bytes => format::bytes(Some(value as u64)),
            Unit::Share => format!("{:.1} %", value * 100.0),
            Unit::Count => format::count(value),
        };
        if is_lower_bound { format!("≥ {text}") } else { text }
    }
}

fn without_units(name: &str) -> String {
    let bare = |part| ["_us", "_bytes", "_s"].iter().find_map(|unit| str::strip_suffix(part, unit)).unwrap_or(part);
    name.split('.').map(bare).collect::<Vec<_>>().join(".")
}

/// The figures of one result.
#[derive(Clone, Debug)]
pub struct FigureValues {
    json: Value,
}

impl FigureValues {
    /// The figures of `result`.
    pub fn new(result: &RunResult) -> Self {
        // It holds only numbers, strings, lists and structs, so this cannot fail.
        Self { json: serde_json::to_value(result).unwrap_or_default() }
    }

    /// The value; `None` if it was not measured.
    pub fn get(&self, figure: Figure) -> Option<Bounded<f64>> {
        let value = match self.json(figure.0) {
            Value::Number(number) => number.as_f64()?,
            Value::Object(parts) => parts.values().filter_map(Value::as_f64).sum(),
            Value::Array(entries) => entries.len() as f64,
            _ => return None,
        };
        Some(Bounded { value, is_lower_bound: self.is_lower_bound(figure) })
    }

    /// The JSON at this name; null if there is none.
    pub fn json(&self, name: &str) -> &Value {
        self.json.pointer(&format!("/{}", name.replace('.', "/"))).unwrap_or(&Value::Null)
    }

    fn is_lower_bound(&self, figure: Figure) -> bool {
        let Some(("latency_us" | "above_wait_us", name)) = figure.0.split_once('.') else { return false };
        self.json("latency_us.lower_bounds").as_array().is_some_and(|bounds| bounds.iter().any(|bound| bound == name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database::Database;
    use crate::samples::sample;

    #[test]
    fn every_number_of_the_json_is_a_figure() {
        let database = Database {
            pool: Some(100),
            hold_us: Some(20_000),
            pipeline: Some(8),
            connection_wait_us: Some(1_234.5),
            answer_wait_us: Some(10_456.25),
            postgres_bytes: Some(231_000_000),
            postgres_processes: Some(106),
            postgres_cpu_us: Some(310.5),
            ..Database::default()
        };
        let figures = FigureValues::new(&RunResult { database: Some(database), ..sample("threads") });
        let mut numbers = Vec::new();
        collect_numbers("", &figures.json, &mut numbers);
        assert!(numbers.len() > 50, "{numbers:?}");
        for (name, number) in numbers {
            let figure = Figure::from_name(&name).unwrap_or_else(|| panic!("{name} is missing"));
            assert_eq!(figures.get(figure).unwrap().value, number, "{name}");
        }
    }

    fn collect_numbers(name: &str, json: &Value, numbers: &mut Vec<(String, f64)>) {
        match json {
            Value::Number(number) => numbers.push((name.to_owned(), number.as_f64().unwrap())),
            Value::Object(parts) => {
                for (part, json) in parts {
                    let name = if name.is_empty() { part.clone() } else { format!("{name}.{part}") };
                    collect_numbers(&name, json, numbers);
                }
            }
            _ => {}
        }
    }

    #[test]
    fn a_figure_has_a_long_name_and_a_short_one() {
        for (called, name) in [
            ("latency_us.p99", "latency_us.p99"),
            ("latency.p99", "latency_us.p99"),
            ("p99", "latency_us.p99"),
            ("above.p999", "above_wait_us.p999"),
            ("memory.peak", "memory.peak_bytes"),
            ("memory.per_connection", "memory.per_connection_bytes"),
            ("held", "connections.held_peak"),
            ("client.cpu", "client.cpu_s"),
            ("errors", "errors"),
            ("errors.timeout", "errors.timeout"),
        ] {
            assert_eq!(Figure::from_name(called), Some(Figure(name)));
        }
        assert_eq!(Figure::from_name(""), None);
        assert_eq!(Figure::from_name("p98"), None);
        // Every name is unambiguous.
        let names = Figure::names();
        let mut names: Vec<_> = names.split(", ").collect();
        names.sort_unstable();
        assert!(names.is_sorted_by(|one, next| one < next), "{names:?}");
    }

    #[test]
    fn the_unit_is_in_the_name() {
        for (name, unit) in [
            ("latency_us.max", Unit::Micros),
            ("client.cpu_s", Unit::Seconds),
            ("memory.cgroup.anon_bytes", Unit::Bytes),
            ("memory.processes", Unit::Count),
            ("errors_before.status", Unit::Count),
        ] {
            assert_eq!(Figure(name).unit(), unit, "{name}");
        }
    }

    #[test]
    fn totals_are_added_up_and_lower_bounds_are_marked() {
        let mut result = sample("threads");
        (result.errors.timeout, result.errors.status) = (3, 4);
        let latency = result.latency_us.as_mut().unwrap();
        (latency.p99, latency.lower_bounds) = (2_000_000, vec!["p99".into()]);
        result.memory.peak_bytes = None;
        let figures = FigureValues::new(&result);
        let text = |name| Figure(name).text(figures.get(Figure(name)));
        assert_eq!(text("errors"), "7");
        assert_eq!(text("warnings"), "0");
        assert_eq!(text("latency_us.p99"), "≥ 2.00 s");
        assert_eq!(text("above_wait_us.p99"), "≥ 12.5 ms");
        assert_eq!(text("latency_us.p50"), "1.00 s");
        assert_eq!(text("memory.peak_bytes"), "-");
        assert_eq!(text("memory.idle_bytes"), "524.29 kB");
    }
}
