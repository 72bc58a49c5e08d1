//! What `--target` takes.

use clap::ValueEnum;
use results::Target;

/// What `--target` takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum TargetChoice {
    /// A process per connection
    Prefork,
    /// A thread per connection
    Threads,
    /// A reactor in front of a bounded pool of blocking workers
    Threadpool,
    /// A tokio task per connection, HTTP by hyper
    Async,
    /// A tokio task per connection, HTTP by this project's own codec
    AsyncCodec,
    /// These five in turn
    All,
}

impl TargetChoice {
    /// The servers, in the order of the table.
    pub(crate) fn targets(self) -> &'static [Target] {
        match self {
            TargetChoice::Prefork => &[Target::Prefork],
            TargetChoice::Threads => &[Target::Threads],
            TargetChoice::Threadpool => &[Target::Threadpool],
            TargetChoice::Async => &[Target::Async],
            TargetChoice::AsyncCodec => &[Target::AsyncCodec],
            TargetChoice::All => &Target::ALL,
        }
    }
}
