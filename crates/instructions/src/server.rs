//! A server that answers a client on one connection, one request after the other.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use common::http::reply::Reply;

use crate::callgrind;

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
/// A server that is silent for so long has failed.
const TIMEOUT: Duration = Duration::from_secs(30);
/// So that all of the server's threads wait when the next request comes: who is still awake saves a wake-up, by chance.
const PAUSE: Duration = Duration::from_millis(1);

/// All instructions of a server that answers so many requests without a database wait, from its start to its end.
///
/// # Errors
/// It does not start, answer or stop as it should.
pub(crate) fn instructions(server: &Path, flags: &[&str], requests: u64) -> Result<u64> {
    let arguments = [&["--listen", "127.0.0.1:0", "--db-wait", "0s"], flags].concat();
    let mut counted = callgrind::start(server, &arguments)?;
    let mut line = String::new();
    let stdout = counted.stdout().context("it has no standard output")?;
    BufReader::new(stdout).read_line(&mut line)?;
    let address = line.trim().strip_prefix("listening on http://");
    let address = address.context("it does not listen: see above")?;
    let connection = TcpStream::connect(address).context("it cannot be reached")?;
    connection.set_read_timeout(Some(TIMEOUT))?;
    connection.set_nodelay(true)?;
    for _ in 0..requests {
        ask(&connection)?;
        thread::sleep(PAUSE);
    }
    // It closes first, and need not wait for us to close.
    counted.stop()?;
    (&connection).read_to_end(&mut Vec::new()).context("it does not close the connection")?;
    drop(connection);
    counted.finish()
}

fn ask(mut connection: &TcpStream) -> Result<()> {
    connection.write_all(REQUEST)?;
    let (mut reply, mut bytes) = (Reply::default(), [0; 4096]);
    loop {
        let count = connection.read(&mut bytes).context("no answer")?;
        ensure!(count > 0, "it closed the connection");
        if let (_, Some(answer)) = reply.push(&bytes[..count])? {
            ensure!(answer.is_success() && answer.is_persistent, "it answered {}", answer.status);
            return Ok(());
        }
    }
}
