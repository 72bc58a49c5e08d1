//! What a coordinator and a worker say to each other once each knows who the other is.

use std::time::Duration;

use load::{Outcome, PortableSpec, Progress, Snapshot};
use results::Warning;
use results::run::{ClientSummary, ErrorReason, Host};
use serde::{Deserialize, Serialize};

/// Nothing from the other side for this long, and it counts as lost.
pub(super) const SILENCE: Duration = Duration::from_secs(15);

/// What the coordinator tells a worker.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ToWorker {
    /// It is still there.
    Alive,
    /// What does your clock show?
    Clock { number: u64 },
    /// Prepare users; those of each spec get threads of their own.
    Prepare { specs: Vec<PortableSpec> },
    /// As in [`load::Generator`].
    Start,
    /// As in [`load::Generator`].
    Permit { users: usize },
    /// As in [`load::Generator`].
    Go,
    /// Start the window when your clock shows this.
    StartWindow { at_us: i64, duration: Duration },
    /// As in [`load::Generator`].
    EndWindow,
    /// As in [`load::Generator`].
    Snapshot { number: u64 },
    /// As in [`load::Generator`].
    Stop,
    /// As in [`load::Generator`].
    Finish,
    /// The last run is over.
    Bye,
}

/// What a worker tells the coordinator.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum FromWorker {
    /// The first message: its machine.
    Joined { host: Host },
    /// What its clock shows.
    Clock { number: u64, at_us: i64 },
    /// Its users can be started.
    Prepared,
    /// How far they are. It sends this again and again, also without users: it is still there.
    Seen { progress: Progress, failures: Vec<ErrorReason> },
    /// It started the window when its clock showed this.
    StartedWindow { at_us: i64 },
    /// What they have observed within the window so far.
    Snapshot { number: u64, snapshot: Snapshot },
    /// It cannot go on.
    Failed { why: String },
    /// What they observed.
    Finished(Box<Finished>),
}

/// What a worker's users observed, and what they cost.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Finished {
    /// What they observed.
    pub(super) outcome: Outcome,
    /// What they cost.
    pub(super) client: ClientSummary,
    /// Why to doubt what they did.
    pub(super) warnings: Vec<Warning>,
}
