//! The simulated database: how long one query takes, and a blocking query.

use std::f64::consts::TAU;
use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};

/// A year: more than anybody waits for, and less than what overflows a clock.
const MAX_LATENCY: Duration = Duration::from_secs(365 * 24 * 3600);

/// The 99th percentile of the standard normal distribution.
const Z_99: f64 = 2.326_347_874;

/// How long a query takes: the same always, or drawn from a distribution.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Latency {
    /// `100ms`: always this long.
    Fixed(Duration),
    /// `uniform:50ms..150ms`.
    Uniform(Duration, Duration),
    /// `exp:100ms`: exponential, with this mean.
    Exponential(Duration),
    /// `lognormal:100ms,p99=1s`: log-normal, with this median and this 99th percentile.
    LogNormal {
        /// Half of the queries are faster.
        median: Duration,
        /// One query in a hundred is slower.
        p99: Duration,
    },
}

/// Why a latency could not be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}; write 100ms, uniform:50ms..150ms, exp:100ms or lognormal:100ms,p99=1s")]
pub struct LatencyError(String);

impl FromStr for Latency {
    type Err = LatencyError;

    fn from_str(text: &str) -> Result<Self, LatencyError> {
        let duration = |text: &str| quantity::duration(text).map_err(LatencyError);
        let positive = |text: &str| quantity::positive_duration(text).map_err(LatencyError);
        let (shape, parameters) = text.split_once(':').unwrap_or(("fixed", text));
        match (shape, parameters.split_once(".."), parameters.split_once(",p99=")) {
            ("fixed", None, None) => Ok(Latency::Fixed(duration(parameters)?)),
            ("exp", None, None) => Ok(Latency::Exponential(positive(parameters)?)),
            ("uniform", Some((low, high)), _) => match (duration(low)?, duration(high)?) {
                (low, high) if low < high => Ok(Latency::Uniform(low, high)),
                _ => Err(LatencyError("the range is empty".into())),
            },
            ("lognormal", _, Some((median, p99))) => match (positive(median)?, duration(p99)?) {
                (median, p99) if median < p99 => Ok(Latency::LogNormal { median, p99 }),
                _ => Err(LatencyError("p99 is not above the median".into())),
            },
            _ => Err(LatencyError(format!("{text:?} is not a latency"))),
        }
    }
}

impl fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let show = |duration: &Duration| humantime::format_duration(*duration).to_string();
        match self {
            Latency::Fixed(wait) => write!(f, "{}", show(wait)),
            Latency::Uniform(low, high) => write!(f, "uniform:{}..{}", show(low), show(high)),
            Latency::Exponential(mean) => write!(f, "exp:{}", show(mean)),
            Latency::LogNormal { median, p99 } => write!(f, "lognormal:{},p99={}", show(median), show(p99)),
        }
    }
}

/// A database that finds the same row each time, after a while. It also works in memory that processes share.
#[derive(Debug)]
pub struct Database {
    latency: Latency,
    seed: u64,
    /// The number of the next query. Query number n takes the same time in every server that was given the same seed.
    next_query: AtomicU64,
}

impl Database {
    /// A database whose queries take `latency`, drawn from `seed`.
    pub fn new(latency: Latency, seed: u64) -> Self {
        Self { latency, seed, next_query: AtomicU64::new(0) }
    }

    /// How long the next query takes: `wait` if the client chose it, else what the distribution says.
    pub fn latency(&self, wait: Option<Duration>) -> Duration {
        match (wait, self.latency) {
            (Some(wait), _) | (None, Latency::Fixed(wait)) => wait,
            (None, random) => random.draw(self.seed.wrapping_add(self.next_query.fetch_add(1, Relaxed))),
        }
    }

    /// Runs a query and blocks until it is answered.
    pub fn query(&self, wait: Option<Duration>) {
        let latency = self.latency(wait);
        if !latency.is_zero() {
            std::thread::sleep(latency);
        }
    }
}

impl Latency {
    /// The latency that `seed` draws.
    fn draw(&self, seed: u64) -> Duration {
        let mut rng = SmallRng::seed_from_u64(seed);
        let drawn_s = match self {
            Latency::Fixed(wait) => wait.as_secs_f64(),
            Latency::Uniform(low, high) => rng.random_range(low.as_secs_f64()..high.as_secs_f64()),
            Latency::Exponential(mean) => mean.as_secs_f64() * exponential(&mut rng),
            Latency::LogNormal { median, p99 } => {
                let sigma = libm::log(p99.as_secs_f64() / median.as_secs_f64()) / Z_99;
                median.as_secs_f64() * libm::exp(sigma * normal(&mut rng))
            }
        };
        // The parameters were checked when they were parsed; only an absurd draw is cut, to what a timer can hold.
        Duration::try_from_secs_f64(drawn_s).unwrap_or(Duration::MAX).min(MAX_LATENCY)
    }
}

// `libm`, and neither `f64::ln` nor `rand_distr`, which takes that where any library has `rand` with std: they map the system's
// libm into each of 10,000 processes.

/// Draws from the exponential distribution with the mean 1.
fn exponential(rng: &mut SmallRng) -> f64 {
    // Not the logarithm of 0.
    -libm::log(1.0 - rng.random::<f64>())
}

/// Draws from the standard normal distribution (Box and Muller, 1958).
fn normal(rng: &mut SmallRng) -> f64 {
    (2.0 * exponential(rng)).sqrt() * libm::cos(TAU * rng.random::<f64>())
}
