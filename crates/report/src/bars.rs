//! Bar charts for the terminal.

use console::{measure_text_width, style};

use quantity::format::{UNKNOWN, bytes};

/// The longest bar; a narrow terminal has room for less.
const MAX_WIDTH: usize = 60;
/// Eighths of a block, from none to seven.
const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];

/// A bar for each value, if there are several. Linear from zero: a bar twice as long is twice the RAM.
pub(crate) fn chart(title: &str, values: &[(String, Option<u64>)], columns: usize) -> String {
    if values.len() < 2 {
        return String::new();
    }
    let label_width = values.iter().map(|(label, _)| measure_text_width(label)).max().unwrap_or(0);
    // The rest of the line is the label, the figure and the spaces between.
    let width = columns.saturating_sub(label_width + 16).clamp(8, MAX_WIDTH);
    let longest = values.iter().filter_map(|(_, value)| *value).max().unwrap_or(0).max(1);
    let mut text = format!("{}, to scale\n", style(title).bold());
    for (label, value) in values {
        let share = value.map_or(0.0, |value| value as f64 / longest as f64);
        let figure = value.map_or(UNKNOWN.into(), |value| bytes(Some(value)));
        text += &format!("  {label:<label_width$} {} {figure}\n", style(bar(share, width)).cyan());
    }
    text + "\n"
}

/// Rounded up to the next eighth of a block, so that every value above zero is visible.
fn bar(share: f64, width: usize) -> String {
    let eighths = (share * width as f64 * 8.0).ceil() as usize;
    "█".repeat(eighths / 8) + EIGHTHS[eighths % 8]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_as_long_as_its_share() {
        assert_eq!(bar(1.0, 3), "███");
        assert_eq!(bar(0.5, 3), "█▌");
        assert_eq!(bar(0.000_001, 3), "▏");
        assert_eq!(bar(0.0, 3), "");
    }

    #[test]
    fn labels_are_aligned_and_unknown_values_have_no_bar() {
        let values = [("threads".into(), Some(100)), ("pool".into(), Some(50)), ("async".into(), None)];
        let chart = console::strip_ansi_codes(&chart("RAM", &values, 31)).into_owned();
        assert_eq!(chart, "RAM, to scale\n  threads ████████ 100 B\n  pool    ████ 50 B\n  async    -\n\n");
    }
}
