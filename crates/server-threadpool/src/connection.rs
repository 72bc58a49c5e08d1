//! One connection as a state machine: it goes on as far as it can without blocking.

use std::io::{self, Read as _, Write as _};
use std::net::Shutdown;
use std::time::{Duration, Instant};

use common::app::{self, Plan, Work};
use common::config::Config;
use common::counters::Counters;
use common::http::{Decoder, Persistence, Phase, Request, Response, Status, Step, response};
use common::linger::{Input, LINGER_TIMEOUT, drop_input};
use common::tally::Held;
use mio::net::TcpStream;

use crate::jobs::Ticket;

/// How many requests a connection may be served in a turn, so that one that pipelines does not keep others waiting.
const REQUESTS_PER_TURN: usize = 16;
/// The same for reads of a request that does not end.
const READS_PER_TURN: usize = 16;

/// A worker that is free has begun the work of a request by then, however busy the machine is.
const BEGIN_TIMEOUT: Duration = Duration::from_millis(250);

pub(crate) struct Connection {
    stream: TcpStream,
    decoder: Decoder,
    state: State,
    phase: Phase,
    /// When the state or the phase has taken too long. A query takes as long as it takes.
    deadline: Option<Instant>,
    is_draining: bool,
    /// The client sends no more. Perhaps it has left; perhaps it still wants its answer.
    is_half_closed: bool,
    counters: &'static Counters,
    /// When the request in hand was whole.
    request_start: Option<Instant>,
    /// Counts the connection as open.
    _open: Held<'static>,
}

enum State {
    /// A request is awaited or arriving.
    Reading,
    /// A worker makes the answer; it has a ticket once it is queued.
    Waiting { ticket: Option<Ticket> },
    /// An answer is being sent; one without status is an interim one.
    Writing { bytes: Vec<u8>, sent: usize, status: Option<Status>, persistence: Persistence },
    /// The last answer was sent: see [`common::linger`].
    Lingering,
}

/// How far a connection got.
pub(crate) enum Progress {
    /// It waits for the client, or for a worker.
    Blocked,
    /// It could go on, but others shall have their turn first.
    Yielded,
    /// A worker has to do this; [`Connection::respond`] is called with the answer when it is done.
    Needs(Plan),
    /// It has ended.
    Closed,
}

impl Connection {
    pub(crate) fn new(stream: TcpStream, counters: &'static Counters, config: &Config) -> Self {
        Self {
            stream,
            decoder: Decoder::new(config.limits()),
            state: State::Reading,
            phase: Phase::Idle,
            deadline: Some(Instant::now() + config.idle_timeout),
            is_draining: false,
            is_half_closed: false,
            counters,
            request_start: None,
            _open: counters.open(),
        }
    }

    pub(crate) fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    /// Goes on until it would block. `buffer` is scratch space, lent by the reactor.
    pub(crate) fn advance(&mut self, config: &Config, buffer: &mut [u8]) -> Progress {
        for _ in 0..REQUESTS_PER_TURN {
            let step = match &self.state {
                State::Reading => self.read(config, buffer),
                State::Waiting { .. } => Ok(Some(Progress::Blocked)),
                State::Writing { .. } => self.write(),
                State::Lingering => drop_input(&mut self.stream).map(|input| {
                    Some(match input {
                        Input::Ended => Progress::Closed,
                        Input::Awaited => Progress::Blocked,
                        Input::Unread => Progress::Yielded,
                    })
                }),
            };
            match step {
                Ok(Some(progress)) => return progress,
                Ok(None) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return self.blocked(),
                // The connection failed: that is the end of it, and of nothing else.
                Err(_) => return Progress::Closed,
            }
        }
        Progress::Yielded
    }

    /// The client is awaited; while the server drains, not by a connection that waits for a request, or for its head.
    fn blocked(&mut self) -> Progress {
        let is_done = self.is_draining && matches!(self.state, State::Reading) && self.phase != Phase::Body;
        match is_done {
            true if self.linger().is_err() => Progress::Closed,
            // What lingers has to be read.
            true => Progress::Yielded,
            false => Progress::Blocked,
        }
    }

    /// Shuts our side down, and drops what still comes: see [`common::linger`].
    fn linger(&mut self) -> io::Result<()> {
        self.stream.shutdown(Shutdown::Write)?;
        self.state = State::Lingering;
        self.deadline = Some(Instant::now() + LINGER_TIMEOUT);
        Ok(())
    }

    /// Reads until there is a request to work on or to answer.
    fn read(&mut self, config: &Config, buffer: &mut [u8]) -> io::Result<Option<Progress>> {
        let mut step = self.decoder.decode(b"");
        let mut reads = 0;
        loop {
            match step {
                Ok(Step::Request(request)) => return Ok(self.plan(request, config)),
                Ok(Step::Continue) => {
                    self.send(response::CONTINUE.to_vec(), None, Persistence::KeepAlive, config);
                    return Ok(None);
                }
                Ok(Step::Need) => self.note_phase(config),
                Err(reject) => {
                    self.respond(reject.into(), config);
                    return Ok(None);
                }
            }
            if reads == READS_PER_TURN {
                return Ok(Some(Progress::Yielded));
            }
            reads += 1;
            step = match self.stream.read(buffer) {
                Ok(0) => return Ok(Some(Progress::Closed)),
                Ok(count) => self.decoder.decode(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(Step::Need),
                Err(error) => return Err(error),
            };
        }
    }

    /// Each phase of a request has one deadline, however often a byte of it arrives.
    fn note_phase(&mut self, config: &Config) {
        let phase = self.decoder.phase();
        if phase != self.phase || self.deadline.is_none() {
            self.phase = phase;
            self.deadline = Some(Instant::now() + config.timeouts().limit(phase));
        }
    }

    fn plan(&mut self, request: Request, config: &Config) -> Option<Progress> {
        self.request_start = Some(Instant::now());
        let plan = app::plan(request, config.allows_chaos());
        if plan.work == Work::Nothing {
            self.respond(plan.response, config);
            return None;
        }
        self.state = State::Waiting { ticket: None };
        self.deadline = None;
        Some(Progress::Needs(plan))
    }

    /// The work is queued.
    pub(crate) fn queued(&mut self, work: Ticket) {
        if let State::Waiting { ticket } = &mut self.state {
            *ticket = Some(work);
        }
    }

    /// The ticket of the work that is awaited.
    pub(crate) fn ticket(&self) -> Option<Ticket> {
        match self.state {
            State::Waiting { ticket } => ticket,
            _ => None,
        }
    }

    /// The client sends no more.
    pub(crate) fn half_close(&mut self) {
        self.is_half_closed = true;
    }

    /// Whether the client may have left, and its work has been awaited for longer than a free worker takes to begin it.
    pub(crate) fn may_be_left(&self, now: Instant) -> bool {
        let is_long = self.request_start.is_some_and(|start| now.saturating_duration_since(start) >= BEGIN_TIMEOUT);
        self.is_half_closed && is_long && self.ticket().is_some()
    }

    /// Starts to send an answer, whatever was planned before.
    pub(crate) fn respond(&mut self, mut response: Response, config: &Config) {
        if self.is_draining {
            response.persistence = Persistence::Close;
        }
        self.send(response.encode_to_vec(), Some(response.status), response.persistence, config);
    }

    fn send(&mut self, bytes: Vec<u8>, status: Option<Status>, persistence: Persistence, config: &Config) {
        self.state = State::Writing { bytes, sent: 0, status, persistence };
        self.deadline = Some(Instant::now() + config.write_timeout);
    }

    fn write(&mut self) -> io::Result<Option<Progress>> {
        let State::Writing { bytes, sent, status, persistence } = &mut self.state else { return Ok(None) };
        while *sent < bytes.len() {
            match self.stream.write(&bytes[*sent..]) {
                Ok(count) => *sent += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let (status, persistence) = (*status, *persistence);
        if let Some(status) = status {
            self.counters.answer(status, self.request_start.take());
        }
        // An interim answer is not the last.
        if persistence == Persistence::Close || (self.is_draining && status.is_some()) {
            self.linger()?;
        } else {
            self.state = State::Reading;
            self.deadline = None;
        }
        Ok(None)
    }

    /// Whether the state or the phase has taken too long; then [`time_out`](Self::time_out) must be called.
    pub(crate) fn is_late(&self, now: Instant) -> bool {
        self.deadline.is_some_and(|deadline| now >= deadline)
    }

    /// Answers 408 inside a request, and lingers outside; true if the connection has ended.
    pub(crate) fn time_out(&mut self, config: &Config) -> bool {
        match (&self.state, self.phase) {
            (State::Reading, Phase::Idle) => self.linger().is_err(),
            (State::Reading, Phase::Head | Phase::Body) => {
                self.respond(self.decoder.too_slow().into(), config);
                false
            }
            _ => true,
        }
    }

    /// Makes the next answer the last. If none is due, [`advance`](Self::advance) ends the connection.
    pub(crate) fn drain(&mut self) {
        self.is_draining = true;
    }
}
