//! The connections that nobody uses now, whoever waits for them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::error::Error;
use super::outage::Outage;

/// The connections that nobody uses now. How many may be used at once is not decided here.
#[derive(Debug)]
pub struct Slots<T> {
    /// The last that was used is the next: if few are needed, few are kept warm.
    idle: Mutex<Vec<Open<T>>>,
    /// Whether new ones can be had.
    outage: Outage,
    /// Every open connection has a share of it.
    open: Arc<()>,
}

/// An open connection, which counts as such until it is dropped.
#[derive(Debug)]
pub struct Open<T> {
    /// The connection.
    pub connection: T,
    _open: Arc<()>,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self { idle: Mutex::default(), outage: Outage::default(), open: Arc::default() }
    }
}

impl<T> Slots<T> {
    /// Whether it is worth while to wait: it is not if no connection is left and none can be had now.
    ///
    /// # Errors
    /// Why there are none.
    pub fn check(&self) -> Result<(), Error> {
        if self.open() == 0 { self.outage.is_over() } else { Ok(()) }
    }

    /// A connection that nobody uses; `None` if the caller has to make one, and say by [`note`](Self::note) what came of it.
    ///
    /// # Errors
    /// There is none, and none can be had now.
    pub fn take(&self) -> Result<Option<Open<T>>, Error> {
        match self.idle().pop() {
            Some(idle) => Ok(Some(idle)),
            None => self.outage.check().map(|()| None),
        }
    }

    /// A connection was made, or could not be.
    ///
    /// # Errors
    /// That of `connected`.
    pub fn note(&self, connected: Result<T, Error>) -> Result<Open<T>, Error> {
        match connected {
            Ok(connection) => {
                self.outage.end();
                Ok(Open { connection, _open: self.open.clone() })
            }
            Err(error) => {
                self.outage.failed(error.kind);
                Err(error)
            }
        }
    }

    /// Nobody uses this connection any more.
    pub fn put(&self, connection: Open<T>) {
        self.idle().push(connection);
    }

    /// How many connections there are.
    fn open(&self) -> usize {
        Arc::strong_count(&self.open) - 1
    }

    /// No code panics while it holds the lock.
    fn idle(&self) -> MutexGuard<'_, Vec<Open<T>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::super::error::Kind;
    use super::*;

    #[test]
    fn while_none_can_be_had_those_that_are_there_still_serve() {
        let slots = Slots::default();
        assert!(slots.take().unwrap().is_none());
        let first = slots.note(Ok(1)).unwrap();
        slots.note(Err(Error::new(Kind::TooManyClients, ""))).unwrap_err();
        assert!(slots.check().is_ok(), "one is in use, and comes back");
        assert_eq!(slots.take().unwrap_err().kind, Kind::TooManyClients);
        slots.put(first);
        let first = slots.take().unwrap().unwrap();
        assert_eq!(first.connection, 1);
        drop(first);
        assert_eq!(slots.check().unwrap_err().kind, Kind::TooManyClients, "none is left");
        slots.note(Ok(2)).unwrap();
        assert!(slots.take().unwrap().is_none(), "all is well again");
    }
}
