//! The secret that a coordinator and its workers share. It is in no argument, log or result, and never sent.

use std::env;
use std::fmt;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::machine::command_line::WrongArguments;
use crate::machine::random;

/// The environment variable that holds the token.
pub(super) const VARIABLE: &str = "C10K_TOKEN";
/// A shorter token could be guessed from a proof that was overheard.
const MIN_BYTES: usize = 16;

/// Where the token is.
#[derive(Args, Clone, Debug, Default)]
#[group(id = "token")]
pub(crate) struct TokenArgs {
    /// The file with the token that this process and those on the other side of --workers share; without it, C10K_TOKEN in
    /// the environment holds the token
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

/// The shared secret.
#[derive(Clone)]
pub(crate) struct Token(Vec<u8>);

/// The token itself is nobody's business.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

impl TokenArgs {
    /// Reads the token.
    ///
    /// # Errors
    /// There is none, it cannot be read, or it is too short.
    pub(super) fn read(&self) -> Result<Token> {
        let text = match &self.token_file {
            Some(path) => {
                fs::read_to_string(path).with_context(|| format!("--token-file {} cannot be read", path.display()))?
            }
            None => match env::var(VARIABLE) {
                Ok(text) => text,
                Err(_) => bail!(WrongArguments(format!(
                    "no token: both sides need the same, in {VARIABLE} or --token-file; make one with \
                     `head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \\n'`"
                ))),
            },
        };
        let token = text.trim().as_bytes().to_vec();
        let text = || format!("the token has {} characters, and needs {MIN_BYTES} or more", token.len());
        ensure!(token.len() >= MIN_BYTES, WrongArguments(text()));
        Ok(Token(token))
    }
}

impl Token {
    /// A new token, and its text for another process's environment.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub(super) fn random() -> Result<(Self, String)> {
        let text = random::hex_128()?;
        Ok((Self(text.clone().into_bytes()), text))
    }

    /// What only somebody with the token can say about this message.
    pub(super) fn proof(&self, message: &str) -> Vec<u8> {
        self.mac(message).finalize().into_bytes().to_vec()
    }

    /// Whether somebody with the token has said this. It takes the same time for any proof.
    pub(super) fn is_proof(&self, message: &str, proof: &[u8]) -> bool {
        self.mac(message).verify_slice(proof).is_ok()
    }

    fn mac(&self, message: &str) -> Hmac<Sha256> {
        // A key may have any length, so this cannot fail.
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).unwrap_or_else(|_| unreachable!());
        mac.update(message.as_bytes());
        mac
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_needs_the_token_and_the_message() {
        let (token, text) = Token::random().unwrap();
        let proof = token.proof("a");
        assert!(token.is_proof("a", &proof));
        assert!(!token.is_proof("b", &proof) && !token.is_proof("a", &proof[1..]) && !token.is_proof("a", &[]));
        assert!(!Token::random().unwrap().0.is_proof("a", &proof));
        assert!(!format!("{token:?}").contains(&text));
    }
}
