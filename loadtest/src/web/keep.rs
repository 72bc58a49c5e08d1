//! The runs that are kept: a file of events each.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead as _, BufReader, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result, bail, ensure};
use results::RunResult;
use results::event::{Event, Timed};
use results::replay;
use serde::Serialize;
use tokio::sync::watch;

/// All runs that are kept.
#[derive(Debug)]
pub(crate) struct Keep {
    folder: PathBuf,
    runs: Mutex<Vec<Arc<Kept>>>,
    /// Changes with the list, or the state of a run on it.
    changes: watch::Sender<u64>,
}

/// One run.
#[derive(Debug)]
pub(crate) struct Kept {
    /// Its number.
    pub(super) id: u32,
    path: PathBuf,
    summary: Mutex<Summary>,
    /// Grows with each line.
    lines: watch::Sender<u64>,
    changes: watch::Sender<u64>,
}

/// A run in the list.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Summary {
    id: u32,
    /// When it was ordered, in RFC 3339.
    at: String,
    targets: Vec<String>,
    connections: usize,
    pub(super) state: State,
    /// What it says, once it has ended.
    sentence: String,
}

/// How far a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum State {
    Queued,
    Running,
    Ended,
}

impl Keep {
    /// The runs in this folder, which is created if it is missing.
    ///
    /// # Errors
    /// The folder cannot be created or read.
    pub(crate) fn open(folder: &Path) -> Result<Self> {
        let name = folder.display();
        fs::create_dir_all(folder).with_context(|| format!("cannot create {name}"))?;
        let entries = fs::read_dir(folder).with_context(|| format!("cannot read {name}"))?;
        let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "jsonl"));
        let keep = Self { folder: folder.to_owned(), runs: Mutex::default(), changes: watch::Sender::new(0) };
        let number = |path: &PathBuf| path.file_stem()?.to_str()?.parse().ok();
        let mut numbered: Vec<(u32, PathBuf)> =
            paths.into_iter().filter_map(|path| Some((number(&path)?, path))).collect();
        numbered.sort();
        for (id, path) in numbered {
            // A file that is none of ours is left alone.
            keep.lock().extend(Kept::read(id, path, &keep.changes).map(Arc::new));
        }
        Ok(keep)
    }

    /// One run in a file of its own.
    ///
    /// # Errors
    /// The file is no stream of events.
    pub(crate) fn of_file(path: &Path) -> Result<Self> {
        let changes = watch::Sender::new(0);
        let kept = Kept::read(1, path.to_owned(), &changes);
        let Some(kept) = kept else {
            bail!("{} has no run: name a file written by --events, or kept by loadtest serve", path.display())
        };
        Ok(Self { folder: PathBuf::new(), runs: Mutex::new(vec![Arc::new(kept)]), changes })
    }

    /// Adds a run that waits for its turn.
    ///
    /// # Errors
    /// Its file cannot be written.
    pub(super) fn add(
        &self,
        at: String,
        targets: Vec<String>,
        connections: usize,
        command: Vec<String>,
    ) -> Result<Arc<Kept>> {
        let mut runs = self.lock();
        let id = runs.last().map_or(1, |last| last.id + 1);
        let path = self.folder.join(format!("{id:04}.jsonl"));
        File::create_new(&path).with_context(|| format!("cannot keep the run in {}", path.display()))?;
        let summary = Summary {
            id,
            at: at.clone(),
            targets: targets.clone(),
            connections,
            state: State::Queued,
            sentence: String::new(),
        };
        let kept = Kept {
            id,
            path,
            summary: Mutex::new(summary),
            lines: watch::Sender::new(0),
            changes: self.changes.clone(),
        };
        let ordered = Event::Ordered { at, targets, connections, command };
        kept.append(&serde_json::to_string(&Timed { at_s: 0.0, event: ordered })?)?;
        let kept = Arc::new(kept);
        runs.push(kept.clone());
        drop(runs);
        self.changes.send_modify(|count| *count += 1);
        Ok(kept)
    }

    /// The run of this number.
    pub(super) fn run(&self, id: u32) -> Option<Arc<Kept>> {
        self.lock().iter().find(|kept| kept.id == id).cloned()
    }

    /// The latest run.
    pub(crate) fn last(&self) -> Option<Arc<Kept>> {
        self.lock().last().cloned()
    }

    /// The results of every run that is kept, the oldest first.
    pub(super) fn results(&self) -> Vec<RunResult> {
        let runs = self.lock().clone();
        // What cannot be read now has nothing to add.
        runs.iter().filter_map(|kept| kept.finished().ok()).flatten().collect()
    }

    /// The folder with the folder of the runs.
    pub(super) fn out(&self) -> PathBuf {
        self.folder.parent().map(Path::to_owned).unwrap_or_default()
    }

    /// Every run, the oldest first.
    pub(super) fn summaries(&self) -> Vec<Summary> {
        self.lock().iter().map(|kept| kept.summary()).collect()
    }

    /// Changes with the list.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Kept>>> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    /// A run of before; `None` if the file has none.
    fn read(id: u32, path: PathBuf, changes: &watch::Sender<u64>) -> Option<Self> {
        let kept = Self {
            id,
            path,
            summary: Mutex::new(Summary {
                id,
                at: String::new(),
                targets: Vec::new(),
                connections: 0,
                state: State::Ended,
                sentence: "It was cut off.".into(),
            }),
            lines: watch::Sender::new(0),
            changes: changes.clone(),
        };
        let events = kept.events().ok().filter(|events| !events.is_empty())?;
        kept.lock().learn(&events);
        Some(kept)
    }

    /// Adds a line.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn append(&self, line: &str) -> Result<()> {
        let failed = || format!("cannot write {}", self.path.display());
        let mut file = OpenOptions::new().append(true).open(&self.path).with_context(failed)?;
        // In one write, so that a reader sees a line or none.
        file.write_all(format!("{line}\n").as_bytes()).with_context(failed)?;
        self.lines.send_modify(|count| *count += 1);
        Ok(())
    }

    /// Says how far it is.
    pub(super) fn enter(&self, state: State) {
        self.lock().state = state;
        self.changes.send_modify(|count| *count += 1);
    }

    /// Ends it with what it says.
    ///
    /// # Errors
    /// That cannot be written.
    pub(super) fn end(&self, at_s: f64, sentence: String) -> Result<()> {
        self.lock().sentence.clone_from(&sentence);
        self.enter(State::Ended);
        self.append(&serde_json::to_string(&Timed { at_s, event: Event::Ended { sentence } })?)
    }

    /// How far it is, and what it says.
    pub(super) fn summary(&self) -> Summary {
        self.lock().clone()
    }

    /// Changes with each line.
    pub(super) fn lines(&self) -> watch::Receiver<u64> {
        self.lines.subscribe()
    }

    /// Its lines from the byte `from` on, and the byte after them. The last line may still be in the making, and is left.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(super) fn lines_from(&self, from: u64) -> Result<(Vec<String>, u64)> {
        let failed = || format!("cannot read {}", self.path.display());
        let mut file = File::open(&self.path).with_context(failed)?;
        file.seek(SeekFrom::Start(from)).with_context(failed)?;
        let (mut reader, mut lines, mut end) = (BufReader::new(file), Vec::new(), from);
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).with_context(failed)?;
            let Some(whole) = line.strip_suffix('\n') else { return Ok((lines, end)) };
            end += line.len() as u64;
            lines.push(whole.to_owned());
        }
    }

    /// Its events. Lines of a newer loadtest that are not known are left out.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(super) fn events(&self) -> Result<Vec<Timed>> {
        let lines = self.lines_from(0)?.0;
        Ok(lines.iter().filter_map(|line| serde_json::from_str(line).ok()).collect())
    }

    /// The results of the servers that are through.
    ///
    /// # Errors
    /// The file cannot be read, or there are none.
    pub(super) fn finished(&self) -> Result<Vec<RunResult>> {
        let results = self.events()?.into_iter().filter_map(|timed| match timed.event {
            Event::Finished(result) => Some(*result),
            _ => None,
        });
        let results: Vec<_> = results.collect();
        ensure!(!results.is_empty(), "nothing of this run has ended");
        Ok(results)
    }

    /// Its results up to this second.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(super) fn results_until(&self, until_s: f64) -> Result<Vec<RunResult>> {
        Ok(replay::results_until(&self.events()?, until_s))
    }

    fn lock(&self) -> MutexGuard<'_, Summary> {
        self.summary.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Summary {
    /// Its number.
    pub(super) fn id(&self) -> u32 {
        self.id
    }

    /// Takes what the events say. A stream of `--events` has neither a beginning nor an end of its own.
    fn learn(&mut self, events: &[Timed]) {
        let results = replay::results_until(events, f64::INFINITY);
        if let Some(first) = results.first() {
            self.at.clone_from(&first.started_at);
            self.connections = first.connections.requested;
            self.targets = results.iter().map(|result| result.target.clone()).collect();
        }
        if !results.is_empty() && replay::is_finished(events) {
            self.sentence = sentence(&results);
        }
        for Timed { event, .. } in events {
            match event {
                Event::Ordered { at, targets, connections, .. } => {
                    (self.at, self.targets, self.connections) = (at.clone(), targets.clone(), *connections);
                }
                Event::Ended { sentence } => self.sentence.clone_from(sentence),
                _ => {}
            }
        }
    }
}

/// What results say in a sentence or two.
pub(super) fn sentence(results: &[RunResult]) -> String {
    let answer = report::answer(results);
    let sentence = answer.lines().take_while(|line| !line.starts_with("Next:")).collect::<Vec<_>>().join(" ");
    console::strip_ansi_codes(&sentence)
        .replace(" Read the warning above first.", "")
        .replace(" Read the warnings above first.", "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(keep: &Keep) -> Arc<Kept> {
        keep.add("2026-01-01T00:00:00Z".into(), vec!["threads".into()], 10, Vec::new()).unwrap()
    }

    #[test]
    fn runs_are_there_again_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let keep = Keep::open(folder.path()).unwrap();
        add(&keep).end(1.0, "It held.".into()).unwrap();
        add(&keep);
        fs::write(folder.path().join("0003.jsonl"), "no events\n").unwrap();
        let again = Keep::open(folder.path()).unwrap();
        let sentences: Vec<_> = again.summaries().into_iter().map(|run| (run.id, run.targets, run.sentence)).collect();
        let threads = || vec!["threads".to_owned()];
        assert_eq!(sentences, [(1, threads(), "It held.".into()), (2, threads(), "It was cut off.".into())]);
    }

    #[test]
    fn a_line_in_the_making_is_left_for_later() {
        let folder = tempfile::tempdir().unwrap();
        let keep = Keep::open(folder.path()).unwrap();
        let kept = add(&keep);
        let (lines, end) = kept.lines_from(0).unwrap();
        assert_eq!(lines.len(), 1);
        OpenOptions::new().append(true).open(&kept.path).unwrap().write_all(b"{\"half").unwrap();
        assert_eq!(kept.lines_from(end).unwrap(), (Vec::new(), end));
        OpenOptions::new().append(true).open(&kept.path).unwrap().write_all(b"\":1}\n").unwrap();
        assert_eq!(kept.lines_from(end).unwrap().0, ["{\"half\":1}"]);
    }
}
