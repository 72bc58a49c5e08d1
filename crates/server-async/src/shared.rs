//! What all tasks share.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use common::config::Config;
use common::counters::Counters;
use common::db::Database;
use common::limits;
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::Http;
use crate::database::Pool;

/// It lives as long as the process.
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) http: Http,
    /// Whether `/cpu` burns on the threads that run the tasks.
    pub(crate) burns_on_loop: bool,
    pub(crate) database: Database,
    /// The connections to a real database, if there is one.
    pub(crate) postgres: Option<Pool>,
    pub(crate) counters: Counters,
    /// A permit for each connection that there may be.
    pub(crate) room: Arc<Semaphore>,
    /// The tasks of connections that linger after a 503, the oldest first.
    pub(crate) lingering: Mutex<VecDeque<AbortHandle>>,
    pub(crate) tasks: TaskTracker,
    pub(crate) draining: CancellationToken,
}

impl Shared {
    /// Lets a task linger after a 503; if they are too many, the oldest must go.
    pub(crate) fn linger(&self, task: AbortHandle) {
        let mut lingering = self.lingering.lock().unwrap_or_else(PoisonError::into_inner);
        lingering.retain(|task| !task.is_finished());
        if lingering.len() >= limits::max_lingerers()
            && let Some(oldest) = lingering.pop_front()
        {
            oldest.abort();
        }
        lingering.push_back(task);
    }
}
