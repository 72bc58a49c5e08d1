//! The page from top to bottom, starting with the answer.

use anyhow::Result;
use maud::{Markup, html};

use crate::{command, notes, table};
use quantity::format::{self, bytes, count};
use results::Target;
use results::run::{Host, RunResult};

use super::document::document;
use super::models::{Model, Rounds, Study};
use super::{cost, lines, sweep, words};

/// The whole page.
pub(super) fn page(study: &Study<'_>, results: &[RunResult]) -> Result<Markup> {
    let title = title(study);
    Ok(document(
        &title,
        &html! {
            (about(results))
            (answer(study)?)
            @if study.is_sweep() { (section("More connections, and fewer", Some(sweep::charts(study)?))) }
            (section("Where the RAM is", cost::ledger(study)?))
            (section("Throughput", cost::throughput(study)?))
            (section("Latency", lines::percentiles(study)?))
            (section("Over time", lines::over_time(study)?))
            (section("What to doubt", Some(doubts(study))))
            (section("The machine, and the commands", Some(machine(results))))
            (section("The figures", Some(figures(study))))
            (section("How to read them", Some(how_to_read(results))))
            (section("What they do not show", Some(limits())))
        },
    ))
}

fn title(study: &Study<'_>) -> String {
    match study.focus {
        0 => "Nothing was measured".into(),
        connections => format!("{} connections: what they cost", count(connections as f64)),
    }
}

fn section(title: &str, content: Option<Markup>) -> Markup {
    html! { @if let Some(content) = content { section { h2 { (title) } (content) } } }
}

/// When and where the runs were measured.
fn about(results: &[RunResult]) -> Markup {
    let days = words::distinct(results.iter().map(|result| result.started_at.split('T').next().unwrap_or_default()));
    let when = match days.as_slice() {
        [] => String::new(),
        [day] => format!("Measured on {day}"),
        [first, .., last] => format!("Measured from {first} to {last}"),
    };
    let hosts = words::distinct(results.iter().map(|result| result.host.describe()));
    html! { p.about { (when) @for host in hosts { " · " (host) } } }
}

fn answer(study: &Study<'_>) -> Result<Markup> {
    let doubts = doubts_by_model(study).len() + mixed(study).len();
    Ok(html! {
        p.answer { (answer_in_words(study)) }
        @if let Some(missing) = missing(study) { p.note { "Not measured here: " (missing) "." } }
        @if doubts > 0 { p.note { "Some results are doubtful: " a href="#doubts" { "see below" } "." } }
        (cost::ram(study)?.unwrap_or_default())
    })
}

/// The project's models that are missing, if any of them is there.
fn missing(study: &Study<'_>) -> Option<String> {
    let is_there = |target: &Target| study.models.iter().any(|model| model.name == target.name());
    let (there, missing): (Vec<Target>, Vec<Target>) = Target::ALL.into_iter().partition(is_there);
    let names: Vec<String> = missing.iter().map(|target| target.name().to_owned()).collect();
    (!there.is_empty() && !missing.is_empty()).then(|| words::list(&names))
}

/// One sentence on costs, and one on failures.
fn answer_in_words(study: &Study<'_>) -> Markup {
    let rows = study.in_focus();
    let costs: Vec<Markup> = rows.iter().filter_map(|(model, cell)| cost_in_words(model, cell)).collect();
    let failed = rows.iter().filter(|(_, cell)| !cell.is_complete()).map(|(model, _)| model.name.to_owned());
    let failed: Vec<String> = failed.collect();
    let waits = words::distinct(rows.iter().flat_map(|(_, cell)| cell.rounds()).filter_map(|round| words::wait(round)));
    html! {
        @if costs.is_empty() {
            "No RAM was measured."
        } @else {
            "With " (count(study.focus as f64)) " connections"
            @if !waits.is_empty() { " and a database wait of " (words::list(&waits)) }
            ", RAM peaked at "
            @for (index, cost) in costs.iter().enumerate() { (words::separator(index, costs.len())) (cost) }
            "."
        }
        @if !failed.is_empty() { " Failed: " (words::list(&failed)) "." }
    }
}

/// `1.54 GB with prefork (the article says 500 GB, 324 times as much)`.
fn cost_in_words(model: &Model<'_>, cell: &Rounds<'_>) -> Option<Markup> {
    let peak = cell.spread(cost::peak_bytes)?.median;
    let claim = cost::claim(cell).map(|claim| {
        let times = format::significant(claim / peak);
        format!("the article says {}, {times} times as much", words::bytes_tick(claim))
    });
    let connections = cell.typical()?.connections;
    // A pool is small because most of its requests are queued.
    let served = connections.waiting_peak.filter(|_| connections.waiting_peak < connections.held_peak);
    let queued = served.map(|served| format!("which served {} at a time", count(served as f64)));
    let asides: Vec<String> = [claim, queued].into_iter().flatten().collect();
    Some(html! {
        strong { (format::short_bytes(peak)) } " with " (model.name)
        @if !asides.is_empty() { " (" (asides.join("; ")) ")" }
    })
}

/// The distinct warnings of each model; in a sweep with the connections where each was seen.
fn doubts_by_model<'a>(study: &Study<'a>) -> Vec<(&'a str, Vec<String>)> {
    let distinct_warnings = |model: &Model<'_>| {
        let warnings = model.cells().flat_map(|(_, cell)| warnings_of(cell));
        words::distinct(warnings)
            .into_iter()
            .map(|warning| {
                let seen = model.cells().filter(|(_, cell)| warnings_of(cell).contains(&warning));
                let seen: Vec<String> = seen.map(|(connections, _)| count(connections as f64)).collect();
                if study.is_sweep() { format!("{warning} (with {} connections)", words::list(&seen)) } else { warning }
            })
            .collect()
    };
    let models = study.models.iter().map(|model| (model.name, distinct_warnings(model)));
    models.filter(|(_, warnings): &(_, Vec<String>)| !warnings.is_empty()).collect()
}

fn warnings_of(cell: &Rounds<'_>) -> Vec<String> {
    cell.rounds().iter().flat_map(|round| &round.warnings).map(|warning| warning.text.clone()).collect()
}

fn doubts(study: &Study<'_>) -> Markup {
    // A sweep lists them beside its charts.
    let failures = if study.is_sweep() { Vec::new() } else { sweep::failures(study) };
    let (doubts, mixed) = (doubts_by_model(study), mixed(study));
    html! {
        div id="doubts" {
            (sweep::failures_list(&failures))
            @for model in &mixed {
                p { "The runs of " (model) " differ in their flags or wait, and the medians mix them." }
            }
            @if failures.is_empty() && doubts.is_empty() && mixed.is_empty() { p { "No run gave a warning." } }
            dl.doubts {
                @for (model, warnings) in &doubts {
                    dt { (model) }
                    @for warning in warnings { dd { (warning) } }
                }
            }
        }
    }
}

/// The models whose rounds have different flags or waits.
fn mixed(study: &Study<'_>) -> Vec<String> {
    let is_mixed = |(_, _, cell): &(&Model<'_>, usize, &Rounds<'_>)| {
        words::distinct(cell.rounds().iter().map(|round| (&round.command, &round.wait.spec))).len() > 1
    };
    words::distinct(study.cells().filter(is_mixed).map(|(model, ..)| model.name.to_owned()))
}

fn machine(results: &[RunResult]) -> Markup {
    let hosts = words::distinct(results.iter().map(|result| host_facts(&result.host)));
    // A server that already ran has no command.
    let started = results.iter().filter(|result| !result.command.is_empty());
    let commands = words::distinct(started.map(|result| (&result.target, &result.command)));
    let loadtest = words::distinct(results.iter().filter_map(|result| Some(&result.load.as_ref()?.command)));
    html! {
        @for facts in hosts {
            table.facts { tbody { @for (name, value) in facts { tr { th scope="row" { (name) } td { (value) } } } } }
        }
        @for command in loadtest.into_iter().filter(|command| !command.is_empty()) {
            p { "Measured with: " (command_line(command)) }
        }
        @if !commands.is_empty() {
            table.facts {
                caption { "How each server was started" }
                tbody {
                    @for (target, command) in commands {
                        tr { th scope="row" { (target) } td { (command_line(command)) } }
                    }
                }
            }
        }
        p.note { "This is the machine of the load generator and of the servers that it started." }
    }
}

/// Lets the line wrap between arguments.
fn command_line(command: &[String]) -> Markup {
    let arguments = command.iter().map(|argument| command::command_line(std::slice::from_ref(argument)));
    html! { code { @for argument in arguments { span { (argument) } " " } } }
}

fn host_facts(host: &Host) -> [(&'static str, String); 5] {
    let number = |number: Option<u64>| number.map_or("unknown".into(), |number| count(number as f64));
    [
        ("Kernel", host.kernel.as_ref().map_or("unknown".into(), |kernel| format!("Linux {kernel}"))),
        ("Available CPUs", host.cpus.to_string()),
        ("RAM", bytes(host.ram_bytes)),
        ("Open-file limit", number(host.nofile)),
        ("Longest backlog (somaxconn)", number(host.somaxconn)),
    ]
}

/// A table for each number of connections, with the models side by side and their rounds below each other.
fn figures(study: &Study<'_>) -> Markup {
    html! {
        @for connections in study.connections() { (figures_at(study, connections)) }
        @if study.cells().any(|(_, _, cell)| cell.rounds().len() > 1) {
            p.note { "Where rounds differ, each has a line, in the order that they ran." }
        }
    }
}

fn figures_at(study: &Study<'_>, connections: usize) -> Markup {
    let columns = study.at(connections);
    let rounds: Vec<RunResult> =
        columns.iter().flat_map(|(_, cell)| cell.rounds()).map(|&round| round.clone()).collect();
    let cells = table::cells(&rounds);
    // Skip the header, which has a column for each round.
    let rows = cells.iter().skip(1).filter_map(|row| row.split_first());
    let title = format!("{} connections", count(connections as f64));
    html! {
        div.scroll tabindex="0" role="region" aria-label=(title) {
            table.figures {
                caption { (title) }
                thead {
                    tr { td {} @for (model, cell) in &columns { th scope="col" { (model.name) (partial(cell)) } } }
                }
                tbody {
                    @for (label, figures) in rows {
                        tr.part[label.starts_with(' ')] {
                            th scope="row" { (label.trim_start()) }
                            @for figures in by_model(&columns, figures) { td { (lines_of(figures)) } }
                        }
                    }
                }
            }
        }
    }
}

/// Splits the figures of all rounds by model.
fn by_model<'f>(columns: &[(&Model<'_>, &Rounds<'_>)], mut figures: &'f [String]) -> Vec<&'f [String]> {
    let mut of_next = |(_, cell): &(&Model<'_>, &Rounds<'_>)| {
        let (model_figures, rest) = figures.split_at(cell.rounds().len());
        figures = rest;
        model_figures
    };
    columns.iter().map(&mut of_next).collect()
}

/// A line for each round, or a single line if all are the same.
fn lines_of(figures: &[String]) -> Markup {
    let is_same = figures.windows(2).all(|pair| pair[0] == pair[1]);
    let figures = if is_same { figures.get(..1).unwrap_or_default() } else { figures };
    html! { @for (index, figure) in figures.iter().enumerate() { @if index > 0 { br; } (figure) } }
}

fn partial(cell: &Rounds<'_>) -> Markup {
    html! { @if !cell.is_complete() { " (partial)" } }
}

/// How to read each figure.
const READING: [(&str, &str); 6] = [
    (
        "Held",
        "is the server's own count: the most requests that waited for its database, or for a worker, at one \
         moment. Connections that are merely open do not count.",
    ),
    (
        "RSS added up",
        "is the figure that ps suggests, and it misleads: a page that 10,000 processes share counts 10,000 times. PSS \
         divides it among them. Page tables and kernel stacks are in neither.",
    ),
    (
        "Latency",
        "runs from the first byte sent to the last byte received. A request still unanswered at the end counts as one \
         that takes at least as long as it had waited; where that leaves a figure open, it reads ≥.",
    ),
    ("Above the wait", "is the latency less the database wait: what the server and this machine add."),
    (
        "The burst is not in the latencies.",
        "All connections first send at the same moment, to prove that the server holds them, and that is when RAM \
         peaks. After that, requests come evenly.",
    ),
    (
        "Throughput",
        "cannot exceed the requests that wait at once divided by the wait. A server that reaches this kept up; how \
         fast it could be is unknown.",
    ),
];

const LIMITS: [&str; 6] = [
    "A load generator on another machine. On the same machine it shares the server's CPUs, which affects latency but \
     not RAM.",
    "Handlers that do more than wait. One that holds a parsed request, a result set or a TLS session needs RAM for it \
     under every model, and the models move closer together.",
    "Deep stacks. Recursion touches more of a stack, and a thread never gives that memory back.",
    "Runtimes that write to shared pages. A forked child shares its parent's pages until one of them writes. A \
     reference-counting interpreter, or a garbage collector, writes to nearly all of them, and then a process costs \
     closer to its RSS.",
    "Isolation. A crash in a child process ends one connection; in a thread or a task it ends all of them.",
    "Long runs. A few seconds say nothing about leaks, fragmentation, or a load that comes and goes.",
];

fn how_to_read(results: &[RunResult]) -> Markup {
    html! {
        ul {
            @for note in notes::source_notes(results) { li { (note) } }
            @for (figure, reading) in READING { li { strong { (figure) } " " (reading) } }
        }
    }
}

fn limits() -> Markup {
    html! { ul { @for limit in LIMITS { li { (limit) } } } }
}
