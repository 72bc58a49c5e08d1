//! What happens while something is measured, as one stream of typed events.
//!
//! Whoever measures knows no terminal, no page and no other machine: it gives its events to a [`Sink`]. The progress bar,
//! the JSON lines of `--events`, and whatever else watches are sinks.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::run::{RunResult, Second};
use crate::warning::Warning;

/// The version of this layout.
pub const SCHEMA: &str = "c10k-events/1";

/// What has just happened.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A number of runs will follow.
    Planned {
        /// [`SCHEMA`].
        schema: String,
        /// How many.
        runs: usize,
        /// How long they will take, about, if that can be told.
        estimate_s: Option<f64>,
    },
    /// A run has begun.
    Started {
        /// The server's name: a target, or the URL.
        target: String,
        /// How many connections it is to hold.
        connections: usize,
        /// Which of a sweep's rounds this is, from 1.
        round: Option<u32>,
        /// When, in RFC 3339.
        started_at: String,
    },
    /// The run has entered a phase.
    Entered {
        /// Which.
        phase: Phase,
    },
    /// The phase has got so far.
    Progress {
        /// Connections, or milliseconds of the measured time.
        done: u64,
        /// Of so many.
        total: u64,
    },
    /// Another second of the window is over.
    Second(Second),
    /// Something is doubtful.
    Warned(Warning),
    /// The run has ended.
    Finished(Box<RunResult>),
}

/// The part that a run is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Connections are made, as fast as the server accepts them.
    Connecting,
    /// All send at once, so that the server has to hold all requests.
    Holding,
    /// The requests are spread over time.
    Settling,
    /// The window that counts.
    Measuring,
    /// The ledger of the server's RAM is taken.
    Ledger,
    /// The server and the load generator are stopped.
    Stopping,
    /// The server does not answer any more, and may come back.
    Gone,
}

impl Phase {
    /// The phase in a word.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Connecting => "connecting",
            Phase::Holding => "holding",
            Phase::Settling => "settling",
            Phase::Measuring => "measuring",
            Phase::Ledger => "ledger",
            Phase::Stopping => "stopping",
            Phase::Gone => "gone",
        }
    }
}

/// Takes events as they happen. It must be quick: whoever measures waits for it.
pub trait Sink {
    /// Takes one.
    fn take(&mut self, event: &Event);
}

/// Several sinks, or none.
#[derive(Default)]
pub struct Sinks(Vec<Box<dyn Sink>>);

impl Sinks {
    /// Adds one.
    pub fn push(&mut self, sink: impl Sink + 'static) {
        self.0.push(Box::new(sink));
    }
}

impl Sink for Sinks {
    fn take(&mut self, event: &Event) {
        self.0.iter_mut().for_each(|sink| sink.take(event));
    }
}
