//! The project's own servers as results name them, and what the article claims about each.

/// How many connections the article assumes.
pub const ARTICLE_CONNECTIONS: usize = 10_000;

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
}
