//! What all tasks share.

use std::sync::Arc;

use common::config::Config;
use common::counters::Counters;
use common::db::Database;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::Http;

/// It lives as long as the process.
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) http: Http,
    /// Whether `/cpu` burns on the threads that run the tasks.
    pub(crate) burns_on_loop: bool,
    pub(crate) database: Database,
    pub(crate) counters: Counters,
    /// A permit for each connection that there may be.
    pub(crate) room: Arc<Semaphore>,
    /// A permit for each connection that may linger after a 503.
    pub(crate) refusals: Arc<Semaphore>,
    pub(crate) tasks: TaskTracker,
    pub(crate) draining: CancellationToken,
}
