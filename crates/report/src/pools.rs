//! Pools of connections to a database as text and as Markdown: what each size brings, and which is enough.

use std::fmt::Write as _;

use quantity::format::{self, UNKNOWN, count};
use results::pools::{PoolSize, PoolStudy, PoolsOfServer};

use crate::markdown;
use crate::sweep::spread_text;
use crate::table::{Cells, table};

/// Where [`rows`] has requests/s.
const RPS_COLUMN: usize = 2;
/// What only tables with every pool have.
const CPU_NOTE: &str = "PostgreSQL's CPU is the time that all of its processes take for each answer.\n";
const NOTES: &str = "\
Medians; where there are several rounds, the lowest and highest are below them.
Enough is the smallest pool that brings 95 % of the most that any brought; with
≥ it is the largest that was tried, and more may bring more. Busy is how many
connections are in use on average, by Little's law: the answers of a second,
times how long each takes and holds its connection then; who pipelines 8 has up
to eight queries on their way at once on each. The waits are means, by the
server's own count; behind PgBouncer a request waits there for its connection,
so that the second has both, and what waits for a worker of the thread pool is
in neither. RAM is the server's at its peak; PostgreSQL's is that of all of its
processes under load. Clients, server and PostgreSQL share this machine.
";

/// As text for the terminal.
pub fn text(study: &PoolStudy) -> String {
    let tables: Vec<_> = tables(study).map(|(title, cells)| format!("{title}\n{}\n", table(&cells))).collect();
    format!("{}\n{NOTES}{}\n{}\n", tables.join("\n"), warned(study), answer(study))
}

/// As Markdown for an issue or a README: with a table more, of every server and size.
pub fn markdown(study: &PoolStudy) -> String {
    let all = ("Every pool".to_owned(), every_size(study));
    let tables = tables(study).chain([all]).map(|(title, cells)| format!("{title}\n\n{}\n", markdown::table(&cells)));
    format!("{}\n\n{}{NOTES}{CPU_NOTE}{}", answer(study), tables.collect::<String>(), warned(study))
}

/// What is enough for which server, and how far they are apart.
pub fn answer(study: &PoolStudy) -> String {
    let mut enough: Vec<(&PoolsOfServer, &PoolSize)> =
        study.servers.iter().filter_map(|server| Some((server, server.enough()?))).collect();
    enough.sort_by_key(|(_, size)| size.pool);
    let mut groups: Vec<(String, Vec<String>)> = Vec::new();
    for (server, size) in &enough {
        let pool = match server.may_need_more() {
            true => format!("{} or more (the most that were tried)", count(size.pool as f64)),
            false => count(size.pool as f64),
        };
        match groups.iter_mut().find(|(other, _)| *other == pool) {
            Some((_, names)) => names.push(server.full_name()),
            None => groups.push((pool, vec![server.full_name()])),
        }
    }
    let groups: Vec<_> = groups.iter().map(|(pool, names)| format!("{pool} for {}", names.join(", "))).collect();
    let rps = |(_, size): &&(&PoolsOfServer, &PoolSize)| size.rps.map_or(0.0, |rps| rps.median);
    // What holds its connections longer answers less because of that.
    let hold = study.servers.first().and_then(|server| server.hold.as_ref());
    let alike: Vec<_> = enough.iter().filter(|(server, _)| server.hold.as_ref() == hold).collect();
    let most = alike.iter().max_by(|one, other| rps(one).total_cmp(&rps(other)));
    let least = alike.iter().min_by(|one, other| rps(one).total_cmp(&rps(other)));
    let (Some(most), Some(least)) = (most, least) else { return "No run has finished.".into() };
    let mut answer = format!("{}: enough connections to PostgreSQL are {}.", heading(study), groups.join("; "));
    if most.0 != least.0 {
        let [most_rps, least_rps] = [most, least].map(|server| count(rps(server)));
        let [most, least] = [most, least].map(|(server, _)| server.full_name());
        let them = match hold {
            _ if alike.len() == enough.len() => "them".to_owned(),
            None => "those that give it back at once,".to_owned(),
            Some(hold) => format!("those that hold it for {hold},"),
        };
        let _ = write!(answer, " Of {them} {most} answers most ({most_rps}/s) and {least} least ({least_rps}/s).");
    }
    answer
}

/// `10,000 clients, queries of 10ms`
pub(crate) fn heading(study: &PoolStudy) -> String {
    let wait = match quantity::duration(&study.wait) {
        Ok(wait) if wait.is_zero() => "queries that do not sleep".to_owned(),
        _ => format!("queries of {}", study.wait),
    };
    format!("{} clients, {wait}", count(study.connections as f64))
}

fn warned(study: &PoolStudy) -> String {
    match study.warned_runs {
        0 => String::new(),
        runs => format!("Runs with warnings: {runs}; --json has them.\n"),
    }
}

/// The tables with their titles.
fn tables(study: &PoolStudy) -> impl Iterator<Item = (String, Cells)> {
    let title = format!("Requests/s by connections to PostgreSQL: {}", heading(study));
    [
        (title, by_size(study)),
        (
            "How long requests wait with as many as are enough, for one and for the answer".to_owned(),
            with_enough(study),
        ),
    ]
    .into_iter()
}

/// Requests/s, with a column for each size.
fn by_size(study: &PoolStudy) -> Cells {
    let sizes = study.pools.iter().map(|pool| count(*pool as f64));
    let header = ["server".to_owned()].into_iter().chain(sizes).chain(["enough".to_owned()]).collect();
    let row = |server: &PoolsOfServer| {
        let cell = |pool: &usize| match server.sizes.iter().find(|size| size.pool == *pool) {
            Some(size) => rps(size),
            None => UNKNOWN.to_owned(),
        };
        let mark = if server.may_need_more() { "≥ " } else { "" };
        let enough = server.enough().map_or(UNKNOWN.to_owned(), |size| format!("{mark}{}", count(size.pool as f64)));
        [name(server)].into_iter().chain(study.pools.iter().map(cell)).chain([enough]).collect()
    };
    [header].into_iter().chain(study.servers.iter().map(row)).collect()
}

fn with_enough(study: &PoolStudy) -> Cells {
    let enough = study.servers.iter().filter_map(|server| Some((server, server.enough()?)));
    let mut cells = rows(enough);
    // A terminal has no room for them: these are in the table above, and PostgreSQL's CPU is in that of every pool.
    cells.iter_mut().for_each(|row| drop((row.remove(RPS_COLUMN), row.pop())));
    cells
}

pub(crate) fn every_size(study: &PoolStudy) -> Cells {
    rows(study.servers.iter().flat_map(|server| server.sizes.iter().map(move |size| (server, size))))
}

fn rows<'a>(sizes: impl Iterator<Item = (&'a PoolsOfServer, &'a PoolSize)>) -> Cells {
    let header = ["server", "pool", "requests/s", "for one", "for answer", "busy", "RAM", "PostgreSQL", "its CPU"];
    let micros = |micros: f64| format::nanos(micros * 1e3);
    let row = |(server, size): (&PoolsOfServer, &PoolSize)| {
        let busy = size.busy().map_or(UNKNOWN.to_owned(), format::significant);
        vec![
            name(server),
            count(size.pool as f64),
            rps(size),
            spread_text(size.connection_wait_us, micros),
            spread_text(size.answer_wait_us, micros),
            busy,
            spread_text(size.peak_bytes, format::short_bytes),
            spread_text(size.postgres_bytes, format::short_bytes),
            spread_text(size.postgres_cpu_us, micros),
        ]
    };
    [header.map(str::to_owned).to_vec()].into_iter().chain(sizes.map(row)).collect()
}

/// The server's name, and below it what it does with its connections: a terminal has no room for both in one line.
fn name(server: &PoolsOfServer) -> String {
    server.way().map_or_else(|| server.name.clone(), |way| format!("{}\n{way}", server.name))
}

/// Requests/s, and below it what was wrong.
fn rps(size: &PoolSize) -> String {
    let mut text = spread_text(size.rps, count);
    if size.sound_rounds < size.rounds {
        let _ = write!(text, "\n{} of {} failed", size.rounds - size.sound_rounds, size.rounds);
    }
    if size.errors > 0 {
        let _ = write!(text, "\n{} errors", count(size.errors as f64));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use results::samples::with_pool;

    fn study() -> PoolStudy {
        let run = |target: &str, pool, rps| {
            let mut run = with_pool(target, pool, rps);
            run.database.as_mut().unwrap().through_pgbouncer = target == "prefork";
            run
        };
        let sizes = [(1, 90.0), (10, 900.0), (50, 4_300.0), (100, 4_400.0), (500, 4_100.0), (1_000, 3_900.0)];
        let runs = |target| sizes.map(|(pool, rps)| run(target, pool, rps));
        let mut runs = [runs("async"), runs("prefork"), runs("prefork")].concat();
        runs[4].errors.status = 12_345;
        runs[12..].iter_mut().for_each(|run| run.database.as_mut().unwrap().hold_us = Some(20_000));
        PoolStudy::new(&runs).unwrap()
    }

    #[test]
    fn the_tables_fit_80_columns_and_say_what_is_enough() {
        let mut runs = [("async", 1), ("async", 8)].map(|(target, _)| with_pool(target, 10, 900.0));
        runs[1].database.as_mut().unwrap().pipeline = Some(8);
        assert!(super::text(&PoolStudy::new(&runs).unwrap()).contains("pipelines 8"));
        let text = text(&study());
        for line in text.lines().filter(|line| !line.starts_with("10,000 clients")) {
            assert!(console::measure_text_width(line) <= 80, "{line}");
        }
        for expected in [
            "10,000 clients, queries of 1s",
            "enough connections to PostgreSQL are 50 for prefork + PgBouncer, prefork + PgBouncer (holds 20ms), async.",
            "12,345",
            "44.7",
            "231 MB",
        ] {
            assert!(text.contains(expected), "{expected}: {text}");
        }
    }

    #[test]
    fn who_holds_a_connection_longer_is_not_compared_with_who_does_not() {
        let held = |target, rps, hold_us| {
            let mut run = with_pool(target, 10, rps);
            run.database.as_mut().unwrap().hold_us = Some(hold_us);
            run
        };
        let runs = [held("threads", 900.0, 0), held("async", 950.0, 0), held("async", 300.0, 20_000)];
        let text = answer(&PoolStudy::new(&runs).unwrap());
        assert!(
            text.ends_with("give it back at once, async answers most (950/s) and threads least (900/s)."),
            "{text}"
        );
    }

    #[test]
    fn markdown_has_every_size() {
        let markdown = markdown(&study());
        assert_eq!(markdown.lines().filter(|line| line.starts_with("| async")).count(), 8, "{markdown}");
        assert!(markdown.contains(" 310 µs |") && markdown.contains(CPU_NOTE), "{markdown}");
    }
}
