//! Figures as text, shorter than in the text report where an axis has little room.

use maud::{Markup, html};

use quantity::format;
use results::RunResult;

use super::models::{Model, Rounds};

/// Bytes at a tick: `10 MB`.
pub(super) fn bytes_tick(value: f64) -> String {
    whole(&format::short_bytes(value))
}

/// Microseconds at a tick: `10 ms`.
pub(super) fn micros_tick(value_us: f64) -> String {
    whole(&format::micros(value_us.round() as u64))
}

/// Nanoseconds at a tick: `10 µs`.
pub(super) fn nanos_tick(value_ns: f64) -> String {
    whole(&format::nanos(value_ns))
}

/// A number at a tick: `1,000`.
pub(super) fn count_tick(value: f64) -> String {
    format::count(value)
}

/// The database wait: `1 s`, or its distribution; `None` if the server is not one of this project's.
pub(super) fn wait(result: &RunResult) -> Option<String> {
    let spec = &result.wait.spec;
    (!spec.is_empty()).then(|| fixed_wait_us(result).map_or_else(|| spec.clone(), micros_tick))
}

/// Drops trailing zeros.
fn whole(figure: &str) -> String {
    let (number, unit) = figure.split_once(' ').unwrap_or((figure, ""));
    let number = if number.contains('.') { number.trim_end_matches('0').trim_end_matches('.') } else { number };
    format!("{number} {unit}")
}

/// Seconds at a tick: three ticks of 0.2 add up to 0.6000000000000001.
pub(super) fn seconds_tick(value_s: f64) -> String {
    format!("{}", (value_s * 1e6).round() / 1e6)
}

/// A ratio: `26.5x`.
pub(super) fn ratio(value: f64) -> String {
    format!("{}x", format::significant(value))
}

/// The database wait in microseconds, if it is fixed.
pub(super) fn fixed_wait_us(result: &RunResult) -> Option<f64> {
    result.wait.fixed().map(|wait| wait.as_micros() as f64)
}

/// `one`, `one and two`, `one, two and three`.
pub(super) fn list(items: &[String]) -> String {
    items.iter().enumerate().map(|(index, item)| separator(index, items.len()).to_owned() + item).collect()
}

/// The separator before an item of a list.
pub(super) fn separator(index: usize, items: usize) -> &'static str {
    match index {
        0 => "",
        _ if index + 1 == items => " and ",
        _ => ", ",
    }
}

/// The distinct items, in order of first appearance.
pub(super) fn distinct<T: PartialEq>(items: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut all = Vec::new();
    for item in items {
        if !all.contains(&item) {
            all.push(item);
        }
    }
    all
}

/// Says when figures are medians, or come from runs that did not finish.
pub(super) fn caveats(rows: &[(&Model<'_>, &Rounds<'_>)]) -> Markup {
    let most = rows.iter().map(|(_, cell)| cell.counting().count()).max().unwrap_or(0);
    let partial = rows.iter().filter(|(_, cell)| !cell.is_complete()).map(|(model, _)| model.name.to_owned());
    let partial: Vec<String> = partial.collect();
    html! {
        @if most > 1 {
            " Each figure is the median of up to " (most) " rounds; the bar across it spans the lowest and the highest."
        }
        @if !partial.is_empty() { " The figures of " (list(&partial)) " come from a run that did not finish." }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tick_has_no_trailing_zeros() {
        assert_eq!([bytes_tick(1e7), bytes_tick(2e9), bytes_tick(500e9)], ["10 MB", "2 GB", "500 GB"]);
        assert_eq!([0.2 * 3.0, 0.5, 10.0].map(seconds_tick), ["0.6", "0.5", "10"]);
        assert_eq!([micros_tick(100.0), micros_tick(2e4), micros_tick(1e6)], ["100 µs", "20 ms", "1 s"]);
    }

    #[test]
    fn lists_read_as_text() {
        let items = ["a", "b", "c"].map(String::from);
        assert_eq!([list(&items[..1]), list(&items[..2]), list(&items)], ["a", "a and b", "a, b and c"]);
    }
}
