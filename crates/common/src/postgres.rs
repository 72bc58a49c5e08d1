//! PostgreSQL behind `--db`, in place of the simulated wait.
//!
//! The protocol is bytes in, bytes out ([`connection`]), so that each server may wait for it in its own way: [`session`] blocks
//! on a socket, [`pool`] blocks until there is one, and a server with tasks awaits both. What they share knows nothing of
//! waiting: [`slots`] keeps the connections that nobody uses, and [`outage`] when one may be tried again.
//!
//! TLS to the database is in a build with the feature `tls` only: few need it, and the first build of a server is a quarter
//! longer with it. It is bytes in, bytes out, too, between [`connection`] and whoever sends and reads.

pub mod connection;
pub mod counters;
pub mod error;
pub mod outage;
pub mod pool;
pub mod session;
pub mod settings;
pub mod slots;
pub mod target;
#[cfg(feature = "tls")]
mod tls;
mod trust;
mod turns;
#[cfg(not(feature = "tls"))]
mod without_tls;

use std::time::Duration;

pub use error::{Error, Kind};
#[cfg(not(feature = "tls"))]
use without_tls as tls;

use crate::app::Query;
use crate::http::{Response, Status};

/// What the database is asked.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// Which query.
    pub query: Query,
    /// What [`Query::Insert`] inserts.
    pub body: &'a [u8],
    /// How long the database takes besides: `pg_sleep`, or nothing for zero.
    pub sleep: Duration,
}

/// The body of the answer; `None` if there is no such row.
pub type Answer = Option<Vec<u8>>;

/// The answer to the client: `planned` with what the database said in it, 404 if it has no such row, 503 if it failed.
pub fn respond(planned: Response, answer: Result<Answer, Error>) -> Response {
    let Response { head_only, persistence, .. } = planned;
    let response = match answer {
        Ok(Some(body)) => Response { body: body.into(), ..planned },
        Ok(None) => Response::text(Status::NotFound, "no such row"),
        Err(error) => Response::text(Status::ServiceUnavailable, error.kind.describe()),
    };
    Response { head_only, persistence, ..response }
}
