//! Experiments: each measures some figures that an article makes claims about.
//!
//! What is claimed, they do not know: they find, and `commands/claims` compares.

pub(crate) mod lab;

mod connections;
mod crowd;
mod faults;
mod interpreters;
mod keep;
mod limits;
mod parallel;
mod primitives;
mod runtimes;

use anyhow::Result;

use self::lab::Lab;

/// An experiment.
pub(crate) struct Experiment {
    /// Its name, with which the names of its figures begin.
    pub(crate) name: &'static str,
    /// What it does, for the progress.
    pub(crate) what: &'static str,
    /// Roughly how long it takes, quick and in full, in seconds.
    pub(crate) seconds: (u64, u64),
    /// Whether it runs `primitives`.
    pub(crate) uses_primitives: bool,
    /// Whether it starts the project's servers.
    pub(crate) uses_servers: bool,
    /// Finds the figures.
    pub(crate) run: fn(&mut Lab<'_>) -> Result<()>,
}

/// All experiments, in the order in which they run.
pub(crate) const ALL: &[Experiment] = &[
    Experiment {
        name: "create",
        what: "creating processes, threads, tasks",
        seconds: (2, 23),
        uses_primitives: true,
        uses_servers: false,
        run: primitives::create,
    },
    Experiment {
        name: "switch",
        what: "switching between them",
        seconds: (3, 19),
        uses_primitives: true,
        uses_servers: false,
        run: primitives::switch,
    },
    Experiment {
        name: "refill",
        what: "walking memory after a switch",
        seconds: (1, 10),
        uses_primitives: true,
        uses_servers: false,
        run: primitives::refill,
    },
    Experiment {
        name: "sharing",
        what: "sharing memory, losing updates",
        seconds: (1, 1),
        uses_primitives: true,
        uses_servers: false,
        run: primitives::sharing,
    },
    Experiment {
        name: "keep",
        what: "keeping thousands of them",
        seconds: (2, 31),
        uses_primitives: true,
        uses_servers: false,
        run: keep::run,
    },
    Experiment {
        name: "runtimes",
        what: "starting interpreters",
        seconds: (6, 11),
        uses_primitives: false,
        uses_servers: false,
        run: runtimes::run,
    },
    Experiment {
        name: "interpreters",
        what: "threads and event loops of interpreters",
        seconds: (4, 19),
        uses_primitives: false,
        uses_servers: false,
        run: interpreters::run,
    },
    Experiment {
        name: "parallel",
        what: "computing in parallel",
        seconds: (4, 24),
        uses_primitives: false,
        uses_servers: true,
        run: parallel::parallel,
    },
    Experiment {
        name: "starve",
        what: "starving an event loop",
        seconds: (3, 40),
        uses_primitives: false,
        uses_servers: true,
        run: parallel::starve,
    },
    Experiment {
        name: "connections",
        what: "holding connections",
        seconds: (10, 220),
        uses_primitives: false,
        uses_servers: true,
        run: connections::run,
    },
    Experiment {
        name: "hold",
        what: "holding memory in each request",
        seconds: (7, 47),
        uses_primitives: false,
        uses_servers: true,
        run: limits::hold,
    },
    Experiment {
        name: "overload",
        what: "running out of RAM",
        seconds: (6, 40),
        uses_primitives: false,
        uses_servers: true,
        run: limits::overload,
    },
    Experiment {
        name: "spike",
        what: "a spike of requests",
        seconds: (2, 4),
        uses_primitives: false,
        uses_servers: true,
        run: limits::spike,
    },
    Experiment {
        name: "faults",
        what: "a fault while others wait",
        seconds: (3, 105),
        uses_primitives: false,
        uses_servers: true,
        run: faults::run,
    },
];
