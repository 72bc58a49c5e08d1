//! The command line.

use std::ffi::OsString;

use clap::{CommandFactory as _, Parser, Subcommand};

use crate::commands::claims::ClaimsArgs;
use crate::commands::db::DbArgs;
use crate::commands::doctor::DoctorArgs;
use crate::commands::flags::{Flags, Load};
use crate::commands::measure::MeasureOptions;
use crate::commands::peers::PeersArgs;
use crate::commands::plan::PlanArgs;
use crate::commands::report::ReportArgs;
use crate::commands::serve::{ServeArgs, ServeOptions};
use crate::commands::sweep::SweepArgs;
use crate::commands::url::UrlOptions;
use crate::commands::worker::WorkerArgs;
use crate::subject::launch::LaunchArgs;

// Wrapped by hand at 78 columns: clap breaks longer lines once more on a terminal of 80.
const EXAMPLES: &str = "\
Examples:
  Hold 10,000 connections against each server in turn, and compare them in one
  table:
    loadtest --target all

  One server, fewer connections, another database, the result kept as JSON:
    loadtest --target threads -c 2000 --db-wait exp:100ms --json threads.json

  For CI: status 3 if latency or RAM is above a limit, a table for the log, a
  row for the archive:
    loadtest --target async --fail-if 'p99 > 1200ms' \\
        --fail-if 'memory.peak > 200MB' --markdown a.md --csv a.csv

  Compare before and after:
    loadtest report before.json after.json

  Everything after -- goes to the server (its --help lists the flags):
    loadtest --target threadpool -- --workers 1024
    loadtest --target all -c 1000 -- --burn 1ms

  More connections than a process has files, and an address has ports:
    loadtest --target async-codec -c 100k --processes 7 --workers 7 \\
        --bind 127.0.0.1-127.0.0.8 --db-wait 10s

  Like wrk: 200 connections on 2 threads for half a minute against a running
  server, with percentiles:
    loadtest -c 200 -t 2 -d 30s --latency http://127.0.0.1:8084/

  The highest rate at which a server keeps what is asked of it, of any URL or
  --target, to 5 %, and why not more:
    loadtest -c 200 --slo 'p99 < 50ms' http://127.0.0.1:8084/

  Any other server, started, metered and stopped; and the load generator's
  own cost:
    loadtest -c 1000 --exec 'nginx -c \"$PWD/loadtest/examples/nginx.conf\"' \\
        http://127.0.0.1:8080/
    loadtest -c 1000 --null

With a URL, stdout is wrk's; what wrk does not report is on stderr and in
--json:
  latency     of all requests, including those beyond the timeout, which
              wrk's line leaves out, and those still unanswered at the end,
              which wrk does not count: wrk's figures, corrected
  in flight   requests still unanswered at the end
  errors      a refused connection is a connect error and is retried after a
              pause; wrk does not retry
  warning     if the load generator was the bottleneck or late, if
              requests/s x latency is not the number of connections (Little's
              law), if backlog, ports or descriptors ran out, or if something
              else used the machine
An https: server may have any certificate, as in wrk.

How to read the result:
  held        requests waiting at one moment, by the server's own count
  RAM         the total of the server's own memory cgroup, including kernel
              memory, if one could be created (as root); the ledger shows the
              parts, and how far off the popular figure is, RSS added up
  latency     from the first byte sent to the last byte received. A request
              still unanswered at the end counts as one that takes at least
              as long as it had waited; where that leaves a figure open, it
              reads ≥
  above wait  the same less the database wait: what the server and this
              machine add
  errors      connect: no connection; read, write: it broke; timeout: see
              --timeout; status: answers of 400 and above. Failures before
              the measured time are counted separately

Exit status: 0 measured; 1 a server failed, did not start or gave no good
answer, or a file could not be written; 2 wrong arguments; 3 a --fail-if
condition holds; 130 interrupted.";

/// Words that are more alike than this are probably the same, misspelt.
const SIMILAR: f64 = 0.8;

/// Hold 10,000 connections against a server and measure what they cost in RAM and latency
///
/// With --target: builds the server in release mode, starts it on a free port in its own process group and, where
/// possible, its own memory cgroup, opens the connections, checks that the server holds them all at once, measures, and
/// stops it.
///
/// With a URL: loads any server as wrk does, with wrk's options and wrk's output.
#[derive(Parser, Debug)]
#[command(version, disable_version_flag = true, disable_help_subcommand = true)]
#[command(
    override_usage = "loadtest --target <TARGET> [OPTIONS] [-- SERVER-FLAGS]\n       loadtest [OPTIONS] <URL> [-- SCRIPT-ARGUMENTS]\n       loadtest report [OPTIONS] <FILE>...\n       loadtest sweep [OPTIONS] [-- SERVER-FLAGS]\n       loadtest plan -c <N> -w <TIME> -r <BYTES> [OPTIONS]\n       loadtest doctor -c <N> [--target <TARGET>] [OPTIONS]\n       loadtest claims [OPTIONS]\n       loadtest peers [OPTIONS]\n       loadtest db [OPTIONS] [-- SERVER-FLAGS]\n       loadtest serve [--target <TARGET>] [OPTIONS] [-- SERVER-FLAGS]\n       loadtest worker --join <HOST:PORT> | --listen <ADDR>"
)]
#[command(after_long_help = EXAMPLES, after_help = "--help shows examples, and how to read the result.")]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
// As getopt_long does for wrk: the last of repeated options counts, and a long one may be abbreviated.
#[command(args_override_self = true, infer_long_args = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    flags: Flags,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Start a server, and see that nothing of it outlives loadtest
    #[command(hide = true)]
    Guard(LaunchArgs),

    /// Become that server
    #[command(hide = true)]
    Launch(LaunchArgs),

    /// Serve empty answers, as the target of --null
    #[command(hide = true)]
    NullServer {
        /// The port to listen on; 0 is a free one
        #[arg(long, default_value_t = 0)]
        port: u16,
    },

    // The help of these is the comment of their struct. A comment here would replace it, with all its paragraphs.
    Report(ReportArgs),
    Sweep(SweepArgs),
    Serve(Box<ServeArgs>),
    Plan(PlanArgs),
    Doctor(DoctorArgs),

    Claims(ClaimsArgs),
    Peers(PeersArgs),
    Db(DbArgs),
    Worker(WorkerArgs),
}

/// What to do.
#[derive(Debug)]
pub(crate) enum Task {
    /// Start a server, and see that nothing of it outlives loadtest.
    Guard(LaunchArgs),
    /// Become that server.
    Launch(LaunchArgs),
    /// Become the null server.
    NullServer {
        /// The port to listen on.
        port: u16,
    },
    /// Start servers and measure them.
    Measure(Box<MeasureOptions>),
    /// Load a URL.
    Load(Box<UrlOptions>),
    /// Print, compare or merge results.
    Report(ReportArgs),
    /// Measure servers at several numbers of connections.
    Sweep(SweepArgs),
    /// Recommend a model.
    Plan(PlanArgs),
    /// Say what this machine can hold.
    Doctor(DoctorArgs),
    /// Check an article.
    Claims(ClaimsArgs),
    /// Compare servers with those of others.
    Peers(PeersArgs),
    /// Find how many connections to a database are enough.
    Db(DbArgs),
    /// Run users for a coordinator.
    Worker(WorkerArgs),
    /// Measure servers and serve the results.
    Serve(Box<ServeOptions>),
}

/// Parses the command line. Exits if it is wrong or asks for help.
pub(crate) fn parse() -> Task {
    let parsed = Cli::try_parse_from(with_url_first(std::env::args_os().collect()))
        .map_err(|error| misspelt_subcommand().unwrap_or(error));
    match parsed.and_then(Cli::task) {
        Ok(task) => task,
        Err(error) => error.format(&mut Cli::command()).exit(),
    }
}

/// The arguments with a URL that follows `--` before it: for wrk all that is no option is one.
fn with_url_first(mut arguments: Vec<OsString>) -> Vec<OsString> {
    let is_url = |argument: &OsString| {
        let text = argument.to_string_lossy().to_ascii_lowercase();
        text.starts_with("http://") || text.starts_with("https://")
    };
    let is_other = |argument: &OsString| is_url(argument) || argument.to_string_lossy().starts_with("--target");
    if let Some(dashes) = arguments.iter().position(|argument| argument == "--")
        && !arguments[..dashes].iter().any(is_other)
        && arguments.get(dashes + 1).is_some_and(is_url)
    {
        arguments.swap(dashes, dashes + 1);
    }
    arguments
}

/// The error for a first argument that is a word, and so no URL: clap takes it for a bad one.
fn misspelt_subcommand() -> Option<clap::Error> {
    let word = std::env::args().nth(1)?;
    let names: Vec<_> = Cli::command()
        .get_subcommands()
        .filter(|command| !command.is_hide_set())
        .map(|command| command.get_name().to_owned())
        .collect();
    let is_word = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b'-');
    if !is_word || word.starts_with('-') || names.contains(&word) {
        return None;
    }
    let similar = names
        .iter()
        .map(|name| (strsim::jaro_winkler(&word, name), name))
        .max_by(|one, other| one.0.total_cmp(&other.0));
    let tip = match similar.filter(|(similarity, _)| *similarity > SIMILAR) {
        Some((_, name)) => format!("did you mean `loadtest {name}`?"),
        None => format!("the subcommands are {}; a URL begins with http:// or https://", names.join(", ")),
    };
    let message = format!("there is no subcommand `{word}`: {tip}");
    Some(Cli::command().error(clap::error::ErrorKind::InvalidSubcommand, message))
}

impl Cli {
    fn task(self) -> Result<Task, clap::Error> {
        Ok(match self.command {
            Some(Command::Guard(launch)) => Task::Guard(launch),
            Some(Command::Launch(launch)) => Task::Launch(launch),
            Some(Command::NullServer { port }) => Task::NullServer { port },
            Some(Command::Report(args)) => Task::Report(args),
            Some(Command::Sweep(args)) => Task::Sweep(args),
            Some(Command::Plan(args)) => Task::Plan(args),
            Some(Command::Doctor(args)) => Task::Doctor(args),
            Some(Command::Claims(args)) => Task::Claims(args),
            Some(Command::Peers(args)) => Task::Peers(args),
            Some(Command::Db(args)) => Task::Db(args),
            Some(Command::Worker(args)) => Task::Worker(args),
            Some(Command::Serve(args)) => Task::Serve(Box::new(args.options()?)),
            None => match self.flags.load()? {
                Load::Targets(options) => Task::Measure(options),
                Load::Url(options) => Task::Load(options),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use results::Target;
    use std::time::Duration;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn examples_fit_80_columns() {
        for line in EXAMPLES.lines() {
            assert!(line.chars().count() <= 78, "{line}");
        }
    }

    #[test]
    fn the_help_of_a_subcommand_is_the_comment_of_its_struct() {
        let help = |name: &str| {
            let mut command = Cli::command();
            command.find_subcommand_mut(name).unwrap().render_long_help().to_string()
        };
        assert!(help("sweep").contains("A cell of the sweep is one server"), "{}", help("sweep"));
        assert!(help("plan").contains("Without --from, plan first measures"), "{}", help("plan"));
    }

    /// clap forgets what a flag requires where that conflicts with what is there: the flag itself must, too.
    #[test]
    fn a_flag_that_would_have_no_effect_is_refused() {
        let with_target = ["--remote a=http://a/,http://b/", "--processes 2", "--ram-limit 64M"];
        let with_url =
            ["--exec a", "--pid 1", "--admin-url http://a/", "-s a.lua", "-R 5", "-R 5 -U", "-L", "-H a:b", "-t 3"];
        let of_others = |flags: &[&str], others: &[&str]| -> Vec<String> {
            flags.iter().flat_map(|flag| others.iter().map(move |other| format!("loadtest {flag} {other}"))).collect()
        };
        let lines =
            [of_others(&with_target, &["http://a/", "--null"]), of_others(&with_url, &["--target async"])].concat();
        for line in lines.iter().chain(&["loadtest -U --slo p99<1s http://a/".to_owned()]) {
            assert!(task(line).is_err(), "{line}");
        }
    }

    fn task(line: &str) -> Result<Task, clap::Error> {
        Cli::try_parse_from(line.split(' '))?.task()
    }

    fn options(line: &str) -> MeasureOptions {
        let Ok(Task::Measure(options)) = task(line) else { panic!("{line} starts no server") };
        *options
    }

    fn load(line: &str) -> UrlOptions {
        let Ok(Task::Load(options)) = task(line) else { panic!("{line} loads no URL") };
        *options
    }

    #[test]
    fn everything_after_two_dashes_is_the_servers() {
        let options = options("loadtest --target threads -c 5 -- --stack-size 65536");
        assert_eq!(options.spec.server_flags, ["--stack-size", "65536"]);
        assert_eq!(options.targets(), [Target::Threads]);
        assert_eq!((options.spec.connections, options.spec.timeout), (5, Duration::from_secs(60)));
    }

    #[test]
    fn with_a_url_the_options_and_defaults_are_wrks() {
        let options = load("loadtest http://127.0.0.1:8084/a?b=c");
        assert_eq!((options.threads, options.connections), (2, 10));
        assert_eq!((options.duration, options.timeout), (Duration::from_secs(10), Duration::from_secs(2)));
        assert!(!options.has_percentiles && options.headers.is_empty());
        let options = load("loadtest -c 10k -t4 -d2m --timeout 500ms -H X-A:1 -H X-B:2 --latency http://localhost");
        assert_eq!((options.threads, options.connections), (4, 10_000));
        assert_eq!((options.duration, options.timeout), (Duration::from_secs(120), Duration::from_millis(500)));
        assert!(options.has_percentiles && options.headers == ["X-A:1", "X-B:2"]);
        let options = load("loadtest -R 2k -U http://localhost");
        assert_eq!((options.rate, options.has_uncorrected, options.has_percentiles), (Some(2_000), true, true));
    }

    #[test]
    fn options_are_read_as_by_getopt() {
        let options = load("loadtest -c 5 -c 20 --conn 30 -d 1s -d 2s --thr 3 --lat http://localhost");
        assert_eq!((options.connections, options.threads, options.duration.as_secs()), (30, 3, 2));
        assert!(options.has_percentiles);
        assert!(task("loadtest --c 5 http://localhost").is_err(), "ambiguous");
        let line = ["loadtest", "-c", "5", "--", "http://localhost/", "x"].map(OsString::from);
        let Ok(Task::Load(options)) = Cli::try_parse_from(with_url_first(line.into())).unwrap().task() else {
            panic!()
        };
        assert_eq!((options.url.unwrap().as_str(), options.arguments), ("http://localhost/", vec!["x".to_owned()]));
        let line = ["loadtest", "--target", "all", "--", "http://localhost/"].map(OsString::from);
        assert_eq!(with_url_first(line.clone().into()), line);
        load("loadtest -B -R 5 http://localhost");
    }

    #[test]
    fn nonsense_is_refused() {
        for line in [
            "loadtest",
            "loadtest --target forks",
            "loadtest --target all -c 0",
            "loadtest --target all http://localhost/",
            "loadtest --target all --latency",
            "loadtest localhost:80",
            "loadtest http://localhost/ --fail-if p98>1s",
            "loadtest --target all --fail-if p98>1s",
            "loadtest report",
            "loadtest doctor",
            "loadtest doctor -c 0",
            "loadtest doctor -c 5 --target forks",
            "loadtest -c 5 -t 6 http://localhost/",
            "loadtest -d 0 http://localhost/",
            "loadtest -H nocolon http://localhost/",
            "loadtest http://localhost:99999/",
        ] {
            assert_eq!(task(line).unwrap_err().exit_code(), 2, "{line}");
        }
    }

    #[test]
    fn only_a_plain_duration_is_a_fixed_wait() {
        let wait = |spec: &str| options(&format!("loadtest --target all --db-wait {spec}")).spec.fixed_wait();
        assert_eq!(wait("250ms"), Some(Duration::from_millis(250)));
        assert_eq!(wait("exp:250ms"), None);
    }
}
