//! Many connections that ask now and then.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use common::http::reply::read_head;

/// After this long an answer does not come.
const TIMEOUT: Duration = Duration::from_secs(10);
/// So often a leak of 1 MiB is far more than a limit.
const LEAKS: usize = 256;

/// Connections that have each been answered once.
pub struct Crowd {
    address: SocketAddr,
    streams: Vec<TcpStream>,
}

impl Crowd {
    /// Opens the connections; each asks and is answered.
    pub fn connect(address: SocketAddr, count: usize) -> anyhow::Result<Self> {
        let mut streams = Vec::with_capacity(count);
        for _ in 0..count {
            let mut stream = connect(address)?;
            ask(&mut stream, "/health")?;
            read_answer(&mut stream)?;
            streams.push(stream);
        }
        Ok(Self { address, streams })
    }

    /// Sends a request on each connection, and does not read the answers.
    pub fn send_all(&mut self, target: &str) -> io::Result<()> {
        self.streams.iter_mut().try_for_each(|stream| ask(stream, target))
    }

    /// Reads an answer on each connection, and says how many were whole.
    pub fn read_all(&mut self) -> usize {
        self.streams.iter_mut().filter_map(|stream| read_answer(stream).ok()).count()
    }

    /// Lets so many more connections knock; what becomes of them is no matter.
    pub fn knock(&self, count: usize) -> Vec<TcpStream> {
        let knock = |_| {
            let mut stream = TcpStream::connect_timeout(&self.address, Duration::from_millis(200)).ok()?;
            let _ = ask(&mut stream, "/health");
            Some(stream)
        };
        (0..count).filter_map(knock).collect()
    }

    /// How many of the connections are answered still.
    pub fn ask_again(&mut self) -> usize {
        let asked = self.streams.iter_mut().map(|stream| ask(stream, "/health").is_ok()).collect::<Vec<_>>();
        let deadline = Instant::now() + TIMEOUT;
        let is_answered = |stream: &mut TcpStream| {
            // All of them together have as long as one.
            let remaining = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            stream.set_read_timeout(Some(remaining)).is_ok() && read_answer(stream).is_ok()
        };
        self.streams
            .iter_mut()
            .zip(asked)
            .map(|(stream, asked)| asked && is_answered(stream))
            .filter(|&whole| whole)
            .count()
    }
}

/// Connects, asks and reads the answer; its status.
pub fn ask_once(address: SocketAddr, target: &str) -> io::Result<u16> {
    let mut stream = connect(address)?;
    ask(&mut stream, target)?;
    read_answer(&mut stream)
}

/// Lets one connection leak again and again. It is an error if that ends the connection.
pub fn leak(address: SocketAddr) -> io::Result<()> {
    let mut stream = connect(address)?;
    for _ in 0..LEAKS {
        ask(&mut stream, "/chaos/leak")?;
        read_answer(&mut stream)?;
    }
    Ok(())
}

fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    Ok(stream)
}

fn ask(stream: &mut TcpStream, target: &str) -> io::Result<()> {
    let method = if target.starts_with("/chaos") { "POST" } else { "GET" };
    let length = if method == "POST" { "Content-Length: 0\r\n" } else { "" };
    stream.write_all(format!("{method} {target} HTTP/1.1\r\nHost: a\r\n{length}\r\n").as_bytes())
}

/// Reads a whole answer with a Content-Length, and returns its status.
fn read_answer(stream: &mut TcpStream) -> io::Result<u16> {
    let mut received = Vec::new();
    loop {
        if let Some(head) = read_head(&received)? {
            let value = head.fields.iter().find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
            let length = value.and_then(|(_, value)| str::from_utf8(value).ok()?.parse().ok()).unwrap_or(0);
            if received.len() >= head.length + length {
                return Ok(head.status);
            }
        }
        let mut bytes = [0; 2048];
        match stream.read(&mut bytes)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => received.extend_from_slice(&bytes[..count]),
        }
    }
}
