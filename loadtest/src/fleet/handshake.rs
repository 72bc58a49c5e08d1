//! Both sides prove that they know the token, without sending it.
//!
//! Each sends a number of its own that was never used before, and then a proof (HMAC-SHA256) over both numbers and its
//! role: a proof that was overheard is worth nothing for another connection, and one side's is not the other's. Who dials
//! proves first, so that who listens gives nothing to strangers. What follows is not encrypted.

use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use super::lines::{self, LineReader};
use super::token::Token;
use crate::machine::random;

/// The protocol and its version.
pub(super) const PROTOCOL: &str = "c10k-fleet/1";
/// How long each answer of a stranger may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Which side this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Role {
    /// It drives the others.
    Coordinator,
    /// It runs users.
    Worker,
}

/// Who established the TCP connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// This process.
    Dialed,
    /// The other one.
    Listened,
}

#[derive(Debug, Serialize, Deserialize)]
struct Hello {
    protocol: String,
    role: Role,
    nonce: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Proof {
    Hmac(Vec<u8>),
    Refused(String),
}

/// Makes sure that the other side is what it should be and knows the token. Returns the reader of what it says.
///
/// # Errors
/// It does not, speaks something else, or is too slow.
pub(super) fn shake(stream: &TcpStream, role: Role, side: Side, token: &Token) -> Result<LineReader> {
    let mut reader = LineReader::of_stranger(stream)?;
    let own = Hello { protocol: PROTOCOL.into(), role, nonce: random::hex_128()? };
    lines::write(stream, &own)?;
    let other: Hello = reader.read(TIMEOUT).context("it does not speak loadtest's protocol")?;
    ensure!(other.protocol == PROTOCOL, "it speaks {:?}, and this loadtest {PROTOCOL}", other.protocol);
    ensure!(other.role != role, "it is a {role:?} itself");
    let prove = || lines::write(stream, &Proof::Hmac(token.proof(&statement(&own, &other)))).context("it is gone");
    if side == Side::Dialed {
        prove()?;
    }
    match reader.read(TIMEOUT).context("it proves nothing")? {
        Proof::Hmac(proof) if token.is_proof(&statement(&other, &own), &proof) => {}
        Proof::Hmac(_) => {
            let why = "the tokens differ";
            // It may be gone already.
            let _ = lines::write(stream, &Proof::Refused(why.into()));
            bail!("{why}: both sides need the same, in C10K_TOKEN or --token-file");
        }
        Proof::Refused(why) => bail!("it refuses this side: {why}"),
    }
    if side == Side::Listened {
        prove()?;
    }
    reader.trust();
    Ok(reader)
}

/// What `prover` proves to `verifier`.
fn statement(prover: &Hello, verifier: &Hello) -> String {
    format!("{PROTOCOL} {:?} {} {}", prover.role, prover.nonce, verifier.nonce)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let dialed = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (dialed, listener.accept().unwrap().0)
    }

    /// What a dialing and a listening side make of each other.
    fn meet(dialing: (Role, Token), listening: (Role, Token)) -> [Result<(), String>; 2] {
        let (dialed, listened) = pair();
        let other = thread::spawn(move || {
            shake(&listened, listening.0, Side::Listened, &listening.1).map(drop).map_err(|error| error.to_string())
        });
        let one = shake(&dialed, dialing.0, Side::Dialed, &dialing.1).map(drop).map_err(|error| error.to_string());
        drop(dialed);
        [one, other.join().unwrap()]
    }

    #[test]
    fn only_the_same_token_in_the_other_role_is_accepted() {
        let [ours, theirs] = [(); 2].map(|()| Token::random().unwrap().0);
        let met = meet((Role::Worker, ours.clone()), (Role::Coordinator, ours.clone()));
        assert_eq!(met, [Ok(()), Ok(())]);
        for (dialing, listening) in [(Role::Worker, Role::Coordinator), (Role::Coordinator, Role::Worker)] {
            let [one, other] = meet((dialing, ours.clone()), (listening, theirs.clone()));
            assert!(one.unwrap_err().contains("the tokens differ"));
            assert!(other.unwrap_err().contains("the tokens differ"));
        }
        let [one, other] = meet((Role::Worker, ours.clone()), (Role::Worker, ours));
        assert!(one.unwrap_err().contains("itself") && other.unwrap_err().contains("itself"));
    }

    #[test]
    fn a_proof_that_comes_back_is_not_accepted() {
        let (token, _) = Token::random().unwrap();
        let (dialed, listened) = pair();
        let mirror = thread::spawn(move || {
            let mut reader = LineReader::of_stranger(&listened).unwrap();
            let hello: Hello = reader.read(TIMEOUT).unwrap();
            lines::write(&listened, &Hello { role: Role::Coordinator, ..hello }).unwrap();
            let proof: Proof = reader.read(TIMEOUT).unwrap();
            lines::write(&listened, &proof).unwrap();
        });
        let error = shake(&dialed, Role::Worker, Side::Dialed, &token).unwrap_err().to_string();
        assert!(error.contains("the tokens differ"), "{error}");
        mirror.join().unwrap();
    }

    #[test]
    fn garbage_is_refused() {
        let (token, _) = Token::random().unwrap();
        for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xff; 70_000], b"{}\n", b"\n"] {
            let (dialed, mut listened) = pair();
            let sender = thread::spawn(move || {
                let _ = listened.write_all(garbage);
            });
            assert!(shake(&dialed, Role::Coordinator, Side::Dialed, &token).is_err());
            drop(dialed);
            sender.join().unwrap();
        }
    }
}
