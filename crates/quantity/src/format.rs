//! Formats quantities for people.
//!
//! RAM is in decimal units (1 MB = 10^6 bytes), like the claims it is compared with.

use std::time::Duration;

/// Stands for a figure that was not measured.
pub const UNKNOWN: &str = "-";

/// `377.43 MB`; [`UNKNOWN`] if nothing was measured.
pub fn bytes(bytes: Option<u64>) -> String {
    let Some(bytes) = bytes else { return UNKNOWN.into() };
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1000.0;
    let mut units = ["kB", "MB", "GB", "TB", "PB", "EB"].into_iter();
    let mut unit = units.next().unwrap_or_default();
    // A value that would round up to 1000 moves to the next unit.
    while value >= 999.995
        && let Some(next) = units.next()
    {
        (value, unit) = (value / 1000.0, next);
    }
    format!("{value:.2} {unit}")
}

/// [`bytes`] with three digits: `377 MB`.
pub fn short_bytes(value: f64) -> String {
    let figure = bytes(Some(value.round() as u64));
    let rounded = figure.split_once(' ').and_then(|(number, unit)| Some((number.parse().ok()?, unit)));
    rounded.map_or(figure.clone(), |(number, unit): (f64, _)| format!("{} {unit}", significant(number)))
}

/// A size that somebody chose, in the binary unit in which it is a whole number, as he probably wrote it: `512 MiB`.
/// Any other is in decimal units.
pub fn exact_bytes(size: u64) -> String {
    let units = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let unit = units.into_iter().find(|(_, shift)| size > 0 && size.trailing_zeros() >= *shift);
    unit.map_or_else(|| bytes(Some(size)), |(unit, shift)| format!("{} {unit}", size >> shift))
}

/// `9,977`
pub fn count(value: f64) -> String {
    let digits = (value.round() as u64).to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// [`duration`], from microseconds.
pub fn micros(micros: u64) -> String {
    duration(Duration::from_micros(micros))
}

/// Three digits and a unit: `7.39 ms`, `1.18 s`.
pub fn duration(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    // A value that would round up to 1000 moves to the next unit.
    match seconds {
        _ if seconds >= 0.9995 => format!("{} s", significant(seconds)),
        _ if seconds >= 0.000_999_5 => format!("{} ms", significant(seconds * 1e3)),
        _ => format!("{} µs", significant(seconds * 1e6)),
    }
}

/// [`duration`], from nanoseconds, and with these where it is short: `42.3 ns`; [`UNKNOWN`] if it is no time.
pub fn nanos(nanos: f64) -> String {
    // A value that would round up to 1000 moves to the next unit.
    match Duration::try_from_secs_f64(nanos / 1e9) {
        Ok(_) if nanos < 999.5 => format!("{} ns", significant(nanos)),
        Ok(time) => duration(time),
        // Nothing took so long.
        Err(_) => UNKNOWN.into(),
    }
}

/// A rough duration for estimates: `40 s`, `7 min`, `2 h 5 min`.
pub fn rough_duration(time: Duration) -> String {
    let seconds = time.as_secs_f64().round() as u64;
    let minutes = (seconds + 30) / 60;
    match (seconds, minutes) {
        (0..90, _) => format!("{seconds} s"),
        (_, 0..90) => format!("{minutes} min"),
        _ => format!("{} h {} min", minutes / 60, minutes % 60),
    }
}

/// A share, never rounded up to 100 %.
pub fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if (90.0..100.0).contains(&percent) {
        format!("{:.1} %", (percent * 10.0).floor() / 10.0)
    } else {
        format!("{percent:.0} %")
    }
}

/// Three significant digits, or all digits before the decimal point.
pub fn significant(value: f64) -> String {
    let decimals = match value {
        _ if value >= 99.95 || value == 0.0 => 0,
        _ if value >= 9.995 => 1,
        _ => 2,
    };
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chosen_size_is_shown_as_it_was_written() {
        let shown = [512 << 20, 2 << 30, 1_536 << 20, 500_000_000, 64 << 10, 0].map(exact_bytes);
        assert_eq!(shown, ["512 MiB", "2 GiB", "1536 MiB", "500.00 MB", "64 KiB", "0 B"]);
        assert_eq!([377_434_112.0, 1.2e9, 999.0].map(short_bytes), ["377 MB", "1.20 GB", "999 B"]);
    }

    #[test]
    fn a_share_below_all_is_not_rounded_to_all() {
        assert_eq!(
            [percent(0.99999), percent(1.0), percent(0.2), percent(0.988)],
            ["99.9 %", "100 %", "20 %", "98.8 %"]
        );
    }

    #[test]
    fn short_times_are_in_nanoseconds() {
        assert_eq!([0.0, 7.391, 42.3, 999.4].map(nanos), ["0 ns", "7.39 ns", "42.3 ns", "999 ns"]);
        assert_eq!([999.6, 17_900.0, 2.5e9].map(nanos), ["1.00 µs", "17.9 µs", "2.50 s"]);
    }

    #[test]
    fn sizes_have_two_decimals_and_a_decimal_unit() {
        let cases = [
            (0, "0 B"),
            (999, "999 B"),
            (1_000, "1.00 kB"),
            (524_288, "524.29 kB"),
            (999_994, "999.99 kB"),
            (999_995, "1.00 MB"),
            (377_434_112, "377.43 MB"),
            (1_544_798_208, "1.54 GB"),
            (u64::MAX, "18.45 EB"),
        ];
        for (value, expected) in cases {
            assert_eq!(bytes(Some(value)), expected);
        }
        assert_eq!(bytes(None), UNKNOWN);
    }

    #[test]
    fn thousands_are_separated() {
        let cases = [(0.0, "0"), (999.4, "999"), (999.5, "1,000"), (12_345.0, "12,345"), (1_234_567.0, "1,234,567")];
        for (value, expected) in cases {
            assert_eq!(count(value), expected);
        }
    }

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
    fn estimates_are_rough() {
        let cases = [(0, "0 s"), (89, "89 s"), (90, "2 min"), (440, "7 min"), (5_400, "1 h 30 min")];
        for (seconds, expected) in cases {
            assert_eq!(rough_duration(Duration::from_secs(seconds)), expected);
        }
    }
}
