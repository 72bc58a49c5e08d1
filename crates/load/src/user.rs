//! The life of one user: connect, wait for the others, send and read until the run stops.

use std::time::{Duration, Instant};

use common::http::reply::Answer;
use tokio::time::sleep;

use crate::net::Connection;
use crate::observations::Sent;
use crate::pace::Pace;
use crate::shared::Shared;

/// The pauses between attempts to connect.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// The whole life of user number `number`.
pub(crate) async fn run(shared: &Shared, number: usize) {
    let spec = &shared.spec;
    let connection = Connection::new(spec.timeout, spec.requests.wants_content());
    let mut user = User { shared, number, connection };
    // It ends early where the run stops while it has no connection.
    let _ = user.live().await;
    user.connection.closed().await;
}

struct User<'a> {
    shared: &'a Shared,
    number: usize,
    connection: Connection,
}

/// Each of its functions returns `None` once the run stops and there is nothing more to do.
impl User<'_> {
    async fn live(&mut self) -> Option<()> {
        let shared = self.shared;
        // Permits follow the server's progress and are never given back.
        shared.connect_permits.acquire().await.ok()?.forget();
        self.connect().await?;
        shared.observations.count_established(shared.now_us());
        self.greet().await?;
        self.idle(|| shared.wait_for_go()).await?;
        let mut pace = shared.spec.schedule().map(|schedule| Pace::new(schedule, self.number, shared.now_us()));
        let mut is_first = true;
        while !shared.is_stopping() {
            self.delay(shared.spec.requests.delay()).await?;
            let due_us = match &mut pace {
                Some(pace) => Some(self.wait_until_due(pace).await?),
                None => None,
            };
            let bytes = shared.spec.requests.next()?;
            self.request(&bytes, shared.spec.requests.at_once(), due_us).await?;
            if std::mem::take(&mut is_first) {
                self.delay(shared.settling_pause(self.number)).await?;
                shared.count_settled();
            }
        }
        Some(())
    }

    /// Sends the greeting, if there is one.
    async fn greet(&mut self) -> Option<()> {
        let Some(greeting) = &self.shared.spec.greeting else { return Some(()) };
        let outcome = self.request(greeting, 1, None).await;
        self.shared.count_greeted();
        outcome
    }

    /// Waits until a request is due, and returns that time.
    async fn wait_until_due(&mut self, pace: &mut Pace) -> Option<u64> {
        let (shared, due_us) = (self.shared, pace.due_us());
        shared.observations.note_next_due(self.number, due_us);
        if due_us > shared.now_us() {
            self.idle(|| shared.timer.wait_until(shared.instant(due_us))).await?;
            shared.observations.record_lag(due_us, shared.now_us());
        }
        pace.advance();
        shared.observations.note_next_due(self.number, pace.due_us());
        Some(due_us)
    }

    async fn delay(&mut self, time: Duration) -> Option<()> {
        if time.is_zero() {
            return Some(());
        }
        let (shared, end) = (self.shared, Instant::now() + time);
        self.idle(|| shared.timer.wait_until(end)).await
    }

    /// Waits, and replaces the connection if the server closes it meanwhile.
    async fn idle<T, W: Future<Output = T>>(&mut self, wait: impl Fn() -> W) -> Option<T> {
        loop {
            if let Some(outcome) = self.connection.idle(wait()).await {
                return Some(outcome);
            }
            // Do not connect in a tight loop to a server that closes each connection at once.
            if !self.connection.has_answered() {
                self.pause(FIRST_PAUSE).await;
            }
            self.reconnect().await?;
        }
    }

    /// Sends one request or several at once, reads the answers, and replaces the connection if it can carry no more.
    async fn request(&mut self, bytes: &[u8], requests: u64, due_us: Option<u64>) -> Option<()> {
        let (shared, observations) = (self.shared, &self.shared.observations);
        let sent_us = shared.now_us();
        let sent = Sent { user: self.number, requests, due_us: due_us.unwrap_or(sent_us), sent_us };
        observations.record_sent(sent);
        let record = |answer: Answer, bytes| {
            observations.record_answer(sent, shared.now_us(), answer.status, answer.is_success(), bytes);
        };
        let outcome = self.connection.exchange(bytes, requests, record).await;
        let is_persistent = *outcome.as_ref().unwrap_or(&false);
        // Failures while the server stops are our doing.
        let failure = outcome.err().filter(|_| !shared.is_stopping());
        observations.record_end(sent, shared.now_us(), failure);
        shared.spec.requests.respond(self.connection.take_contents());
        match is_persistent {
            true => Some(()),
            // The server closes the connection, or already has.
            false if shared.is_stopping() => None,
            false => self.reconnect().await,
        }
    }

    /// Replaces a connection that can carry no more requests.
    async fn reconnect(&mut self) -> Option<()> {
        self.connect().await?;
        self.shared.observations.count_reconnected();
        Some(())
    }

    /// Connects, with as many attempts as it takes.
    async fn connect(&mut self) -> Option<()> {
        let mut pause = FIRST_PAUSE;
        while !self.shared.is_stopping() {
            match self.connection.open(&self.shared.spec.endpoint).await {
                Ok(()) => return Some(()),
                Err(failure) => self.shared.count_failure(failure),
            }
            self.pause(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        None
    }

    async fn pause(&self, time: Duration) {
        self.shared.observations.count_connect_pause();
        sleep(time).await;
    }
}
