//! Where the users of a run are: `--workers`.

use std::sync::Arc;

use anyhow::{Result, ensure};
use clap::Args;
use load::net::Sources;
use load::{Place, ThisProcess};

use crate::fleet::{Fleet, TokenArgs, Workers};
use crate::machine::command_line::WrongArguments;
use crate::machine::host;
use crate::machine::interrupt::Interrupt;
use crate::machine::terminal::warn;
use crate::machine::walls::Asked;

const BIND_ELSEWHERE: &str =
    "--bind has addresses of this machine, and the workers are elsewhere: write it to each `loadtest worker`";

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

    /// Connect from these addresses of this machine in turn: 127.0.0.1-127.0.0.8, or 10.0.0.2,10.0.0.3. Each has ports of its
    /// own, some 28,000. Workers on other machines have a --bind of their own
    #[arg(long, value_name = "ADDR-ADDR|ADDR,…")]
    bind: Option<Sources>,
}

impl PlaceArgs {
    /// Whether the users are in other processes.
    pub(crate) fn is_elsewhere(&self) -> bool {
        self.workers.is_some()
    }

    /// Where connections come from.
    pub(crate) fn sources(&self) -> Sources {
        self.bind.clone().unwrap_or_default()
    }

    /// Makes sure that this machine can hold what is asked with these users, and gathers the workers.
    ///
    /// # Errors
    /// This machine's limits are too low, an address is not its own, or a worker does not join.
    pub(crate) fn open(&self, asked: Asked, interrupt: &Interrupt) -> Result<Arc<dyn Place>> {
        let client_processes = match &self.workers {
            None => 1,
            Some(Workers::Started(count)) => *count,
            // They see to their own limits.
            Some(Workers::At(_) | Workers::Joining(..)) => 0,
        };
        ensure!(client_processes > 0 || self.bind.is_none(), WrongArguments(BIND_ELSEWHERE.to_owned()));
        let sources = self.sources();
        sources.check().map_err(|error| WrongArguments::from(&error))?;
        host::prepare_for(&Asked { client_processes, sources: sources.count(), ..asked })?.iter().for_each(warn);
        Ok(match &self.workers {
            None => Arc::new(ThisProcess),
            Some(workers) => Arc::new(Fleet::assemble(workers, &self.token, interrupt)?),
        })
    }
}
