//! wrk's format of figures with units.

/// A base unit and those above it, each `scale` times the one before.
struct Units {
    scale: f64,
    base: &'static str,
    above: &'static [&'static str],
}

const MICROSECONDS: Units = Units { scale: 1000.0, base: "us", above: &["ms", "s"] };
const SECONDS: Units = Units { scale: 60.0, base: "s", above: &["m", "h"] };
const BINARY: Units = Units { scale: 1024.0, base: "", above: &["K", "M", "G", "T", "P"] };
const METRIC: Units = Units { scale: 1000.0, base: "", above: &["k", "M", "G", "T", "P"] };

impl Units {
    /// wrk moves to the next unit at 85 % of it, and never uses the last one.
    fn format(&self, mut value: f64, decimals: usize) -> String {
        let mut unit = self.base;
        for next in &self.above[..self.above.len() - 1] {
            if value < self.scale * 0.85 {
                break;
            }
            value /= self.scale;
            unit = next;
        }
        format!("{value:.decimals$}{unit}")
    }
}

/// `17.76K`
pub(crate) fn format_binary(bytes: f64) -> String {
    BINARY.format(bytes, 2)
}

/// `56.20k`
pub(crate) fn format_metric(count: f64) -> String {
    METRIC.format(count, 2)
}

/// `635.91us`
pub(crate) fn format_time_us(time_us: f64) -> String {
    if time_us >= 1e6 { SECONDS.format(time_us / 1e6, 2) } else { MICROSECONDS.format(time_us, 2) }
}

/// `10s`
pub(crate) fn format_time_s(time_s: f64) -> String {
    SECONDS.format(time_s, 0)
}

/// Pads a figure so that the decimal points of a column line up, whether its unit has two letters, one or none.
pub(crate) fn padded(figure: &str, width: usize) -> String {
    let letters = figure.chars().rev().take(2).filter(char::is_ascii_alphabetic).count();
    let pad = 2 - letters;
    let width = width - pad;
    format!("{figure:>width$.width$}{:pad$}", "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_change_where_wrk_changes_them() {
        assert_eq!(format_time_us(0.0), "0.00us");
        assert_eq!(format_time_us(849.994), "849.99us");
        assert_eq!(format_time_us(850.0), "0.85ms");
        assert_eq!(format_time_us(849_000.0), "849.00ms");
        // The last unit is never reached: not seconds from microseconds...
        assert_eq!(format_time_us(999_000.0), "999.00ms");
        assert_eq!(format_time_us(1_000_000.0), "1.00s");
        assert_eq!(format_time_us(51_000_000.0), "0.85m");
        // ...and not hours from seconds.
        assert_eq!(format_time_s(7_200.0), "120m");
        assert_eq!(format_time_s(10.0), "10s");
        assert_eq!(format_metric(849.0), "849.00");
        assert_eq!(format_metric(56_200.0), "56.20k");
        assert_eq!(format_binary(1024.0 * 1024.0 * 17.76), "17.76M");
    }

    #[test]
    fn decimal_points_line_up() {
        assert_eq!(padded("250.00us", 10), "  250.00us");
        assert_eq!(padded("1.00s", 10), "    1.00s ");
        assert_eq!(padded("900.00", 10), "  900.00  ");
    }
}
