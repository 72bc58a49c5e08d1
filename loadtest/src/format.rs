//! Figures as people read them.
//!
//! RAM is in decimal units (1 MB = 10^6 bytes), as in the claim that it is compared with.

use std::time::Duration;

use indicatif::{DecimalBytes, HumanCount};

/// What stands where nothing could be measured.
pub(crate) const UNKNOWN: &str = "-";

/// `377 MB`
pub(crate) fn bytes(bytes: Option<u64>) -> String {
    bytes.map_or(UNKNOWN.into(), |bytes| DecimalBytes(bytes).to_string())
}

/// `9,977`
pub(crate) fn count(value: f64) -> String {
    HumanCount(value.round() as u64).to_string()
}

/// As [`duration`].
pub(crate) fn micros(micros: u64) -> String {
    duration(Duration::from_micros(micros))
}

/// Three digits and a unit: `7.39 ms`, `1.18 s`.
pub(crate) fn duration(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    // A figure that would be rounded up to 1000 belongs to the next unit.
    match seconds {
        _ if seconds >= 0.9995 => format!("{} s", significant(seconds)),
        _ if seconds >= 0.000_999_5 => format!("{} ms", significant(seconds * 1e3)),
        _ => format!("{} µs", significant(seconds * 1e6)),
    }
}

/// A time to come: `40 s`, `7 min`, `2 h 5 min`.
pub(crate) fn rough(time: Duration) -> String {
    let seconds = time.as_secs_f64().round() as u64;
    let minutes = (seconds + 30) / 60;
    match (seconds, minutes) {
        (0..90, _) => format!("{seconds} s"),
        (_, 0..90) => format!("{minutes} min"),
        _ => format!("{} h {} min", minutes / 60, minutes % 60),
    }
}

/// Three significant digits, or all that are before the point.
pub(crate) fn significant(value: f64) -> String {
    let decimals = match value {
        _ if value >= 99.95 || value == 0.0 => 0,
        _ if value >= 9.995 => 1,
        _ => 2,
    };
    format!("{value:.decimals$}")
}

/// A command as it can be given to a shell.
pub(crate) fn command_line(command: &[String]) -> String {
    // Only a NUL cannot be quoted, and no command has one.
    shlex::try_join(command.iter().map(String::as_str)).unwrap_or_else(|_| command.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_three_digits_and_a_unit() {
        let cases = [
            (0, "0 µs"),
            (7, "7.00 µs"),
            (999, "999 µs"),
            (1_000, "1.00 ms"),
            (7_391, "7.39 ms"),
            (95_359, "95.4 ms"),
            (999_400, "999 ms"),
            (999_600, "1.00 s"),
            (1_180_364, "1.18 s"),
            (60_000_000, "60.0 s"),
        ];
        for (value_us, expected) in cases {
            assert_eq!(micros(value_us), expected);
        }
    }

    #[test]
    fn times_to_come_are_rough() {
        let cases = [(0, "0 s"), (89, "89 s"), (90, "2 min"), (440, "7 min"), (5_400, "1 h 30 min")];
        for (seconds, expected) in cases {
            assert_eq!(rough(Duration::from_secs(seconds)), expected);
        }
    }
}
