//! The admin port: `/metrics`, `/healthz` and `/readyz`, answered without a worker and without blocking, until the process
//! ends.
//!
//! `/healthz` says that the process is up; who gets no answer restarts it. `/readyz` says whether a connection that comes
//! now would be taken at once, so that a load balancer may choose another server: 503 while this one drains, and also
//! while it is full, because then a new connection would get a 503 itself, or wait. Connections that are open already are
//! not concerned.

use std::collections::VecDeque;
use std::io::{self, Read as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use anyhow::Result;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::close;

use crate::config::Config;
use crate::counters::Counters;
use crate::http::{Decoder, Limits, Method, Persistence, Phase, Reject, Request, Response, Status, Step};
use crate::limits::MaxConnections;
use crate::linger::{Lingerers, TURN_INTERVAL};
use crate::listener::{self, AcceptError, EXHAUSTED_PAUSE};
use crate::memory::Memory;
use crate::metrics::{self, Metrics, name};

const LIMITS: Limits = Limits { max_head_bytes: 8192, max_body_bytes: 8192 };
/// How long a client may take to ask.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);
/// The most clients at once; for the next one the oldest must go, so that those who only connect keep nobody out.
const MAX_CLIENTS: usize = 64;
/// The most that are accepted in a turn: fewer than [`MAX_CLIENTS`], so that each has a turn to be read in.
const ACCEPTS_PER_TURN: usize = 32;
const BACKLOG: u32 = 64;

/// The admin port. Every client gets one answer.
#[derive(Debug)]
pub struct Admin {
    listener: TcpListener,
    /// The oldest first.
    clients: VecDeque<Client>,
    lingerers: Lingerers,
    server: &'static str,
    max_connections: MaxConnections,
    /// There is a real database.
    has_database: bool,
    memory: Memory,
    /// The last `accept` failed because descriptors or memory ran out.
    is_exhausted: bool,
}

#[derive(Debug)]
struct Client {
    stream: TcpStream,
    decoder: Decoder,
    deadline: Instant,
}

impl Admin {
    /// Listens where `--admin` says, for the `server` of that name; nothing if nobody wants it to.
    ///
    /// # Errors
    /// Those of [`listener::bind`].
    pub fn bind(config: &Config, server: &'static str, max_connections: MaxConnections) -> Result<Option<Self>> {
        let Some(address) = config.admin else { return Ok(None) };
        let listener = listener::bind("--admin", address, BACKLOG, false)?;
        listener.set_nonblocking(true)?;
        Ok(Some(Self {
            listener,
            clients: VecDeque::new(),
            lingerers: Lingerers::default(),
            server,
            max_connections,
            has_database: config.database.db.is_some(),
            memory: Memory::new(config.ledger_interval),
            is_exhausted: false,
        }))
    }

    /// Where it listens.
    ///
    /// # Errors
    /// The socket has no address.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// What to poll the listener for: nothing, while nobody can be accepted, or the poll would return for ever.
    pub fn interest(&self) -> PollFlags {
        if self.is_exhausted { PollFlags::empty() } else { PollFlags::POLLIN }
    }

    /// How soon [`turn`](Self::turn) must be called, though the listener is not readable; `None` if it need not.
    pub fn next_turn(&self) -> Option<Duration> {
        match self.is_exhausted {
            true => Some(EXHAUSTED_PAUSE),
            false => self.is_busy().then_some(TURN_INTERVAL),
        }
    }

    fn is_busy(&self) -> bool {
        !self.clients.is_empty() || !self.lingerers.is_empty() || self.memory.is_walking()
    }

    /// Does all that can be done without waiting. `children` lists the processes that serve for this one.
    pub fn turn(&mut self, counters: &Counters, children: impl Fn() -> Vec<i32>) {
        self.accept();
        let now = Instant::now();
        for mut client in std::mem::take(&mut self.clients) {
            let response = match client.read(now) {
                Ok(None) => {
                    self.clients.push_back(client);
                    continue;
                }
                Ok(Some(Ok(request))) => self.answer(&request, counters, &children),
                Ok(Some(Err(reject))) => reject.into(),
                Err(_) => continue,
            };
            self.lingerers.push(client.stream, response.encode_to_vec());
        }
        self.lingerers.turn();
        self.memory.turn();
    }

    fn answer(&mut self, request: &Request, counters: &Counters, children: impl Fn() -> Vec<i32>) -> Response {
        let path = request.target.split('?').next().unwrap_or_default();
        let mut response = match (request.method, path) {
            (Method::Unknown, _) => Response::text(Status::NotImplemented, "no such method"),
            (Method::Get | Method::Head, "/metrics") => {
                let children = children();
                self.memory.begin_if_due(&children);
                Response::new(Status::Ok, metrics::MEDIA_TYPE, self.metrics(counters, children.len()).into_bytes())
            }
            (Method::Get | Method::Head, "/healthz") => ok(),
            (Method::Get | Method::Head, "/readyz") => match self.unready(counters) {
                Some(why) => Response::text(Status::ServiceUnavailable, why),
                None => ok(),
            },
            (_, "/metrics" | "/healthz" | "/readyz") => {
                let response = Response::text(Status::MethodNotAllowed, "see Allow");
                Response { allow: Some("GET, HEAD"), ..response }
            }
            _ => Response::text(Status::NotFound, "there are /metrics, /healthz and /readyz"),
        };
        response.head_only = request.method == Method::Head;
        response.persistence = Persistence::Close;
        response
    }

    /// Why a connection that comes now would not be taken at once.
    fn unready(&self, counters: &Counters) -> Option<&'static str> {
        let is_full = counters.open.load(Relaxed) >= self.max_connections.count as u64;
        let is_draining = counters.is_draining.load(Relaxed);
        is_draining.then_some("the server is draining").or(is_full.then_some("the server is full"))
    }

    fn metrics(&self, counters: &Counters, children: usize) -> String {
        let mut metrics = Metrics::default();
        let build = [("server", self.server), ("version", env!("CARGO_PKG_VERSION"))];
        metrics.gauges(name::BUILD_INFO, "Which server this is; always 1.", [(&build[..], 1.0)]);
        let limited_by = [("limited_by", self.max_connections.limited_by.name())];
        let help = "The most connections at once, and what decides that.";
        metrics.gauges(name::CONNECTIONS_MAX, help, [(&limited_by[..], self.max_connections.count as f64)]);
        counters.report(&mut metrics);
        if self.has_database {
            counters.database.report(&mut metrics);
        }
        self.memory.report(children, &mut metrics);
        metrics.encode()
    }

    fn accept(&mut self) {
        self.is_exhausted = false;
        for _ in 0..ACCEPTS_PER_TURN {
            match self.listener.accept() {
                Ok((stream, _)) if stream.set_nonblocking(true).is_ok() => self.admit(stream),
                Ok(_) => {}
                Err(error) if AcceptError::classify(&error) == AcceptError::TryNext => {}
                Err(error) => {
                    self.is_exhausted = AcceptError::classify(&error) == AcceptError::Exhausted;
                    if self.is_exhausted {
                        // Its descriptor is for the next one.
                        self.clients.pop_front();
                    }
                    return;
                }
            }
        }
    }

    fn admit(&mut self, stream: TcpStream) {
        if self.clients.len() == MAX_CLIENTS {
            self.clients.pop_front();
        }
        let deadline = Instant::now() + REQUEST_TIMEOUT;
        self.clients.push_back(Client { stream, decoder: Decoder::new(LIMITS), deadline });
    }

    /// Closes everything in a forked child, which must not use or drop it after that. The memory stays as it is: to free it
    /// would be to write into pages that the child shares with its parent.
    pub fn close_in_child(&self) {
        let _ = close(self.listener.as_raw_fd());
        for client in &self.clients {
            let _ = close(client.stream.as_raw_fd());
        }
        self.lingerers.close_in_child();
    }

    /// Answers for ever, for a server without children that has a thread to spare.
    pub fn run(mut self, counters: &Counters) -> ! {
        loop {
            let timeout =
                self.next_turn().map_or(PollTimeout::NONE, |turn| turn.try_into().unwrap_or(PollTimeout::MAX));
            match poll(&mut [PollFd::new(self.as_fd(), self.interest())], timeout) {
                Ok(_) | Err(Errno::EINTR) => self.turn(counters, Vec::new),
                Err(_) => std::thread::sleep(EXHAUSTED_PAUSE),
            }
        }
    }
}

fn ok() -> Response {
    Response::new(Status::Ok, "text/plain", &b"ok\n"[..])
}

impl AsFd for Admin {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

impl Client {
    /// The request or its refusal, once that is known; an error if the client has gone, or has said nothing for too long.
    fn read(&mut self, now: Instant) -> io::Result<Option<Result<Request, Reject>>> {
        let mut bytes = [0; 1024];
        loop {
            let step = match self.stream.read(&mut bytes) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => self.decoder.decode(&bytes[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => match self.decoder.phase() {
                    _ if now < self.deadline => return Ok(None),
                    Phase::Idle => return Err(io::ErrorKind::TimedOut.into()),
                    Phase::Head | Phase::Body => Err(self.decoder.too_slow()),
                },
                Err(error) => return Err(error),
            };
            match step {
                Ok(Step::Request(request)) => return Ok(Some(Ok(request))),
                Ok(Step::Continue | Step::Need) => {}
                Err(reject) => return Ok(Some(Err(reject))),
            }
        }
    }
}
