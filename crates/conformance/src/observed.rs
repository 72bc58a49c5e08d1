//! What came back, and whether that is allowed.

use common::http::reply::{Reply, read_head};

use crate::rows::{Allowed, Case, Check, Status, Then};

/// What came back over a connection.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// How many 1xx came.
    pub interim: usize,
    /// The answers, in their order.
    pub answers: Vec<Answer>,
    /// The server has closed, in good order or not.
    pub is_closed: bool,
    /// After the answers came something that is none.
    pub is_garbled: bool,
    /// A 1xx or an answer came before the body was sent.
    pub came_before_body: bool,
}

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The status line says HTTP/1.1.
    pub is_http_1_1: bool,
    /// Whether the server leaves the connection open, as far as it says.
    pub is_persistent: bool,
    /// Names and values.
    pub fields: Vec<(String, Vec<u8>)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Observed {
    /// Reads what has come so far. The first answer may be one to HEAD.
    pub fn read(mut bytes: &[u8], is_to_head: bool, is_closed: bool) -> Self {
        let mut observed = Self { is_closed, ..Self::default() };
        while !bytes.is_empty() && !observed.is_garbled {
            match observed.read_one(bytes, is_to_head) {
                Some(used) => bytes = &bytes[used..],
                None => break,
            }
        }
        observed.is_garbled |= is_closed && !bytes.is_empty();
        observed
    }

    /// Reads one answer, and says how long it is; nothing if it is not whole.
    fn read_one(&mut self, bytes: &[u8], is_to_head: bool) -> Option<usize> {
        let Ok(head) = read_head(bytes) else {
            self.is_garbled = true;
            return None;
        };
        let head = head?;
        if matches!(head.status, 100 | 102..=199) {
            self.interim += 1;
            return Some(head.length);
        }
        let mut reply = Reply::with_content();
        reply.is_to_head = is_to_head && self.answers.is_empty();
        let pushed = reply.push(bytes);
        self.is_garbled |= pushed.is_err();
        let (used, whole) = pushed.ok()?;
        let whole = whole.or_else(|| if self.is_closed { reply.end() } else { None })?;
        let content = reply.take_content().unwrap_or_default();
        self.answers.push(Answer {
            status: whole.status,
            is_http_1_1: bytes.trim_ascii_start().starts_with(b"HTTP/1.1 "),
            is_persistent: whole.is_persistent,
            fields: content.fields,
            body: content.body,
        });
        Some(used)
    }

    /// What became of the connection, in which a case has so many requests, and one more comes after it.
    pub fn then(&self, requests: usize) -> Then {
        let is_next_served = || self.answers.len() == requests + 1 && self.answers[requests].status == 200;
        if self.is_garbled {
            Then::OutOfStep
        } else if self.answers.len() > requests {
            if is_next_served() { Then::Served } else { Then::OutOfStep }
        } else if self.is_closed {
            Then::Closed
        } else {
            Then::Open
        }
    }

    /// The statuses, and what became of the connection.
    pub fn describe(&self, requests: usize) -> String {
        let then = self.then(requests);
        let answers = if then == Then::Served { &self.answers[..requests] } else { &self.answers };
        let interim = std::iter::repeat_n("1xx".to_owned(), self.interim);
        let statuses: Vec<String> = interim.chain(answers.iter().map(|answer| answer.status.to_string())).collect();
        match statuses.as_slice() {
            [] if self.is_garbled => format!("no HTTP/1.1, {then}"),
            [] => format!("nothing, {then}"),
            statuses => format!("{}, {then}", statuses.join(" ")),
        }
    }

    /// Whether this is allowed.
    pub fn is_allowed(&self, allowed: &Allowed, case: &Case) -> bool {
        let first = self.answers.first();
        let is_status_allowed = |status: &Status| match (status, first) {
            (Status::Is(status), Some(answer)) => answer.status == *status,
            (Status::Class(digit), Some(answer)) => answer.status / 100 == *digit,
            (Status::Nothing, answer) => answer.is_none(),
            (_, None) => false,
        };
        let then = self.then(case.requests());
        allowed.statuses.iter().any(is_status_allowed) && allowed.then.contains(&then) && self.holds(allowed.with)
    }

    fn holds(&self, check: Check) -> bool {
        let Some(first) = self.answers.first() else { return matches!(check, Check::Nothing) };
        match check {
            Check::Nothing => true,
            // The last one is that to the request after the case.
            Check::Order(statuses) => {
                self.answers.iter().zip(statuses).all(|(answer, status)| answer.status == *status)
            }
            Check::Body(body) => first.body == body.as_bytes(),
            Check::Date => first.field("date").is_some_and(|date| httpdate::parse_http_date(date).is_ok()),
            Check::ContentType => first.field("content-type").is_some(),
            Check::AllowIn405 => first.status != 405 || first.field("allow").is_some(),
            Check::AllowIn2xx => first.status / 100 != 2 || first.field("allow").is_some(),
            Check::NoLengthIn204 => first.status != 204 || first.field("content-length").is_none(),
            Check::SaysClose => first.field("connection").is_some_and(|options| options.eq_ignore_ascii_case("close")),
            Check::Http11 => first.is_http_1_1,
            Check::NoInterim => self.interim == 0,
            Check::NoCoding => first.field("transfer-encoding").is_none(),
            Check::BeforeBody => self.came_before_body,
        }
    }
}

impl Answer {
    /// The value of a field, if it is text.
    pub fn field(&self, name: &str) -> Option<&str> {
        let field = self.fields.iter().find(|(other, _)| other.eq_ignore_ascii_case(name));
        field.and_then(|(_, value)| str::from_utf8(value).ok())
    }
}
