//! What a reader should doubt about a result.

use serde::{Deserialize, Serialize};

/// One reason for doubt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Warning {
    /// For programs.
    pub(crate) kind: Doubt,
    /// For people.
    pub(crate) text: String,
}

/// What there is to doubt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Doubt {
    /// Fewer connections were established than asked for.
    FewerEstablished,
    /// The server held fewer requests at once than there were connections.
    FewerHeld,
    /// Requests or connections failed.
    Failures,
    /// No good answer came.
    NothingAnswered,
    /// For want of answers some figures are lower bounds.
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
    /// The kernel killed processes of the server for want of memory.
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

impl Doubt {
    /// The doubt in words.
    pub(crate) fn because(self, text: impl Into<String>) -> Warning {
        Warning { kind: self, text: text.into() }
    }
}
