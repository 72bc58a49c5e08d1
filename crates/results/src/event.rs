//! A measurement as a stream of typed events.
//!
//! The code that measures knows nothing of terminals, pages or other machines: it sends events to a [`Sink`]. The
//! progress bar and the JSON lines of `--events` are sinks.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::run::{ErrorReason, RunResult, Second};
use crate::warning::Warning;

/// The version of the event format.
pub const SCHEMA: &str = "c10k-events/1";

/// One event.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// Somebody has asked for a run of these servers: the first event of a run that is kept.
    Ordered {
        /// When, in RFC 3339.
        at: String,
        /// The servers' names.
        targets: Vec<String>,
        /// The connections that each shall hold.
        connections: usize,
        /// The arguments that loadtest got.
        command: Vec<String>,
    },
    /// Nothing more comes: the last event of a run that is kept.
    Ended {
        /// What it says in a sentence or two, or why it says nothing.
        sentence: String,
    },
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
        /// The value of `--db-wait`; empty if the server is not one of this project's.
        #[serde(default)]
        wait: String,
        /// How long the window will be, in seconds.
        #[serde(default)]
        duration_s: f64,
    },
    /// The server listens, and has no connections yet: who wants to watch it can.
    Listening {
        /// The root of its process tree, of several processes the first's; null if it does not run here, or is unknown.
        pid: Option<i32>,
        /// The address of its admin port, of several processes the first's, if it is one of this project's servers.
        admin: Option<String>,
        /// The address that it serves, if it is one of this project's servers.
        #[serde(default)]
        address: Option<String>,
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
    /// What the connections do and the server costs at this moment, four times a second.
    Observed(Observation),
    /// A fault was caused on purpose, such as `panic`.
    Injected {
        /// Which.
        fault: String,
    },
    /// Another second of the window has passed.
    Second(Second),
    /// Something makes the result doubtful.
    Warned(Warning),
    /// The run has ended.
    Finished(Box<RunResult>),
}

/// An event, and when it happened.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Timed {
    /// Seconds since the stream began.
    pub at_s: f64,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// What the connections do and the server costs at one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Observation {
    /// Users that have had a connection.
    pub established: u64,
    /// Connections open, by the server's count; null, as for the next two, if it is not one of this project's.
    pub open: Option<u64>,
    /// Requests that wait for the database.
    pub waiting: Option<u64>,
    /// Requests that wait for a worker.
    pub queued: Option<u64>,
    /// All failures so far, and why.
    pub failures: Vec<ErrorReason>,
    /// The server's RAM; null if the kernel keeps no account of it while it runs.
    pub ram_bytes: Option<u64>,
    /// The limit of its cgroup; null without one.
    pub ram_limit_bytes: Option<u64>,
    /// Its RAM by part; null without a cgroup here.
    pub ram_parts: Option<meter::CgroupParts>,
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
