//! The flags that all four servers have.

use std::env;
use std::net::SocketAddr;
use std::num::TryFromIntError;
use std::str::FromStr;
use std::time::Duration;

use clap::error::{ContextKind, ContextValue};
use clap::{Arg, Args, Command, CommandFactory, FromArgMatches, ValueEnum};

use crate::app::MAX_BURN;
use crate::db::{Database, Latency};
use crate::http::{Limits, Phase};
use crate::listener::DEFAULT_BACKLOG;
use crate::log::{Format, Verbosity};
use crate::postgres::settings::DatabaseFlags;

/// The flags that all four servers have; each adds its model's own.
#[derive(Args, Clone, Debug)]
pub struct Config {
    /// Where to listen; port 0 picks a free port
    #[arg(long, value_name = "ADDR", value_parser = address, env = "C10K_LISTEN")]
    pub listen: SocketAddr,

    /// Where to answer GET /metrics (Prometheus), /healthz and /readyz (503 while full or draining), whoever is busy
    #[arg(long, value_name = "ADDR", value_parser = address, env = "C10K_ADMIN")]
    pub admin: Option<SocketAddr>,

    /// How often to add up the memory of all processes for /metrics, at most; costs 100 µs and 9 kB of kernel memory for each
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = quantity::timeout, env = "C10K_LEDGER_INTERVAL")]
    pub ledger_interval: Duration,

    /// How long a database query takes: 100ms, uniform:50ms..150ms, exp:100ms (mean), or lognormal:100ms,p99=1s (median)
    #[arg(long, value_name = "LATENCY", default_value = "100ms", env = "C10K_DB_WAIT")]
    pub db_wait: Latency,

    /// Seed of the latencies that are drawn at random
    #[arg(long, value_name = "SEED", default_value = "1", value_parser = seed, env = "C10K_DB_SEED")]
    pub db_seed: u64,

    /// A real database, if there is one.
    #[command(flatten)]
    pub database: DatabaseFlags,

    /// The most connections at once [default: 12000, or fewer if this machine's limits do not allow it]
    #[arg(long, value_name = "N", value_parser = quantity::positive_count, env = "C10K_MAX_CONNECTIONS")]
    pub max_connections: Option<usize>,

    /// What to do with connections above that: answer 503, or leave them in the backlog until there is room
    #[arg(long, value_enum, default_value = "reject", env = "C10K_OVERLOAD")]
    pub overload: Overload,

    /// The length of the queue of connections that the kernel has established and we have not accepted
    #[arg(long, value_name = "N", default_value_t = DEFAULT_BACKLOG, value_parser = backlog, env = "C10K_BACKLOG")]
    pub backlog: u32,

    /// Share the port with other processes that say so too: the kernel spreads new connections over them (SO_REUSEPORT)
    #[arg(long, value_parser = boolean, env = "C10K_REUSE_PORT")]
    pub reuse_port: bool,

    /// How long a client may take to send the head of a request, from its first byte to its last
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = quantity::timeout, env = "C10K_HEADER_TIMEOUT")]
    pub header_timeout: Duration,

    /// How long a client may take to send the body of a request
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = quantity::timeout, env = "C10K_BODY_TIMEOUT")]
    pub body_timeout: Duration,

    /// How long a client may take to take an answer
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = quantity::timeout, env = "C10K_WRITE_TIMEOUT")]
    pub write_timeout: Duration,

    /// How long a connection may stay open without a request
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = quantity::timeout, env = "C10K_IDLE_TIMEOUT")]
    pub idle_timeout: Duration,

    /// How long requests in flight may take to finish after SIGTERM or SIGINT
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = quantity::timeout, env = "C10K_DRAIN_TIMEOUT")]
    pub drain_timeout: Duration,

    /// The longest head of a request (request line and fields): 16K, 16384
    #[arg(long, value_name = "BYTES", default_value = "16K", value_parser = positive_bytes, env = "C10K_MAX_HEAD")]
    pub max_head: usize,

    /// The longest body of a request: 1M, 64kB
    #[arg(long, value_name = "BYTES", default_value = "1M", value_parser = bytes, env = "C10K_MAX_BODY")]
    pub max_body: usize,

    /// How much memory each request keeps while it waits, as a parsed request or a result set would: 64K
    #[arg(long, value_name = "BYTES", default_value = "0", value_parser = bytes, env = "C10K_HOLD")]
    pub hold: usize,

    /// How much of its stack each request touches before it waits, as deep calls would: 64K, at most 1M
    #[arg(long, value_name = "BYTES", default_value = "0", value_parser = touched_bytes, env = "C10K_TOUCH_STACK")]
    pub touch_stack: usize,

    /// How much CPU time each query costs before it waits, as a handler that computes would: 1ms, at most 10s
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = burn, env = "C10K_BURN")]
    pub burn: Duration,

    /// What a line on standard error looks like
    #[arg(long, value_enum, default_value = "text", env = "C10K_LOG_FORMAT")]
    pub log_format: Format,

    /// What is said there: this, and what is more serious
    #[arg(long, value_enum, default_value = "warn", env = "C10K_LOG_LEVEL")]
    pub log_level: Verbosity,

    /// Serve POST /chaos/{panic,abort,segv,leak}: anybody who can connect can then kill this server. Without a word, only if
    /// it listens to this machine alone; =anywhere if that is not so
    #[arg(long, value_name = "WHERE", num_args = 0..=1, require_equals = true, default_missing_value = "yes",
        default_value = "no", hide_default_value = true, env = "C10K_ALLOW_CHAOS")]
    pub allow_chaos: AllowChaos,
}

/// Whether clients may cause faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AllowChaos {
    /// They may not.
    No,
    /// Those of this machine may.
    Loopback,
    /// All may.
    Anywhere,
}

impl FromStr for AllowChaos {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match boolean(text) {
            _ if text == "anywhere" => Ok(AllowChaos::Anywhere),
            Ok(true) => Ok(AllowChaos::Loopback),
            Ok(false) => Ok(AllowChaos::No),
            Err(_) => Err("write yes, no or anywhere".into()),
        }
    }
}

/// What happens to connections above `--max-connections`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Overload {
    /// They are answered with 503 and closed.
    Reject,
    /// They stay in the kernel's backlog until a connection ends.
    Wait,
}

/// The timeouts of a connection: each is for a whole phase, so that a client that sends a byte now and then gains nothing.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// For a head, from its first byte.
    pub header: Duration,
    /// For a body.
    pub body: Duration,
    /// For an answer to be taken.
    pub write: Duration,
    /// Between requests.
    pub idle: Duration,
}

impl Timeouts {
    /// How long a connection may stay in `phase`.
    pub fn limit(&self, phase: Phase) -> Duration {
        match phase {
            Phase::Idle => self.idle,
            Phase::Head => self.header,
            Phase::Body => self.body,
        }
    }
}

impl Config {
    /// The limits that a request must keep.
    pub fn limits(&self) -> Limits {
        Limits { max_head_bytes: self.max_head, max_body_bytes: self.max_body }
    }

    /// The timeouts of a connection.
    pub fn timeouts(&self) -> Timeouts {
        Timeouts {
            header: self.header_timeout,
            body: self.body_timeout,
            write: self.write_timeout,
            idle: self.idle_timeout,
        }
    }

    /// Whether to serve `/chaos`.
    pub fn allows_chaos(&self) -> bool {
        self.allow_chaos != AllowChaos::No
    }

    /// Checks flags together that are right each on its own.
    ///
    /// # Errors
    /// What is wrong, and what to write instead.
    pub fn check(&self) -> Result<(), String> {
        let is_loopback = self.listen.ip().to_canonical().is_loopback();
        if self.allow_chaos == AllowChaos::Loopback && !is_loopback {
            return Err(format!(
                "--allow-chaos would let anybody who reaches {} kill this server: \
                 listen on 127.0.0.1, or write --allow-chaos=anywhere",
                self.listen
            ));
        }
        self.database.settings().map(drop)
    }

    /// The simulated database.
    pub fn database(&self) -> Database {
        Database::new(self.db_wait, self.db_seed)
    }
}

/// Parses the command line of a server that listens on `default_listen` by default. With bad flags, the
/// process ends with status 2 and says why.
pub fn parse<Cli: CommandFactory + FromArgMatches>(default_listen: &'static str) -> Cli {
    let mut command = Cli::command().mut_arg("listen", |arg| arg.required(false).default_value(default_listen));
    let matches = command.try_get_matches_from_mut(env::args_os()).map_err(|error| with_variable(error, &command));
    matches.and_then(|matches| Cli::from_arg_matches(&matches)).unwrap_or_else(|error| error.exit())
}

/// The error, with the name of the environment variable whose value is wrong, if it is that of one.
fn with_variable(mut error: clap::Error, command: &Command) -> clap::Error {
    let Some(ContextValue::String(shown)) = error.get(ContextKind::InvalidArg) else { return error };
    let is_shown = |arg: &&Arg| arg.get_long().is_some_and(|long| is_flag(shown, long));
    let Some(arg) = command.get_arguments().find(is_shown) else { return error };
    let is_given = |long| env::args().any(|given| is_flag(&given, long));
    if let Some(variable) = arg.get_env().filter(|variable| env::var_os(variable).is_some())
        && !arg.get_long().is_some_and(is_given)
    {
        let tip = format!("the value is that of the environment variable {}", variable.display());
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
    }
    error
}

/// Whether `text` is `--long`, perhaps with a value behind it.
fn is_flag(text: &str, long: &str) -> bool {
    let rest = text.strip_prefix("--").and_then(|text| text.strip_prefix(long));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['=', ' ', '[']))
}

/// An address to listen on. A name is none: it may stand for several.
fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        "write an IP address and a port, as in 127.0.0.1:8080, [::1]:8080, or 0.0.0.0:8080 for every interface".into()
    })
}

/// Any number is as good a seed as another.
fn seed(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| "write a whole number, such as 1".into())
}

/// Yes or no, in any of the usual words.
///
/// # Errors
/// It is none of them.
pub fn boolean(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "yes" | "y" | "true" | "t" | "on" | "1" => Ok(true),
        "no" | "n" | "false" | "f" | "off" | "0" => Ok(false),
        _ => Err("write yes or no".into()),
    }
}

/// The length of a queue of the kernel's.
fn backlog(text: &str) -> Result<u32, String> {
    u32::try_from(quantity::count(text)?).map_err(too_large)
}

/// A size that fits into memory.
///
/// # Errors
/// What is wrong with `text`.
pub fn bytes(text: &str) -> Result<usize, String> {
    usize::try_from(quantity::bytes(text)?).map_err(too_large)
}

/// What every thread's stack has room for: tokio's have 2 MiB, that of a process has 8 MiB.
const MAX_TOUCHED_BYTES: usize = 1 << 20;

fn burn(text: &str) -> Result<Duration, String> {
    match quantity::duration(text)? {
        duration if duration > MAX_BURN => Err("it must be at most 10s".into()),
        duration => Ok(duration),
    }
}

fn touched_bytes(text: &str) -> Result<usize, String> {
    match bytes(text)? {
        bytes if bytes > MAX_TOUCHED_BYTES => Err("it must be at most 1M".into()),
        bytes => Ok(bytes),
    }
}

fn positive_bytes(text: &str) -> Result<usize, String> {
    usize::try_from(quantity::positive_bytes(text)?).map_err(too_large)
}

fn too_large(_: TryFromIntError) -> String {
    "that is more than there can be".into()
}
