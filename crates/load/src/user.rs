//! The life of one user: connect, wait for the others, send and read until the run stops.

use std::time::Duration;

use tokio::time::sleep;

use crate::net::Connection;
use crate::pace::Pace;
use crate::shared::{Shared, Stage};

/// The pauses between attempts to connect.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// The whole life of user number `user`.
pub(crate) async fn run(shared: &Shared, user: usize) {
    let mut stages = shared.stages();
    match shared.connect_permits.acquire().await {
        // Permits follow the server's progress and are never given back.
        Ok(permit) => permit.forget(),
        Err(_) => return,
    }
    let Some(mut connection) = connect(shared).await else { return };
    shared.count_established();
    let is_usable = greet(shared, user, &mut connection).await;
    if stages.wait_for(|stage| *stage != Stage::Connect).await.is_err() {
        return;
    }
    drop(stages);
    if !is_usable && !replace(shared, &mut connection).await {
        return;
    }
    let mut is_first = true;
    let mut pace = shared.spec.interval.map(|interval| Pace::new(shared, user, interval));
    while !shared.is_stopping() {
        let Some(bytes) = shared.spec.requests.next().await else { break };
        let due_us = match &mut pace {
            Some(pace) => Some(pace.next(shared).await),
            None => None,
        };
        let is_usable = request(shared, user, &bytes, due_us, &mut connection).await;
        if std::mem::take(&mut is_first) {
            shared.settle(user).await;
        }
        if is_usable {
            continue;
        }
        // No replacement while stopping: the server closes the connection, or already has.
        if shared.is_stopping() {
            break;
        }
        if !replace(shared, &mut connection).await {
            return;
        }
    }
    connection.closed().await;
}

/// Sends the greeting, if there is one. Returns whether the connection can carry another request.
async fn greet(shared: &Shared, user: usize, connection: &mut Connection) -> bool {
    let Some(greeting) = &shared.spec.greeting else { return true };
    let is_usable = request(shared, user, greeting, None, connection).await;
    shared.count_greeted();
    is_usable
}

/// One request and its answer, timed from when the request was due, or else from when it is sent. Returns whether the
/// connection can carry another request.
async fn request(shared: &Shared, user: usize, bytes: &[u8], due_us: Option<u64>, connection: &mut Connection) -> bool {
    let now_us = shared.now_us();
    let sent_us = due_us.unwrap_or(now_us);
    shared.record_sent(user, sent_us);
    let outcome = connection.exchange(bytes, shared.spec.requests.answers()).await;
    let ended_us = shared.now_us();
    shared.record_outcome(user, sent_us, ended_us, outcome);
    if due_us.is_some() && outcome.is_ok() {
        shared.record_uncorrected(user, ended_us - now_us);
    }
    shared.spec.requests.respond(connection.take_contents());
    let is_usable = outcome.is_ok_and(|exchange| exchange.is_persistent);
    let is_refused = !outcome.is_ok_and(|exchange| exchange.refusals == 0);
    if !is_usable && is_refused {
        // Do not ask a server that refuses everyone in a tight loop.
        sleep(FIRST_PAUSE).await;
    }
    is_usable
}

/// Replaces an unusable connection. Returns false once the run stops.
async fn replace(shared: &Shared, connection: &mut Connection) -> bool {
    let Some(replacement) = connect(shared).await else { return false };
    shared.count_reconnected();
    *connection = replacement;
    true
}

/// Connects, with as many attempts as it takes; `None` once the run stops.
async fn connect(shared: &Shared) -> Option<Connection> {
    let mut pause = FIRST_PAUSE;
    while !shared.is_stopping() {
        match Connection::open(&shared.spec.endpoint, shared.spec.timeout, shared.spec.requests.wants_content()).await {
            Ok(connection) => return Some(connection),
            Err(error) => shared.count_connect_failure(&error),
        }
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
    None
}
