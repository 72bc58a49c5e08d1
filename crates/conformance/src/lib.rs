//! The rows of `HTTP-CASES.md` against any server: what came back, and whether that is HTTP/1.1.
//!
//! A server that is not ours is judged by what the RFCs demand of every server. Ours is also judged by its contract, which
//! is stricter. What has a counterpart in Http11Probe is listed in `HTTP11PROBE.md`.

mod exchange;
mod finding;
mod observed;
mod report;
pub mod rows;

pub use exchange::Exchange;
pub use finding::{Count, Finding, Verdict};
pub use observed::{Answer, Observed};
pub use report::Report;

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use crate::rows::Case;

/// A server that says nothing for so long has nothing to say. Who answers does so within milliseconds.
pub const PATIENCE: Duration = Duration::from_secs(3);
/// How long a server may take to start.
const START: Duration = Duration::from_secs(5);
/// How many cases are played at once, so that a server that often says nothing takes half a minute.
const CLIENTS: usize = 64;

/// Plays all cases against a server, each on a connection of its own, and returns the findings in the order of the rows. A
/// server that says nothing for `patience` has nothing to say. It need only answer GET / with 200 and GET /nowhere with 404.
///
/// # Errors
/// The server cannot be connected to.
pub fn probe(address: SocketAddr, patience: Duration) -> io::Result<Vec<Finding>> {
    let deadline = Instant::now() + START;
    while TcpStream::connect(address).is_err() && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(50));
    }
    let cases = rows::all();
    let play = |own: &[Case]| -> io::Result<Vec<Finding>> {
        own.iter().map(|case| Finding::of(case.clone(), address, patience)).collect()
    };
    let shares = cases.chunks(cases.len().div_ceil(CLIENTS));
    thread::scope(|scope| {
        let clients: Vec<_> = shares.map(|own| scope.spawn(move || play(own))).collect();
        let mut findings = Vec::new();
        for client in clients {
            findings.extend(client.join().map_err(|_| io::Error::other("a client panicked"))??);
        }
        Ok(findings)
    })
}
