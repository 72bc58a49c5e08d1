//! Why a query has no answer.

use std::borrow::Cow;
use std::io;

use postgres_protocol::message::backend::ErrorResponseBody;

use fallible_iterator::FallibleIterator as _;

/// Why a query has no answer, by kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// No connection became free in `--db-pool-timeout`.
    PoolTimeout,
    /// `--db-queue` requests waited for a connection already.
    QueueFull,
    /// Nobody listens there, or the way there is broken.
    Refused,
    /// The database ended the connection, or is just starting or stopping.
    Restarted,
    /// The database's `max_connections` are all taken.
    TooManyClients,
    /// The user, the password or the database's name is wrong.
    Authentication,
    /// The connection cannot be encrypted, or the database does not show that it is the one.
    Tls,
    /// No answer in `--db-timeout`, or in the database's own `statement_timeout`.
    Timeout,
    /// The database did not understand the query, or could not do it.
    Query,
    /// What came was no answer to what was asked.
    Protocol,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 10] = [
        Kind::PoolTimeout,
        Kind::QueueFull,
        Kind::Refused,
        Kind::Restarted,
        Kind::TooManyClients,
        Kind::Authentication,
        Kind::Tls,
        Kind::Timeout,
        Kind::Query,
        Kind::Protocol,
    ];

    /// Its name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Kind::PoolTimeout => "pool_timeout",
            Kind::QueueFull => "queue_full",
            Kind::Refused => "connection_refused",
            Kind::Restarted => "restarted",
            Kind::TooManyClients => "too_many_clients",
            Kind::Authentication => "authentication",
            Kind::Tls => "tls",
            Kind::Timeout => "timeout",
            Kind::Query => "query",
            Kind::Protocol => "protocol",
        }
    }

    /// What a client is told.
    pub fn describe(self) -> &'static str {
        match self {
            Kind::PoolTimeout => "no connection to the database became free in time",
            Kind::QueueFull => "too many requests wait for a connection to the database",
            Kind::Refused => "the database cannot be reached",
            Kind::Restarted => "the database ended the connection",
            Kind::TooManyClients => "the database has no room for another connection",
            Kind::Authentication => "the database does not let this server in",
            Kind::Tls => "there is no encrypted connection to the database",
            Kind::Timeout => "the database did not answer in time",
            Kind::Query => "the database could not do the query",
            Kind::Protocol => "the database answered something else",
        }
    }

    /// What the operator does about it at the start.
    pub(crate) fn advice(self) -> &'static str {
        match self {
            Kind::Refused => "start PostgreSQL, or correct host and port in --db",
            Kind::Restarted => "wait until it is up, and look into its log",
            Kind::TooManyClients => "raise its max_connections, or lower --db-pool",
            Kind::Authentication => "correct user, password and name in --db (or C10K_DB)",
            Kind::Tls => "correct sslmode and sslrootcert in --db (or C10K_DB), or the database's certificate",
            Kind::Timeout => "look whether it is stopped, or raise --db-timeout",
            Kind::Query => "create the tables: psql -f scripts/people.sql",
            Kind::PoolTimeout | Kind::QueueFull | Kind::Protocol => "look whether --db names a PostgreSQL",
        }
    }
}

/// Why a query has no answer. It never says the password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {detail}", kind.describe())]
pub struct Error {
    /// What kind of reason it is.
    pub kind: Kind,
    detail: Cow<'static, str>,
}

impl Error {
    /// An error with more about its reason.
    pub fn new(kind: Kind, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, detail: detail.into() }
    }

    /// What came was no answer to what was asked.
    pub(crate) fn protocol(error: io::Error) -> Self {
        Self::new(Kind::Protocol, error.to_string())
    }

    /// It took longer than `--db-timeout`.
    pub fn timeout() -> Self {
        Self::new(Kind::Timeout, "see --db-timeout")
    }

    /// No connection became free in `--db-pool-timeout`.
    pub fn pool_timeout() -> Self {
        Self::new(Kind::PoolTimeout, "see --db-pool and --db-pool-timeout")
    }

    /// So many waited already.
    pub fn queue_full(max_waiting: usize) -> Self {
        Self::new(Kind::QueueFull, format!("{max_waiting} wait, see --db-queue"))
    }

    /// The database closed the connection and did not say why.
    pub fn closed() -> Self {
        Self::new(Kind::Restarted, "it closed without a word")
    }

    /// The error of a socket.
    pub fn socket(error: &io::Error) -> Self {
        let kind = match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => return Self::timeout(),
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof => {
                Kind::Restarted
            }
            _ => Kind::Refused,
        };
        Self::new(kind, error.to_string())
    }

    /// What the database complains of, and whether it ends the connection by that.
    pub(crate) fn response(body: &ErrorResponseBody) -> Result<(Self, bool), Self> {
        let (mut severity, mut code, mut message) = (String::new(), String::new(), String::new());
        let mut fields = body.fields();
        while let Some(field) = fields.next().map_err(Self::protocol)? {
            let value = || String::from_utf8_lossy(field.value_bytes()).into_owned();
            match field.type_() {
                // The second is never translated, and comes after the first.
                b'S' | b'V' => severity = value(),
                b'C' => code = value(),
                b'M' => message = value(),
                _ => {}
            }
        }
        let is_fatal = matches!(severity.as_str(), "FATAL" | "PANIC");
        Ok((Self::new(kind_of(&code), format!("{message} ({code})")), is_fatal))
    }
}

/// The kind of an SQLSTATE code (PostgreSQL, Appendix A).
fn kind_of(code: &str) -> Kind {
    match code {
        "53300" => Kind::TooManyClients,
        "57P01" | "57P02" | "57P03" => Kind::Restarted,
        "57014" => Kind::Timeout,
        "3D000" => Kind::Authentication,
        _ if code.starts_with("28") => Kind::Authentication,
        _ => Kind::Query,
    }
}
