//! The values of `--target`.

use clap::ValueEnum;
use results::Target;

/// The values of `--target`.
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
    /// The same, driven by io_uring instead of tokio (Linux 6.1)
    AsyncUring,
    /// All of these in turn: four servers, async in three ways
    All,
}

impl TargetChoice {
    /// The servers, in the order of every table.
    pub(crate) fn targets(self) -> &'static [Target] {
        match self {
            TargetChoice::Prefork => &[Target::Prefork],
            TargetChoice::Threads => &[Target::Threads],
            TargetChoice::Threadpool => &[Target::Threadpool],
            TargetChoice::Async => &[Target::Async],
            TargetChoice::AsyncCodec => &[Target::AsyncCodec],
            TargetChoice::AsyncUring => &[Target::AsyncUring],
            TargetChoice::All => &Target::ALL,
        }
    }
}

/// Each of the chosen servers once, in the order of every table.
pub(crate) fn chosen(choices: &[TargetChoice]) -> Vec<Target> {
    let is_chosen = |target: &Target| choices.iter().any(|choice| choice.targets().contains(target));
    Target::ALL.into_iter().filter(is_chosen).collect()
}
