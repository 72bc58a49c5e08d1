//! What the server says of itself, on its admin port.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// The server answers while every worker is busy: more than this is a fault.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The server's counters at one moment. One that it does not have is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ServerCounters {
    /// Connections open now.
    pub(crate) open: u64,
    /// Connections accepted and kept so far.
    pub(crate) accepted: u64,
    /// Connections refused so far.
    pub(crate) refused: u64,
    /// Requests waiting for the database now.
    pub(crate) waiting: u64,
    /// The most requests that ever waited at once.
    pub(crate) waiting_peak: u64,
    /// Requests waiting for a worker now.
    pub(crate) queued: u64,
}

impl ServerCounters {
    /// Asks the server.
    pub(crate) fn fetch(admin: SocketAddr) -> io::Result<Self> {
        let mut stream = TcpStream::connect_timeout(&admin, TIMEOUT)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        write!(stream, "GET /metrics HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => io::Error::other(format!("no answer in {TIMEOUT:?}")),
            _ => error,
        })?;
        match answer.split_once("\r\n\r\n") {
            Some((head, body)) if head.starts_with("HTTP/1.1 200") => Ok(Self::parse(body)),
            _ => Err(io::Error::other(format!("not the answer of a server: {:?}", answer.lines().next()))),
        }
    }

    /// Reads Prometheus' text format.
    fn parse(text: &str) -> Self {
        let mut counters = Self::default();
        for line in text.lines() {
            let Some((name, value)) = line.split_once(' ') else { continue };
            let Some(value) = value.split(' ').next().and_then(|value| value.parse::<f64>().ok()) else { continue };
            let value = value as u64;
            match name {
                "c10k_connections_open" => counters.open = value,
                "c10k_connections_accepted_total" => counters.accepted = value,
                "c10k_connections_refused_total" => counters.refused = value,
                "c10k_requests_waiting" => counters.waiting = value,
                "c10k_requests_waiting_peak" => counters.waiting_peak = value,
                "c10k_requests_queued" => counters.queued = value,
                _ => {}
            }
        }
        counters
    }

    /// Requests that the server held at once, as far as this reading tells.
    pub(crate) fn held(&self) -> u64 {
        // The peak is exact, but knows only those that wait for the database; the queue has no peak.
        self.waiting_peak.max(self.waiting + self.queued)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_read_from_prometheus_text() {
        let text = "# HELP c10k_connections_open Connections open now.\n# TYPE c10k_connections_open gauge\n\
            c10k_connections_open 12\nc10k_connections_accepted_total 15 1700000000\nc10k_requests_waiting 3\n\
            c10k_requests_waiting_peak 4\nc10k_requests_queued 7.0\nother{label=\"a b\"} 9\n# EOF\n";
        let expected = ServerCounters { open: 12, accepted: 15, refused: 0, waiting: 3, waiting_peak: 4, queued: 7 };
        assert_eq!(ServerCounters::parse(text), expected);
        assert_eq!(expected.held(), 10);
    }
}
