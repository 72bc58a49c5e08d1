//! Charts of latency and RAM at one number of connections, with a line for each model.

use anyhow::Result;
use maud::{Markup, html};

use results::run::{RunResult, Second};

use super::axis::Axis;
use super::chart::{self, Canvas, ChartFigure, Pixel, Plot, dashed_line, line, mark, or_more_mark, sample};
use super::models::{Model, Rounds, Study};
use super::palette::INK;
use super::words;

/// The lowest latency drawn: above a wait of 1 s, four digits resolve only 0.06 ms.
const FLOOR_US: f64 = 100.0;
/// In pixels.
pub(super) const HEIGHT: u32 = 340;
/// The most points in a line.
const MAX_POINTS: usize = 240;
/// The most marks on a line.
const MAX_MARKS: usize = 12;
/// The last percentile is 99.999 %: one request in this many is slower.
const MAX_ONE_IN: f64 = 1e5;

/// Whether to draw latencies less the wait. A fixed wait would hide the differences.
#[derive(Clone, Copy, Debug)]
pub(super) struct LatencyScale {
    is_above_wait: bool,
}

impl LatencyScale {
    /// The scale that fits all results.
    pub(super) fn shared_by<'r>(results: impl IntoIterator<Item = &'r RunResult>) -> Self {
        Self { is_above_wait: results.into_iter().all(|result| words::fixed_wait_us(result).is_some()) }
    }

    /// The value to draw for a latency.
    pub(super) fn place(self, result: &RunResult, latency_us: u64) -> f64 {
        let wait_us = if self.is_above_wait { words::fixed_wait_us(result).unwrap_or(0.0) } else { 0.0 };
        (latency_us as f64 - wait_us).max(FLOOR_US)
    }

    /// The title of an axis.
    pub(super) fn title(self) -> &'static str {
        if self.is_above_wait { "latency above the wait" } else { "latency" }
    }

    /// The note for the caption.
    pub(super) fn note(self) -> Markup {
        html! {
            @if self.is_above_wait {
                " The wait itself is left out: the chart shows what the server and this machine add to it. "
                "Values below 0.1 ms are drawn as 0.1 ms."
            } @else {
                " From the first byte sent to the last byte received, including the wait."
            }
        }
    }
}

/// One model's line.
struct Line<'s, 'a> {
    model: &'s Model<'a>,
    points: Vec<(f64, f64)>,
    marks: Vec<(f64, f64)>,
    /// The points where the value is a lower bound.
    lower_bounds: Vec<(f64, f64)>,
}

fn coordinates(lines: &[Line<'_, '_>], coordinate: fn(&(f64, f64)) -> f64) -> Vec<f64> {
    lines.iter().flat_map(|line| line.points.iter().chain(&line.lower_bounds)).map(coordinate).collect()
}

/// Latency by percentile.
pub(super) fn percentiles(study: &Study<'_>) -> Result<Option<Markup>> {
    let scale = LatencyScale::shared_by(study.in_focus().iter().flat_map(|(_, cell)| cell.counting()));
    let lines = study.in_focus().into_iter().filter_map(|(model, cell)| percentile_line(model, cell, scale));
    let lines: Vec<Line<'_, '_>> = lines.collect();
    let end = coordinates(&lines, |point| point.0).into_iter().fold(10.0, f64::max);
    // Leave room for the arrow above a lower bound.
    let arrows = lines.iter().flat_map(|line| &line.lower_bounds).map(|point| point.1 * 2.0);
    let values = coordinates(&lines, |point| point.1).into_iter().chain(arrows);
    let Some(y) = Axis::log(scale.title(), values, words::micros_tick) else {
        return Ok(None);
    };
    let x = Axis::log("share of requests that took no longer", [1.06, end / 1.06], percentile_tick);
    let Some(x) = x.map(|x| x.with_ticks(ticks(end))) else { return Ok(None) };
    let has_lower_bounds = lines.iter().any(|line| !line.lower_bounds.is_empty());
    let models: Vec<&Model<'_>> = lines.iter().map(|line| line.model).collect();
    let figure = ChartFigure {
        title: "Latency by percentile".into(),
        legend: html! { (chart::legend(&models, true)?) @if has_lower_bounds { (or_more_legend()?) } },
        caption: html! {
            "Further right is rarer: each step is ten times as rare as the one before, as in the plots of "
            "HdrHistogram. A line ends where there are too few answers."
            (scale.note())
            @if has_lower_bounds {
                " A dashed line with arrows means at least this much: when the measured time ended, these requests had no "
                "answer yet."
            }
        },
        height: HEIGHT,
    };
    figure
        .draw(|canvas| {
            let plot = Plot::line_chart(canvas, x.clone(), y.clone())?;
            lines.iter().try_for_each(|line| draw_line(canvas, &plot, line))
        })
        .map(Some)
}

fn percentile_line<'s, 'a>(model: &'s Model<'a>, cell: &Rounds<'a>, scale: LatencyScale) -> Option<Line<'s, 'a>> {
    let (distribution, answered) = cell.distribution()?;
    let result = cell.typical()?;
    let end = (answered as f64).clamp(10.0, MAX_ONE_IN);
    let at = |one_in: f64| {
        let latency = distribution.quantile_us(1.0 - 1.0 / one_in);
        (latency.is_lower_bound, (one_in, scale.place(result, latency.value)))
    };
    let split = |one_in: Vec<f64>| -> (Vec<_>, Vec<_>) {
        one_in.into_iter().map(at).partition(|(is_lower_bound, _)| *is_lower_bound)
    };
    let points = |figures: Vec<(bool, (f64, f64))>| figures.into_iter().map(|(_, point)| point).collect();
    let steps = (0..=MAX_POINTS).map(|step| end.powf(step as f64 / MAX_POINTS as f64)).collect();
    let (lower_bounds, known) = split(steps);
    // The first tick is at the edge of the plot.
    let (_, marked) = split(ticks(end).split_off(1));
    Some(Line { model, points: points(known), marks: points(marked), lower_bounds: points(lower_bounds) })
}

fn or_more_legend() -> Result<Markup> {
    let arrow = sample(|canvas| {
        dashed_line(canvas, &[(0, 12), (28, 12)], INK, 2)?;
        or_more_mark(canvas, (14, 13), INK)
    })?;
    Ok(html! { ul.legend { li { (arrow) "at least this much" } } })
}

/// One request in 1, 2, 10, 100 and so on is slower.
fn ticks(end: f64) -> Vec<f64> {
    [1.0, 2.0].into_iter().chain((1..6).map(|nines| 10_f64.powi(nines))).filter(|&tick| tick <= end * 1.01).collect()
}

fn percentile_tick(one_in: f64) -> String {
    let percent = (1.0 - 1.0 / one_in) * 100.0;
    format!("{} %", (percent * 1e4).round() / 1e4)
}

fn draw_line(canvas: &Canvas<'_>, plot: &Plot<'_>, drawn: &Line<'_, '_>) -> Result<()> {
    let pixels = |points: &[(f64, f64)]| points.iter().map(|&(x, y)| plot.at(x, y)).collect::<Vec<Pixel>>();
    let look = drawn.model.look;
    line(canvas, &pixels(&drawn.points), look.colour, 2)?;
    let joint = drawn.points.last().into_iter().chain(&drawn.lower_bounds).copied().collect::<Vec<_>>();
    let bounds = pixels(&drawn.lower_bounds);
    if let (Some(&(from, y)), Some(&(to, _))) = (bounds.first(), bounds.last()) {
        dashed_line(canvas, &pixels(&joint), look.colour, 2)?;
        for quarter in 1..=3 {
            or_more_mark(canvas, (from + (to - from) * quarter / 4, y), look.colour)?;
        }
    }
    pixels(&drawn.marks).into_iter().try_for_each(|at| mark(canvas, at, look))
}

/// Latency and RAM, second by second.
pub(super) fn over_time(study: &Study<'_>) -> Result<Option<Markup>> {
    let figures = time_charts(study)?;
    Ok((!figures.is_empty()).then(|| html! { @for figure in figures { (figure) } }))
}

/// The charts of latency and RAM over time, those that have something to show.
pub(super) fn time_charts(study: &Study<'_>) -> Result<Vec<Markup>> {
    let scale = LatencyScale::shared_by(study.in_focus().iter().flat_map(|(_, cell)| cell.counting()));
    let latency = |field: fn(&Second) -> Option<u64>| {
        move |result: &RunResult, second: &Second| field(second).map(|latency_us| scale.place(result, latency_us))
    };
    let (p50, p99) = (series(study, latency(|second| second.p50_us)), series(study, latency(|second| second.p99_us)));
    let ram = series(study, |_, second| second.ram_bytes.map(|bytes| bytes as f64));
    let title = scale.title();
    let figures = [
        time_chart(
            &p50,
            &format!("Median {title}, over time"),
            Axis::log(format!("{title}, p50"), coordinates(&p50, |point| point.1), words::micros_tick),
            html! {
                "Over the answers of each second." (scale.note())
            },
        )?,
        time_chart(
            &p99,
            &format!("99th percentile of the {title}, over time"),
            Axis::log(format!("{title}, p99"), coordinates(&p99, |point| point.1), words::micros_tick),
            html! {
                "One answer in a hundred took longer than this."
            },
        )?,
        time_chart(
            &ram,
            "RAM over time",
            Axis::log("RAM", coordinates(&ram, |point| point.1), words::bytes_tick),
            html! {
                "The charge of the server's cgroup. The peak comes earlier, while all connections send their "
                "first request at the same moment. A line that still rises at the end has not reached its maximum."
            },
        )?,
    ];
    Ok(figures.into_iter().flatten().collect())
}

fn time_chart(lines: &[Line<'_, '_>], title: &str, y: Option<Axis>, caption: Markup) -> Result<Option<Markup>> {
    let Some(y) = y else { return Ok(None) };
    let end_s = coordinates(lines, |point| point.0).into_iter().fold(0.0, f64::max);
    let x = Axis::linear("seconds since the measured time began", end_s, words::seconds_tick);
    let models: Vec<&Model<'_>> = lines.iter().map(|line| line.model).collect();
    let figure =
        ChartFigure { title: title.into(), legend: chart::legend(&models, true)?, caption, height: HEIGHT - 60 };
    figure
        .draw(|canvas| {
            let plot = Plot::line_chart(canvas, x.clone(), y.clone())?;
            lines.iter().try_for_each(|line| draw_line(canvas, &plot, line))
        })
        .map(Some)
}

/// A line per model of a figure in each second of its typical round. A long run is drawn as maxima over several
/// seconds.
fn series<'s, 'a>(study: &'s Study<'a>, figure: impl Fn(&RunResult, &Second) -> Option<f64>) -> Vec<Line<'s, 'a>> {
    let lines = study.in_focus().into_iter().filter_map(|(model, cell)| {
        let result = cell.typical()?;
        let points: Vec<_> = result.series.iter().filter_map(|row| Some((row.end_s, figure(result, row)?))).collect();
        let points: Vec<_> = points.chunks(points.len().div_ceil(MAX_POINTS).max(1)).filter_map(highest).collect();
        let marks = points.iter().step_by(points.len().div_ceil(MAX_MARKS).max(1)).copied().collect();
        (!points.is_empty()).then_some(Line { model, points, marks, lower_bounds: Vec::new() })
    });
    lines.collect()
}

fn highest(points: &[(f64, f64)]) -> Option<(f64, f64)> {
    points.iter().copied().max_by(|one, other| one.1.total_cmp(&other.1))
}
