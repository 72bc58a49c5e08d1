//! The only code that writes to standard output and standard error. A closed pipe does not end the run.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write as _};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use anyhow::{Context as _, Result};
use console::Term;

/// Whether standard output is reserved for events or a file.
static IS_STDOUT_RESERVED: AtomicBool = AtomicBool::new(false);

/// Whether something that was asked for was lost, though the run went on.
static HAS_LOST: AtomicBool = AtomicBool::new(false);

/// Says that something that was asked for is lost: the exit status must tell.
pub(crate) fn lose(what: impl Display) {
    warn(what);
    HAS_LOST.store(true, Relaxed);
}

/// Whether something was.
pub(crate) fn has_lost() -> bool {
    HAS_LOST.load(Relaxed)
}

/// Reserves standard output for events or a file: from now on [`print()`] writes to standard error.
pub(crate) fn reserve_stdout() {
    IS_STDOUT_RESERVED.store(true, Relaxed);
}

/// Prints a result on standard output.
///
/// # Errors
/// The write fails, for instance on a full disk.
pub(crate) fn print(text: &str) -> Result<()> {
    if IS_STDOUT_RESERVED.load(Relaxed) {
        print_to_stderr(text);
        return Ok(());
    }
    write_to_stdout(text.as_bytes()).context("cannot print the report")
}

/// Writes what standard output was reserved for.
///
/// # Errors
/// The write fails, for instance on a full disk.
pub(crate) fn write_to_stdout(content: &[u8]) -> io::Result<()> {
    match io::stdout().write_all(content).and_then(|()| io::stdout().flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error),
        _ => Ok(()),
    }
}

/// Writes a line to standard error.
pub(crate) fn say(line: impl Display) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Writes a warning to standard error.
pub(crate) fn warn(what: impl Display) {
    say(format_args!("warning: {what}"));
}

/// Writes text to standard error, with colours only on a terminal.
pub(crate) fn print_to_stderr(text: &str) {
    let text = if console::colors_enabled_stderr() { text.into() } else { console::strip_ansi_codes(text) };
    let _ = io::stderr().write_all(text.as_bytes());
}

/// The width of standard output, if it is a capable terminal.
pub(crate) fn columns() -> Option<usize> {
    let stdout = Term::stdout();
    let is_dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
    (stdout.is_term() && !is_dumb).then(|| usize::from(stdout.size().1))
}
