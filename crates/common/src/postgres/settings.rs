//! The flags of a real database.

use std::sync::Arc;
use std::time::Duration;

use clap::Args;

use super::target::{Target, Url};

/// The connections of a pool if nobody says how many.
pub const DEFAULT_POOL: usize = 10;

/// The flags of a real database. Without `--db` the others would do nothing, and so are refused.
#[derive(Args, Clone, Debug)]
pub struct DatabaseFlags {
    /// Ask this PostgreSQL instead of simulating a database: postgres://USER:PASSWORD@HOST:PORT/NAME, with ?host=/FOLDER for a
    /// socket, ?pgbouncer=true behind PgBouncer, ?sslmode=verify-full&sslrootcert=FILE for TLS (in a build with the feature tls).
    /// Others can read a command line: better in the variable
    #[arg(long, value_name = "URL", hide_env_values = true, env = "C10K_DB")]
    pub db: Option<Url>,

    /// The most connections to it [default: 10; prefork: one for each child, kept]
    #[arg(long, value_name = "N", value_parser = quantity::positive_count, requires = "db", env = "C10K_DB_POOL")]
    pub db_pool: Option<usize>,

    /// How many requests may wait for a connection to it; the next one is answered with 503
    #[arg(long, value_name = "N", default_value = "12000", value_parser = quantity::positive_count, requires = "db", env = "C10K_DB_QUEUE")]
    pub db_queue: usize,

    /// How long a request waits for a connection to it, before it is answered with 503
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = quantity::timeout, requires = "db", env = "C10K_DB_POOL_TIMEOUT")]
    pub db_pool_timeout: Duration,

    /// How long it may take to let a connection in, and to answer; then the connection is closed, and 503 answered
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = quantity::timeout, requires = "db", env = "C10K_DB_TIMEOUT")]
    pub db_timeout: Duration,

    /// How long a request keeps its connection to it after the answer, as a handler does that renders or calls another
    /// service before it gives the connection back
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = quantity::duration, requires = "db", env = "C10K_DB_HOLD")]
    pub db_hold: Duration,
}

impl DatabaseFlags {
    /// What a pool needs to know; `None` without `--db`.
    ///
    /// # Errors
    /// What is wrong with the URL, and what to write instead. The URL itself is not in it: it may have a password.
    pub fn settings(&self) -> Result<Option<Settings>, String> {
        let Some(url) = &self.db else { return Ok(None) };
        let unusable = |why: String| format!("--db (or the environment variable C10K_DB) cannot be used: {why}");
        let target = url.target().map_err(unusable)?;
        Ok(Some(Settings {
            target: Arc::new(target),
            pool: self.db_pool,
            max_waiting: self.db_queue,
            pool_timeout: self.db_pool_timeout,
            timeout: self.db_timeout,
            hold: self.db_hold,
        }))
    }
}

/// What a pool needs to know.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where the database is.
    pub target: Arc<Target>,
    /// The most connections; `None` is the model's default.
    pub pool: Option<usize>,
    /// The most requests that wait for one.
    pub max_waiting: usize,
    /// How long each of them waits.
    pub pool_timeout: Duration,
    /// How long connecting may take, and how long an answer.
    pub timeout: Duration,
    /// How long a connection is kept after the answer.
    pub hold: Duration,
}
