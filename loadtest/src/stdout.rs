//! Printing the result.

use std::io::{self, ErrorKind, Write as _};

use anyhow::{Context as _, Result};

/// Prints on stdout; that nobody reads it is no reason to stop.
///
/// # Errors
/// It cannot be written: a full disk, for instance.
pub(crate) fn print(text: &str) -> Result<()> {
    match io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error).context("the report cannot be printed"),
        _ => Ok(()),
    }
}
