//! The simulated database takes as long as it says.

use std::time::Duration;

use common::db::{Database, Latency};

const DRAWS: usize = 20_000;

/// Latencies in ascending order, in seconds.
fn draw(latency: &str, seed: u64) -> Vec<f64> {
    let latency: Latency = latency.parse().unwrap();
    let database = Database::new(latency, seed);
    let mut drawn: Vec<f64> = (0..DRAWS).map(|_| database.latency(None).as_secs_f64()).collect();
    drawn.sort_by(f64::total_cmp);
    drawn
}

fn quantile(sorted: &[f64], q: f64) -> f64 {
    sorted[(q * sorted.len() as f64) as usize]
}

fn assert_near(value: f64, expected: f64) {
    assert!((value / expected - 1.0).abs() < 0.1, "{value} is not near {expected}");
}

#[test]
fn fixed_is_fixed() {
    let drawn = draw("100ms", 1);
    assert_eq!((drawn[0], drawn[DRAWS - 1]), (0.1, 0.1));
}

#[test]
fn uniform_keeps_its_range() {
    let drawn = draw("uniform:50ms..150ms", 1);
    assert!(drawn[0] >= 0.05 && drawn[DRAWS - 1] <= 0.15);
    assert_near(quantile(&drawn, 0.25), 0.075);
    assert_near(quantile(&drawn, 0.75), 0.125);
}

#[test]
fn exponential_has_its_mean() {
    let drawn = draw("exp:100ms", 1);
    assert_near(drawn.iter().sum::<f64>() / DRAWS as f64, 0.1);
    assert_near(quantile(&drawn, 0.5), 0.1 * f64::ln(2.0));
}

#[test]
fn lognormal_has_its_median_and_p99() {
    let drawn = draw("lognormal:100ms,p99=1s", 1);
    assert_near(quantile(&drawn, 0.5), 0.1);
    assert_near(quantile(&drawn, 0.99), 1.0);
}

#[test]
fn a_seed_repeats_itself_and_another_does_not() {
    assert_eq!(draw("exp:100ms", 7), draw("exp:100ms", 7));
    assert_ne!(draw("exp:100ms", 7), draw("exp:100ms", 8));
}

#[test]
fn the_client_may_choose_the_wait() {
    let database = Database::new("1s".parse().unwrap(), 1);
    assert_eq!(database.latency(Some(Duration::from_millis(3))), Duration::from_millis(3));
}

#[test]
fn what_is_no_latency_is_refused_with_advice() {
    for text in ["", "100", "soon", "exp:0s", "uniform:2s..1s", "lognormal:1s,p99=1s", "gauss:1s", "exp:1s..2s"] {
        let error = text.parse::<Latency>().unwrap_err().to_string();
        assert!(error.contains("write 100ms"), "{text}: {error}");
    }
}

#[test]
fn a_latency_is_shown_as_it_is_written() {
    for text in ["100ms", "uniform:50ms..150ms", "exp:100ms", "lognormal:100ms,p99=1s"] {
        assert_eq!(text.parse::<Latency>().unwrap().to_string(), text);
    }
}
