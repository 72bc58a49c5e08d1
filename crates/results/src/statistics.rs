//! Statistics over several measurements.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF as _, StudentsT};

/// The probability that an interval covers the true value.
const CONFIDENCE: f64 = 0.95;

/// The median and the range of some figures.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Spread {
    /// The median.
    pub median: f64,
    /// The lowest.
    pub min: f64,
    /// The highest.
    pub max: f64,
}

impl Spread {
    /// The spread of these figures; `None` if there are none.
    pub fn new(figures: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut figures: Vec<f64> = figures.into_iter().collect();
        figures.sort_by(f64::total_cmp);
        let (&min, &max) = figures.first().zip(figures.last())?;
        Some(Self { median: median(&figures)?, min, max })
    }
}

/// The median of figures in ascending order; `None` if there are none.
pub fn median(ascending: &[f64]) -> Option<f64> {
    let middle = ascending.len() / 2;
    match ascending.len() {
        0 => None,
        len if len % 2 == 1 => Some(ascending[middle]),
        _ => Some(f64::midpoint(ascending[middle - 1], ascending[middle])),
    }
}

/// A straight line fitted to points by least squares.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Line {
    /// The value at 0.
    pub intercept: f64,
    /// What each step adds.
    pub slope: f64,
    /// The 95 % confidence interval of the slope (Student's t); `None` for fewer than three points.
    pub slope_interval: Option<(f64, f64)>,
}

impl Line {
    /// Fits a line to these points; `None` if they do not differ in `x`.
    pub fn through(points: &[(f64, f64)]) -> Option<Self> {
        let count = points.len() as f64;
        let mean = |coordinate: fn(&(f64, f64)) -> f64| points.iter().map(coordinate).sum::<f64>() / count;
        let (mean_x, mean_y) = (mean(|point| point.0), mean(|point| point.1));
        let sum_xx: f64 = points.iter().map(|(x, _)| (x - mean_x).powi(2)).sum();
        let sum_xy: f64 = points.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum();
        if points.is_empty() || sum_xx == 0.0 {
            return None;
        }
        let slope = sum_xy / sum_xx;
        let intercept = mean_y - slope * mean_x;
        let residuals: f64 = points.iter().map(|(x, y)| (y - intercept - slope * x).powi(2)).sum();
        // A fitted line takes two degrees of freedom.
        let slope_interval = student_t(count - 2.0).map(|t| {
            let margin = t * (residuals / (count - 2.0) / sum_xx).sqrt();
            (slope - margin, slope + margin)
        });
        Some(Self { intercept, slope, slope_interval })
    }
}

/// A figure with its 95 % confidence interval.
///
/// The interval says how much chance there is in the figure. It says nothing of what makes all samples wrong alike.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Estimate {
    /// The figure.
    pub value: f64,
    /// The lower end of the interval.
    pub low: f64,
    /// The upper end.
    pub high: f64,
    /// How many samples it is from.
    pub samples: u64,
}

impl Estimate {
    /// A figure without chance in it, such as a count of all there are.
    pub fn exact(value: f64) -> Self {
        Self { value, low: value, high: value, samples: 1 }
    }

    /// The mean of independent samples (Student's t); `None` for fewer than two.
    pub fn mean(samples: &[f64]) -> Option<Self> {
        let count = samples.len() as f64;
        let value = samples.iter().sum::<f64>() / count;
        let t = student_t(count - 1.0)?;
        let variance = samples.iter().map(|sample| (sample - value).powi(2)).sum::<f64>() / (count - 1.0);
        let margin = t * (variance / count).sqrt();
        Some(Self { value, low: value - margin, high: value + margin, samples: samples.len() as u64 })
    }

    /// The median of samples of any distribution (by order statistics); `None` for fewer than eight.
    pub fn median(mut samples: Vec<f64>) -> Option<Self> {
        samples.sort_by(f64::total_cmp);
        let count = samples.len();
        // How many of the samples are below the median is binomial, with a standard deviation of sqrt(n) / 2.
        let margin = 0.5 * NORMAL_QUANTILE * (count as f64).sqrt();
        let rank = (count as f64 / 2.0 - margin).floor().max(0.0) as usize;
        let (low, high) = (*samples.get(rank.checked_sub(1)?)?, *samples.get(count - rank)?);
        Some(Self { value: median(&samples)?, low, high, samples: count as u64 })
    }

    /// The slope of a line through points; `None` for fewer than three, or if they do not differ in `x`.
    pub fn slope(points: &[(f64, f64)]) -> Option<Self> {
        let line = Line::through(points)?;
        let (low, high) = line.slope_interval?;
        Some(Self { value: line.slope, low, high, samples: points.len() as u64 })
    }

    /// The figure in another unit, or for several.
    pub fn times(self, factor: f64) -> Self {
        let ends = [self.low * factor, self.high * factor];
        Self { value: self.value * factor, low: ends[0].min(ends[1]), high: ends[0].max(ends[1]), ..self }
    }
}

/// 95 % of a normal distribution are within so many standard deviations.
const NORMAL_QUANTILE: f64 = 1.96;

/// How many standard errors the interval extends to each side.
fn student_t(freedom: f64) -> Option<f64> {
    // The distribution is undefined for 0 degrees of freedom and below.
    let distribution = StudentsT::new(0.0, 1.0, freedom).ok()?;
    Some(distribution.inverse_cdf(f64::midpoint(1.0, CONFIDENCE)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_near(value: f64, expected: f64) {
        assert!((value - expected).abs() <= expected.abs() * 1e-6, "{value}, not {expected}");
    }

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(Spread::new([3.0, 1.0, 2.0]), Some(Spread { median: 2.0, min: 1.0, max: 3.0 }));
        assert_eq!(Spread::new([4.0, 1.0]), Some(Spread { median: 2.5, min: 1.0, max: 4.0 }));
        assert_eq!(Spread::new([]), None);
    }

    #[test]
    fn quantiles_match_the_published_table() {
        // scipy.stats.t.ppf(0.975, df), SciPy 1.x
        let table = [
            (1.0, 12.706204736174694),
            (2.0, 4.302652729749462),
            (5.0, 2.5705818356363146),
            (13.0, 2.1603686564627913),
            (100.0, 1.9839715185235518),
        ];
        for (freedom, expected) in table {
            assert_near(student_t(freedom).unwrap(), expected);
        }
        assert_eq!(student_t(0.0), None);
        assert_eq!(student_t(-1.0), None);
    }

    #[test]
    fn the_interval_of_a_slope_matches_scipy() {
        // scipy.stats.linregress: slope, intercept, slope -+ t * stderr
        let (x, y) = ([100.0, 100.0, 300.0, 300.0, 1e3, 1e3], [5.1e6, 5.3e6, 12.2e6, 11.8e6, 40.1e6, 39.5e6]);
        let line = Line::through(&x.into_iter().zip(y).collect::<Vec<_>>()).unwrap();
        assert_near(line.slope, 38776.11940298507);
        assert_near(line.intercept, 904477.611940302);
        let (low, high) = line.slope_interval.unwrap();
        assert_near(low, 37143.724742577884);
        assert_near(high, 40408.51406339225);
    }

    #[test]
    fn the_interval_of_a_mean_matches_scipy() {
        // scipy.stats.t.interval(0.95, 4, loc=mean, scale=scipy.stats.sem([9.8, 10.1, 10.0, 10.4, 9.7]))
        let mean = Estimate::mean(&[9.8, 10.1, 10.0, 10.4, 9.7]).unwrap();
        assert_near(mean.value, 10.0);
        assert_near(mean.low, 9.659956309670871);
        assert_near(mean.high, 10.340043690329129);
        assert_eq!((mean.samples, Estimate::mean(&[1.0])), (5, None));
    }

    #[test]
    fn the_interval_of_a_median_is_between_ranks() {
        // Conover, Practical Nonparametric Statistics: ranks 40 and 61 of 100.
        let median = Estimate::median((1..=100).rev().map(f64::from).collect()).unwrap();
        assert_eq!((median.value, median.low, median.high), (50.5, 40.0, 61.0));
        assert_eq!(Estimate::median(vec![1.0; 7]), None);
        assert!(Estimate::median(vec![1.0; 8]).is_some());
    }

    #[test]
    fn an_estimate_can_be_scaled() {
        let estimate = Estimate { value: 2.0, low: 1.0, high: 4.0, samples: 9 };
        assert_eq!(estimate.times(-1.0), Estimate { value: -2.0, low: -4.0, high: -1.0, samples: 9 });
    }

    #[test]
    fn a_line_goes_through_its_points() {
        let line = Line::through(&[(100.0, 5_000.0), (300.0, 9_000.0)]).unwrap();
        assert_eq!((line.slope, line.intercept, line.slope_interval), (20.0, 3_000.0, None));
        assert_eq!(Line::through(&[(100.0, 1.0), (100.0, 2.0)]), None);
        assert_eq!(Line::through(&[]), None);
    }
}
