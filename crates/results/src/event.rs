//! A measurement as a stream of typed events.
//!
//! The code that measures knows nothing of terminals, pages or other machines: it sends events to a [`Sink`]. The
//! progress bar and the JSON lines of `--events` are sinks.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::run::{RunResult, Second};
use crate::warning::Warning;

/// The version of the event format.
pub const SCHEMA: &str = "c10k-events/1";

/// One event.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// Announces the runs to come.
    Planned {
        /// [`SCHEMA`].
        schema: String,
        /// How many.
        runs: usize,
        /// Roughly how long they will take, if known.
        estimate_s: Option<f64>,
    },
    /// A run has begun.
    Started {
        /// The server's name: a target, or the URL.
        target: String,
        /// How many connections to hold.
        connections: usize,
        /// The round of the sweep, counted from 1.
        round: Option<u32>,
        /// When it began, in RFC 3339.
        started_at: String,
    },
    /// The server listens, and has no connections yet: who wants to watch it can.
    Listening {
        /// The root of its process tree; null if it does not run here, or is unknown.
        pid: Option<i32>,
        /// The address of its admin port, if it is one of this project's servers.
        admin: Option<String>,
    },
    /// The run entered a phase.
    Entered {
        /// The phase.
        phase: RunPhase,
    },
    /// Progress within the phase.
    Progress {
        /// Connections, or milliseconds of the measured time.
        done: u64,
        /// How many there are in all.
        total: u64,
    },
    /// Another second of the window has passed.
    Second(Second),
    /// Something makes the result doubtful.
    Warned(Warning),
    /// The run has ended.
    Finished(Box<RunResult>),
}

/// A phase of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RunPhase {
    /// Connections are made, as fast as the server accepts them.
    Connecting,
    /// All users send at once, so that the server has to hold every request.
    Holding,
    /// The users drift apart, so that requests come evenly.
    Settling,
    /// The window is open.
    Measuring,
    /// The server's memory ledger is read.
    Ledger,
    /// The server and the load generator are stopped.
    Stopping,
    /// The server stopped answering, and may come back.
    Gone,
}

impl RunPhase {
    /// The phase in one word.
    pub fn name(self) -> &'static str {
        match self {
            RunPhase::Connecting => "connecting",
            RunPhase::Holding => "holding",
            RunPhase::Settling => "settling",
            RunPhase::Measuring => "measuring",
            RunPhase::Ledger => "ledger",
            RunPhase::Stopping => "stopping",
            RunPhase::Gone => "gone",
        }
    }
}

/// Receives events as they happen. Must be quick: the measurement waits for it.
pub trait Sink {
    /// Receives one event.
    fn take(&mut self, event: &Event);
}

/// Several sinks, or none.
#[derive(Default)]
pub struct Sinks(Vec<Box<dyn Sink>>);

impl Sinks {
    /// Adds a sink.
    pub fn push(&mut self, sink: impl Sink + 'static) {
        self.0.push(Box::new(sink));
    }
}

impl Sink for Sinks {
    fn take(&mut self, event: &Event) {
        self.0.iter_mut().for_each(|sink| sink.take(event));
    }
}
