//! `--events`: writes events as JSON lines while they happen.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context as _, Result};
use clap::Args;
use results::event::{Event, Sink, Sinks};
use serde::Serialize;

use super::files::Outputs;
use super::progress::ProgressSink;
use crate::machine::terminal::{lose, reserve_stdout, warn};

/// The flag for events.
#[derive(Args, Clone, Debug, Default)]
#[group(id = "event")]
pub(crate) struct EventArgs {
    /// Write events to this file as they happen, as JSON lines. With - they go to standard output, and the report to
    /// standard error
    #[arg(long, value_name = "FILE|-")]
    events: Option<PathBuf>,
}

impl EventArgs {
    /// Whether events are to be written.
    pub(crate) fn is_some(&self) -> bool {
        self.events.is_some()
    }

    /// Everything that watches a run: the progress bar, and the sink that writes events, if requested.
    ///
    /// # Errors
    /// The file cannot be created, or a result is written to it.
    pub(crate) fn sinks(&self, outputs: &Outputs) -> Result<Sinks> {
        let mut sinks = Sinks::default();
        self.open(outputs)?.into_iter().for_each(|events| sinks.push(events));
        sinks.push(ProgressSink::new());
        Ok(sinks)
    }

    fn open(&self, outputs: &Outputs) -> Result<Option<JsonLines>> {
        let Some(path) = &self.events else { return Ok(None) };
        outputs.ensure_apart("--events", path)?;
        let to: Box<dyn Write> = if path.as_os_str() == "-" {
            reserve_stdout();
            Box::new(io::stdout())
        } else {
            let file = File::create(path);
            Box::new(file.with_context(|| format!("--events {} cannot be written", path.display()))?)
        };
        Ok(Some(JsonLines { start: Instant::now(), to: Some(to) }))
    }
}

/// Writes each event on a line of its own as soon as it happens.
struct JsonLines {
    start: Instant,
    /// `None` after a failed write.
    to: Option<Box<dyn Write>>,
}

/// A line of the stream.
#[derive(Serialize)]
struct Line<'a> {
    /// Seconds since the stream began.
    at_s: f64,
    #[serde(flatten)]
    event: &'a Event,
}

impl Sink for JsonLines {
    fn take(&mut self, event: &Event) {
        let Some(to) = &mut self.to else { return };
        let line = Line { at_s: self.start.elapsed().as_secs_f64(), event };
        let written = serde_json::to_string(&line).map_err(io::Error::other).and_then(|line| {
            writeln!(to, "{line}")?;
            to.flush()
        });
        if let Err(error) = written {
            // The run continues: its result is worth more. Who has closed the pipe has seen enough.
            let tell = if error.kind() == ErrorKind::BrokenPipe { warn } else { lose };
            tell(format!("--events can no longer be written: {error}"));
            self.to = None;
        }
    }
}
