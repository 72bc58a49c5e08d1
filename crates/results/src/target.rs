//! The project's own servers as results name them, and what the article claims about each.

/// How many connections the article assumes.
pub const ARTICLE_CONNECTIONS: usize = 10_000;

/// The sweep from which RAM is foretold where nothing else was measured, in `loadtest/record`.
pub const RECORDED_SWEEP: &str = "2026-11-30/sweep.json";

/// One of the project's servers, in one of its modes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// A process per connection.
    Prefork,
    /// A thread per connection.
    Threads,
    /// A reactor and a bounded pool.
    Threadpool,
    /// A task per connection, with hyper.
    Async,
    /// A task per connection, with our own codec.
    AsyncCodec,
    /// The same, driven by io_uring.
    AsyncUring,
}

impl Target {
    /// All targets, from the heaviest model to the lightest: the order of every table.
    pub const ALL: [Target; 6] =
        [Target::Prefork, Target::Threads, Target::Threadpool, Target::Async, Target::AsyncCodec, Target::AsyncUring];

    /// The name in results and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Target::Prefork => "prefork",
            Target::Threads => "threads",
            Target::Threadpool => "threadpool",
            Target::Async => "async",
            Target::AsyncCodec => "async-codec",
            Target::AsyncUring => "async-uring",
        }
    }

    /// The target with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|target| target.name() == name)
    }

    /// The RAM that the article states for [`ARTICLE_CONNECTIONS`] connections of this model (BEE-11001).
    pub fn claimed_bytes(self) -> Option<u64> {
        match self {
            Target::Prefork => Some(500_000_000_000),
            Target::Threads => Some(10_000_000_000),
            Target::Async => Some(80_000_000),
            Target::Threadpool | Target::AsyncCodec | Target::AsyncUring => None,
        }
    }

    /// What the server's RAM was measured to be, waiting, by the sweep of [`RECORDED_SWEEP`]: in bytes without a connection,
    /// and of a connection more, at most (the upper end of the 95 % interval). `None` if it is not in that sweep.
    pub fn recorded_ram_bytes(self) -> Option<(u64, u64)> {
        match self {
            Target::Prefork => Some((6_387_118, 132_645)),
            Target::Threads => Some((1_331_558, 36_494)),
            Target::Threadpool => Some((10_758_128, 4_321)),
            Target::Async => Some((1_310_701, 15_694)),
            Target::AsyncCodec => Some((1_740_050, 5_944)),
            Target::AsyncUring => Some((2_542_570, 4_425)),
        }
    }
}
