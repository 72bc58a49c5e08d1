//! Warnings: reasons to doubt a result.

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
    /// Fewer connections were established than requested.
    FewerEstablished,
    /// The server held fewer requests at once than there were connections.
    FewerHeld,
    /// Requests or connections failed.
    Failures,
    /// No request got a good answer.
    NothingAnswered,
    /// Some figures are only lower bounds, because too few requests were answered.
    LowerBounds,
    /// Requests from before the window were slower than those sent within it, so that some figures are uncertain.
    EstimatesDisagree,
    /// Some connections got no answer at all within the window.
    NeverAnswered,
    /// Fewer requests were sent than the rate asked for.
    RateMissed,
    /// An answer arrived sooner than the database could have answered.
    TooFast,
    /// More requests were answered than the requests held can explain.
    AboveCeiling,
    /// Requests per second times mean latency does not equal the number of connections.
    LittlesLaw,
    /// The load generator had no CPU to spare.
    ClientBound,
    /// The load generator was late to read answers.
    ClientLate,
    /// The workers of the load generator did not start together.
    StartSkew,
    /// The load generator is not an optimised build.
    DebugBuild,
    /// Something else used the CPUs of the run.
    BusyMachine,
    /// The server and the load generator used up the CPU quota of their container or cgroup.
    CpuQuota,
    /// The kernel dropped connections because a backlog was full.
    BacklogOverflow,
    /// The load generator ran out of ports to connect from.
    ShortOfPorts,
    /// The load generator ran out of file descriptors.
    ShortOfDescriptors,
    /// The kernel killed processes of the server because memory ran out.
    OutOfMemory,
    /// The known parts of the server's RAM add up to more than its cgroup's total.
    PartsExceedTotal,
    /// The metered processes are not those that listen at the URL's port.
    NotTheServer,
    /// A RAM figure is missing, or comes from a second-best source.
    Meter,
    /// The server printed a warning, or did not exit cleanly.
    Server,
    /// Server processes may still be running.
    Left,
    /// The merged runs may not have run at the same time.
    Merge,
    /// A kind that this version does not know: a newer loadtest wrote the file. The text says what it is.
    #[serde(other)]
    Unknown,
}

impl Warning {
    /// A warning of this kind with this text.
    pub fn new(kind: WarningKind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into() }
    }
}
