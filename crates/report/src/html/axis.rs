//! Axes with round ends and tick labels that do not collide.

use std::mem;
use std::ops::Range;

use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};

/// Maps values to positions.
#[derive(Clone, Debug)]
pub(super) struct Axis {
    /// The title, with the unit if the ticks have none.
    pub(super) title: String,
    is_log: bool,
    from: f64,
    to: f64,
    /// Ticks with a label.
    labelled: Vec<f64>,
    /// Ticks with a line only.
    light: Vec<f64>,
    label: fn(f64) -> String,
}

impl Axis {
    /// A linear axis from 0 to `max`.
    pub(super) fn linear(title: impl Into<String>, max: f64, label: fn(f64) -> String) -> Self {
        let max = if max > 0.0 { max } else { 1.0 };
        let step = ceil_125(max / 6.0);
        let labelled: Vec<f64> =
            (0..).map(|tick| f64::from(tick) * step).take_while(|&at| at <= max * 1.0001).collect();
        Self { title: title.into(), is_log: false, from: 0.0, to: max, labelled, light: Vec::new(), label }
    }

    /// A logarithmic axis around all values above 0; `None` without any.
    pub(super) fn log(
        title: impl Into<String>,
        values: impl IntoIterator<Item = f64>,
        label: fn(f64) -> String,
    ) -> Option<Self> {
        let bounds =
            values.into_iter().filter(|&value| value > 0.0 && value.is_finite()).fold(None, |bounds, value| {
                let (min, max) = bounds.unwrap_or((value, value));
                Some((value.min(min), value.max(max)))
            });
        let (min, max) = bounds?;
        let (from, to) = (floor_125(min / 1.05), ceil_125(max * 1.05));
        let light: Vec<f64> = digits(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0], from, to);
        let decades = digits(&[1.0], from, to);
        let labelled = if decades.len() >= 3 { decades } else { digits(&[1.0, 2.0, 5.0], from, to) };
        Some(Self { title: title.into(), is_log: true, from, to, labelled, light, label })
    }

    /// Sets the labelled ticks, and drops the others.
    pub(super) fn with_ticks(mut self, ticks: Vec<f64>) -> Self {
        (self.labelled, self.light) = (ticks, Vec::new());
        self
    }

    /// Adds room at both ends, as a share of the length.
    pub(super) fn with_room(mut self, share: f64) -> Self {
        let room = (self.at(self.to) - self.at(self.from)) * share;
        (self.from, self.to) = (self.value_at(self.at(self.from) - room), self.value_at(self.at(self.to) + room));
        self
    }

    /// Drops labels that do not fit along `length_px` plus `margin_px`, at `character_px` per character. A linear axis
    /// keeps even steps.
    pub(super) fn fitted_across(mut self, length_px: i32, margin_px: i32, character_px: i32) -> Self {
        let fitting = |axis: &Self, step| axis.fitting(length_px, character_px, step);
        let step = (1..).find(|&step| self.is_log || fitting(&self, step).len() == self.labelled.len().div_ceil(step));
        let mut ticks = fitting(&self, step.unwrap_or(1));
        let (ends, end) =
            (|tick: &f64| self.label_ends(*tick, length_px, character_px).1, f64::from(length_px + margin_px));
        ticks.retain(|tick| ends(tick) <= end);
        self.labelled = ticks;
        self
    }

    /// Every `step`th label, less those that collide with the one before.
    fn fitting(&self, length_px: i32, character_px: i32, step: usize) -> Vec<f64> {
        let mut free_from = f64::NEG_INFINITY;
        let fits = |tick: &f64| {
            let (start, end) = self.label_ends(*tick, length_px, character_px);
            let fits = start >= free_from;
            if fits {
                free_from = end + f64::from(character_px);
            }
            fits
        };
        self.labelled.iter().step_by(step).copied().filter(fits).collect()
    }

    /// The start and end of a label in pixels, from the start of the axis.
    fn label_ends(&self, tick: f64, length_px: i32, character_px: i32) -> (f64, f64) {
        let half = f64::from((self.label)(tick).chars().count() as i32 * character_px) / 2.0;
        let middle = self.share(tick) * f64::from(length_px);
        (middle - half, middle + half)
    }

    /// Drops labels that do not fit above each other along `length_px`, at `label_px` each.
    pub(super) fn fitted_upwards(mut self, length_px: i32, label_px: i32) -> Self {
        let mut free_from = f64::NEG_INFINITY;
        for tick in mem::take(&mut self.labelled) {
            let middle = self.share(tick) * f64::from(length_px);
            if middle >= free_from {
                free_from = middle + f64::from(label_px);
                self.labelled.push(tick);
            }
        }
        self
    }

    /// The position of a value, from 0 to 1.
    fn share(&self, value: f64) -> f64 {
        (self.at(value) - self.at(self.from)) / (self.at(self.to) - self.at(self.from))
    }

    fn at(&self, value: f64) -> f64 {
        if self.is_log { value.log10() } else { value }
    }

    fn value_at(&self, place: f64) -> f64 {
        if self.is_log { 10_f64.powf(place) } else { place }
    }

    /// Its lower end.
    pub(super) fn from(&self) -> f64 {
        self.from
    }

    /// Its upper end.
    pub(super) fn to(&self) -> f64 {
        self.to
    }
}

/// The interface that plotters needs.
impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, &value: &f64, (start, end): (i32, i32)) -> i32 {
        start + (f64::from(end - start) * self.share(value)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        if hint.weight().allow_light_points() { self.light.clone() } else { self.labelled.clone() }
    }

    fn range(&self) -> Range<f64> {
        self.from..self.to
    }
}

impl ValueFormatter<f64> for Axis {
    fn format_ext(&self, &value: &f64) -> String {
        (self.label)(value)
    }
}

/// These multiples of powers of ten between `from` and `to`.
fn digits(multiples: &[f64], from: f64, to: f64) -> Vec<f64> {
    let decades = from.log10().floor() as i32..=to.log10().ceil() as i32;
    let all = decades.flat_map(|decade| multiples.iter().map(move |multiple| multiple * 10_f64.powi(decade)));
    all.filter(|&value| value >= from * 0.9999 && value <= to * 1.0001).collect()
}

fn ceil_125(value: f64) -> f64 {
    digits(&[1.0, 2.0, 5.0], value, value * 10.0).first().copied().unwrap_or(value)
}

fn floor_125(value: f64) -> f64 {
    digits(&[1.0, 2.0, 5.0], value / 10.0, value).last().copied().unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(value: f64) -> String {
        value.to_string()
    }

    fn assert_close(found: &[f64], expected: &[f64]) {
        let is_close = |(a, b): (&f64, &f64)| (a / b - 1.0).abs() < 1e-9 || a == b;
        assert!(
            found.len() == expected.len() && found.iter().zip(expected).all(is_close),
            "{found:?}, not {expected:?}"
        );
    }

    #[test]
    fn a_long_scale_has_decades_and_a_short_one_steps() {
        let long = Axis::log("", [3.0, 40_000.0], plain).unwrap();
        assert_close(&[long.from(), long.to()], &[2.0, 50_000.0]);
        assert_close(&long.labelled, &[10.0, 100.0, 1000.0, 10_000.0]);
        let short = Axis::log("", [1.4, 1.6], plain).unwrap();
        assert_close(&short.labelled, &[1.0, 2.0]);
        assert!(Axis::log("", [0.0, f64::NAN], plain).is_none());
    }

    #[test]
    fn a_linear_scale_starts_at_zero() {
        let axis = Axis::linear("", 9_977.0, plain);
        assert_close(&axis.labelled, &[0.0, 2_000.0, 4_000.0, 6_000.0, 8_000.0]);
        assert_close(&Axis::linear("", 0.0, plain).labelled, &[0.0, 0.2, 0.4, 0.6, 0.8, 1.0]);
    }

    #[test]
    fn labels_that_would_collide_are_left_out() {
        let axis = Axis::log("", [1.0, 1e6], plain).unwrap();
        let shown = |axis: Axis| axis.labelled;
        assert_close(&shown(axis.clone().fitted_upwards(240, 50)), &[1.0, 100.0, 1e4, 1e6]);
        // Labels get longer to the right.
        assert_close(&shown(axis.fitted_across(240, 30, 8)), &[1.0, 10.0, 100.0, 1000.0, 1e5]);
        let even = Axis::linear("", 10_000.0, plain).fitted_across(140, 60, 8);
        assert_close(&even.labelled, &[0.0, 4_000.0, 8_000.0]);
        // The last label needs a margin.
        let axis = Axis::log("", [1.0, 1e3], plain).unwrap();
        assert_close(&shown(axis.clone().fitted_across(160, 5, 8)), &[1.0, 10.0, 100.0, 1000.0]);
        assert_close(&shown(axis.fitted_across(160, 0, 8)), &[1.0, 10.0, 100.0]);
    }
}
