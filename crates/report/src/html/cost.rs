//! Charts of RAM and throughput at one number of connections, with a row for each model.

use anyhow::Result;
use maud::{Markup, html};
use plotters::style::FontStyle;
use plotters::style::text_anchor::{HPos, VPos};

use quantity::format::{self, count};
use results::run::{Memory, RunResult};
use results::target::ARTICLE_CONNECTIONS;

use super::axis::Axis;
use super::chart::{
    Canvas, ChartFigure, LegendMark, Plot, bar, bold_text, claim_mark, dashed_line, is_wide, line, mark, sample,
    shortened, shortened_apart, spread_bar, styled_text, text, within,
};
use super::models::{Model, Rounds, Study};
use super::palette::{GRID, INK, Look, Mark, PARTS};
use super::words;

/// Pixels for the x axis with its labels and title.
const AXIS_HEIGHT: u32 = 48;
/// Pixels for a model's RAM and its labels.
const ROW_HEIGHT: u32 = 52;
/// Pixels to the right of a chart, for half of the last label.
const RIGHT: i32 = 22;
/// Pixels for a model's name.
const NAME_WIDTH: i32 = 112;

type Row<'s, 'a> = (&'s Model<'a>, &'s Rounds<'a>);

fn height(rows: &[Row<'_, '_>], row_height: u32) -> u32 {
    rows.len() as u32 * row_height + AXIS_HEIGHT
}

fn names(rows: &[Row<'_, '_>]) -> Vec<String> {
    shortened_apart(&rows.iter().map(|(model, _)| model.name).collect::<Vec<_>>(), NAME_WIDTH)
}

/// The RAM that the article states, if it covers this model and number of connections.
pub(super) fn claim(cell: &Rounds<'_>) -> Option<f64> {
    let round = cell.rounds().first()?;
    let is_claimed = round.connections.requested == ARTICLE_CONNECTIONS;
    round.claimed_bytes().filter(|_| is_claimed).map(|bytes| bytes as f64)
}

/// The peak of RAM.
pub(super) fn peak_bytes(result: &RunResult) -> Option<f64> {
    result.memory.peak_bytes.map(|bytes| bytes as f64)
}

/// RAM, beside what the article says.
pub(super) fn ram(study: &Study<'_>) -> Result<Option<Markup>> {
    let Some((figure, x)) = ram_figure(study)? else { return Ok(None) };
    figure.draw(|canvas| draw_ram(canvas, &study.in_focus(), x.clone())).map(Some)
}

/// The same chart as a standalone image.
pub(super) fn ram_image(study: &Study<'_>) -> Result<Option<String>> {
    let Some((figure, x)) = ram_figure(study)? else { return Ok(None) };
    let has_claims = study.in_focus().iter().any(|(_, cell)| claim(cell).is_some());
    let marks = if has_claims { claim_marks()? } else { Vec::new() };
    figure.image(&marks, |canvas| draw_ram(canvas, &study.in_focus(), x.clone())).map(Some)
}

fn ram_figure(study: &Study<'_>) -> Result<Option<(ChartFigure, Axis)>> {
    let rows = study.in_focus();
    let peaks = rows.iter().filter_map(|(_, cell)| cell.spread(peak_bytes)).flat_map(|peak| [peak.min / 2.0, peak.max]);
    let marks = rows.iter().filter_map(|(_, cell)| claim(cell)).chain(limit(&rows));
    let Some(x) = Axis::log("RAM at its peak, on a logarithmic scale", peaks.chain(marks), words::bytes_tick) else {
        return Ok(None);
    };
    let x = x.with_room(0.04);
    let has_claims = rows.iter().any(|(_, cell)| claim(cell).is_some());
    let figure = ChartFigure {
        title: format!("RAM with {} connections", count(study.focus as f64)),
        legend: html! { @if has_claims { (LegendMark::list(&claim_marks()?)) } },
        caption: html! {
            "The scale is logarithmic: twice the distance is far more than twice the RAM."
            @if has_claims { " The line between them shows how far off the article is." }
            @if let Some(limit) = limit(&rows) {
                " A dashed line is the limit of " (format::bytes(Some(limit as u64))) "."
            }
            (words::caveats(&rows))
        },
        height: height(&rows, ROW_HEIGHT),
    };
    Ok(Some((figure, x)))
}

/// The limit of the servers' RAM, if all have the same.
fn limit(rows: &[Row<'_, '_>]) -> Option<f64> {
    let limits = rows.iter().flat_map(|(_, cell)| cell.rounds()).map(|round| round.memory.limit_bytes);
    match words::distinct(limits).as_slice() {
        [Some(limit)] => Some(*limit as f64),
        _ => None,
    }
}

fn claim_marks() -> Result<Vec<LegendMark>> {
    let measured = |canvas: &Canvas<'_>| mark(canvas, (14, 7), Look { colour: INK, mark: Mark::Circle });
    Ok(vec![
        LegendMark::new("measured here", measured)?,
        LegendMark::new("the article, and its ratio to the measured RAM", |canvas| claim_mark(canvas, (14, 7)))?,
    ])
}

fn draw_ram(canvas: &Canvas<'_>, rows: &[Row<'_, '_>], x: Axis) -> Result<()> {
    let plot = Plot::row_chart(canvas, &names(rows), x, RIGHT)?;
    let limit = limit(rows).map(|limit| plot.x(limit));
    for (row, (model, cell)) in rows.iter().enumerate() {
        let y = plot.row(row);
        if let Some(x) = limit {
            // Below the label of the RAM.
            dashed_line(canvas, &[(x, y - 7), (x, y + ROW_HEIGHT as i32 / 2)], INK, 1)?;
        }
        let Some(peak) = cell.spread(peak_bytes) else {
            draw_failure(canvas, &plot, y, cell)?;
            continue;
        };
        let (measured, claimed) = (plot.x(peak.median), claim(cell));
        if let Some(claimed) = claimed {
            line(canvas, &[(measured, y), (plot.x(claimed), y)], GRID, 2)?;
        }
        if peak.min < peak.max {
            spread_bar(canvas, (plot.x(peak.min), y), (plot.x(peak.max), y), model.look.colour)?;
        }
        mark(canvas, (measured, y), model.look)?;
        // Labels may extend into the right margin.
        let room = (plot.origin().0 + 4, plot.right() + RIGHT);
        let label = format::short_bytes(peak.median);
        bold_text(canvas, &label, (within(measured, &label, room), y - 8), (HPos::Center, VPos::Bottom))?;
        if let Some(claimed) = claimed {
            let at = plot.x(claimed);
            claim_mark(canvas, (at, y))?;
            let label = format!("{} ({})", words::bytes_tick(claimed), words::ratio(claimed / peak.median));
            text(canvas, &label, (within(at, &label, room), y + 9), (HPos::Center, VPos::Top))?;
        }
    }
    Ok(())
}

fn draw_failure(canvas: &Canvas<'_>, plot: &Plot<'_>, y: i32, cell: &Rounds<'_>) -> Result<()> {
    let left = plot.origin().0;
    let cause = cell.failure().map_or_else(|| "not measured".into(), |(cause, _)| format!("failed: {cause}"));
    let label = shortened(&cause, plot.right() - left);
    styled_text(canvas, &label, (left + 8, y), (HPos::Left, VPos::Center), INK, FontStyle::Italic)
}

const PART_NAMES: [&str; 5] = ["PSS", "page tables", "kernel stacks", "sockets", "other kernel memory"];

/// The known parts of RAM, which do not overlap.
fn parts(memory: &Memory) -> [Option<u64>; 5] {
    let Memory { pss_bytes, page_tables_bytes, kernel_stacks_bytes, sockets_bytes, .. } = *memory;
    [pss_bytes, page_tables_bytes, kernel_stacks_bytes, sockets_bytes, memory.unledgered_kernel_bytes()]
}

/// RAM by part, in bytes and as shares.
pub(super) fn ledger(study: &Study<'_>) -> Result<Option<Markup>> {
    let rows: Vec<_> =
        study.in_focus().into_iter().filter_map(|(model, cell)| Some(((model, cell), ledgered(cell)?))).collect();
    let max = rows.iter().map(|(_, parts)| parts.iter().sum::<f64>()).fold(0.0, f64::max);
    if max == 0.0 {
        return Ok(None);
    }
    let models: Vec<Row<'_, '_>> = rows.iter().map(|(row, _)| *row).collect();
    let parts: Vec<[f64; 5]> = rows.iter().map(|(_, parts)| *parts).collect();
    let legend = part_legend(&PART_NAMES)?;
    let absolute = ChartFigure {
        title: "RAM by part".into(),
        legend: legend.clone(),
        caption: html! {
            "At the end of the measured time. PSS is the processes' own memory, with shared pages divided among "
            "them. All other parts are kernel memory, which no figure of "
            code { "ps" }
            " includes. The sum is beside each bar."
        },
        height: height(&models, 34),
    };
    let x = Axis::linear("bytes", max, words::bytes_tick);
    let absolute = absolute.draw(|canvas| draw_parts(canvas, &models, &parts, x.clone(), format::short_bytes))?;
    let shares = ChartFigure {
        title: "Where each model's RAM is".into(),
        legend,
        caption: html! { "The same as shares of each server's sum, so that small servers are readable." },
        height: height(&models, 34),
    };
    let to_shares = |parts: &[f64; 5]| parts.map(|part| part / parts.iter().sum::<f64>() * 100.0);
    let parts: Vec<[f64; 5]> = parts.iter().map(to_shares).collect();
    let x = Axis::linear("share of the sum", 100.0, |value| format!("{value:.0} %"));
    let shares = shares.draw(|canvas| draw_parts(canvas, &models, &parts, x.clone(), |_| String::new()))?;
    Ok(Some(html! { (absolute) (shares) }))
}

fn ledgered(cell: &Rounds<'_>) -> Option<[f64; 5]> {
    let parts = parts(&cell.typical()?.memory);
    parts[0].map(|_| parts.map(|part| part.unwrap_or(0) as f64))
}

fn part_legend(names: &[&str; 5]) -> Result<Markup> {
    let swatches = PARTS.iter().map(|&(colour, _)| sample(move |canvas| bar(canvas, (6, 1), (22, 13), colour)));
    let swatches = swatches.collect::<Result<Vec<_>>>()?;
    Ok(html! { ul.legend { @for (swatch, name) in swatches.iter().zip(names) { li { (swatch) (name) } } } })
}

fn draw_parts(
    canvas: &Canvas<'_>,
    rows: &[Row<'_, '_>],
    parts: &[[f64; 5]],
    x: Axis,
    total: impl Fn(f64) -> String,
) -> Result<()> {
    let is_share = total(0.0).is_empty();
    let plot = Plot::row_chart(canvas, &names(rows), x, if is_share { RIGHT } else { 66 })?;
    for (row, parts) in parts.iter().enumerate() {
        let y = plot.row(row);
        let mut sum = 0.0;
        for (part, (colour, text_colour)) in parts.iter().zip(PARTS) {
            let (from, to) = (plot.x(sum), plot.x(sum + part));
            sum += part;
            if to <= from {
                continue;
            }
            // Leave a pixel of background between two parts.
            let inner = if to - from > 2 { to - 1 } else { to };
            bar(canvas, (from, y - 10), (inner, y + 10), colour)?;
            if is_share && to - from >= 36 {
                let label = format!("{part:.0} %");
                let middle = ((from + inner) / 2, y);
                styled_text(canvas, &label, middle, (HPos::Center, VPos::Center), text_colour, FontStyle::Normal)?;
            }
        }
        bold_text(canvas, &total(sum), (plot.x(sum) + 6, y), (HPos::Left, VPos::Center))?;
    }
    Ok(())
}

/// The parts of a cgroup's charge.
pub(super) const CHARGE_NAMES: [&str; 5] =
    ["anonymous pages", "files", "page tables and kernel stacks", "other kernel memory", "socket buffers"];

/// The parts of what the kernel charges now, which do not overlap. On cgroup v1 the third is in the fourth.
pub(super) fn charge(result: &RunResult) -> Option<[f64; 5]> {
    let parts = result.memory.cgroup?;
    let figure = |bytes: Option<u64>| bytes.unwrap_or(0) as f64;
    let tasks = figure(parts.page_tables_bytes) + figure(parts.kernel_stacks_bytes);
    let other = (figure(parts.kernel_bytes) - tasks).max(0.0);
    Some([figure(parts.anon_bytes), figure(parts.file_bytes), tasks, other, figure(parts.sockets_bytes)])
}

/// What the kernel charges to each server now, by part. Unlike the ledger it can be had at any moment.
pub(super) fn charges(study: &Study<'_>) -> Result<Option<Markup>> {
    let rows = study.in_focus();
    let charged = rows.into_iter().filter_map(|(model, cell)| Some(((model, cell), charge(cell.typical()?)?)));
    let (models, parts): (Vec<Row<'_, '_>>, Vec<[f64; 5]>) = charged.unzip();
    let max = parts.iter().map(|parts| parts.iter().sum::<f64>()).fold(0.0, f64::max);
    if max == 0.0 {
        return Ok(None);
    }
    let figure = ChartFigure {
        title: "RAM by part".into(),
        legend: part_legend(&CHARGE_NAMES)?,
        caption: html! {
            "What the kernel charges to the server's cgroup at this moment. The sum is beside each bar."
        },
        height: height(&models, 34),
    };
    let x = Axis::linear("bytes", max, words::bytes_tick);
    figure.draw(|canvas| draw_parts(canvas, &models, &parts, x.clone(), format::short_bytes)).map(Some)
}

/// Requests per second, and the ceiling.
pub(super) fn throughput(study: &Study<'_>) -> Result<Option<Markup>> {
    let rows = study.in_focus();
    let figures = |(_, cell): &Row<'_, '_>| [cell.spread(|round| round.rps), cell.spread(|round| round.rps_ceiling)];
    let max = rows.iter().flat_map(figures).flatten().map(|spread| spread.max).fold(0.0, f64::max);
    if max == 0.0 {
        return Ok(None);
    }
    let has_ceilings = rows.iter().any(|row| figures(row)[1].is_some());
    let ceiling = sample(|canvas| bar(canvas, (13, 0), (15, 14), INK))?;
    let figure = ChartFigure {
        title: "Requests answered per second".into(),
        legend: html! { @if has_ceilings { ul.legend { li { (ceiling) "the most possible" } } } },
        caption: html! {
            @if has_ceilings {
                "The line is the ceiling: the requests that wait for the database at once, divided by the wait. "
                "All connections wait at once, but in a pool only its workers do. A bar that reaches its "
                "line shows that the server kept up, not how fast it could be."
            } @else {
                "There is no ceiling, because the database wait is random or unknown."
            }
            (words::caveats(&rows))
        },
        height: height(&rows, 34),
    };
    let x = Axis::linear("requests/s", max, count);
    figure.draw(|canvas| draw_throughput(canvas, &rows, x.clone())).map(Some)
}

fn draw_throughput(canvas: &Canvas<'_>, rows: &[Row<'_, '_>], x: Axis) -> Result<()> {
    let right = if is_wide(canvas) { 126 } else { 66 };
    let plot = Plot::row_chart(canvas, &names(rows), x, right)?;
    for (row, (model, cell)) in rows.iter().enumerate() {
        let y = plot.row(row);
        let Some(rps) = cell.spread(|round| round.rps) else {
            draw_failure(canvas, &plot, y, cell)?;
            continue;
        };
        let ceiling = cell.spread(|round| round.rps_ceiling).map(|ceiling| ceiling.median).filter(|&most| most > 0.0);
        bar(canvas, (plot.origin().0, y - 9), (plot.x(rps.median), y + 9), model.look.colour)?;
        if rps.min < rps.max {
            spread_bar(canvas, (plot.x(rps.min), y), (plot.x(rps.max), y), INK)?;
        }
        if let Some(ceiling) = ceiling {
            bar(canvas, (plot.x(ceiling) - 1, y - 13), (plot.x(ceiling) + 1, y + 13), INK)?;
        }
        let share =
            ceiling.filter(|_| is_wide(canvas)).map(|ceiling| format!(" ({})", format::percent(rps.median / ceiling)));
        let end = plot.x(ceiling.unwrap_or(rps.median).max(rps.max));
        let label = count(rps.median) + &share.unwrap_or_default();
        bold_text(canvas, &label, (end + 7, y), (HPos::Left, VPos::Center))?;
    }
    Ok(())
}
