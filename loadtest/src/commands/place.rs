//! Where the users of a run are: `--workers`.

use std::sync::Arc;

use anyhow::Result;
use clap::Args;
use load::{Place, ThisProcess};
use results::Target;

use crate::fleet::{Fleet, TokenArgs, Workers};
use crate::machine::host;
use crate::machine::interrupt::Interrupt;
use crate::machine::terminal::warn;
use crate::machine::walls::Asked;

/// The flags for users in other processes.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct PlaceArgs {
    /// Let workers run the users, which are split evenly: N that are started here, those that listen at HOST:PORT,…
    /// (`loadtest worker --listen`), or N that join at ADDR (`loadtest worker --join`). What they observe is added up exactly.
    /// -t is then for each of them
    #[arg(long, value_name = "N|HOST:PORT,…|N@ADDR")]
    workers: Option<Workers>,

    #[command(flatten)]
    token: TokenArgs,
}

impl PlaceArgs {
    /// Whether the users are in other processes.
    pub(crate) fn is_elsewhere(&self) -> bool {
        self.workers.is_some()
    }

    /// Makes sure that this machine can hold the connections to each of these servers in turn, and gathers the workers.
    ///
    /// # Errors
    /// This machine's limits are too low, or a worker does not join.
    pub(crate) fn open(&self, connections: usize, targets: &[Target], interrupt: &Interrupt) -> Result<Arc<dyn Place>> {
        let asked = Asked { has_users: !self.is_elsewhere(), ..Asked::new(connections, targets) };
        host::prepare_for(&asked)?.iter().for_each(warn);
        Ok(match &self.workers {
            None => Arc::new(ThisProcess),
            Some(workers) => Arc::new(Fleet::assemble(workers, &self.token, interrupt)?),
        })
    }
}
