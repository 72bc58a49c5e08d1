//! The flags of a run, with a target or with a URL.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{ArgAction, Args};
use common::db::Latency;
use load::ThisProcess;
use load::net::Url;
use results::target::ARTICLE_CONNECTIONS;

use super::measure::MeasureOptions;
use super::place::PlaceArgs;
use super::slo::{STEP_DURATION, SloArgs};
use super::target_choice::TargetChoice;
use super::url::UrlOptions;
use crate::machine::cpus::Split;
use crate::measure::target::TargetSpec;
use crate::output::conditions::Conditions;
use crate::output::events::EventArgs;
use crate::output::files::OutputArgs;
use crate::subject::MeteredServer;
use crate::subject::remote::Remote;
use crate::wrk::script::ScriptFile;

/// How long to measure unless `-d` says otherwise.
const DURATION: Duration = Duration::from_secs(10);
/// A longer duration is a mistake.
const MAX_DURATION: Duration = Duration::from_secs(24 * 3600);

/// The flags of a run.
#[derive(Args, Debug)]
pub(crate) struct Flags {
    /// The URL to load, of any server, such as http://127.0.0.1:8084/
    #[arg(value_parser = Url::parse, conflicts_with_all = ["target", "null"])]
    url: Option<Url>,

    /// The servers to build, start and measure, separated by commas; all: four servers, async in three ways (hyper, own codec,
    /// io_uring). They run in turn, each freshly started
    #[arg(long, value_enum, value_delimiter = ',')]
    target: Vec<TargetChoice>,

    /// Start the server behind the URL with this shell command, meter it, and stop it. It must stay in the foreground,
    /// such as 'nginx -g "daemon off;"'
    #[arg(long, value_name = "CMD", requires = "url", conflicts_with = "target")]
    exec: Option<String>,

    /// Meter the RAM and CPU time of this process and its descendants: the server behind the URL
    #[arg(long, value_name = "PID", requires = "url", conflicts_with_all = ["exec", "target"],
        value_parser = clap::value_parser!(i32).range(1..))]
    pid: Option<i32>,

    /// Read the RAM of the server behind the URL from its admin port (its --admin), if it is one of this project's. It is that
    /// of its cgroup, with whatever else runs there, unless it has one of its own, as in a container
    #[arg(long, value_name = "URL", value_parser = Url::parse, requires = "url", conflicts_with_all = ["exec", "pid", "target", "null"])]
    admin_url: Option<Url>,

    /// With --target: a server that already runs elsewhere and reports its own RAM on its --admin port. It is not
    /// built, started or stopped. Repeatable. Each request overrides its wait with --db-wait if that is fixed;
    /// otherwise the server's own --db-wait applies. Without this flag, C10K_REMOTES in the environment lists them,
    /// separated by spaces
    #[arg(long, value_name = "NAME=URL,ADMIN-URL", requires = "target", conflicts_with_all = ["url", "null"])]
    remote: Vec<Remote>,

    /// Start and load a server that does nothing, to measure the load generator's own cost
    #[arg(long, conflicts_with_all = ["target", "exec", "pid"])]
    null: bool,

    /// Pin the started server and the load generator to CPUs, such as 0:1 or 0-1:2,3
    #[arg(long, value_name = "SERVER:CLIENT", conflicts_with = "pid")]
    cpus: Option<Split>,

    /// How many connections to hold [default: 10,000; with a URL, 10]
    #[arg(short, long, value_name = "N", value_parser = quantity::positive_count)]
    connections: Option<usize>,

    /// How long to measure: 10, 10s, 2m, 500ms [default: 10s; with --slo, 3s for each step]
    #[arg(short, long, value_name = "TIME", value_parser = time)]
    duration: Option<Duration>,

    /// How long a database query takes in the server: 1s, uniform:50ms..150ms, exp:100ms, or lognormal:100ms,p99=1s
    #[arg(long, value_name = "LATENCY", default_value = "1s", conflicts_with = "url")]
    db_wait: Latency,

    /// Threads of the load generator, which share the connections
    #[arg(short, long, value_name = "N", default_value_t = 2, value_parser = quantity::positive_count, conflicts_with = "target")]
    threads: usize,

    /// A Lua script as in wrk, which makes the requests and sees the answers
    #[arg(short, long, value_name = "FILE", conflicts_with_all = ["target", "slo", "workers"])]
    script: Option<PathBuf>,

    /// Let the script use LuaJIT's ffi and debug libraries, as wrk always does: a mistake in it can then crash loadtest
    #[arg(long, requires = "script")]
    unsafe_lua: bool,

    /// A field to add to each request, such as 'Accept: text/html'; repeatable
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE", value_parser = header, conflicts_with = "target")]
    headers: Vec<String>,

    /// Print percentiles of the latency
    #[arg(short = 'L', long, conflicts_with_all = ["target", "slo"])]
    latency: bool,

    /// Requests per second, as in wrk2: each is timed from when it was due, whether or not the server keeps up
    #[arg(short = 'R', long, value_name = "N", value_parser = quantity::positive_count, conflicts_with_all = ["target", "slo"])]
    rate: Option<usize>,

    /// With --rate: also print percentiles of the latency from when requests were sent
    #[arg(short = 'U', long = "u_latency", alias = "u-latency", requires = "rate", conflicts_with_all = ["target", "slo"])]
    uncorrected: bool,

    /// As in wrk2, where it chooses another way to record latencies; accepted, and without effect
    #[arg(
        short = 'B',
        long = "batch_latency",
        alias = "batch-latency",
        hide_short_help = true,
        conflicts_with = "target"
    )]
    batch_latency: bool,

    /// When a request counts as a timeout. With --target it is given up; with a URL, as in wrk, it is waited for but
    /// not in the latencies [default: 60s; with a URL, 2s]
    #[arg(short = 'T', long, value_name = "TIME", value_parser = time)]
    timeout: Option<Duration>,

    /// With --target: so many processes of each server, which share its port (SO_REUSEPORT) and are metered as one. Each has
    /// descriptors of its own
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = quantity::positive_count, requires = "target",
        conflicts_with_all = ["remote", "url", "null"])]
    processes: usize,

    /// Limit the RAM of the started server (256M, 2GiB) through its cgroup; needs root
    #[arg(long, value_name = "BYTES", value_parser = quantity::positive_bytes, requires = "target",
        conflicts_with_all = ["remote", "url", "null"])]
    ram_limit: Option<u64>,

    #[command(flatten)]
    place: PlaceArgs,

    #[command(flatten)]
    slo: SloArgs,

    #[command(flatten)]
    outputs: OutputArgs,

    #[command(flatten)]
    events: EventArgs,

    #[command(flatten)]
    conditions: Conditions,

    /// Print the version
    #[arg(short, long, action = ArgAction::Version)]
    version: Option<bool>,

    /// Flags for the server; with a URL, arguments for the script
    #[arg(last = true, value_name = "FLAGS")]
    rest: Vec<String>,
}

/// What to load.
#[derive(Debug)]
pub(crate) enum Load {
    /// Servers of this project, to start and measure.
    Targets(Box<MeasureOptions>),
    /// A URL.
    Url(Box<UrlOptions>),
}

impl Flags {
    fn duration(&self) -> Duration {
        self.duration.unwrap_or(if self.slo.is_given() { STEP_DURATION } else { DURATION })
    }

    fn check_slo(&self) -> Result<(), clap::Error> {
        if self.slo.is_given() && self.conditions.is_given() {
            let why = "--fail-if judges one run, and --slo makes many: write what must hold as another --slo\n";
            return Err(clap::Error::raw(ErrorKind::ArgumentConflict, why));
        }
        Ok(())
    }

    /// Whether servers are to be started and measured.
    pub(crate) fn has_target(&self) -> bool {
        !self.target.is_empty()
    }

    /// What to measure with --target.
    ///
    /// # Errors
    /// There is no target, or the environment names an invalid server.
    pub(crate) fn measure(self) -> Result<MeasureOptions, clap::Error> {
        let wrong = |kind, why: &str| clap::Error::raw(kind, format!("{why}\n"));
        self.check_slo()?;
        if self.target.is_empty() {
            return Err(wrong(ErrorKind::MissingRequiredArgument, "nothing to measure: add --target all"));
        }
        let duration = self.duration();
        let from_environment = || Remote::from_environment().map_err(|why| wrong(ErrorKind::InvalidValue, &why));
        let remotes = if self.remote.is_empty() { from_environment()? } else { self.remote };
        if self.processes > 1 && !remotes.is_empty() {
            let why = "--processes is for servers that are started here: unset C10K_REMOTES";
            return Err(wrong(ErrorKind::ArgumentConflict, why));
        }
        Ok(MeasureOptions {
            choices: self.target,
            spec: TargetSpec {
                connections: self.connections.unwrap_or(ARTICLE_CONNECTIONS),
                duration,
                rate: None,
                db_wait: self.db_wait,
                database: None,
                timeout: self.timeout.unwrap_or(Duration::from_secs(60)),
                ram_limit_bytes: self.ram_limit,
                cpus: self.cpus,
                processes: self.processes,
                server_flags: self.rest,
                round: None,
                place: Arc::new(ThisProcess),
                sources: self.place.sources(),
            },
            place: self.place,
            remotes,
            slo: self.slo,
            outputs: self.outputs,
            events: self.events,
            conditions: self.conditions,
        })
    }

    /// What to load.
    ///
    /// # Errors
    /// The flags contradict each other.
    pub(crate) fn load(self) -> Result<Load, clap::Error> {
        if !self.target.is_empty() {
            return Ok(Load::Targets(Box::new(self.measure()?)));
        }
        if self.url.is_none() && !self.null {
            let why = "nothing to load: name a URL, --target all, or --null; --help shows examples\n";
            return Err(clap::Error::raw(ErrorKind::MissingRequiredArgument, why));
        }
        self.check_slo()?;
        let duration = self.duration();
        let connections = self.connections.unwrap_or(10);
        if connections < self.threads {
            let why = "number of connections must be >= threads\n";
            return Err(clap::Error::raw(ErrorKind::ValueValidation, why));
        }
        let server = match (self.exec, self.pid) {
            (Some(command), _) => MeteredServer::Exec(command),
            (None, Some(pid)) => MeteredServer::Pid(pid),
            (None, None) => self.admin_url.map_or(MeteredServer::Unknown, MeteredServer::Admin),
        };
        Ok(Load::Url(Box::new(UrlOptions {
            url: self.url,
            server,
            cpus: self.cpus,
            place: self.place,
            slo: self.slo,
            outputs: self.outputs,
            events: self.events,
            conditions: self.conditions,
            threads: self.threads,
            connections,
            duration,
            headers: self.headers,
            script: self.script.map(|path| ScriptFile { path, is_trusted: self.unsafe_lua }),
            arguments: self.rest,
            has_percentiles: self.latency || self.uncorrected,
            rate: self.rate,
            has_uncorrected: self.uncorrected,
            timeout: self.timeout.unwrap_or(Duration::from_secs(2)),
        })))
    }
}

/// A header with a colon, which wrk silently drops without one.
fn header(text: &str) -> Result<String, String> {
    match text.split_once(':') {
        Some((name, _)) if !name.trim().is_empty() => Ok(text.to_owned()),
        _ => Err("a header has a name, a colon and a value: write 'Accept: text/html'".into()),
    }
}

/// Parses a time of up to a day; a bare number is seconds, as in wrk.
pub(crate) fn time(text: &str) -> Result<Duration, String> {
    match quantity::positive_duration_or_seconds(text)? {
        duration if duration > MAX_DURATION => Err("it must be at most a day".into()),
        duration => Ok(duration),
    }
}
