//! goose runs the users. Each has one transaction, which lasts as long as the run.
//!
//! goose's own client is not used: a reqwest client for each user would take ten times the RAM and the time to start, and a
//! shared one would break "one user, one connection". So goose gets one client that stays idle, and every user has a TCP
//! connection of its own. Latencies go to our own histograms, to the last byte and with the unanswered requests in them:
//! goose times the first byte, and does not see what never ends.

use std::future::pending;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use goose::client::GooseClientBuilder;
use goose::config::GooseConfiguration;
use goose::goose::{Scenario, Transaction, TransactionFunction};
use goose::{GooseAttack, GooseError};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

use crate::load::Load;
use crate::{lag, user};

/// goose starts users one by one at this rate; they are then held back by the pace at which the server accepts.
const USERS_A_SECOND: &str = "200000";

/// The users, running.
pub(crate) struct Attack {
    runtime: Runtime,
    goose: JoinHandle<Result<(), GooseError>>,
}

impl Attack {
    /// Starts the users, on threads of their own.
    pub(crate) fn start(load: &Arc<Load>) -> Result<Self> {
        let mut builder = Builder::new_multi_thread();
        let runtime = builder.worker_threads(load.plan.threads).enable_all().thread_name("load").build();
        let runtime = runtime.context("the load generator cannot have its threads")?;
        let attack = attack(load).context("goose does not start")?;
        runtime.spawn(lag::watch(load.clone()));
        let goose = runtime.spawn(async { attack.execute().await.map(drop) });
        Ok(Self { runtime, goose })
    }

    /// Why goose has given up, if it has.
    pub(crate) fn failure(&mut self) -> Option<String> {
        if !self.goose.is_finished() {
            return None;
        }
        let outcome = self.runtime.block_on(&mut self.goose);
        Some(match outcome {
            Ok(Ok(())) => "all users have ended".into(),
            Ok(Err(error)) => error.to_string(),
            Err(panic) => panic.to_string(),
        })
    }

    /// Ends what still runs, and closes all sockets with it.
    pub(crate) fn end(self) {
        // goose looks for its users' end every half second: there is nothing left to wait for.
        self.runtime.shutdown_timeout(Duration::from_secs(5));
    }
}

fn attack(load: &Arc<Load>) -> Result<GooseAttack, GooseError> {
    let next_user = Arc::new(AtomicUsize::new(0));
    let load_of_users = load.clone();
    let function: TransactionFunction = Arc::new(move |_| {
        let load = load_of_users.clone();
        let user = next_user.fetch_add(1, Ordering::Relaxed);
        Box::pin(async move {
            user::run(&load, user).await;
            // goose would start the transaction once more.
            pending().await
        })
    });
    let idle_client = GooseClientBuilder::new().without_cookies().accept_invalid_certs(true);
    let scenario = Scenario::new("hold").register_transaction(Transaction::new(function));
    Ok(GooseAttack::initialize_with_config(configuration(load.plan.endpoint.address, load.plan.users)?)?
        .set_client_builder_without_cookies(idle_client)?
        .register_scenario(scenario))
}

fn configuration(address: SocketAddr, users: usize) -> Result<GooseConfiguration, GooseError> {
    let host = format!("http://{address}");
    let users = users.to_string();
    GooseConfiguration::parse_args_default(&[
        "--host",
        &host,
        "--users",
        &users,
        "--increase-rate",
        USERS_A_SECOND,
        "--no-metrics",
        "--no-telnet",
        "-qqq",
    ])
}
