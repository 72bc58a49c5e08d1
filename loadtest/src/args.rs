//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{ArgAction, Args, CommandFactory as _, Parser, Subcommand, ValueEnum};

use common::db::Latency;

use crate::condition::Conditions;
use crate::cpus::Split;
use crate::launch::LaunchArgs;
use crate::output::OutputArgs;
use crate::plan::PlanArgs;
use crate::remote::Remote;
use crate::review::ReportArgs;
use crate::serve::{ServeArgs, ServeOptions};
use crate::subject;
use crate::sweep::SweepArgs;
use crate::target::Target;
use crate::wrk::{self, Url, units};

/// Longer is a mistake.
const MAX_DURATION: Duration = Duration::from_secs(24 * 3600);

const EXAMPLES: &str = "\
Examples:
  Hold 10,000 connections against each server in turn, and compare them in one table:
    loadtest --target all

  One server, fewer connections, another database, the result kept as JSON:
    loadtest --target threads -c 2000 --db-wait exp:100ms --json threads.json

  For CI: status 3 if latency or RAM is above a limit, a table for the log, a row for the archive:
    loadtest --target async --fail-if 'p99 > 1200ms' --fail-if 'memory.peak > 200MB' --markdown a.md --csv a.csv

  Before and after, with the spread of three runs each:
    loadtest report before.json after.json

  Everything after -- goes to the server (its --help lists the flags):
    loadtest --target threadpool -- --workers 1024

  As wrk: 200 connections on 2 threads for half a minute, to a server that runs already, with percentiles:
    loadtest -c 200 -t 2 -d 30s --latency http://127.0.0.1:8084/

  The same for somebody else's server, started, metered and stopped; and the load generator's own cost:
    loadtest -c 1000 --exec 'nginx -g \"daemon off;\"' http://127.0.0.1:8080/
    loadtest -c 1000 --null

With a URL, stdout is wrk's; what wrk does not tell is on stderr and in --json:
  latency     of all requests: those beyond the timeout, which wrk's line leaves out, and those that had no answer yet when
              the time was over, which it does not know. They are wrk's figures corrected
  in flight   requests without an answer at the end
  errors      a refused connection is a connect error, and is tried again after a pause; wrk tries no more
  warning     when the load generator was the bottleneck or late, when requests/s x latency does not make the connections
              (Little's law), when backlog, ports or descriptors ran short, when something else used the machine
An https: server may have any certificate, as with wrk.

How to read the result:
  held        requests that the server itself said were waiting at one moment
  RAM         the total of the server's own memory cgroup, kernel included, if one
              could be made (as root); the ledger says where it is, and how far off
              the popular figure is, RSS added up
  latency     from the first byte sent to the last received. A request without an
              answer when the time is over counts as one that takes at least as long
              as it has waited; where that leaves a figure open, it reads ≥
  above wait  the same, less the database's wait: what the server and this machine add
  errors      connect: no connection; read, write: it broke; timeout: see --timeout;
              status: answers of 400 and above. What failed before the measured time
              is counted apart

Exit status: 0 measured; 1 a server failed, could not be started, or answered nothing with success, or a file could
not be written; 2 wrong arguments; 3 a condition of --fail-if holds; 130 interrupted.";

/// Hold 10,000 connections against a server, and say what that costs in RAM and latency
///
/// With --target: builds the server in release, starts it on a free port in its own process group and, where possible, its
/// own memory cgroup, opens the connections, checks with the server that it holds them all at once, measures, and stops it.
///
/// With a URL: loads any server, as wrk does, with wrk's options, and prints what wrk prints.
#[derive(Parser, Debug)]
#[command(version, disable_version_flag = true, disable_help_subcommand = true)]
#[command(
    override_usage = "loadtest --target <TARGET> [OPTIONS] [-- SERVER-FLAGS]\n       loadtest [OPTIONS] <URL> [-- SCRIPT-ARGUMENTS]\n       loadtest report [OPTIONS] <FILE>...\n       loadtest sweep [OPTIONS] [-- SERVER-FLAGS]\n       loadtest plan -c <N> -w <TIME> -r <BYTES> [OPTIONS]\n       loadtest serve --target <TARGET> [OPTIONS] [-- SERVER-FLAGS]"
)]
#[command(after_long_help = EXAMPLES, after_help = "--help shows examples, and how to read the result.")]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    flags: Flags,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Become a server: how loadtest starts one that cannot outlive it
    #[command(hide = true)]
    Launch(LaunchArgs),

    /// Answer everything, with nothing: what --null loads
    #[command(hide = true)]
    NullServer,

    /// Print results again, compare them, or merge those of several load generators
    Report(ReportArgs),

    /// Measure each server at several numbers of connections: what does one more cost, and where does it end?
    Sweep(SweepArgs),

    /// Measure, write the results to a folder, and serve that: what the demo in containers does
    Serve(Box<ServeArgs>),

    /// Say which model fits so many connections into so much RAM, and which one to take
    Plan(PlanArgs),
}

/// The flags, as they were given.
#[derive(Args, Debug)]
pub(crate) struct Flags {
    /// The server to load, such as http://127.0.0.1:8084/: anybody's
    #[arg(value_parser = Url::parse, required_unless_present_any = ["target", "null"], conflicts_with_all = ["target", "null"])]
    url: Option<Url>,

    /// The server to build, start and measure; all measures the five in turn, each freshly started
    #[arg(long, value_enum)]
    target: Option<Choice>,

    /// Start this server for the URL, meter it, and stop it: a command for a shell, which must stay in the foreground, such as
    /// 'nginx -g "daemon off;"'
    #[arg(long, value_name = "CMD", requires = "url")]
    exec: Option<String>,

    /// Meter the RAM and CPU time of this process, and of all that descend from it: the server behind the URL
    #[arg(long, value_name = "PID", requires = "url", conflicts_with = "exec")]
    pid: Option<i32>,

    /// Where the server behind the URL, if it is one of this project's, tells about itself (its --admin): its RAM is read there
    #[arg(long, value_name = "URL", value_parser = Url::parse, requires = "url", conflicts_with_all = ["exec", "pid"])]
    admin_url: Option<Url>,

    /// With --target: it runs already, elsewhere; it is neither built nor started nor stopped, and tells of its RAM itself, on
    /// its --admin port. As often as there are targets. Each request asks it for the wait of --db-wait, if that is fixed; else
    /// the server's own --db-wait counts. Without this flag the environment variable C10K_REMOTES, which has them with spaces
    /// between
    #[arg(long, value_name = "NAME=URL,ADMIN-URL", requires = "target")]
    remote: Vec<Remote>,

    /// Load a server that does nothing, which loadtest starts: what is measured is the load generator's own cost
    #[arg(long, conflicts_with_all = ["target", "exec", "pid"])]
    null: bool,

    /// Pin the server that loadtest starts and the load generator to CPUs, such as 0:1 or 0-1:2,3
    #[arg(long, value_name = "SERVER:CLIENT", conflicts_with = "pid")]
    cpus: Option<Split>,

    /// How many connections to hold [default: 10,000, with a URL 10]
    #[arg(short, long, value_name = "N", value_parser = count)]
    connections: Option<usize>,

    /// How long to measure: 10, 10s, 2m, 500ms
    #[arg(short, long, value_name = "TIME", default_value = "10s", value_parser = positive_duration)]
    duration: Duration,

    /// How long a database query takes in the server: 1s, uniform:50ms..150ms, exp:100ms, or lognormal:100ms,p99=1s
    #[arg(long, value_name = "LATENCY", default_value = "1s", conflicts_with = "url")]
    db_wait: Latency,

    /// Threads of the load generator, which share the connections
    #[arg(short, long, value_name = "N", default_value_t = 2, value_parser = count, conflicts_with = "target")]
    threads: usize,

    /// A script in Lua, as wrk runs it: it makes the requests, and looks at the answers
    #[arg(short, long, value_name = "FILE", conflicts_with = "target")]
    script: Option<PathBuf>,

    /// A field to add to each request, such as 'Accept: text/html'; as often as wanted
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE", conflicts_with = "target")]
    headers: Vec<String>,

    /// Print percentiles of the latency
    #[arg(short = 'L', long, conflicts_with = "target")]
    latency: bool,

    /// Requests a second, as in wrk2: each is timed from when it was due, whether or not the server keeps up. The clock that
    /// sends them ticks once a millisecond, which is in the latencies
    #[arg(short = 'R', long, value_name = "N", value_parser = count, conflicts_with = "target")]
    rate: Option<usize>,

    /// With --rate: print percentiles also of the latency from when requests were sent
    #[arg(short = 'U', long = "u_latency", alias = "u-latency", requires = "rate", conflicts_with = "target")]
    uncorrected: bool,

    /// Which requests count as timeouts. With --target they are given up; with a URL, as in wrk, they are waited for, but not
    /// in the latencies [default: 60s, with a URL 2s]
    #[arg(short = 'T', long, value_name = "TIME", value_parser = positive_duration)]
    timeout: Option<Duration>,

    /// Allow the server that is started no more RAM than this (256M, 2GiB), in its cgroup: as root
    #[arg(long, value_name = "BYTES", value_parser = bytes, requires = "target", conflicts_with = "remote")]
    ram_limit: Option<u64>,

    #[command(flatten)]
    outputs: OutputArgs,

    #[command(flatten)]
    conditions: Conditions,

    /// Print the version
    #[arg(short, long, action = ArgAction::Version)]
    version: Option<bool>,

    /// Flags for the server; with a URL, arguments for the script
    #[arg(last = true, value_name = "FLAGS")]
    rest: Vec<String>,
}

/// What loadtest is to do.
#[derive(Debug)]
pub(crate) enum Task {
    /// Become a server.
    Launch(LaunchArgs),
    /// Become the null server.
    NullServer,
    /// Start servers and measure them.
    Measure(Options),
    /// Load a URL.
    Load(Box<wrk::Options>),
    /// Look at results again.
    Report(ReportArgs),
    /// Measure servers at several numbers of connections.
    Sweep(SweepArgs),
    /// Say which model to take.
    Plan(PlanArgs),
    /// Start servers, measure them, and serve what came of it.
    Serve(Box<ServeOptions>),
}

/// Reads the command line. Ends the process if it is wrong, or asks for help.
pub(crate) fn parse() -> Task {
    match Cli::parse().task() {
        Ok(task) => task,
        Err(error) => error.exit(),
    }
}

impl Cli {
    fn task(self) -> Result<Task, clap::Error> {
        match (self.command, self.flags) {
            (Some(Command::Launch(launch)), _) => Ok(Task::Launch(launch)),
            (Some(Command::NullServer), _) => Ok(Task::NullServer),
            (Some(Command::Report(args)), _) => Ok(Task::Report(args)),
            (Some(Command::Sweep(args)), _) => Ok(Task::Sweep(args)),
            (Some(Command::Plan(args)), _) => Ok(Task::Plan(args)),
            (Some(Command::Serve(args)), _) => Ok(Task::Serve(Box::new(args.options()?))),
            (None, flags) => flags.task(),
        }
    }
}

impl Flags {
    /// What to measure with --target.
    ///
    /// # Errors
    /// There is none, or the environment names servers that cannot be.
    pub(crate) fn measure(self) -> Result<Options, clap::Error> {
        let wrong = |kind, why: String| Cli::command().error(kind, format!("{why}\n"));
        let no_target =
            || wrong(ErrorKind::MissingRequiredArgument, "there is nothing to measure: add --target all".into());
        let from_environment = || Remote::from_environment().map_err(|why| wrong(ErrorKind::InvalidValue, why));
        Ok(Options {
            target: self.target.ok_or_else(no_target)?,
            connections: self.connections.unwrap_or(10_000),
            duration: self.duration,
            db_wait: self.db_wait,
            timeout: self.timeout.unwrap_or(Duration::from_secs(60)),
            ram_limit_bytes: self.ram_limit,
            cpus: self.cpus,
            remotes: if self.remote.is_empty() { from_environment()? } else { self.remote },
            outputs: self.outputs,
            conditions: self.conditions,
            server_flags: self.rest,
        })
    }

    fn task(self) -> Result<Task, clap::Error> {
        if self.target.is_some() {
            return Ok(Task::Measure(self.measure()?));
        }
        let connections = self.connections.unwrap_or(10);
        if connections < self.threads {
            let why = "number of connections must be >= threads\n";
            return Err(Cli::command().error(ErrorKind::ValueValidation, why));
        }
        let subject = match (self.exec, self.pid) {
            (Some(command), _) => subject::Choice::Exec(command),
            (None, Some(pid)) => subject::Choice::Pid(pid),
            (None, None) => self.admin_url.map_or(subject::Choice::Nothing, subject::Choice::Admin),
        };
        Ok(Task::Load(Box::new(wrk::Options {
            url: self.url,
            subject,
            cpus: self.cpus,
            outputs: self.outputs,
            conditions: self.conditions,
            threads: self.threads,
            connections,
            duration: self.duration,
            headers: self.headers,
            script: self.script,
            arguments: self.rest,
            latency: self.latency || self.uncorrected,
            rate: self.rate,
            uncorrected: self.uncorrected,
            timeout: self.timeout.unwrap_or(Duration::from_secs(2)),
        })))
    }
}

/// What to measure, and how.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) target: Choice,
    /// How many connections to hold.
    pub(crate) connections: usize,
    /// How long to measure, once the server holds all connections.
    pub(crate) duration: Duration,
    /// How long a database query takes in the server, as its `--db-wait` takes it.
    pub(crate) db_wait: Latency,
    /// After what time a request is given up, counted as a timeout, and its connection replaced.
    pub(crate) timeout: Duration,
    /// How much RAM the server may have.
    pub(crate) ram_limit_bytes: Option<u64>,
    /// Where to write the result.
    pub(crate) outputs: OutputArgs,
    /// What it must not be.
    pub(crate) conditions: Conditions,
    /// The CPUs of each.
    pub(crate) cpus: Option<Split>,
    /// The targets that run elsewhere.
    pub(crate) remotes: Vec<Remote>,
    /// Flags for the server.
    pub(crate) server_flags: Vec<String>,
}

/// What `--target` takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Choice {
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

impl Choice {
    /// The servers, in the order of the table.
    pub(crate) fn targets(self) -> &'static [Target] {
        match self {
            Choice::Prefork => &[Target::Prefork],
            Choice::Threads => &[Target::Threads],
            Choice::Threadpool => &[Target::Threadpool],
            Choice::Async => &[Target::Async],
            Choice::AsyncCodec => &[Target::AsyncCodec],
            Choice::All => &Target::ALL,
        }
    }
}

impl Options {
    /// The servers to measure, in the order of the table.
    pub(crate) fn targets(&self) -> Vec<Target> {
        if self.target == Choice::All && !self.remotes.is_empty() {
            return self.remotes.iter().map(|remote| remote.target).collect();
        }
        self.target.targets().to_vec()
    }

    /// Where `target` runs, if that is elsewhere.
    pub(crate) fn remote(&self, target: Target) -> Option<&Remote> {
        self.remotes.iter().find(|remote| remote.target == target)
    }

    /// Whether the result is a list, even if it is short because the run was interrupted.
    pub(crate) fn is_series(&self) -> bool {
        self.target == Choice::All
    }

    /// How long every query takes; nothing if it is drawn at random.
    pub(crate) fn fixed_wait(&self) -> Option<Duration> {
        match self.db_wait {
            Latency::Fixed(wait) => Some(wait),
            _ => None,
        }
    }
}

/// Reads how many: `200`, `10k`.
pub(crate) fn count(text: &str) -> Result<usize, String> {
    match units::scan_metric(text).map(usize::try_from) {
        Some(Ok(0)) => Err("it must be at least 1".into()),
        Some(Ok(count)) => Ok(count),
        _ => Err("write a whole number: 200, 10k".into()),
    }
}

/// Reads a time: `10`, `10s`, `2m`, `500ms`.
pub(crate) fn positive_duration(text: &str) -> Result<Duration, String> {
    let duration = match units::scan_time_s(text) {
        Some(seconds) => Duration::from_secs(seconds),
        None => humantime::parse_duration(text).map_err(|error| format!("{error}; write 500ms, 10s or 2m"))?,
    };
    match duration {
        Duration::ZERO => Err("it must be above zero".into()),
        _ if duration > MAX_DURATION => Err("it must be at most a day".into()),
        _ => Ok(duration),
    }
}

/// Reads an amount of memory: `256M` as the kernel and Docker do, 2^20 bytes each, as `256MiB`; `256MB` is 10^6 each.
pub(crate) fn bytes(text: &str) -> Result<u64, String> {
    const MEANT: &str = "write 256M, 256MiB or 2GB";
    let digits = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim_start().to_ascii_lowercase();
    let prefix = unit.strip_suffix("ib").or(unit.strip_suffix('b')).unwrap_or(&unit);
    let base: u64 = if unit.ends_with('b') && !unit.ends_with("ib") { 1000 } else { 1024 };
    let exponent = ["", "k", "m", "g", "t"].iter().position(|known| *known == prefix).ok_or(MEANT)?;
    let number = number.parse::<u64>().map_err(|_| MEANT)?;
    match base.checked_pow(exponent as u32).and_then(|unit| number.checked_mul(unit)) {
        Some(0) => Err("it must be above zero".into()),
        Some(bytes) => Ok(bytes),
        None => Err("that is more than there can be".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    fn task(line: &str) -> Result<Task, clap::Error> {
        Cli::try_parse_from(line.split(' '))?.task()
    }

    fn options(line: &str) -> Options {
        let Ok(Task::Measure(options)) = task(line) else { panic!("{line} starts no server") };
        options
    }

    fn load(line: &str) -> wrk::Options {
        let Ok(Task::Load(options)) = task(line) else { panic!("{line} loads no URL") };
        *options
    }

    #[test]
    fn everything_after_two_dashes_is_the_servers() {
        let options = options("loadtest --target threads -c 5 -- --stack-size 65536");
        assert_eq!(options.server_flags, ["--stack-size", "65536"]);
        assert_eq!(options.targets(), [Target::Threads]);
        assert_eq!((options.connections, options.timeout), (5, Duration::from_secs(60)));
    }

    #[test]
    fn with_a_url_the_options_and_defaults_are_wrks() {
        let options = load("loadtest http://127.0.0.1:8084/a?b=c");
        assert_eq!((options.threads, options.connections), (2, 10));
        assert_eq!((options.duration, options.timeout), (Duration::from_secs(10), Duration::from_secs(2)));
        assert!(!options.latency && options.headers.is_empty());
        let options = load("loadtest -c 10k -t4 -d2m --timeout 500ms -H X-A:1 -H X-B:2 --latency http://localhost");
        assert_eq!((options.threads, options.connections), (4, 10_000));
        assert_eq!((options.duration, options.timeout), (Duration::from_secs(120), Duration::from_millis(500)));
        assert!(options.latency && options.headers == ["X-A:1", "X-B:2"]);
        let options = load("loadtest -R 2k -U http://localhost");
        assert_eq!((options.rate, options.uncorrected, options.latency), (Some(2_000), true, true));
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
            "loadtest -c 5 -t 6 http://localhost/",
            "loadtest -d 0 http://localhost/",
        ] {
            assert_eq!(task(line).unwrap_err().exit_code(), 2, "{line}");
        }
    }

    #[test]
    fn amounts_of_memory_are_read_with_their_units() {
        let read = ["256M", "256MiB", "256MB", "2g", "4096", "1 kB"].map(|text| bytes(text).unwrap());
        assert_eq!(read, [256 << 20, 256 << 20, 256_000_000, 2 << 30, 4_096, 1_000]);
        for nonsense in ["", "M", "0", "1.5G", "-1M", "1X", "99999999999999999999", "99999999999T"] {
            assert!(bytes(nonsense).is_err(), "{nonsense}");
        }
    }

    #[test]
    fn only_a_plain_duration_is_a_fixed_wait() {
        let wait = |spec: &str| options(&format!("loadtest --target all --db-wait {spec}")).fixed_wait();
        assert_eq!(wait("250ms"), Some(Duration::from_millis(250)));
        assert_eq!(wait("exp:250ms"), None);
    }
}
