//! The page of an article's claims: the verdicts, charts of what is claimed beside what was measured, and every figure.

use anyhow::Result;
use maud::{Markup, html};
use plotters::style::RGBColor;
use plotters::style::text_anchor::{HPos, VPos};
use results::claim::{Checked, Figure, Judged, Judgement, Unit, Verdict};

use super::axis::Axis;
use super::chart::{Canvas, ChartFigure, LegendMark, Plot, bar, is_wide, mark, shortened, spread_bar, text};
use super::document::document;
use super::palette::{LOOKS, Look, Mark};
use super::words;
use crate::claims::{held, summary};
use crate::command::command_line;

const ROW_HEIGHT: u32 = 42;
const AXIS_HEIGHT: u32 = 48;
const RIGHT: i32 = 22;

/// A row of a chart: what was measured, and what is claimed.
struct Row<'a> {
    figure: &'a Figure,
    bounds: (Option<f64>, Option<f64>),
    verdict: Verdict,
}

/// The whole page.
pub(super) fn page(judgement: &Judgement) -> Result<Markup> {
    let title = format!("{}, claim by claim", judgement.article);
    Ok(document(
        &title,
        &html! {
            p.about {
                a href=(judgement.url) { (judgement.title) } " · measured on "
                (judgement.started_at.split('T').next().unwrap_or_default()) " · " (judgement.host.describe())
                @if judgement.quick { " · measured quickly" }
                @if !judgement.complete { " · partial" }
            }
            p.answer { (summary(judgement)) }
            @if let Some(held) = held(judgement) { p { (held) } }
            @if !judgement.warnings.is_empty() {
                ul.failures { @for warning in &judgement.warnings { li { (warning.text) } } }
            }
            h2 { "Claimed and measured" }
            (chart(judgement, Unit::Ns, "Times", words::nanos_tick)?)
            (chart(judgement, Unit::Bytes, "RAM", words::bytes_tick)?)
            (chart(judgement, Unit::Cycles, "Cycles", words::count_tick)?)
            (chart(judgement, Unit::Ratio, "Ratios", words::ratio)?)
            h2 { "Claim by claim" }
            (claims(judgement))
            h2 { "The machine, and the command" }
            table.facts { tbody {
                @for (name, value) in &judgement.facts { tr { th scope="row" { (name) } td { (value) } } }
            } }
            p { "Measured with: " code { (command_line(&judgement.command)) } }
            p.note {
                "A claim holds if the 95 % interval of each figure is within its bounds. The interval is about chance "
                "alone: it says nothing of what makes all samples wrong alike."
            }
        },
    ))
}

/// The verdicts, and each claim with what was measured.
pub(super) fn part(judgement: &Judgement) -> Markup {
    html! {
        p { (summary(judgement)) }
        @if !judgement.warnings.is_empty() {
            ul.failures { @for warning in &judgement.warnings { li { (warning.text) } } }
        }
        (claims(judgement))
    }
}

/// All figures of a unit that have bounds, each on a line of its own.
fn chart(judgement: &Judgement, unit: Unit, title: &str, tick: fn(f64) -> String) -> Result<Markup> {
    let rows = rows(judgement, unit);
    let values = rows.iter().flat_map(|row| {
        let (low, high) = row.bounds;
        [Some(row.figure.estimate.low), Some(row.figure.estimate.high), low, high].into_iter().flatten()
    });
    let Some(x) = Axis::log(format!("{title}, on a logarithmic scale"), values, tick) else { return Ok(html! {}) };
    let x = x.with_room(0.06);
    let figure = ChartFigure {
        title: title.to_owned(),
        legend: LegendMark::list(&legend()?),
        caption: html! { "The grey band is what the article says; the line across a mark is the 95 % interval. Figures of 0 and below are not in the picture." },
        height: rows.len() as u32 * ROW_HEIGHT + AXIS_HEIGHT,
    };
    figure.draw(|canvas| draw(canvas, &rows, x.clone()))
}

/// The figures with bounds, each once, that a logarithmic scale can show.
fn rows(judgement: &Judgement, unit: Unit) -> Vec<Row<'_>> {
    let mut rows: Vec<Row<'_>> = Vec::new();
    for Checked { check, figure, verdict, .. } in judgement.claims.iter().flat_map(|judged| &judged.findings) {
        let Some(figure) = figure.as_ref().filter(|figure| figure.unit == unit && figure.estimate.value > 0.0) else {
            continue;
        };
        let Ok(bounds) = check.bounds(unit) else { continue };
        let is_known = rows.iter().any(|row| row.figure.name == figure.name && row.bounds == bounds);
        if !is_known && bounds.1 != Some(0.0) {
            rows.push(Row { figure, bounds, verdict: *verdict });
        }
    }
    rows
}

fn legend() -> Result<Vec<LegendMark>> {
    let sample = |verdict: Verdict| move |canvas: &Canvas<'_>| mark(canvas, (14, 7), look(verdict));
    Ok(vec![
        LegendMark::new("the article", |canvas| bar(canvas, (2, 3), (26, 11), band_colour()))?,
        LegendMark::new("measured: within", sample(Verdict::Holds))?,
        LegendMark::new("outside", sample(Verdict::DoesNotHold))?,
        LegendMark::new("undecided", sample(Verdict::Undecided))?,
    ])
}

fn look(verdict: Verdict) -> Look {
    match verdict {
        Verdict::Holds | Verdict::HoldsInPart => Look { mark: Mark::Circle, ..LOOKS[2] },
        Verdict::Off { .. } | Verdict::DoesNotHold => Look { mark: Mark::Diamond, ..LOOKS[0] },
        _ => Look { mark: Mark::Square, ..LOOKS[7] },
    }
}

/// Grey, but not that of the grid.
fn band_colour() -> RGBColor {
    RGBColor(0xA9, 0xB1, 0xBA)
}

fn draw(canvas: &Canvas<'_>, rows: &[Row<'_>], x: Axis) -> Result<()> {
    let plot = Plot::row_chart(canvas, &vec![String::new(); rows.len()], x, RIGHT)?;
    let (left, right) = (plot.origin().0, plot.right());
    let inside = |value: f64| if value > 0.0 { plot.x(value).clamp(left, right) } else { left };
    for (row, Row { figure, bounds, verdict }) in rows.iter().enumerate() {
        let y = plot.row(row) + 8;
        let from = bounds.0.map_or(left, inside);
        let to = bounds.1.map_or(right, inside);
        bar(canvas, (from, y - 4), (to.max(from + 2), y + 5), band_colour())?;
        let (at, look) = (inside(figure.estimate.value), look(*verdict));
        let ends = [figure.estimate.low, figure.estimate.high].map(inside);
        if ends[1] - ends[0] > 8 {
            spread_bar(canvas, (ends[0], y), (ends[1], y), look.colour)?;
        }
        mark(canvas, (at, y), look)?;
        let value = figure.unit.display(figure.estimate.value);
        let label = if is_wide(canvas) { format!("{value}: {}", figure.what) } else { value };
        let label = shortened(&label, right + RIGHT - left);
        text(canvas, &label, (left, y - 9), (HPos::Left, VPos::Bottom))?;
    }
    Ok(())
}

fn claims(judgement: &Judgement) -> Markup {
    let sections = words::distinct(judgement.claims.iter().map(|judged| judged.claim.section.as_str()));
    html! {
        @for section in sections {
            h3 { (section) }
            dl.doubts {
                @for judged in judgement.claims.iter().filter(|judged| judged.claim.section == section) { (claim(judged)) }
            }
        }
    }
}

fn claim(judged: &Judged) -> Markup {
    html! {
        dt id=(judged.claim.name) { (judged.claim.says) " – " strong { (judged.verdict) } }
        @for checked in &judged.findings {
            dd {
                @match &checked.figure {
                    Some(figure) => { strong { (figure.display()) } " – " (figure.what) (note(figure)) " (the article: " (checked.check.describe()) ")" }
                    None => { em { (checked.why_missing.as_deref().unwrap_or("not measured")) } " (" (checked.check.figure) ")" }
                }
            }
        }
        @for figure in &judged.beside { dd.note { "beside: " (figure.display()) " – " (figure.what) (note(figure)) } }
        dd.note { (judged.claim.reading) }
    }
}

fn note(figure: &Figure) -> String {
    figure.note.as_ref().map_or_else(String::new, |note| format!(" ({note})"))
}
