//! What one user does: connect, wait for the others, send and read until told to stop.

use std::time::Duration;

use tokio::time::sleep;

use crate::connection::Connection;
use crate::load::{Load, Phase};
use crate::pace::Pace;

/// The pauses between attempts to connect.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// The whole life of user number `user`.
pub(crate) async fn run(load: &Load, user: usize) {
    let mut phases = load.phases();
    match load.connect_permits.acquire().await {
        // Permits come from the server's progress, not from other users.
        Ok(permit) => permit.forget(),
        Err(_) => return,
    }
    let Some(mut connection) = connect(load).await else { return };
    load.count_established();
    let is_usable = greet(load, user, &mut connection).await;
    if phases.wait_for(|phase| *phase != Phase::Connect).await.is_err() {
        return;
    }
    drop(phases);
    if !is_usable && !replace(load, &mut connection).await {
        return;
    }
    let mut is_first = true;
    let mut pace = load.plan.interval.map(|interval| Pace::new(load, user, interval));
    while !load.is_stopping() {
        let Some(bytes) = load.plan.requests.next().await else { break };
        let due_us = match &mut pace {
            Some(pace) => Some(pace.next(load).await),
            None => None,
        };
        let is_usable = request(load, user, &bytes, due_us, &mut connection).await;
        if std::mem::take(&mut is_first) {
            load.settle(user).await;
        }
        if is_usable {
            continue;
        }
        // On the way out nothing is to be replaced, and the server has closed, or will.
        if load.is_stopping() {
            break;
        }
        if !replace(load, &mut connection).await {
            return;
        }
    }
    connection.closed().await;
}

/// The one request before all others, if there is to be one. Says whether the connection can take another.
async fn greet(load: &Load, user: usize, connection: &mut Connection) -> bool {
    let Some(greeting) = &load.plan.greeting else { return true };
    let is_usable = request(load, user, greeting, None, connection).await;
    load.count_greeted();
    is_usable
}

/// One request and its answer, timed from when it was due, else from when it is sent. Says whether the connection can take
/// another.
async fn request(load: &Load, user: usize, bytes: &[u8], due_us: Option<u64>, connection: &mut Connection) -> bool {
    let now_us = load.now_us();
    let sent_us = due_us.unwrap_or(now_us);
    load.begin_request(user, sent_us);
    let outcome = connection.exchange(bytes, load.plan.requests.answers()).await;
    let ended_us = load.now_us();
    load.end_request(user, sent_us, ended_us, outcome);
    if due_us.is_some() && outcome.is_ok() {
        load.note_uncorrected(user, ended_us - now_us);
    }
    load.plan.requests.respond(connection.take_contents());
    let is_usable = outcome.is_ok_and(|exchange| exchange.is_persistent);
    let is_refused = !outcome.is_ok_and(|exchange| exchange.refusals == 0);
    if !is_usable && is_refused {
        // A server that turns everybody away must not be asked in a tight loop.
        sleep(FIRST_PAUSE).await;
    }
    is_usable
}

/// Puts a new connection in the place of one that is of no use. Says whether there is one: once the run stops, there is not.
async fn replace(load: &Load, connection: &mut Connection) -> bool {
    let Some(replacement) = connect(load).await else { return false };
    load.count_reconnected();
    *connection = replacement;
    true
}

/// A connection, after as many attempts as it takes; nothing once the run stops.
async fn connect(load: &Load) -> Option<Connection> {
    let mut pause = FIRST_PAUSE;
    while !load.is_stopping() {
        match Connection::open(&load.plan.endpoint, load.plan.timeout, load.plan.requests.wants_content()).await {
            Ok(connection) => return Some(connection),
            Err(error) => load.count_unconnected(&error),
        }
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
    None
}
