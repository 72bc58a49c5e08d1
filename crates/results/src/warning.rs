//! Warnings: what makes a result doubtful.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One reason to doubt a result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Warning {
    /// For programs.
    pub kind: WarningKind,
    /// For people.
    pub text: String,
}

/// What is doubtful.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WarningKind {
    /// Fewer connections were established than asked for.
    FewerEstablished,
    /// The server held fewer requests at once than there were connections.
    FewerHeld,
    /// Requests or connections failed.
    Failures,
    /// No good answer came.
    NothingAnswered,
    /// Some figures are lower bounds, because too few requests were answered.
    LowerBounds,
    /// An answer came before the database can have answered.
    TooFast,
    /// More was answered than what was held can explain.
    AboveCeiling,
    /// Requests a second times mean latency is not the number of connections.
    LittlesLaw,
    /// The load generator had no CPU to spare.
    ClientBound,
    /// The load generator was late to look at what had come.
    ClientLate,
    /// The load generator is no optimised build.
    DebugBuild,
    /// Something else used this machine's CPUs.
    BusyMachine,
    /// The kernel dropped connections because a backlog was full.
    BacklogOverflow,
    /// There were no ports left to connect from.
    ShortOfPorts,
    /// There were no descriptors left to connect with.
    ShortOfDescriptors,
    /// The kernel killed processes of the server because memory ran out.
    OutOfMemory,
    /// A figure of the RAM is missing, or is not the best that there is.
    Meter,
    /// The server complained, or did not end as it should.
    Server,
    /// Processes may be left.
    Left,
    /// Merged runs may not be of the same time.
    Merge,
}

impl Warning {
    /// A warning of this kind, in words.
    pub fn new(kind: WarningKind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into() }
    }
}
