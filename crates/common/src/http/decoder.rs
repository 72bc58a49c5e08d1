//! Requests out of bytes, however the bytes are split.

use super::body::BodyDecoder;
use super::head::{self, Head};
use super::lines::Scanner;
use super::{Limits, Method, Reject, Request, Status};

/// What a connection is in the middle of: each has a timeout of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Between requests: nothing of the next has come, but perhaps empty lines.
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
        match &self.parser.state {
            State::Body(_) => Phase::Body,
            State::Head(scanner) if scanner.has_begun() => Phase::Head,
            State::Head(_) => Phase::Idle,
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

    /// The refusal of the request in hand because it took too long.
    pub fn too_slow(&self) -> Reject {
        let head_only = self.parser.is_to_head(&self.buffer);
        Reject { head_only, ..Reject::new(Status::RequestTimeout, "the request took too long") }
    }
}

impl Parser {
    /// The next step in `input`, and how many bytes at its front are done with. The others must be there again when more
    /// has come.
    fn next(&mut self, input: &[u8]) -> Result<(usize, Step), Reject> {
        self.try_next(input).map_err(|reject| Reject { head_only: self.is_to_head(input), ..reject })
    }

    /// Whether the request in hand is HEAD; if it is still a head, it is at the front of `input`.
    fn is_to_head(&self, input: &[u8]) -> bool {
        match &self.state {
            // Not what is behind the byte that it is refused for: that may not have come yet.
            State::Head(scanner) => head::is_to_head(&input[..scanner.position()]),
            State::Body(body) => body.request.method == Method::Head,
        }
    }

    fn try_next(&mut self, input: &[u8]) -> Result<(usize, Step), Reject> {
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
