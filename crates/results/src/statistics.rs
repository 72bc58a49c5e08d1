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
    fn a_line_goes_through_its_points() {
        let line = Line::through(&[(100.0, 5_000.0), (300.0, 9_000.0)]).unwrap();
        assert_eq!((line.slope, line.intercept, line.slope_interval), (20.0, 3_000.0, None));
        assert_eq!(Line::through(&[(100.0, 1.0), (100.0, 2.0)]), None);
        assert_eq!(Line::through(&[]), None);
    }
}
