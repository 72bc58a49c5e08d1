//! What a server says on standard error while it runs.

use std::fmt::Display;
use std::io::{self, Write as _};

/// Says what is wrong, though not fatal. Nobody may be reading: that is no error.
pub fn warn(message: impl Display) {
    let _ = writeln!(io::stderr(), "warning: {message}");
}
