//! Result files side by side: before and after, one machine and another.
//!
//! Several runs of the same server have a spread, and a difference counts only beyond it: every run of one file above
//! every run of the other.

use std::fmt::Write as _;

use anyhow::{Result, ensure};
use console::style;
use maud::{Markup, html};

use crate::command::command_line;
use crate::markdown;
use crate::sweep;
use crate::table::{self, Cells};
use quantity::format::{self, UNKNOWN, significant};
use results::figure::{Figure, FigureValues};
use results::file::Source;
use results::latency::Bounded;
use results::run::RunResult;
use results::settings::LoadSettings;
use results::slo;
use results::statistics;
use results::sweep::Sweep;

/// The comparison of several files.
#[derive(Debug)]
pub struct Comparison {
    /// The files and their machines.
    files: Vec<String>,
    sections: Vec<Section>,
    /// What could not be compared, and how to read the rest.
    notes: Vec<String>,
}

/// One server at one number of connections.
#[derive(Debug)]
struct Section {
    heading: String,
    /// A table for each file after the first.
    tables: Vec<Cells>,
    notes: Vec<String>,
}

impl Comparison {
    /// Compares what the files have in common.
    ///
    /// # Errors
    /// They have nothing in common, or hold searches for the highest rate.
    pub fn new(sources: &[Source]) -> Result<Self> {
        let is_search = sources.iter().flat_map(|source| &source.results).any(slo::is_step);
        ensure!(!is_search, "searches of --slo are not compared: print each, and read the answers side by side");
        let mut sections = Vec::new();
        let mut notes = Vec::new();
        for heading in headings(sources) {
            let groups: Vec<Group> = sources.iter().filter_map(|source| Group::new(source, &heading)).collect();
            match groups.as_slice() {
                [only] => notes.push(format!("Only in {}: {heading}.", only.name)),
                _ => sections.push(section(heading, &groups)),
            }
        }
        ensure!(
            !sections.is_empty(),
            "nothing to compare: no two of the files have a run of the same server or URL with the same connections and \
             database wait. Print each file, and read the tables side by side: {}",
            sources.iter().map(|source| format!("loadtest report {}", source.name)).collect::<Vec<_>>().join("; ")
        );
        notes.push(
            "Medians, and the lowest and highest below them. Ratio: of the medians. Beyond the spread: every run of one file \
             is above every run of the other."
                .into(),
        );
        Ok(Self { files: sources.iter().map(describe).collect(), sections, notes })
    }

    /// As text for the terminal.
    pub fn text(&self) -> String {
        let mut text = self.files.join("\n") + "\n\n";
        for Section { heading, tables, notes } in &self.sections {
            let _ = writeln!(text, "{}", style(heading).bold());
            text += &tables.iter().map(|cells| format!("{}\n", table::table(cells))).collect::<String>();
            let _ = writeln!(text, "{}", notes.iter().map(|note| format!("{note}\n")).collect::<String>());
        }
        text + &self.notes.join("\n") + "\n"
    }

    /// As Markdown for an issue or a README.
    pub fn markdown(&self) -> String {
        let list = |lines: &[String]| lines.iter().map(|line| format!("- {line}\n")).collect::<String>();
        let mut text = list(&self.files);
        for Section { heading, tables, notes } in &self.sections {
            let tables: Vec<_> = tables.iter().map(markdown::table).collect();
            let _ = write!(text, "\n### {heading}\n\n{}\n{}", tables.join("\n"), list(notes));
        }
        text + "\n" + &list(&self.notes)
    }
}

impl Comparison {
    /// As a part of a page.
    pub(crate) fn html(&self) -> Markup {
        html! {
            ul { @for file in &self.files { li { (file) } } }
            @for Section { heading, tables, notes } in &self.sections {
                h3 { (heading) }
                @for cells in tables { (html_table(heading, cells)) }
                @for note in notes { p.note { (note) } }
            }
            @for note in &self.notes { p.note { (note) } }
        }
    }
}

pub(crate) fn html_table(title: &str, cells: &Cells) -> Markup {
    let mut rows = cells.iter();
    let plain = |cell: &String| console::strip_ansi_codes(cell).into_owned();
    html! {
        div.scroll tabindex="0" role="region" aria-label=(title) {
            table.figures {
                @if let Some(head) = rows.next() { thead { tr { @for cell in head { th scope="col" { (plain(cell)) } } } } }
                tbody {
                    @for row in rows {
                        tr {
                            @for (index, cell) in row.iter().enumerate() {
                                @if index == 0 { th scope="row" { (plain(cell)) } } @else { td { (plain(cell)) } }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn describe(source: &Source) -> String {
    let runs = match source.results.len() {
        1 => "1 run".into(),
        count => format!("{count} runs"),
    };
    let partial = match source.results.iter().filter(|result| !result.complete).count() {
        0 => String::new(),
        count => format!(", {count} of them partial"),
    };
    format!("{}: {runs}{partial}, {}", source.name, source.results[0].host.describe())
}

/// The distinct headings in order of first appearance, and those of a sweep in the order of its table. Runs with the
/// same heading are compared.
fn headings(sources: &[Source]) -> Vec<String> {
    let mut headings: Vec<String> = Vec::new();
    for source in sources {
        let sweep = Sweep::new(&source.results);
        let sorted = sweep.as_ref().map_or_else(|| source.results.iter().collect(), Sweep::sorted_runs);
        for heading in sorted.into_iter().map(heading) {
            if !headings.contains(&heading) {
                headings.push(heading);
            }
        }
    }
    headings
}

fn heading(result: &RunResult) -> String {
    let connections = format::count(result.connections.requested as f64);
    format!("{}: {connections} connections{}", result.target, result.wait.as_suffix())
}

/// The runs of one file under one heading.
struct Group<'a> {
    name: &'a str,
    command: String,
    load: Option<LoadSettings>,
    figures: Vec<FigureValues>,
}

impl<'a> Group<'a> {
    fn new(source: &'a Source, wanted: &str) -> Option<Self> {
        let runs: Vec<&RunResult> = source.results.iter().filter(|result| heading(result) == wanted).collect();
        let first = runs.first()?;
        let (command, load) = (command_line(&first.command), first.load.clone());
        Some(Self { name: &source.name, command, load, figures: runs.into_iter().map(FigureValues::new).collect() })
    }

    fn spread(&self, figure: Figure) -> Option<Sample> {
        Sample::new(self.figures.iter().filter_map(|figures| figures.get(figure)).collect())
    }
}

fn section(heading: String, groups: &[Group<'_>]) -> Section {
    let tables = groups[1..].iter().map(|later| cells(&groups[0], later)).collect();
    Section { heading, tables, notes: notes(groups) }
}

fn cells(first: &Group<'_>, later: &Group<'_>) -> Cells {
    let header = vec![String::new(), title(first), title(later), "ratio".into(), "the spread".into()];
    let rows = table::rows().filter_map(|(label, figure)| row(label, figure, first, later));
    [header].into_iter().chain(rows).collect()
}

fn title(group: &Group<'_>) -> String {
    match group.figures.len() {
        1 => group.name.to_owned(),
        runs => format!("{} ({runs} runs)", group.name),
    }
}

/// The row of a figure; `None` if neither file has it.
fn row(label: &str, figure: Figure, first: &Group<'_>, later: &Group<'_>) -> Option<Vec<String>> {
    let [first, later] = [first, later].map(|group| group.spread(figure));
    if first.is_none() && later.is_none() {
        return None;
    }
    let text = |spread: &Option<Sample>| spread.as_ref().map_or(UNKNOWN.into(), |spread| spread.text(figure));
    let (ratio, difference) = match (&first, &later) {
        (Some(first), Some(later)) => (first.ratio(later), first.difference(later)),
        _ => (UNKNOWN.into(), ""),
    };
    Some(vec![label.to_owned(), text(&first), text(&later), ratio, difference.into()])
}

fn notes(groups: &[Group<'_>]) -> Vec<String> {
    let mut notes = Vec::new();
    let single: Vec<&str> = groups.iter().filter(|group| group.figures.len() == 1).map(|group| group.name).collect();
    if !single.is_empty() {
        let files = single.join(", ");
        notes.push(format!("A single run ({files}) has no spread, so a difference may be noise."));
    }
    let first = groups[0].figures.len();
    for later in groups[1..].iter().map(|group| group.figures.len()).filter(|&later| first > 1 && later > 1) {
        let one_of = orders(first, later) / 2.0;
        let note = format!(
            "{first} and {later} runs of the same thing differ beyond the spread in about 1 of {one_of:.0} figures by chance."
        );
        if !notes.contains(&note) {
            notes.push(note);
        }
    }
    notes.extend(groups[1..].iter().filter_map(|later| load_note(&groups[0], later)));
    if groups.iter().any(|group| group.command != groups[0].command) {
        notes.extend(groups.iter().map(|group| format!("{} ran {}", group.name, group.command)));
    }
    notes
}

/// That two files were not loaded alike.
fn load_note(first: &Group<'_>, later: &Group<'_>) -> Option<String> {
    let differences = first.load.as_ref()?.differences(later.load.as_ref()?);
    let what = differences.join("; ");
    (!what.is_empty()).then(|| format!("Not the same load in {} and {}: {what}.", first.name, later.name))
}

/// The number of possible orders of the runs of two files. In only two of them every run of one file is above every run
/// of the other.
fn orders(first: usize, later: usize) -> f64 {
    (1..=later).map(|at| (first + at) as f64 / at as f64).product()
}

/// One figure in several runs.
#[derive(Debug)]
struct Sample {
    /// Ascending, with at least one value.
    values: Vec<Bounded<f64>>,
}

impl Sample {
    fn new(mut values: Vec<Bounded<f64>>) -> Option<Self> {
        values.sort_by(|one, other| one.value.total_cmp(&other.value));
        (!values.is_empty()).then_some(Self { values })
    }

    /// A lower bound may really be above all others, so the median is a lower bound if any value up to it is one.
    fn median(&self) -> Bounded<f64> {
        let middle = self.values.len() / 2;
        let ascending: Vec<f64> = self.values.iter().map(|value| value.value).collect();
        let value = statistics::median(&ascending).unwrap_or_default();
        Bounded { value, is_lower_bound: self.values[..=middle].iter().any(|value| value.is_lower_bound) }
    }

    fn is_open(&self) -> bool {
        self.values.iter().any(|value| value.is_lower_bound)
    }

    fn least(&self) -> Bounded<f64> {
        self.values[0]
    }

    fn most(&self) -> Bounded<f64> {
        Bounded { is_lower_bound: self.is_open(), ..self.values[self.values.len() - 1] }
    }

    fn text(&self, figure: Figure) -> String {
        let [least, median, most] = [self.least(), self.median(), self.most()].map(|value| figure.text(Some(value)));
        if least == most { median } else { format!("{median}\n{}", sweep::range(&least, &most)) }
    }

    /// The ratio of `later` to this.
    fn ratio(&self, later: &Self) -> String {
        let (first, later) = (self.median(), later.median());
        let mark = match (first.is_lower_bound, later.is_lower_bound) {
            (false, false) => "",
            (false, true) => "≥ ",
            (true, false) => "≤ ",
            (true, true) => return UNKNOWN.into(),
        };
        if first.value == 0.0 { UNKNOWN.into() } else { format!("{mark}{}x", significant(later.value / first.value)) }
    }

    fn difference(&self, later: &Self) -> &'static str {
        let is_above = |one: &Self, other: &Self| one.least().value > other.most().value && !other.is_open();
        match () {
            () if self.values.len() == 1 || later.values.len() == 1 => "",
            () if is_above(self, later) || is_above(later, self) => "beyond",
            () if self.is_open() || later.is_open() => "unknown",
            () => "within",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use results::samples::sample;
    use results::samples::source;

    fn spread(values: &[f64]) -> Sample {
        Sample::new(values.iter().map(|&value| Bounded { value, is_lower_bound: false }).collect()).unwrap()
    }

    fn open(values: &[f64]) -> Sample {
        let mut spread = spread(values);
        spread.values.iter_mut().for_each(|value| value.is_lower_bound = true);
        spread
    }

    #[test]
    fn a_difference_counts_when_all_of_one_are_above_all_of_the_other() {
        for (first, later, expected) in [
            (spread(&[1.0, 2.0, 3.0]), spread(&[4.0, 5.0]), "beyond"),
            (spread(&[4.0, 5.0]), spread(&[1.0, 2.0, 3.0]), "beyond"),
            (spread(&[1.0, 2.0, 4.0]), spread(&[3.0, 5.0]), "within"),
            (spread(&[1.0, 1.0]), spread(&[1.0, 1.0]), "within"),
            (spread(&[1.0]), spread(&[4.0, 5.0]), ""),
            (spread(&[1.0, 2.0]), open(&[4.0, 5.0]), "beyond"),
            (open(&[1.0, 2.0]), spread(&[4.0, 5.0]), "unknown"),
            (open(&[4.0, 5.0]), open(&[1.0, 2.0]), "unknown"),
        ] {
            assert_eq!(first.difference(&later), expected, "{first:?} {later:?}");
        }
    }

    #[test]
    fn medians_and_ratios_keep_the_marks_of_lower_bounds() {
        let figure = Figure("latency_us.p99");
        assert_eq!(spread(&[3e6, 1e6, 2e6]).text(figure), "2.00 s\n1.00..3.00 s");
        assert_eq!(spread(&[1e6, 2e6]).text(figure), "1.50 s\n1.00..2.00 s");
        assert_eq!([spread(&[1e6]).text(figure), spread(&[1e6, 1.000_1e6]).text(figure)], ["1.00 s", "1.00 s"]);
        assert_eq!(open(&[1e6]).text(figure), "≥ 1.00 s");
        let mut mixed = spread(&[1e6, 2e6, 3e6]);
        mixed.values[2].is_lower_bound = true;
        assert_eq!(mixed.text(figure), "2.00 s\n1.00..≥ 3.00 s");
        mixed.values[0].is_lower_bound = true;
        assert!(mixed.text(figure).starts_with("≥ 2.00 s"));
        let ratio = |first: Sample, later: Sample| first.ratio(&later);
        assert_eq!(ratio(spread(&[2.0]), spread(&[3.0])), "1.50x");
        assert_eq!(ratio(spread(&[2.0]), open(&[3.0])), "≥ 1.50x");
        assert_eq!(ratio(open(&[2.0]), spread(&[3.0])), "≤ 1.50x");
        assert_eq!(ratio(open(&[2.0]), open(&[3.0])), "-");
        assert_eq!(ratio(spread(&[0.0]), spread(&[3.0])), "-");
    }

    #[test]
    fn chance_is_a_matter_of_counting() {
        assert_eq!([orders(2, 2), orders(3, 3), orders(2, 3), orders(5, 5)], [6.0, 20.0, 10.0, 252.0]);
    }

    fn with_peak(peak_bytes: u64) -> RunResult {
        let mut run = sample("threads");
        run.memory.peak_bytes = Some(peak_bytes);
        run
    }

    #[test]
    fn the_same_server_is_compared_and_the_rest_is_named() {
        let before = source("before", [300, 310, 320].map(|mb| with_peak(mb * 1_000_000)).into());
        let mut after = source("after", [150, 160, 170].map(|mb| with_peak(mb * 1_000_000)).into());
        after.results.push(sample("threadpool"));
        after.results[0].command.push("--stack-size".into());
        let comparison = Comparison::new(&[before, after]).unwrap();
        let text = console::strip_ansi_codes(&comparison.text()).into_owned();
        let line = |label: &str| {
            text.lines().find(|line| line.starts_with(label)).unwrap_or_else(|| panic!("{label}: {text}"))
        };
        let peak = line(" RAM, peak");
        for expected in ["310.00 MB", "160.00 MB", "0.52x", "beyond"] {
            assert!(peak.contains(expected), "{peak}");
        }
        assert!(line(" latency p50").contains("within"), "{text}");
        assert!(line("after ran").ends_with("--stack-size"), "{text}");
        assert!(text.contains("1 of 10 figures") && !text.contains("no spread"), "{text}");
        line("Only in after: threadpool: 10,000 connections, database wait 1s.");
        let markdown = comparison.markdown();
        assert!(markdown.contains("\n### threads: 10,000 connections, database wait 1s\n\n|"), "{markdown}");
        assert!(markdown.contains("| 160.00 MB (150.00..170.00 MB) | 0.52x |"), "{markdown}");
    }

    #[test]
    fn single_runs_say_that_they_have_no_spread() {
        let text = Comparison::new(&["a", "b", "c"].map(|name| source(name, vec![with_peak(1)]))).unwrap().text();
        assert!(text.contains("A single run (a, b, c) has no spread"), "{text}");
        assert!(!text.contains("beyond") && text.matches("ratio ").count() == 2, "{text}");
    }

    #[test]
    fn nothing_in_common_is_an_error() {
        let mut other = sample("threads");
        other.connections.requested = 5;
        let error = Comparison::new(&[source("a", vec![sample("threads")]), source("b", vec![other])]).unwrap_err();
        for expected in ["nothing to compare", "side by side: loadtest report a; loadtest report b"] {
            assert!(error.to_string().contains(expected), "{error}");
        }
    }
}
