//! The coordinator's side of the connection to one worker.

use std::io::ErrorKind;
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use load::{Progress, Snapshot};
use results::run::{ErrorReason, Host};

use super::clock::{self, Offset, RoundTrip};
use super::handshake::{self, Role, Side};
use super::lines::{self, LineReader};
use super::token::Token;
use super::wire::{Finished, FromWorker, SILENCE, ToWorker};

/// How often to tell a worker that the coordinator is there.
const ALIVE_INTERVAL: Duration = Duration::from_secs(1);
/// How often to ask for a clock's time: the quickest answer counts.
const CLOCK_QUESTIONS: u64 = 16;
const CLOCK_TIMEOUT: Duration = Duration::from_secs(5);

/// A worker.
#[derive(Debug)]
pub(super) struct Link {
    /// Its address.
    pub(super) name: String,
    /// Its machine.
    pub(super) host: Host,
    /// Whether it is on this machine.
    pub(super) is_here: bool,
    stream: Mutex<TcpStream>,
    state: Mutex<State>,
    changed: Condvar,
}

/// What is known of the worker. All but `lost` and `clock` is of the current run.
#[derive(Debug, Default)]
pub(super) struct State {
    /// Why it is gone, for good.
    pub(super) lost: Option<String>,
    /// Why its users cannot go on.
    pub(super) failure: Option<String>,
    /// Its users can be started.
    pub(super) is_prepared: bool,
    /// How far they are.
    pub(super) progress: Progress,
    /// Why they failed.
    pub(super) failures: Vec<ErrorReason>,
    /// When it started the window, by its clock.
    pub(super) started_window_us: Option<i64>,
    /// The last snapshot, and its number.
    pub(super) snapshot: Option<(u64, Snapshot)>,
    /// What the users observed.
    pub(super) finished: Option<Box<Finished>>,
    /// What its clock showed: the number of the question, the answer, and when it came by this clock.
    clock: Option<(u64, i64, i64)>,
}

impl Link {
    /// A worker at the other end.
    ///
    /// # Errors
    /// It is none, or does not know the token.
    pub(super) fn open(stream: TcpStream, side: Side, name: String, token: &Token) -> Result<Arc<Self>> {
        let mut reader = handshake::shake(&stream, Role::Coordinator, side, token)?;
        let FromWorker::Joined { host } = reader.read(SILENCE).context("it does not say what machine it is")? else {
            bail!("it does not say what machine it is");
        };
        let (peer, own) = (stream.peer_addr()?.ip(), stream.local_addr()?.ip());
        let is_here = peer.is_loopback() || peer == own;
        let (stream, state, changed) = (Mutex::new(stream), Mutex::default(), Condvar::new());
        let link = Arc::new(Self { name, host, is_here, stream, state, changed });
        let listening = link.clone();
        thread::spawn(move || listening.listen(reader));
        Ok(link)
    }

    /// Takes what the worker says, and lets it know that somebody does.
    fn listen(&self, mut reader: LineReader) {
        let mut alive_at = Instant::now();
        loop {
            match reader.read(SILENCE) {
                Ok(message) => self.take(message),
                Err(error) => {
                    let why = match error.kind() {
                        ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset => "it ended, or its machine did".into(),
                        _ => error.to_string(),
                    };
                    return self.lose(why);
                }
            }
            if alive_at.elapsed() >= ALIVE_INTERVAL {
                self.send(&ToWorker::Alive);
                alive_at = Instant::now();
            }
        }
    }

    fn take(&self, message: FromWorker) {
        let at_us = clock::now_us();
        let mut state = self.state();
        match message {
            FromWorker::Joined { .. } => {}
            FromWorker::Clock { number, at_us: other_us } => state.clock = Some((number, other_us, at_us)),
            FromWorker::Prepared => state.is_prepared = true,
            FromWorker::Seen { progress, failures } => (state.progress, state.failures) = (progress, failures),
            FromWorker::StartedWindow { at_us } => state.started_window_us = Some(at_us),
            FromWorker::Snapshot { number, snapshot } => state.snapshot = Some((number, snapshot)),
            FromWorker::Failed { why } => drop(state.failure.get_or_insert(why)),
            FromWorker::Finished(finished) => state.finished = Some(finished),
        }
        self.changed.notify_all();
    }

    fn lose(&self, why: String) {
        self.state().lost.get_or_insert(why);
        self.changed.notify_all();
    }

    /// What is known of the worker.
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets a run of before.
    pub(super) fn reset(&self) {
        let mut state = self.state();
        *state = State { lost: state.lost.take(), ..State::default() };
    }

    /// Tells the worker something. If that fails, it is lost.
    pub(super) fn send(&self, message: &ToWorker) {
        let sent = {
            let stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
            lines::write(&stream, message)
        };
        if let Err(error) = sent {
            self.lose(error.to_string());
        }
    }

    /// Waits until `find` finds something in what is known of the worker.
    ///
    /// # Errors
    /// It is lost, cannot go on, or takes longer than `within`.
    pub(super) fn wait<T>(&self, within: Duration, mut find: impl FnMut(&mut State) -> Option<T>) -> Result<T> {
        let deadline = Instant::now() + within;
        let mut state = self.state();
        loop {
            if let Some(found) = find(&mut state) {
                return Ok(found);
            }
            if let Some(why) = state.lost.as_ref().or(state.failure.as_ref()) {
                bail!("{why}");
            }
            let Some(remaining) = deadline.checked_duration_since(Instant::now()) else {
                bail!("no answer for {within:?}");
            };
            (state, _) = self.changed.wait_timeout(state, remaining).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Compares the worker's clock with this one.
    ///
    /// # Errors
    /// It does not answer.
    pub(super) fn clock_offset(&self) -> Result<Offset> {
        let ask = |number| {
            let asked_us = clock::now_us();
            self.send(&ToWorker::Clock { number });
            let answer = |state: &mut State| state.clock.filter(|answer| answer.0 == number);
            let (_, other_us, answered_us) = self.wait(CLOCK_TIMEOUT, answer)?;
            anyhow::Ok(RoundTrip { asked_us, other_us, answered_us })
        };
        let trips = (1..=CLOCK_QUESTIONS).map(ask).collect::<Result<Vec<_>>>()?;
        self.state().clock = None;
        Offset::by_quickest(trips).context("its clock is unknown")
    }

    /// Says that no more runs come. The worker then closes the connection.
    pub(super) fn close(&self) {
        self.send(&ToWorker::Bye);
        let stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        // It may be gone already.
        let _ = stream.shutdown(Shutdown::Write);
    }
}
