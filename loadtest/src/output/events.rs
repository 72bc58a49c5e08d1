//! `--events`: what happens, as JSON lines, while it happens.

use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context as _, Result};
use clap::Args;
use results::event::{Event, Sink};
use serde::Serialize;

use crate::machine::terminal::{reserve_stdout, say};

/// Where events go.
#[derive(Args, Clone, Debug, Default)]
#[group(id = "event")]
pub(crate) struct EventArgs {
    /// Write what happens to this file while it happens, as JSON lines; - is standard output, and the report then goes to
    /// standard error
    #[arg(long, value_name = "FILE|-")]
    events: Option<PathBuf>,
}

impl EventArgs {
    /// A sink that writes them, if they are wanted.
    ///
    /// # Errors
    /// The file cannot be made.
    pub(crate) fn open(&self) -> Result<Option<JsonLines>> {
        let Some(path) = &self.events else { return Ok(None) };
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

/// Writes each event in a line of its own, as soon as it happens.
pub(crate) struct JsonLines {
    start: Instant,
    /// Nothing once it could not be written.
    to: Option<Box<dyn Write>>,
}

/// A line.
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
            // The run goes on: its result is worth more.
            say(format_args!("warning: --events cannot be written any more: {error}"));
            self.to = None;
        }
    }
}
