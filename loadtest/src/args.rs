//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::launch::LaunchArgs;
use crate::target::Target;

const EXAMPLES: &str = "\
Examples:
  Hold 10,000 connections against each server in turn, and compare them in one table:
    loadtest --target all

  One server, fewer connections, another database, the result kept as JSON:
    loadtest --target threads -c 2000 --db-wait exp:100ms --json threads.json

  Everything after -- goes to the server (its --help lists the flags):
    loadtest --target threadpool -- --workers 1024

How to read the result:
  held        requests that the server itself reported as waiting at the same moment
  RAM         the total of the server's own memory cgroup, kernel included, if one could be made (needs root);
              the ledger beside it says where the RAM is, and how far off the popular figure, summed RSS, is
  latency     from the first byte sent to the last received, of requests answered within the measured time; those still
              unanswered when it ends count as slower than they were old (Kaplan-Meier), marked with >=

Exit status: 0 measured; 1 a server failed or could not be started; 2 wrong arguments; 130 interrupted.";

/// Hold 10,000 connections against a server, and say what that costs in RAM and latency
///
/// Builds the server in release, starts it on a free port in its own process group and, where possible, its own memory
/// cgroup, opens the connections, checks with the server that it holds them all at once, measures, and stops it.
#[derive(Parser, Debug)]
#[command(version, after_long_help = EXAMPLES, after_help = "--help shows examples, and how to read the result.")]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true, disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) options: Options,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Become a server: how loadtest starts one that cannot outlive it
    #[command(hide = true)]
    Launch(LaunchArgs),
}

/// What to measure, and how.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// The server to measure; all measures the five in turn, each freshly started
    #[arg(long, value_enum, required = true)]
    target: Option<Choice>,

    /// How many connections to hold
    #[arg(short, long, value_name = "N", default_value_t = 10_000, value_parser = connections)]
    pub(crate) connections: usize,

    /// How long to measure, once the server holds all connections
    #[arg(short, long, value_name = "TIME", default_value = "10s", value_parser = positive_duration)]
    pub(crate) duration: Duration,

    /// How long a database query takes in the server: 1s, uniform:50ms..150ms, exp:100ms, or lognormal:100ms,p99=1s
    #[arg(long, value_name = "LATENCY", default_value = "1s")]
    pub(crate) db_wait: String,

    /// After what time a request is given up, counted as a timeout, and its connection replaced
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = positive_duration)]
    pub(crate) timeout: Duration,

    /// Write the result to this file: an object, or with --target all an array, rewritten after each run
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,

    /// Flags for the server
    #[arg(last = true, value_name = "SERVER-FLAGS")]
    pub(crate) server_flags: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Choice {
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

impl Options {
    /// The servers to measure, in the order of the table.
    pub(crate) fn targets(&self) -> &'static [Target] {
        match self.target {
            Some(Choice::Prefork) => &[Target::Prefork],
            Some(Choice::Threads) => &[Target::Threads],
            Some(Choice::Threadpool) => &[Target::Threadpool],
            Some(Choice::Async) => &[Target::Async],
            Some(Choice::AsyncCodec) => &[Target::AsyncCodec],
            Some(Choice::All) | None => &Target::ALL,
        }
    }

    /// Whether the result is a list, even if it is short because the run was interrupted.
    pub(crate) fn is_series(&self) -> bool {
        self.targets().len() > 1
    }

    /// How long every query takes; nothing if it is drawn at random.
    pub(crate) fn fixed_wait(&self) -> Option<Duration> {
        humantime::parse_duration(&self.db_wait).ok()
    }
}

fn connections(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("it must be at least 1".into()),
        Ok(count) => Ok(count),
        Err(error) => Err(format!("{error}")),
    }
}

fn positive_duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(duration) if duration.is_zero() => Err("it must be above zero".into()),
        Ok(duration) => Ok(duration),
        Err(error) => Err(format!("{error}; write 500ms, 10s or 2m")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn everything_after_two_dashes_is_the_servers() {
        let line = ["loadtest", "--target", "threads", "-c", "5", "--", "--stack-size", "65536"];
        let options = Cli::try_parse_from(line).unwrap().options;
        assert_eq!(options.server_flags, ["--stack-size", "65536"]);
        assert_eq!(options.targets(), [Target::Threads]);
    }

    #[test]
    fn nonsense_is_refused() {
        for line in [&["loadtest"][..], &["loadtest", "--target", "forks"], &["loadtest", "--target", "all", "-c", "0"]]
        {
            assert_eq!(Cli::try_parse_from(line).unwrap_err().exit_code(), 2, "{line:?}");
        }
    }

    #[test]
    fn only_a_plain_duration_is_a_fixed_wait() {
        let wait = |spec| {
            let line = ["loadtest", "--target", "all", "--db-wait", spec];
            Cli::try_parse_from(line).unwrap().options.fixed_wait()
        };
        assert_eq!(wait("250ms"), Some(Duration::from_millis(250)));
        assert_eq!(wait("exp:250ms"), None);
    }
}
