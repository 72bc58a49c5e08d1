//! What a server says on standard error while it runs: one line an event, and none a request.
//!
//! A line is one write, so that those of forked children do not mix. There is no thread that writes, which a fork would
//! lose, and nothing that a child would have to copy before it has something to say.

mod stderr;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::fmt;
use std::panic::{self, PanicHookInfo};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::SystemTime;

use clap::ValueEnum;
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use self::stderr::Stderr;

pub use stderr::count_dropped;
pub use tracing::{error, info, warn};

/// How often one kind of warning is logged at most.
const WARNING_INTERVAL_MS: u64 = 1_000;

/// What a line looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// `warning: what is wrong`
    Text,
    /// An object, with timestamp, level and message
    Json,
}

/// How much is said: this, and what is more serious.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Verbosity {
    /// What ends the server, or a thread of it
    Error,
    /// What is wrong, though not fatal
    Warn,
    /// Also what is as it should be: start, drain, end
    Info,
}

/// Logs from now on what is at least as serious as `verbosity`, panics included. It is no error if nobody reads it: what cannot be
/// written at once is dropped.
pub fn start(format: Format, verbosity: Verbosity) {
    let level = match verbosity {
        Verbosity::Error => LevelFilter::ERROR,
        Verbosity::Warn => LevelFilter::WARN,
        Verbosity::Info => LevelFilter::INFO,
    };
    let stderr: &'static Stderr = Box::leak(Box::new(Stderr::open()));
    let log = tracing_subscriber::fmt().with_max_level(level).with_writer(move || stderr).log_internal_errors(false);
    // It fails if somebody else has started one: there is nobody.
    let _ = match format {
        Format::Text => log.event_format(Text).try_init(),
        Format::Json => {
            let json = log.json().flatten_event(true).with_target(false);
            json.with_current_span(false).with_span_list(false).try_init()
        }
    };
    panic::set_hook(Box::new(log_panic));
}

fn log_panic(panic: &PanicHookInfo<'_>) {
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    let message = panic.payload_as_str().unwrap_or("it does not say why");
    let backtrace = Backtrace::capture();
    if backtrace.status() == BacktraceStatus::Captured {
        error!("panicked at {place}: {message}\n{backtrace}");
    } else {
        error!("panicked at {place}: {message}");
    }
}

/// `level: message`, as compilers and this project's command line say it. Whoever keeps the lines adds the time.
struct Text;

impl<S, N> FormatEvent<S, N> for Text
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let level = match *event.metadata().level() {
            Level::ERROR => "error",
            Level::WARN => "warning",
            _ => "info",
        };
        write!(writer, "{level}: ")?;
        context.format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}

/// Lets one warning a second through, of a kind that could otherwise fill the log. It also works in memory that processes
/// share.
#[derive(Debug, Default)]
pub struct RateLimit {
    /// When the next may pass, in milliseconds since 1970.
    next_ms: AtomicU64,
}

impl RateLimit {
    /// Whether to log the warning that is due now.
    pub fn allows(&self) -> bool {
        let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        self.allows_at(since_1970.as_millis() as u64)
    }

    fn allows_at(&self, now_ms: u64) -> bool {
        let next_ms = self.next_ms.load(Relaxed);
        // A clock that was set back must not silence the log.
        let is_due = now_ms >= next_ms || next_ms > now_ms + WARNING_INTERVAL_MS;
        is_due && self.next_ms.compare_exchange(next_ms, now_ms + WARNING_INTERVAL_MS, Relaxed, Relaxed).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_warning_a_second_is_allowed() {
        let limit = RateLimit::default();
        let allowed = [5_000, 5_001, 5_999, 6_000, 6_001, 1_000, 1_001].map(|now_ms| limit.allows_at(now_ms));
        assert_eq!(allowed, [true, false, false, true, false, true, false]);
        assert!(limit.allows() && !limit.allows());
    }
}
