//! One grammar of numbers, sizes and times, for the flags and the output of every program here.
//!
//! | | read | printed |
//! |---|---|---|
//! | [`count`] | `200`, `10k`, `1.5M` | [`format::count`]: `9,977` |
//! | [`bytes`] | `4096`, `64K`, `64KiB` (2^10 each), `64kB` (10^3 each), `1.5GB` | [`format::bytes`]: `377.43 MB` |
//! | [`duration`] | `500us`, `1.5s`, `2m`, `1h 30m` | [`format::duration`]: `7.39 ms` |
//!
//! Units are case-insensitive. A size without the suffix `B` is binary, as in the kernel and in Docker.

pub mod format;

use std::time::Duration;

/// How to write a number.
const COUNT_ADVICE: &str = "write 200, 10k or 1.5M";
/// How to write a size.
const BYTES_ADVICE: &str = "write 4096, 64K, 64KiB, 64MB or 1.5GB";
/// How to write a time.
const DURATION_ADVICE: &str = "write 500us, 250ms, 10s, 2m or 1h";

const NS_PER_S: u128 = 1_000_000_000;
/// Each is 1000 or 1024 times the one before.
const PREFIXES: [&str; 6] = ["", "k", "m", "g", "t", "p"];

/// Parses a number that need not be whole: `0.5`, `9.9k`.
///
/// # Errors
/// Says what is wrong and how to write it.
pub fn number(text: &str) -> Result<f64, String> {
    let (number, unit) = split(text);
    let scale = count_scale(unit).ok_or_else(|| format!("{text:?} is not a number: {COUNT_ADVICE}"))?;
    let number: f64 = checked_digits(number)
        .and_then(|number| number.parse().ok())
        .ok_or_else(|| format!("{text:?} is not a number: {COUNT_ADVICE}"))?;
    Ok(number * scale as f64)
}

/// Parses a whole number: `200`, `10k`, `1.5M`.
///
/// # Errors
/// Says what is wrong and how to write it.
pub fn count(text: &str) -> Result<usize, String> {
    let (number, unit) = split(text);
    let scaled = count_scale(unit).and_then(|scale| scaled(number, scale));
    let scaled = scaled.ok_or_else(|| format!("{text:?} is not a number: {COUNT_ADVICE}"))?;
    usize::try_from(whole(text, scaled)?).map_err(|_| format!("{text} is too large"))
}

/// Parses a whole number of at least 1.
///
/// # Errors
/// Says what is wrong and how to write it.
pub fn positive_count(text: &str) -> Result<usize, String> {
    match count(text)? {
        0 => Err("it must be at least 1".into()),
        count => Ok(count),
    }
}

/// Parses a size: `64M` and `64MiB` are 64 × 2^20 bytes, `64MB` is 64 × 10^6.
///
/// # Errors
/// Says what is wrong and how to write it.
pub fn bytes(text: &str) -> Result<u64, String> {
    let (number, unit) = split(text);
    let scaled = bytes_scale(unit).and_then(|scale| scaled(number, scale));
    let scaled = scaled.ok_or_else(|| format!("{text:?} is not a size: {BYTES_ADVICE}"))?;
    u64::try_from(whole(text, scaled)?).map_err(|_| format!("{text} is too large"))
}

/// Parses a size above zero.
///
/// # Errors
/// Says what is wrong and how to write it.
pub fn positive_bytes(text: &str) -> Result<u64, String> {
    match bytes(text)? {
        0 => Err("it must be above zero".into()),
        bytes => Ok(bytes),
    }
}

/// Parses a time: `500us`, `1.5s`, `2m`, `1h 30m`. Only zero needs no unit.
///
/// # Errors
/// Says what is wrong and how to write it.
pub fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split(text);
    let wrong = || format!("{text:?} is not a time: {DURATION_ADVICE}");
    match duration_scale_ns(unit) {
        Some(scale_ns) => scaled(number, scale_ns).and_then(|(ns, _)| from_ns(ns)).ok_or_else(wrong),
        None if unit.is_empty() => match scaled(number, 1) {
            Some((0, _)) => Ok(Duration::ZERO),
            Some(_) => Err(format!("{text:?} has no unit: {DURATION_ADVICE}")),
            None => Err(wrong()),
        },
        // Several parts, or units spelled out.
        None => humantime::parse_duration(text).map_err(|_| wrong()),
    }
}

/// Parses a time above zero.
///
/// # Errors
/// Says what is wrong and how to write it.
pub fn positive_duration(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("it must be above zero".into()),
        duration => Ok(duration),
    }
}

/// More is a mistake, and beyond what can be added to the time of day.
const MAX_TIMEOUT: Duration = Duration::from_secs(365 * 24 * 3600);

/// A timeout: not zero, which a socket would take for none, and at most a year.
///
/// # Errors
/// It is not one: the message says what to write.
pub fn timeout(text: &str) -> Result<Duration, String> {
    match positive_duration(text)? {
        duration if duration > MAX_TIMEOUT => Err("it must be at most a year".into()),
        duration => Ok(duration),
    }
}

/// Parses a time above zero; a bare number is seconds, as in wrk: `10`, `10s`, `2m`.
///
/// # Errors
/// Says what is wrong and how to write it.
pub fn positive_duration_or_seconds(text: &str) -> Result<Duration, String> {
    let is_bare = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_bare { positive_duration(&format!("{text}s")) } else { positive_duration(text) }
}

/// Splits a number from its unit.
fn split(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text.find(|character: char| !character.is_ascii_digit() && character != '.').unwrap_or(text.len());
    (&text[..end], text[end..].trim_start())
}

/// Accepts digits with at most one decimal point between them.
fn checked_digits(number: &str) -> Option<&str> {
    let is_digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let (before, after) = number.split_once('.').unwrap_or((number, "0"));
    (is_digits(before) && is_digits(after)).then_some(number)
}

/// The exact product of the number and `scale`, rounded to a whole number, and whether it was whole before. Allocates
/// nothing: servers parse the times in requests with this, and each of 10,000 processes would pay a page of heap.
fn scaled(number: &str, scale: u128) -> Option<(u128, bool)> {
    let (before, after) = checked_digits(number)?.split_once('.').unwrap_or((number, ""));
    let divisor = 10_u128.checked_pow(u32::try_from(after.len()).ok()?)?;
    let mut digits = before.bytes().chain(after.bytes()).map(|digit| u128::from(digit - b'0'));
    let value = digits.try_fold(0_u128, |value, digit| value.checked_mul(10)?.checked_add(digit))?;
    let value = value.checked_mul(scale)?;
    Some(((value + divisor / 2) / divisor, value % divisor == 0))
}

fn whole(text: &str, (value, is_whole): (u128, bool)) -> Result<u128, String> {
    if is_whole { Ok(value) } else { Err(format!("{text} is not a whole number")) }
}

fn count_scale(unit: &str) -> Option<u128> {
    let exponent = PREFIXES.iter().position(|known| unit.eq_ignore_ascii_case(known))?;
    Some(1000_u128.pow(exponent as u32))
}

fn bytes_scale(unit: &str) -> Option<u128> {
    let unit = unit.to_ascii_lowercase();
    let (prefix, base) = match (unit.strip_suffix("ib"), unit.strip_suffix('b')) {
        // "iB" alone is not a unit.
        (Some(""), _) => return None,
        (Some(prefix), _) => (prefix, 1024_u128),
        (None, Some(prefix)) => (prefix, 1000),
        (None, None) => (unit.as_str(), 1024),
    };
    let exponent = PREFIXES.iter().position(|known| *known == prefix)?;
    Some(base.pow(exponent as u32))
}

fn duration_scale_ns(unit: &str) -> Option<u128> {
    const SCALES: [(&str, u128); 9] = [
        ("ns", 1),
        ("us", 1_000),
        ("µs", 1_000),
        ("ms", 1_000_000),
        ("s", NS_PER_S),
        ("m", 60 * NS_PER_S),
        ("min", 60 * NS_PER_S),
        ("h", 3_600 * NS_PER_S),
        ("d", 24 * 3_600 * NS_PER_S),
    ];
    SCALES.iter().find(|(known, _)| unit.eq_ignore_ascii_case(known)).map(|(_, scale)| *scale)
}

fn from_ns(ns: u128) -> Option<Duration> {
    Some(Duration::new(u64::try_from(ns / NS_PER_S).ok()?, (ns % NS_PER_S) as u32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_with_their_units() {
        assert_eq!(
            ["200", "10k", "2M", "1.5k", "0"].map(|text| count(text).unwrap()),
            [200, 10_000, 2_000_000, 1_500, 0]
        );
        assert_eq!(number("9.9k"), Ok(9_900.0));
        for nonsense in ["", "k", "-1", "1x", "1.2.3", "1.", ".5", "1.0005k", "99999999999999999P", "١"] {
            assert!(count(nonsense).is_err(), "{nonsense}");
        }
        assert!(positive_count("0").unwrap_err().contains("at least 1"));
    }

    #[test]
    fn sizes_are_read_with_their_units() {
        let read = ["256M", "256MiB", "256MB", "2g", "4096", "1 kB", "1.5K", "64K", "512B"];
        let expected = [256 << 20, 256 << 20, 256_000_000, 2 << 30, 4_096, 1_000, 1_536, 65_536, 512];
        assert_eq!(read.map(|text| bytes(text).unwrap()), expected);
        for nonsense in ["", "M", "iB", "-1M", "1X", "0.3B", "99999999999999999999", "99999999999T"] {
            assert!(bytes(nonsense).is_err(), "{nonsense}");
        }
        assert!(positive_bytes("0M").unwrap_err().contains("above zero"));
        assert!(bytes("64X").unwrap_err().contains("write 4096"));
    }

    #[test]
    fn times_are_read_with_their_units() {
        let read = ["500us", "4.35ms", "1.5s", "2m", "1H", "1h 30m", "0", "7 us", "1min"];
        let expected_us = [500, 4_350, 1_500_000, 120_000_000, 3_600_000_000, 5_400_000_000, 0, 7, 60_000_000];
        assert_eq!(read.map(|text| duration(text).unwrap()), expected_us.map(Duration::from_micros));
        for nonsense in ["", "s", "soon", "-1s", "1.2.3s", "64MB", "99999999999999999999s"] {
            assert!(duration(nonsense).is_err(), "{nonsense}");
        }
        assert!(duration("1200").unwrap_err().contains("has no unit: write"));
        assert!(positive_duration("0ms").unwrap_err().contains("above zero"));
        assert_eq!(positive_duration_or_seconds("10"), Ok(Duration::from_secs(10)));
        assert_eq!(positive_duration_or_seconds("500ms"), Ok(Duration::from_millis(500)));
    }
}
