//! The table of all runs: its rows, and its look on a terminal.

use comfy_table::presets::NOTHING;
use comfy_table::{
    Cell, CellAlignment, Column, ColumnConstraint, ContentArrangement, LineStyle, Table, TableStyle, Width,
};
use console::measure_text_width;
use quantity::format::{UNKNOWN, bytes, count, significant};
use results::RunResult;
use results::figure::{Figure, FigureValues};
use results::target::ARTICLE_CONNECTIONS;

/// A table for the terminal, ready to be printed.
pub type TextTable = Table;

/// The rows of a table. The first row is the header, and the first cell of each row its label.
pub(crate) type Cells = Vec<Vec<String>>;

/// The table of all runs, with a column for each.
pub(crate) fn cells(results: &[RunResult]) -> Cells {
    let figures: Vec<FigureValues> = results.iter().map(FigureValues::new).collect();
    let row = |label: &str, content: &Content| {
        let cell = |(result, figures): (&RunResult, &FigureValues)| match content {
            Content::Figure(figure) => figure.text(figures.get(*figure)),
            Content::Text(text) => text(result),
        };
        [label.to_owned()].into_iter().chain(results.iter().zip(&figures).map(cell)).collect()
    };
    let has_failures = results.iter().any(|result| result.cause.is_some());
    let is_shown = |label: &str| match label {
        FAILED => has_failures,
        _ => !ARTICLE.contains(&label) || has_article_connections(results),
    };
    let rows = ROWS.iter().filter(|(label, _)| is_shown(label)).map(|(label, content)| row(label, content));
    [row("", &Content::Text(column_title))].into_iter().chain(rows).collect()
}

/// A table for the terminal, of at most [`WIDTH`] columns: what does not fit continues on the next line of its cell.
pub(crate) fn table(cells: &Cells) -> Table {
    let mut table = Table::new();
    table.load_style(STYLE).set_content_arrangement(ContentArrangement::Dynamic).set_width(WIDTH);
    let mut rows = cells.iter();
    table.set_header(rows.next().into_iter().flatten());
    table.add_rows(rows);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    keep_words_whole(&mut table);
    table
}

/// Lets nothing but titles continue on the next line if there is room for that, or else no label and no word: a number in two
/// halves is two numbers. What is left of the width goes to the narrowest columns that need more.
fn keep_words_whole(table: &mut Table) {
    let all: Vec<Needs> = table.column_iter().map(|column| Needs::new(table, column)).collect();
    let lines: Vec<u16> = all.iter().map(|needs| needs.line).collect();
    // The first column has the labels.
    let or_labels = |of: fn(&Needs) -> u16| lines.iter().take(1).copied().chain(all.iter().skip(1).map(of)).collect();
    let choices: [Vec<u16>; 3] =
        [or_labels(|needs| needs.content), or_labels(|needs| needs.word), all.iter().map(|needs| needs.word).collect()];
    // Between two columns is a space.
    let room = (WIDTH + 1).saturating_sub(lines.len() as u16);
    let fits = |widths: &Vec<u16>| widths.iter().sum::<u16>() <= room;
    let Some(mut widths) = choices.into_iter().find(fits).filter(|_| !fits(&lines)) else { return };
    while widths.iter().sum::<u16>() < room {
        let short = widths.iter_mut().zip(&lines).filter(|(width, line)| **width < **line);
        let Some((narrowest, _)) = short.min_by_key(|(width, _)| **width) else { break };
        *narrowest += 1;
    }
    for (column, width) in table.column_iter_mut().zip(widths) {
        column.set_constraint(ColumnConstraint::Absolute(Width::Fixed(width)));
    }
}

/// How wide a column must be for what it has.
struct Needs {
    /// Its longest word.
    word: u16,
    /// Its longest line, but only the longest word of its title.
    content: u16,
    /// Its longest line.
    line: u16,
}

impl Needs {
    fn new(table: &Table, column: &Column) -> Self {
        let cells: Vec<_> = table.column_cells_with_header_iter(column.index).flatten().map(Cell::content).collect();
        let (title, contents) = cells.split_at(cells.len().min(1));
        let word = |cells: &[String]| width_of_longest(cells.iter().flat_map(|cell| cell.split_whitespace()));
        let line = |cells: &[String]| width_of_longest(cells.iter().flat_map(|cell| cell.lines()));
        Self { word: word(&cells), content: word(title).max(line(contents)), line: line(&cells) }
    }
}

fn width_of_longest<'a>(texts: impl Iterator<Item = &'a str>) -> u16 {
    texts.map(measure_text_width).max().unwrap_or(0) as u16 + PADDING
}

/// A table of this header and these rows.
pub fn table_of<const N: usize>(header: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> Table {
    let rows = rows.into_iter().map(|row| row.to_vec());
    table(&[header.map(str::to_owned).to_vec()].into_iter().chain(rows).collect())
}

/// The figures of the table with their labels.
pub(crate) fn rows() -> impl Iterator<Item = (&'static str, Figure)> {
    ROWS.iter().filter_map(|(label, content)| match content {
        Content::Figure(figure) => Some((*label, *figure)),
        Content::Text(_) => None,
    })
}

/// The columns that every terminal has.
const WIDTH: u16 = 80;
/// The spaces beside the content of a column.
const PADDING: u16 = 2;
/// As many runs as fit beside the labels.
pub(crate) const RUNS_IN_TABLE: usize = 5;
const RULE: LineStyle = LineStyle::none().fill('─').junction('─');
const STYLE: TableStyle = NOTHING.top_border(RULE).header_separator(RULE).bottom_border(RULE);

/// The content of a row.
enum Content {
    Figure(Figure),
    Text(fn(&RunResult) -> String),
}

/// The labels of the rows that appear only with the article's number of connections.
const ARTICLE: [&str; 2] = ["article says", "  / measured"];
/// The label of the row that appears only if a server failed.
const FAILED: &str = "failed by, at";

const ROWS: [(&str, Content); 25] = [
    (FAILED, Content::Text(failed_by)),
    ("held at once", Content::Figure(Figure("connections.held_peak"))),
    ("  on average", Content::Figure(Figure("connections.held_mean"))),
    ("  at database", Content::Figure(Figure("connections.waiting_peak"))),
    ("RAM, peak", Content::Figure(Figure("memory.peak_bytes"))),
    ("article says", Content::Text(|result| bytes(result.claimed_bytes()))),
    ("  / measured", Content::Text(claim_ratio)),
    ("RAM/connection", Content::Figure(Figure("memory.per_connection_bytes"))),
    ("  PSS", Content::Figure(Figure("memory.pss_bytes"))),
    ("  page tables", Content::Figure(Figure("memory.page_tables_bytes"))),
    ("  kernel stacks", Content::Figure(Figure("memory.kernel_stacks_bytes"))),
    ("  sockets", Content::Figure(Figure("memory.sockets_bytes"))),
    ("  other kernel", Content::Text(|result| bytes(result.memory.unledgered_kernel_bytes()))),
    ("RSS added up", Content::Figure(Figure("memory.rss_sum_bytes"))),
    ("requests/s", Content::Figure(Figure("rps"))),
    ("latency p50", Content::Figure(Figure("latency_us.p50"))),
    ("  p99", Content::Figure(Figure("latency_us.p99"))),
    ("  max", Content::Figure(Figure("latency_us.max"))),
    ("above wait p50", Content::Figure(Figure("above_wait_us.p50"))),
    ("  p99", Content::Figure(Figure("above_wait_us.p99"))),
    ("  max", Content::Figure(Figure("above_wait_us.max"))),
    ("server's CPU", Content::Figure(Figure("server.cpu_s"))),
    ("errors", Content::Figure(Figure("errors"))),
    ("  before", Content::Figure(Figure("errors_before"))),
    ("warnings", Content::Figure(Figure("warnings"))),
];

/// The server's name, marked if the run did not finish.
pub(crate) fn column_title(result: &RunResult) -> String {
    if result.complete { result.target.clone() } else { format!("{} (partial)", result.target) }
}

fn has_article_connections(results: &[RunResult]) -> bool {
    results.iter().all(|result| result.connections.requested == ARTICLE_CONNECTIONS)
}

/// What kept the server from holding all connections, and how many it had.
fn failed_by(result: &RunResult) -> String {
    let at = count(result.connections.open().min(result.connections.requested as u64) as f64);
    result.cause.map_or_else(|| UNKNOWN.into(), |cause| format!("{} at {at}", cause.name()))
}

/// The article's RAM relative to the measured RAM.
fn claim_ratio(result: &RunResult) -> String {
    match result.claimed_bytes().zip(result.memory.peak_bytes) {
        // A server that failed did not hold all connections, so its RAM is not comparable.
        Some((claimed, measured)) if measured > 0 && result.complete => {
            format!("{}x", significant(claimed as f64 / measured as f64))
        }
        _ => UNKNOWN.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use results::Cause;
    use results::samples::sample;

    #[test]
    fn a_failed_server_shows_its_cause_and_no_ratio_to_the_article() {
        let sound = sample("threads");
        let is_row = |cells: &Cells, label: &str| cells.iter().any(|row| row[0] == label);
        assert!(!is_row(&cells(std::slice::from_ref(&sound)), FAILED));
        let mut broken = RunResult { complete: false, cause: Some(Cause::OutOfMemory), ..sound };
        broken.connections.open_peak = Some(2_604);
        broken.connections.established = 2_600;
        let cells = cells(&[broken]);
        assert!(cells.contains(&vec![FAILED.to_owned(), "RAM limit at 2,604".to_owned()]), "{cells:?}");
        let ratio = cells.iter().find(|row| row[0] == "  / measured");
        assert!(ratio.is_none_or(|row| row[1] == UNKNOWN), "{ratio:?}");
    }

    #[test]
    fn tables_fit_80_columns() {
        let mut run = RunResult { cause: Some(Cause::ChildrenOutOfMemory), complete: false, ..sample("threads") };
        run.target = "http://a-host-with-a-long-name.example.org:8080/and/a/path".into();
        let wide = vec![sample("threads"), run, sample("threads"), sample("threads"), sample("threadpool")];
        assert_eq!(wide.len(), RUNS_IN_TABLE);
        for line in table(&cells(&wide)).lines() {
            assert!(console::measure_text_width(&line) <= 80, "{line}");
        }
    }

    #[test]
    fn words_stay_whole_where_there_is_room_for_them() {
        let row = |cells: [&str; 5]| cells.map(String::from).to_vec();
        let sentence = "what an unexpected sentence says of a server, and then of another one";
        let cells = vec![
            row(["server", "RAM at 10,000", "CPU of each request", "requests/s", "says"]),
            row(["java-virtual-threads", "1,030.25 MB", "12.6 µs (11.2..12.8)", "69,800..80,000", sentence]),
        ];
        let text = table(&cells).to_string();
        for word in cells.iter().flatten().flat_map(|cell| cell.split_whitespace()) {
            assert!(text.contains(word), "{word}:\n{text}");
        }
        assert!(text.lines().all(|line| measure_text_width(line) <= 80), "{text}");
        // A number stays with its unit, if titles leave it the room.
        let row = |cells: [&str; 7]| cells.map(String::from).to_vec();
        let cells = vec![
            row(["server", "pool", "for one", "for answer", "busy", "RAM", "PostgreSQL"]),
            row(["prefork + PgBouncer", "10,000", "1.70 µs", "17.4 s", "10005", "1.74 GB", "11.1 GB"]),
        ];
        assert!(table(&cells).lines().any(|line| line.contains("1.74 GB")), "{}", table(&cells));
        let row = |cells: [&str; 5]| cells.map(String::from).to_vec();
        // Whoever has little to say leaves the room to the others.
        let cells = vec![row(["a", "b", "c", "d", "says"]), row(["1", "2", "3", "4", sentence])];
        assert_eq!(table(&cells).lines().count(), 6, "{}", table(&cells));
    }

    #[test]
    fn the_table_has_a_column_for_each_run_and_only_known_figures() {
        let table = table(&cells(&[sample("threads"), sample("threadpool")])).to_string();
        let row = |label| table.lines().find(|line| line.contains(label)).unwrap();
        for (label, expected) in [
            ("RAM, peak", ["377.43 MB", "54.10 MB"]),
            ("  / measured", ["26.5x", "-"]),
            ("latency p50", ["1.00 s", "≥ 10.2 s"]),
            ("server's CPU", ["2.43 s", "80.3 ms"]),
        ] {
            assert!(expected.iter().all(|figure| row(label).contains(figure)), "{}", row(label));
        }
        for (label, figure) in rows() {
            assert_eq!(Figure::from_name(figure.0), Some(figure), "{label}");
        }
    }
}
