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
            Target::Prefork => Some((1_746_059, 97_482)),
            Target::Threads => Some((1_334_634, 36_618)),
            Target::Threadpool => Some((9_836_226, 4_732)),
            Target::Async => Some((1_351_121, 15_415)),
            Target::AsyncCodec => Some((1_790_592, 5_451)),
            Target::AsyncUring => Some((3_128_750, 4_526)),
        }
    }
}
