//! The system's random numbers.

use std::fs::File;
use std::io::Read as _;

use anyhow::{Context as _, Result};

use super::hash::hexadecimal;

/// 128 random bits, in hexadecimal: a token, or a number for one use.
///
/// # Errors
/// The system gives none.
pub(crate) fn hex_128() -> Result<String> {
    let mut bytes = [0; 16];
    let mut random = File::open("/dev/urandom").context("there are no random numbers")?;
    random.read_exact(&mut bytes).context("there are no random numbers")?;
    Ok(hexadecimal(&bytes))
}
