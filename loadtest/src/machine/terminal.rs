//! The only place that writes to standard output and standard error. That nobody reads them is no reason to stop.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write as _};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use anyhow::{Context as _, Result};
use console::Term;

/// Whether standard output belongs to the events alone.
static IS_STDOUT_RESERVED: AtomicBool = AtomicBool::new(false);

/// Sends from now on to standard error what [`print`] would write to standard output, which a stream of events has for
/// itself.
pub(crate) fn reserve_stdout() {
    IS_STDOUT_RESERVED.store(true, Relaxed);
}

/// Prints a result on standard output.
///
/// # Errors
/// It cannot be written: a full disk, for instance.
pub(crate) fn print(text: &str) -> Result<()> {
    if IS_STDOUT_RESERVED.load(Relaxed) {
        say_plainly(text);
        return Ok(());
    }
    match io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error).context("the report cannot be printed"),
        _ => Ok(()),
    }
}

/// Writes a line to standard error.
pub(crate) fn say(line: impl Display) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Writes text to standard error, with its colours only if that is a terminal.
pub(crate) fn say_plainly(text: &str) {
    let text = if console::colors_enabled_stderr() { text.into() } else { console::strip_ansi_codes(text) };
    let _ = io::stderr().write_all(text.as_bytes());
}

/// How many columns standard output has, if it is a terminal that can draw.
pub(crate) fn columns() -> Option<usize> {
    let stdout = Term::stdout();
    let is_dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
    (stdout.is_term() && !is_dumb).then(|| usize::from(stdout.size().1))
}
