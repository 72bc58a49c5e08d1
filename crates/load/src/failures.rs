//! What failed, how often, and why.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Mutex, PoisonError};

use nix::errno::Errno;
use results::run::{ErrorKind, ErrorReason, Errors};

/// The most reasons that are told apart. The others count as one.
const MAX_REASONS: usize = 64;

/// A failure and its reason.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Failure {
    /// What failed.
    pub(crate) kind: ErrorKind,
    /// Why.
    pub(crate) reason: Reason,
}

/// Why something failed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reason {
    /// The answer's status.
    Status(u16),
    /// The operating system's error number.
    Os(i32),
    /// What another layer says: TLS, or the decoder of answers.
    Text(Cow<'static, str>),
}

impl Failure {
    /// A failure for a reason that we found ourselves.
    pub(crate) const fn new(kind: ErrorKind, reason: &'static str) -> Self {
        Self { kind, reason: Reason::Text(Cow::Borrowed(reason)) }
    }

    /// A failed operation.
    pub(crate) fn of_io(kind: ErrorKind, error: &io::Error) -> Self {
        let reason = match error.raw_os_error() {
            Some(number) => Reason::Os(number),
            None => Reason::Text(error.to_string().into()),
        };
        Self { kind, reason }
    }

    /// An answer with a status of 400 or above.
    pub(crate) fn of_status(status: u16) -> Self {
        Self { kind: ErrorKind::Status, reason: Reason::Status(status) }
    }

    fn errno(&self) -> Option<Errno> {
        match self.reason {
            Reason::Os(number) => Some(Errno::from_raw(number)),
            _ => None,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Status(status) => write!(f, "status {status}"),
            Reason::Os(number) => {
                let errno = Errno::from_raw(*number);
                write!(f, "{} ({errno:?})", errno.desc())
            }
            Reason::Text(text) => f.write_str(text),
        }
    }
}

/// Failures before the window and within it.
#[derive(Debug, Default)]
pub(crate) struct Failures {
    before: Counts,
    within: Counts,
    reasons: Mutex<BTreeMap<Failure, u64>>,
    shortage: Shortage,
}

/// What this machine ran out of.
#[derive(Debug, Default)]
struct Shortage {
    ports: AtomicU64,
    descriptors: AtomicU64,
}

#[derive(Debug, Default)]
struct Counts {
    connect: AtomicU64,
    read: AtomicU64,
    write: AtomicU64,
    timeout: AtomicU64,
    status: AtomicU64,
}

impl Failures {
    /// Counts a failure.
    pub(crate) fn count(&self, failure: Failure, is_before_window: bool) {
        let counts = if is_before_window { &self.before } else { &self.within };
        counts.counter(failure.kind).fetch_add(1, Relaxed);
        match failure.errno() {
            Some(Errno::EADDRNOTAVAIL) => drop(self.shortage.ports.fetch_add(1, Relaxed)),
            Some(Errno::EMFILE | Errno::ENFILE) => drop(self.shortage.descriptors.fetch_add(1, Relaxed)),
            _ => {}
        }
        let mut reasons = self.reasons.lock().unwrap_or_else(PoisonError::into_inner);
        let failure = match reasons.len() < MAX_REASONS || reasons.contains_key(&failure) {
            true => failure,
            false => Failure::new(failure.kind, "other reasons"),
        };
        *reasons.entry(failure).or_default() += 1;
    }

    /// Before the window.
    pub(crate) fn before(&self) -> Errors {
        self.before.sum()
    }

    /// Within the window.
    pub(crate) fn within(&self) -> Errors {
        self.within.sum()
    }

    /// Each reason with its count.
    pub(crate) fn reasons(&self) -> Vec<ErrorReason> {
        let reasons = self.reasons.lock().unwrap_or_else(PoisonError::into_inner);
        let reason = |(failure, &count): (&Failure, &u64)| ErrorReason {
            kind: failure.kind,
            reason: failure.reason.to_string(),
            count,
        };
        reasons.iter().map(reason).collect()
    }

    /// How often no port was left to connect from.
    pub(crate) fn port_shortages(&self) -> u64 {
        self.shortage.ports.load(Relaxed)
    }

    /// How often no file descriptor was left to connect with.
    pub(crate) fn descriptor_shortages(&self) -> u64 {
        self.shortage.descriptors.load(Relaxed)
    }
}

impl Counts {
    fn counter(&self, kind: ErrorKind) -> &AtomicU64 {
        match kind {
            ErrorKind::Connect => &self.connect,
            ErrorKind::Read => &self.read,
            ErrorKind::Write => &self.write,
            ErrorKind::Timeout => &self.timeout,
            ErrorKind::Status => &self.status,
        }
    }

    fn sum(&self) -> Errors {
        let Counts { connect, read, write, timeout, status } = self;
        Errors {
            connect: connect.load(Relaxed),
            read: read.load(Relaxed),
            write: write.load(Relaxed),
            timeout: timeout.load(Relaxed),
            status: status.load(Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_named_and_bounded() {
        let failures = Failures::default();
        failures.count(Failure::of_io(ErrorKind::Read, &io::Error::from_raw_os_error(104)), false);
        failures.count(Failure::of_status(503), true);
        failures.count(Failure::of_status(503), false);
        let named: Vec<_> = failures.reasons().into_iter().map(|reason| (reason.reason, reason.count)).collect();
        assert_eq!(named, [("Connection reset by peer (ECONNRESET)".into(), 1), ("status 503".into(), 2)]);
        (0..600).for_each(|status| failures.count(Failure::of_status(status), false));
        let reasons = failures.reasons();
        assert_eq!(reasons.len(), MAX_REASONS + 1);
        assert_eq!(reasons.iter().map(|reason| reason.count).sum::<u64>(), 603);
        assert_eq!((failures.before().status, failures.within().total()), (1, 602));
    }
}
