//! Requests out of bytes, however the bytes are split.

use super::body::BodyDecoder;
use super::head::{self, Head};
use super::lines::Scanner;
use super::{Limits, Reject, Request};

/// What a connection is in the middle of: each has a timeout of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Between requests: no byte of the next has come.
    Idle,
    /// Inside a head.
    Head,
    /// Inside a body.
    Body,
}

/// What [`Decoder::decode`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// More bytes are needed.
    Need,
    /// Send `100 Continue` ([`super::response::CONTINUE`]): the client waits for it before it sends the body.
    Continue,
    /// A whole request.
    Request(Request),
}

/// Takes requests out of the bytes of one connection.
#[derive(Debug)]
pub struct Decoder {
    /// What came and could not be used yet: the start of a request, or requests behind the one in hand.
    buffer: Vec<u8>,
    parser: Parser,
}

#[derive(Debug)]
struct Parser {
    limits: Limits,
    state: State,
}

#[derive(Debug)]
enum State {
    Head(Scanner),
    /// Boxed: most requests have no body, and 10,000 connections would all have room for one.
    Body(Box<Body>),
}

#[derive(Debug)]
struct Body {
    request: Request,
    decoder: BodyDecoder,
}

impl Decoder {
    /// A decoder for a new connection.
    pub fn new(limits: Limits) -> Self {
        Self { buffer: Vec::new(), parser: Parser { limits, state: State::Head(Scanner::head()) } }
    }

    /// What the connection is in the middle of.
    pub fn phase(&self) -> Phase {
        match self.parser.state {
            State::Body(_) => Phase::Body,
            State::Head(_) if self.buffer.is_empty() => Phase::Idle,
            State::Head(_) => Phase::Head,
        }
    }

    /// The next whole request in the bytes so far, of which `bytes` are those that have come since the last call. There
    /// may be none: another request may have come with the one before.
    ///
    /// # Errors
    /// The answer to give to a request that is refused; the connection is closed after it.
    pub fn decode(&mut self, bytes: &[u8]) -> Result<Step, Reject> {
        // Most requests come alone and in one piece. They are decoded where they are: a copy would be heap memory, of
        // which 10,000 processes would each have a page of their own.
        if self.buffer.is_empty() {
            let (taken, step) = self.parser.next(bytes)?;
            self.buffer.extend_from_slice(&bytes[taken..]);
            return Ok(step);
        }
        self.buffer.extend_from_slice(bytes);
        let (taken, step) = self.parser.next(&self.buffer)?;
        drain_front(&mut self.buffer, taken);
        Ok(step)
    }
}

impl Parser {
    /// The next step in `input`, and how many bytes at its front are done with. The others must be there again when more
    /// has come.
    fn next(&mut self, input: &[u8]) -> Result<(usize, Step), Reject> {
        let mut taken = 0;
        if let State::Head(scanner) = &mut self.state {
            let Some(head_bytes) = scanner.scan(input, &self.limits)? else { return Ok((0, Step::Need)) };
            let Head { request, framing, expects_continue } = head::parse(&input[..head_bytes], &self.limits)?;
            taken = head_bytes;
            let decoder = BodyDecoder::new(framing, &self.limits);
            if decoder.is_done() {
                self.state = State::Head(Scanner::head());
                return Ok((taken, Step::Request(request)));
            }
            self.state = State::Body(Box::new(Body { request, decoder }));
            if expects_continue && taken == input.len() {
                return Ok((taken, Step::Continue));
            }
        }
        if let State::Body(body) = &mut self.state {
            taken += body.decoder.decode(&input[taken..], |data| body.request.body.extend_from_slice(data))?;
        }
        Ok((taken, self.take_request()))
    }

    fn take_request(&mut self) -> Step {
        match std::mem::replace(&mut self.state, State::Head(Scanner::head())) {
            State::Body(body) if body.decoder.is_done() => Step::Request(body.request),
            unfinished => {
                self.state = unfinished;
                Step::Need
            }
        }
    }
}

/// Drops bytes that are done with. An empty buffer is freed: 10,000 waiting connections keep none.
fn drain_front(buffer: &mut Vec<u8>, count: usize) {
    if count == buffer.len() {
        *buffer = Vec::new();
    } else {
        buffer.drain(..count);
    }
}

/// Checks requests that somebody else will parse (hyper, which is more lenient), as strictly as [`Decoder`] does, and
/// says how much of the bytes may be passed on.
#[derive(Debug)]
pub struct Validator {
    limits: Limits,
    state: Check,
}

#[derive(Debug)]
enum Check {
    Head(Scanner),
    /// Boxed, as that of the decoder is.
    Body(Box<BodyDecoder>),
}

impl Validator {
    /// A validator for a new connection.
    pub fn new(limits: Limits) -> Self {
        Self { limits, state: Check::Head(Scanner::head()) }
    }

    /// What the connection is in the middle of; `held_bytes` is how many bytes were not passed on yet.
    pub fn phase(&self, held_bytes: usize) -> Phase {
        match self.state {
            Check::Body(_) => Phase::Body,
            Check::Head(_) if held_bytes == 0 => Phase::Idle,
            Check::Head(_) => Phase::Head,
        }
    }

    /// How many bytes at the front of `held` may be passed on: whole heads that are valid, and parts of their bodies.
    /// What is not passed on must be at the front of `held` again when more has come.
    ///
    /// The second value is the refusal of what follows them, if it must be refused.
    ///
    /// One thing is changed: a minor version above 1.1 becomes 1.1, which is how it is to be understood (RFC 9110 §2.5).
    pub fn check(&mut self, held: &mut [u8]) -> (usize, Option<Reject>) {
        let mut passed = 0;
        while passed < held.len() {
            match self.check_next(&mut held[passed..]) {
                Ok(0) => break,
                Ok(count) => passed += count,
                Err(reject) => return (passed, Some(reject)),
            }
        }
        (passed, None)
    }

    fn check_next(&mut self, held: &mut [u8]) -> Result<usize, Reject> {
        match &mut self.state {
            Check::Head(scanner) => {
                let Some(head_bytes) = scanner.scan(held, &self.limits)? else { return Ok(0) };
                let head = head::parse(&held[..head_bytes], &self.limits)?;
                head::lower_minor_version(&mut held[..head_bytes]);
                self.enter(BodyDecoder::new(head.framing, &self.limits));
                Ok(head_bytes)
            }
            Check::Body(body) => {
                let count = body.decode(held, |_| {})?;
                if body.is_done() {
                    self.state = Check::Head(Scanner::head());
                }
                Ok(count)
            }
        }
    }

    fn enter(&mut self, body: BodyDecoder) {
        self.state = match body.is_done() {
            true => Check::Head(Scanner::head()),
            false => Check::Body(Box::new(body)),
        };
    }
}
