//! The results, grouped by model and number of connections.

use std::collections::BTreeMap;

use results::RunResult;
use results::latency::{Distribution, Latencies};
use results::statistics::Spread;
use results::target::{ARTICLE_CONNECTIONS, Target};

use super::palette::{LOOKS, Look};

/// The results that the page shows.
#[derive(Debug)]
pub(super) struct Study<'a> {
    /// Every model: the project's servers in the order of every table, then others.
    pub(super) models: Vec<Model<'a>>,
    /// The number of connections in all charts except a sweep's.
    pub(super) focus: usize,
}

/// The results of one server.
#[derive(Debug)]
pub(super) struct Model<'a> {
    /// A target, or the name of another server.
    pub(super) name: &'a str,
    /// Its look, the same in all charts.
    pub(super) look: Look,
    /// Keyed by the number of connections.
    cells: BTreeMap<usize, Rounds<'a>>,
}

/// The rounds with the same server and number of connections.
#[derive(Debug, Default)]
pub(super) struct Rounds<'a> {
    rounds: Vec<&'a RunResult>,
}

impl<'a> Study<'a> {
    /// Groups the results.
    pub(super) fn new(results: &'a [RunResult]) -> Self {
        let mut models: Vec<Model<'a>> = Vec::new();
        for result in results {
            if !models.iter().any(|model| model.name == result.target) {
                let look = next_look(&result.target, &models);
                models.push(Model { name: &result.target, look, cells: BTreeMap::new() });
            }
            let model = models.iter_mut().find(|model| model.name == result.target);
            let cells = model.map(|model| &mut model.cells);
            cells
                .into_iter()
                .for_each(|cells| cells.entry(result.connections.requested).or_default().rounds.push(result));
        }
        // A sweep runs in random order. Other servers follow ours in their original order.
        let place = |name: &str| Target::ALL.iter().position(|target| target.name() == name).unwrap_or(usize::MAX);
        models.sort_by_key(|model| place(model.name));
        let focus = focus(&models);
        Self { models, focus }
    }

    /// Every requested number of connections, ascending.
    pub(super) fn connections(&self) -> Vec<usize> {
        let mut all: Vec<usize> = self.models.iter().flat_map(|model| model.cells.keys().copied()).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Whether any server was measured with more than one number of connections.
    pub(super) fn is_sweep(&self) -> bool {
        self.models.iter().any(|model| model.cells.len() > 1)
    }

    /// The models measured at the focus.
    pub(super) fn in_focus(&self) -> Vec<(&Model<'a>, &Rounds<'a>)> {
        self.at(self.focus)
    }

    /// The models measured with this number of connections.
    pub(super) fn at(&self, connections: usize) -> Vec<(&Model<'a>, &Rounds<'a>)> {
        self.models.iter().filter_map(|model| Some((model, model.cells.get(&connections)?))).collect()
    }

    /// Every cell, by model and then by connections.
    pub(super) fn cells(&self) -> impl Iterator<Item = (&Model<'a>, usize, &Rounds<'a>)> {
        self.models.iter().flat_map(|model| model.cells().map(move |(connections, cell)| (model, connections, cell)))
    }
}

/// The article's number of connections if measured, or else the one that most models completed.
fn focus(models: &[Model<'_>]) -> usize {
    let mut complete = BTreeMap::<usize, usize>::new();
    for (connections, cell) in models.iter().flat_map(Model::cells) {
        *complete.entry(connections).or_default() += usize::from(cell.is_complete());
    }
    let article = ARTICLE_CONNECTIONS;
    if complete.get(&article).is_some_and(|&models| models > 0) {
        return article;
    }
    complete.into_iter().max_by_key(|&(connections, models)| (models, connections)).map_or(0, |most| most.0)
}

/// A target has its own look; another server gets an unused one, if any is left.
fn next_look(name: &str, models: &[Model<'_>]) -> Look {
    let own = Target::ALL.iter().position(|target| target.name() == name);
    let others = Target::ALL.len()..LOOKS.len();
    let unused = others.clone().find(|&look| models.iter().all(|model| model.look != LOOKS[look]));
    LOOKS[own.or(unused).unwrap_or(others.end - 1)]
}

impl<'a> Model<'a> {
    /// Its cells, by connections.
    pub(super) fn cells(&self) -> impl Iterator<Item = (usize, &Rounds<'a>)> {
        self.cells.iter().map(|(&connections, cell)| (connections, cell))
    }

    /// The spread of a figure at each number of connections with a complete round.
    pub(super) fn spreads(&self, figure: impl Fn(&RunResult) -> Option<f64>) -> Vec<(usize, Spread)> {
        let complete = self.cells().filter(|(_, cell)| cell.is_complete());
        complete.filter_map(|(connections, cell)| Some((connections, cell.spread(&figure)?))).collect()
    }
}

impl<'a> Rounds<'a> {
    /// Whether any round finished.
    pub(super) fn is_complete(&self) -> bool {
        self.rounds.iter().any(|round| round.complete)
    }

    /// The rounds whose figures count: those that finished, or all of them if none did.
    pub(super) fn counting(&self) -> impl Iterator<Item = &'a RunResult> {
        let is_complete = self.is_complete();
        self.rounds.iter().copied().filter(move |round| round.complete || !is_complete)
    }

    /// All rounds.
    pub(super) fn rounds(&self) -> &[&'a RunResult] {
        &self.rounds
    }

    /// The spread of a figure over the rounds that count; `None` if none has it.
    pub(super) fn spread(&self, figure: impl Fn(&RunResult) -> Option<f64>) -> Option<Spread> {
        Spread::new(self.counting().filter_map(figure))
    }

    /// The round with the median RAM, for figures that cannot be averaged.
    pub(super) fn typical(&self) -> Option<&'a RunResult> {
        let mut rounds: Vec<&RunResult> = self.counting().collect();
        rounds.sort_by_key(|round| round.memory.peak_bytes);
        rounds.get(rounds.len() / 2).copied()
    }

    /// The latency distribution of all rounds together and how many requests were answered; `None` without histograms.
    pub(super) fn distribution(&self) -> Option<(Distribution, u64)> {
        let mut all = Latencies::new();
        for round in self.counting() {
            all += &Latencies::decode(round.histograms.as_ref()?).ok()?;
        }
        Some((all.distribution()?, all.answered()))
    }

    /// Why it failed, and in how many rounds; `None` if none failed.
    pub(super) fn failure(&self) -> Option<(String, usize)> {
        let failed: Vec<_> = self.rounds.iter().filter(|round| !round.complete).collect();
        let cause = failed.first()?.failure.as_deref().unwrap_or("the run did not finish");
        Some((cause.to_owned(), failed.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use results::samples::{failed, measured};

    #[test]
    fn the_focus_is_the_articles_connections_or_what_most_models_completed() {
        let results = [measured("threads", 100, 1), measured("threads", 10_000, 1), measured("async", 100, 1)];
        assert_eq!(Study::new(&results).focus, 10_000);
        let results = [measured("threads", 100, 1), measured("threads", 500, 1), measured("async", 100, 1)];
        assert_eq!(Study::new(&results).focus, 100);
        let results = [measured("threads", 100, 1), failed("threads", 10_000, "too many")];
        assert_eq!(Study::new(&results).focus, 100);
        assert_eq!(Study::new(&[]).focus, 0);
    }

    #[test]
    fn a_figure_is_the_median_of_the_complete_rounds() {
        let results = [7, 1, 3].map(|megabytes| measured("threads", 100, megabytes));
        let results = [&results[..], &[failed("threads", 100, "killed")]].concat();
        let study = Study::new(&results);
        let (_, cell) = study.in_focus()[0];
        let spread = cell.spread(|round| round.memory.peak_bytes.map(|bytes| bytes as f64 / 1e6)).unwrap();
        assert_eq!(spread, Spread { min: 1.0, median: 3.0, max: 7.0 });
        assert_eq!(cell.failure(), Some(("killed".into(), 1)));
        assert!(!study.is_sweep());
    }

    #[test]
    fn a_target_looks_the_same_whatever_it_is_measured_with() {
        let results = ["nginx", "async", "go", "prefork"].map(|name| measured(name, 100, 1));
        let looks: Vec<_> = Study::new(&results).models.iter().map(|model| model.look).collect();
        // The project's servers come first, in the order of every table.
        assert_eq!(looks, [LOOKS[0], LOOKS[3], LOOKS[6], LOOKS[7]]);
    }
}
