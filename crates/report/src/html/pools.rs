//! The page of pools of connections to a database: what each size brings, and how long requests wait.

use anyhow::Result;
use maud::{Markup, html};
use plotters::style::RGBColor;
use plotters::style::text_anchor::{HPos, VPos};
use quantity::format::{self, count};
use results::RunResult;
use results::pools::{PoolSize, PoolStudy, PoolsOfServer};
use results::target::Target;

use super::axis::Axis;
use super::chart::{Canvas, ChartFigure, LegendMark, Pixel, Plot, bar, bold_text, dashed_line, line, mark, spread_bar};
use super::document::document;
use super::lines::HEIGHT;
use super::palette::{LOOKS, Look, PARTS};
use super::words;
use crate::command::command_line;
use crate::compare::html_table;
use crate::pools::{answer, every_size, heading};

const ROW_HEIGHT: u32 = 34;
const AXIS_HEIGHT: u32 = 48;
/// Room for the figure beside a bar, in pixels.
const RIGHT: i32 = 66;

/// The whole page.
pub(super) fn page(study: &PoolStudy, results: &[RunResult]) -> Result<Markup> {
    let days = words::distinct(results.iter().map(|run| run.started_at.split('T').next().unwrap_or_default()));
    let hosts = words::distinct(results.iter().map(|run| run.host.describe()));
    let commands = words::distinct(results.iter().filter_map(|run| Some(command_line(&run.load.as_ref()?.command))));
    let title = format!("How many connections to PostgreSQL? {}", heading(study));
    Ok(document(
        &title,
        &html! {
            p.about { "Measured on " (days.join(", ")) @for host in hosts { " · " (host) } }
            p.answer { (answer(study)) }
            (throughput(study)?.unwrap_or_default())
            (waits(study)?.unwrap_or_default())
            h2 { "Every pool" }
            (html_table("Every server with every pool", &every_size(study)))
            p.note {
                "Medians of all rounds. Busy is how many connections are in use on average, by Little's law. The waits are "
                "means, by the server's own count: for a connection, and then for the answer. PostgreSQL's RAM is that of all "
                "of its processes under load, and its CPU the time that they take for each answer. Clients, server and "
                "PostgreSQL share this machine."
            }
            h2 { "The command" }
            @for command in commands { p { code { (command) } } }
        },
    ))
}

/// The chart of requests/s as a standalone image.
pub(super) fn image(study: &PoolStudy) -> Result<Option<String>> {
    let Some((figure, x, y)) = throughput_figure(study)? else { return Ok(None) };
    figure.image(&marks(study)?, |canvas| draw_throughput(canvas, study, x.clone(), y.clone())).map(Some)
}

fn throughput(study: &PoolStudy) -> Result<Option<Markup>> {
    let Some((figure, x, y)) = throughput_figure(study)? else { return Ok(None) };
    figure.draw(|canvas| draw_throughput(canvas, study, x.clone(), y.clone())).map(Some)
}

fn throughput_figure(study: &PoolStudy) -> Result<Option<(ChartFigure, Axis, Axis)>> {
    let sizes = study.servers.iter().flat_map(|server| &server.sizes);
    let most = sizes.filter_map(|size| size.rps).map(|rps| rps.max).fold(0.0, f64::max);
    let pools: Vec<f64> = study.pools.iter().map(|pool| *pool as f64).collect();
    let Some(x) = Axis::log("connections to PostgreSQL", pools.iter().copied(), count) else { return Ok(None) };
    let figure = ChartFigure {
        title: format!("Requests answered per second: {}", heading(study)),
        legend: LegendMark::list(&marks(study)?),
        caption: html! {
            "Where a line is flat, more connections bring nothing: the CPUs are busy, and each connection more costs RAM in "
            "PostgreSQL. Bars span the lowest and highest round. Dashed: each request holds its connection for a while "
            "after the answer, or several queries are on their way at once on a connection."
        },
        height: HEIGHT,
    };
    Ok((most > 0.0).then(|| (figure, x.with_ticks(pools), Axis::linear("requests/s", most * 1.05, count))))
}

fn draw_throughput(canvas: &Canvas<'_>, study: &PoolStudy, x: Axis, y: Axis) -> Result<()> {
    let plot = Plot::line_chart(canvas, x, y)?;
    for (server, look) in looks(study) {
        let spreads: Vec<_> = server.sizes.iter().filter_map(|size| Some((size.pool as f64, size.rps?))).collect();
        let middle: Vec<Pixel> = spreads.iter().map(|(pool, rps)| plot.at(*pool, rps.median)).collect();
        line_of(server)(canvas, &middle, look.colour, 2)?;
        for ((pool, rps), middle) in spreads.iter().zip(&middle) {
            if rps.min < rps.max {
                spread_bar(canvas, plot.at(*pool, rps.min), plot.at(*pool, rps.max), look.colour)?;
            }
            mark(canvas, *middle, look)?;
        }
    }
    Ok(())
}

/// Each server with its look: those of the models, and another one behind PgBouncer.
fn looks(study: &PoolStudy) -> impl Iterator<Item = (&PoolsOfServer, Look)> {
    study.servers.iter().map(|server| {
        let own = Target::ALL.iter().position(|target| target.name() == server.name);
        (server, LOOKS[own.unwrap_or(Target::ALL.len())])
    })
}

/// How its line is drawn: dashed if it does not use its connections in the usual way.
fn line_of(server: &PoolsOfServer) -> fn(&Canvas<'_>, &[Pixel], RGBColor, u32) -> Result<()> {
    if server.way().is_some() { dashed_line } else { line }
}

fn marks(study: &PoolStudy) -> Result<Vec<LegendMark>> {
    let of_server = |(server, look): (&PoolsOfServer, Look)| {
        LegendMark::new(server.full_name(), move |canvas| {
            line_of(server)(canvas, &[(0, 7), (28, 7)], look.colour, 2)?;
            mark(canvas, (14, 7), look)
        })
    };
    looks(study).map(of_server).collect()
}

/// The two waits of each server with the pool that is enough, as the two parts of a bar.
fn waits(study: &PoolStudy) -> Result<Option<Markup>> {
    let rows: Vec<_> = study.servers.iter().filter_map(|server| Row::new(server, server.enough()?)).collect();
    let longest = rows.iter().map(Row::both_us).fold(0.0, f64::max);
    if longest == 0.0 {
        return Ok(None);
    }
    let part = |meaning: &str, part: usize| {
        LegendMark::new(meaning, move |canvas| bar(canvas, (2, 2), (26, 12), PARTS[part].0))
    };
    let figure = ChartFigure {
        title: "How long a request waits, with as many connections as are enough".into(),
        legend: LegendMark::list(&[part("for a connection", CONNECTION)?, part("for the answer", ANSWER)?]),
        caption: html! {
            "On average. Behind PgBouncer a request waits there for its connection, so that the answer's part has both. What "
            "waits for a worker of the thread pool is in neither. With more clients than the database can serve, nearly all of "
            "the time is spent in some queue, whichever the model."
        },
        height: ROW_HEIGHT * rows.len() as u32 + AXIS_HEIGHT,
    };
    let x = Axis::linear("mean wait", longest, words::micros_tick);
    figure.draw(|canvas| draw_waits(canvas, &rows, x.clone())).map(Some)
}

/// Which of [`PARTS`] a wait is drawn as.
const CONNECTION: usize = 1;
const ANSWER: usize = 0;

/// A bar of the chart of waits.
struct Row {
    name: String,
    connection_us: f64,
    answer_us: f64,
}

impl Row {
    fn new(server: &PoolsOfServer, enough: &PoolSize) -> Option<Self> {
        let name = format!("{}, {}", server.full_name(), count(enough.pool as f64));
        let (connection_us, answer_us) = (enough.connection_wait_us?.median, enough.answer_wait_us?.median);
        Some(Self { name, connection_us, answer_us })
    }

    fn both_us(&self) -> f64 {
        self.connection_us + self.answer_us
    }
}

fn draw_waits(canvas: &Canvas<'_>, rows: &[Row], x: Axis) -> Result<()> {
    let names: Vec<_> = rows.iter().map(|row| row.name.clone()).collect();
    let plot = Plot::row_chart(canvas, &names, x, RIGHT)?;
    for (index, row) in rows.iter().enumerate() {
        let y = plot.row(index);
        let [connection, both] = [row.connection_us, row.both_us()].map(|us| plot.x(us));
        bar(canvas, (plot.origin().0, y - 9), (connection, y + 9), PARTS[CONNECTION].0)?;
        bar(canvas, (connection, y - 9), (both, y + 9), PARTS[ANSWER].0)?;
        let label = format::nanos(row.both_us() * 1e3);
        bold_text(canvas, &label, (both + 7, y), (HPos::Left, VPos::Center))?;
    }
    Ok(())
}
