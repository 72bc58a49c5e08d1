//! Charts of a sweep: RAM, throughput and latency against the number of connections, a line for each model.

use anyhow::Result;
use maud::{Markup, html};
use plotters::style::RGBColor;

use quantity::format::{count, short_bytes};
use results::RunResult;
use results::sweep::{self, Slope};

use crate::sweep::slope_text;

use super::axis::Axis;
use super::chart::{
    self, Canvas, ChartFigure, LegendMark, Pixel, Plot, dashed_line, failure_mark, line, mark, or_more_mark, sample,
    spread_bar,
};
use super::cost::peak_bytes;
use super::lines::{HEIGHT, LatencyScale};
use super::models::{Model, Rounds, Study};
use super::palette::INK;
use super::words;
use results::statistics::Spread;

/// Pixels between two models at the same number of connections, to keep their bars apart.
const DODGE: i32 = 2;

/// The quantity on the y axis.
#[derive(Clone, Copy, Debug)]
enum Quantity {
    Ram,
    Throughput,
    /// The 99th percentile.
    Latency(LatencyScale),
}

impl Quantity {
    fn title(self) -> &'static str {
        match self {
            Quantity::Ram => "RAM by number of connections",
            Quantity::Throughput => "Requests answered per second, by number of connections",
            Quantity::Latency(_) => "99th percentile of the latency, by number of connections",
        }
    }

    fn axis(self, values: impl IntoIterator<Item = f64>) -> Option<Axis> {
        match self {
            Quantity::Ram => Axis::log("RAM at its peak", values, words::bytes_tick),
            Quantity::Throughput => Axis::log("requests/s", values, count),
            Quantity::Latency(scale) => Axis::log(scale.title(), values, words::micros_tick),
        }
    }

    fn value(self, result: &RunResult) -> Option<f64> {
        match self {
            Quantity::Ram => peak_bytes(result),
            Quantity::Throughput => result.rps,
            Quantity::Latency(scale) => Some(scale.place(result, result.latency_us.as_ref()?.p99)),
        }
    }

    /// Whether it is a lower bound in any round.
    fn is_lower_bound(self, cell: &Rounds<'_>) -> bool {
        matches!(self, Quantity::Latency(_)) && cell.counting().any(is_p99_open)
    }
}

/// All three charts, and the failures.
pub(super) fn charts(study: &Study<'_>) -> Result<Markup> {
    let scale = LatencyScale::shared_by(study.cells().flat_map(|(_, _, cell)| cell.counting()));
    let failures = failures(study);
    let legend = |label: fn(&Model<'_>) -> String| legend(study, label, !failures.is_empty());
    let ram_legend = legend(|model| match slope(model, peak) {
        Some(slope) => format!("{}: {} a connection", model.name, short_bytes(slope.bytes.max(0.0))),
        None => model.name.to_owned(),
    })?;
    let legend = legend(|model| model.name.to_owned())?;
    let ceiling = LegendMark::new("the ceiling", |canvas| dashed_line(canvas, &[(0, 7), (28, 7)], INK, 2))?;
    let throughput_legend = html! { (legend) (LegendMark::list(&[ceiling])) };
    let has_rounds = study.cells().any(|(_, _, cell)| cell.counting().count() > 1);
    let bars = " Bars span the lowest and highest round, and the line goes through the median.";
    let bars = if has_rounds { bars } else { "" };
    let ram = html! {
        "Both scales are logarithmic. A straight line is proportional growth; where a line is flat, what the "
        "server itself needs outweighs what the connections add." (bars)
    };
    let throughput = html! {
        "The dashed line is the ceiling: the requests that wait for the database at once, divided by the wait. A line "
        "that leaves it shows a server, or this machine, that does not keep up." (bars)
    };
    let latency = Quantity::Latency(scale);
    let latency_caption = html! {
        "One request in a hundred took longer." (scale.note()) (bars)
        @if study.cells().any(|(_, _, cell)| latency.is_lower_bound(cell)) {
            " An arrow means at least this much, because too few requests were answered."
        }
    };
    let figures = [
        chart(study, Quantity::Ram, &ram_legend, ram)?.map(|chart| html! { (chart) (slopes(study)) }),
        chart(study, Quantity::Throughput, &throughput_legend, throughput)?,
        chart(study, latency, &legend, latency_caption)?,
    ];
    Ok(html! { (failures_list(&failures)) @for figure in figures.into_iter().flatten() { (figure) } })
}

fn peak(run: &RunResult) -> Option<u64> {
    run.memory.peak_bytes
}

fn slope(model: &Model<'_>, figure: fn(&RunResult) -> Option<u64>) -> Option<Slope> {
    let runs: Vec<_> = model.cells().flat_map(|(_, cell)| cell.rounds().iter().copied()).collect();
    sweep::line(&runs, figure).map(Slope::from)
}

/// What a connection more costs with each model.
fn slopes(study: &Study<'_>) -> Markup {
    let text = |slope: Option<Slope>| {
        let text = slope_text(slope);
        text.split_once('\n').map_or(text.clone(), |(slope, interval)| format!("{slope} ({interval})"))
    };
    html! {
        div.scroll tabindex="0" role="region" aria-label="A connection more costs" {
            table.figures {
                caption { "A connection more costs" }
                thead { tr { td {} th scope="col" { "while it waits" } th scope="col" { "while it is idle" } } }
                tbody {
                    @for model in &study.models {
                        tr {
                            th scope="row" { (model.name) }
                            td { (text(slope(model, peak))) }
                            td { (text(slope(model, |run| run.memory.keep_alive_bytes))) }
                        }
                    }
                }
            }
        }
        p.note { "The slope of RAM over connections (least squares), and its 95 % confidence interval." }
    }
}

fn is_p99_open(result: &RunResult) -> bool {
    result.latency_us.as_ref().is_some_and(|latency| latency.is_lower_bound("p99"))
}

fn legend(study: &Study<'_>, label: fn(&Model<'_>) -> String, has_failures: bool) -> Result<Markup> {
    let models: Vec<&Model<'_>> = study.models.iter().collect();
    let failed = sample(|canvas| failure_mark(canvas, (14, 7), INK))?;
    Ok(html! {
        (chart::legend_with(&models, true, label)?)
        @if has_failures { ul.legend { li { (failed) "failed, in the model's colour" } } }
    })
}

/// The failures, one sentence each.
pub(super) fn failures(study: &Study<'_>) -> Vec<String> {
    let sentences = study.cells().filter_map(|(model, connections, cell)| {
        let (cause, failed) = cell.failure()?;
        let rounds = cell.rounds().len();
        let how_often = if rounds > 1 { format!(" in {failed} of {rounds} rounds") } else { String::new() };
        Some(format!("{} with {} connections failed{how_often}: {cause}", model.name, count(connections as f64)))
    });
    sentences.collect()
}

pub(super) fn failures_list(failures: &[String]) -> Markup {
    html! {
        @if !failures.is_empty() { ul.failures { @for failure in failures { li { (failure) } } } }
    }
}

fn chart(study: &Study<'_>, quantity: Quantity, legend: &Markup, caption: Markup) -> Result<Option<Markup>> {
    let spreads: Vec<_> = study.models.iter().map(|model| model.spreads(|result| quantity.value(result))).collect();
    let ceilings = if matches!(quantity, Quantity::Throughput) { ceilings(study) } else { Vec::new() };
    let values = spreads.iter().flatten().flat_map(|(_, spread)| [spread.min, spread.max]);
    let values = values.chain(ceilings.iter().flat_map(|(_, points)| points.iter().map(|point| point.1)));
    // Leave room for the arrow above a lower bound.
    let highest = spreads.iter().flatten().map(|(_, spread)| spread.max).fold(0.0, f64::max);
    let has_arrows = study.cells().any(|(_, _, cell)| quantity.is_lower_bound(cell));
    let Some(y) = quantity.axis(values.chain(has_arrows.then_some(highest * 2.0))) else { return Ok(None) };
    let connections: Vec<f64> = study.connections().into_iter().map(|connections| connections as f64).collect();
    let Some(x) = Axis::log("connections", connections.iter().copied(), count) else { return Ok(None) };
    let x = x.with_ticks(connections);
    let figure = ChartFigure { title: quantity.title().into(), legend: legend.clone(), caption, height: HEIGHT };
    let drawn = figure.draw(|canvas| {
        let plot = Plot::line_chart(canvas, x.clone(), y.clone())?;
        for (index, (model, spreads)) in study.models.iter().zip(&spreads).enumerate() {
            let dodge = (index as i32 * 2 - (study.models.len() as i32 - 1)) * DODGE / 2;
            draw_model(canvas, &plot, model, quantity, (spreads, dodge))?;
            draw_failures(canvas, &plot, model, index)?;
        }
        // On top: a server that keeps up is right below its ceiling.
        for (colour, points) in &ceilings {
            let points: Vec<Pixel> = points.iter().map(|&(x, y)| plot.at(x, y)).collect();
            dashed_line(canvas, &points, *colour, 2)?;
        }
        Ok(())
    });
    drawn.map(Some)
}

fn draw_model(
    canvas: &Canvas<'_>,
    plot: &Plot<'_>,
    model: &Model<'_>,
    quantity: Quantity,
    (spreads, dodge): (&[(usize, Spread)], i32),
) -> Result<()> {
    let colour = model.look.colour;
    let at = |connections: usize, value: f64| {
        let (x, y) = plot.at(connections as f64, value);
        (x + dodge, y)
    };
    let middle: Vec<Pixel> = spreads.iter().map(|&(connections, spread)| at(connections, spread.median)).collect();
    line(canvas, &middle, colour, 2)?;
    for (&(connections, spread), &middle) in spreads.iter().zip(&middle) {
        if spread.min < spread.max {
            spread_bar(canvas, at(connections, spread.min), at(connections, spread.max), colour)?;
        }
        mark(canvas, middle, model.look)?;
    }
    let open = model.cells().filter(|(_, cell)| quantity.is_lower_bound(cell));
    for (connections, spread) in
        open.filter_map(|(connections, cell)| Some((connections, cell.spread(|r| quantity.value(r))?)))
    {
        let (x, y) = at(connections, spread.max);
        or_more_mark(canvas, (x, y - 4), colour)?;
    }
    Ok(())
}

/// Stacks the failure marks at the bottom.
fn draw_failures(canvas: &Canvas<'_>, plot: &Plot<'_>, model: &Model<'_>, index: usize) -> Result<()> {
    for (connections, _) in model.cells().filter(|(_, cell)| !cell.is_complete()) {
        let (x, bottom) = (plot.x(connections as f64), plot.origin().1);
        failure_mark(canvas, (x, bottom - 12 - index as i32 * 18), model.look.colour)?;
    }
    Ok(())
}

/// A colour, and the ceiling at each number of connections.
type Ceiling = (RGBColor, Vec<(f64, f64)>);

/// The ceilings: models with the same one share it in ink, the others have their own in their colours.
fn ceilings(study: &Study<'_>) -> Vec<Ceiling> {
    let mut all: Vec<Ceiling> = Vec::new();
    for model in &study.models {
        let spreads = model.spreads(|result| result.rps_ceiling);
        let points: Vec<(f64, f64)> = spreads.iter().map(|&(x, spread)| (x as f64, spread.median)).collect();
        match all.iter_mut().find(|(_, known)| is_same(known, &points)) {
            Some((colour, known)) => {
                *colour = INK;
                if points.len() > known.len() {
                    *known = points;
                }
            }
            None => all.push((model.look.colour, points)),
        }
    }
    all
}

/// Whether both are within 2 % of each other wherever both are known.
fn is_same(one: &[(f64, f64)], other: &[(f64, f64)]) -> bool {
    let pairs = one.iter().flat_map(|(x, y)| other.iter().filter(move |at| at.0 == *x).map(move |at| at.1 / y));
    pairs.into_iter().all(|ratio| (0.98..1.02).contains(&ratio))
}
