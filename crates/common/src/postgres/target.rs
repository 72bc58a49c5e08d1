//! Where the database is, and who asks.

use std::convert::Infallible;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use super::tls::Tls;
use super::trust::Trust;

/// PostgreSQL's port.
const DEFAULT_PORT: u16 = 5432;

/// A URL as it was given. It may have a password in it, and is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Url(String);

impl FromStr for Url {
    type Err = Infallible;

    /// Takes any text: what is wrong with it is said by [`target`](Self::target), for clap would show the text.
    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Url(..)")
    }
}

/// Where the database listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// A name or an address.
    Tcp(String),
    /// The folder of its socket.
    Unix(PathBuf),
}

/// Where the database is, and who asks. Neither [`fmt::Display`] nor [`fmt::Debug`] shows the password.
#[derive(Clone)]
pub struct Target {
    /// Where it listens.
    pub host: Host,
    /// At which port; a socket in a folder is named after it, too.
    pub port: u16,
    /// Who asks.
    pub user: String,
    pub(crate) password: String,
    /// Which of its databases is asked.
    pub database: String,
    /// Whether a connection keeps the statements that were prepared on it. PgBouncer's does not in transaction mode.
    pub keeps_statements: bool,
    /// How connections to it are encrypted, if they are.
    pub(super) tls: Option<Tls>,
}

/// What its parameters say of TLS.
#[derive(Default)]
struct Wanted {
    trust: Option<Trust>,
    roots: Option<String>,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { user, port, database, .. } = self;
        match &self.host {
            Host::Tcp(host) if host.contains(':') => write!(f, "postgres://{user}@[{host}]:{port}/{database}"),
            Host::Tcp(host) => write!(f, "postgres://{user}@{host}:{port}/{database}"),
            Host::Unix(folder) => write!(f, "postgres://{user}@:{port}/{database}?host={}", folder.display()),
        }
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Target({self})")
    }
}

impl Url {
    /// Whether it needs a server that was built with TLS.
    pub fn needs_tls(&self) -> bool {
        let needs = |(target, wanted): (Target, Wanted)| target.encryption(&wanted).is_some();
        self.parse().is_ok_and(needs)
    }

    /// What the URL names, and what the files have in them that it names.
    ///
    /// # Errors
    /// What is wrong with it, without the text itself.
    pub fn target(&self) -> Result<Target, String> {
        let parsed = self.parse().map_err(|why| format!("{why}; write postgres://USER:PASSWORD@HOST:PORT/NAME"));
        let (mut target, wanted) = parsed?;
        if let Some((host, trust)) = target.encryption(&wanted) {
            target.tls = Some(Tls::new(trust, wanted.roots.as_deref(), host)?);
        }
        Ok(target)
    }

    fn parse(&self) -> Result<(Target, Wanted), &'static str> {
        let rest = self.0.strip_prefix("postgres://").or_else(|| self.0.strip_prefix("postgresql://"));
        let rest = rest.ok_or("it does not begin with postgres://")?;
        let (rest, parameters) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
        let (who, address) = authority.rsplit_once('@').ok_or("it names no user")?;
        let (user, password) = who.split_once(':').unwrap_or((who, ""));
        let (host, port) = split_port(address)?;
        let user = decoded(user)?;
        let database = Some(decoded(database)?).filter(|name| !name.is_empty()).unwrap_or_else(|| user.clone());
        if user.is_empty() {
            return Err("it names no user");
        }
        let host = match decoded(host)? {
            folder if folder.starts_with('/') => Host::Unix(folder.into()),
            host => Host::Tcp(host),
        };
        let password = decoded(password)?;
        let mut target = Target { host, port, user, password, database, keeps_statements: true, tls: None };
        let mut wanted = Wanted::default();
        for parameter in parameters.split('&').filter(|parameter| !parameter.is_empty()) {
            target.set(parameter, &mut wanted)?;
        }
        match &target.host {
            Host::Tcp(host) if host.is_empty() => Err("it names no host"),
            // What the protocol ends a text with.
            _ if [&target.user, &target.password, &target.database].iter().any(|text| text.contains('\0')) => {
                Err("it has a %00 in it")
            }
            _ => Ok((target, wanted)),
        }
    }
}

impl Target {
    /// For which host to encrypt, and what it has to show.
    fn encryption(&self, wanted: &Wanted) -> Option<(&str, Trust)> {
        match &self.host {
            Host::Tcp(host) => Some((host, wanted.trust?)),
            // Nobody can listen between this server and a socket in a folder: libpq encrypts nothing there either.
            Host::Unix(_) => None,
        }
    }

    fn set(&mut self, parameter: &str, wanted: &mut Wanted) -> Result<(), &'static str> {
        let (name, value) = parameter.split_once('=').ok_or("a parameter has no value")?;
        match (name, decoded(value)?.as_str()) {
            ("host", folder) if folder.starts_with('/') => self.host = Host::Unix(folder.into()),
            ("host", host) => self.host = Host::Tcp(host.to_owned()),
            ("pgbouncer", "true") => self.keeps_statements = false,
            ("pgbouncer", "false") => {}
            ("sslmode", mode) => wanted.trust = Trust::of(mode)?,
            ("sslrootcert", file) => wanted.roots = Some(file.to_owned()),
            _ => return Err("its parameters may be host=/FOLDER, pgbouncer=true, sslmode and sslrootcert"),
        }
        Ok(())
    }
}

fn split_port(address: &str) -> Result<(&str, u16), &'static str> {
    let (host, port) = match address.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, port)) => (host, port.strip_prefix(':')),
        None => address.rsplit_once(':').map_or((address, None), |(host, port)| (host, Some(port))),
    };
    match port.map(str::parse) {
        None => Ok((host, DEFAULT_PORT)),
        Some(Ok(port)) => Ok((host, port)),
        Some(Err(_)) => Err("its port is no number"),
    }
}

/// The text without percent-encoding (RFC 3986 §2.1).
fn decoded(text: &str) -> Result<String, &'static str> {
    let mut pieces = text.split('%');
    let mut bytes = pieces.next().unwrap_or_default().as_bytes().to_vec();
    for piece in pieces {
        let digits = piece.get(..2).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
        let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(byte.ok_or("a % in it is not followed by two hexadecimal digits: write %25 for the sign")?);
        bytes.extend_from_slice(&piece.as_bytes()[2..]);
    }
    String::from_utf8(bytes).map_err(|_| "it is not UTF-8")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(url: &str) -> Result<Target, String> {
        Url(url.to_owned()).target()
    }

    #[test]
    fn a_url_names_all_parts() {
        let found = target("postgres://ada:p%40ss%2F@db.example:6432/people?pgbouncer=true").unwrap();
        assert_eq!((found.host.clone(), found.port), (Host::Tcp("db.example".into()), 6432));
        assert_eq!((&*found.user, &*found.password, &*found.database), ("ada", "p@ss/", "people"));
        assert!(!found.keeps_statements);
        let found = target("postgresql://ada@[::1]").unwrap();
        assert_eq!((found.host, found.port, found.database), (Host::Tcp("::1".into()), 5432, "ada".into()));
        for url in ["postgres://ada@:7/x?host=/run/pg", "postgres://ada@%2Frun%2Fpg:7/x"] {
            let found = target(url).unwrap();
            assert_eq!((found.host, found.port), (Host::Unix("/run/pg".into()), 7), "{url}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for url in [
            "",
            "nonsense",
            "http://a@b",
            "postgres://host/name",
            "postgres://:secret@host",
            "postgres://a@",
            "postgres://a@host:x",
            "postgres://a%0@host",
            "postgres://a%00@host",
            "postgres://a@host?sslmode=verify-full",
            "postgres://a@host?sslmode=verify-ca&sslrootcert=system",
            "postgres://a@host?sslmode=verify-ca&sslrootcert=/nowhere",
            "postgres://a@host?sslmode=yes",
            "postgres://a@host?other=1",
        ] {
            target(url).expect_err(url);
        }
    }

    #[test]
    fn tls_is_for_who_asks_for_it_and_is_built_with_it() {
        for parameters in
            ["", "?sslmode=disable&sslrootcert=/nowhere", "?sslmode=prefer", "?sslmode=require&host=/run/pg"]
        {
            assert!(target(&format!("postgres://a@host{parameters}")).unwrap().tls.is_none(), "{parameters}");
        }
        let url = Url("postgres://a@host?sslmode=require".into());
        assert!(url.needs_tls() && !Url("postgres://sslmode=require@host?sslmode=prefer".into()).needs_tls());
        match url.target() {
            Ok(target) => assert!(cfg!(feature = "tls") && target.tls.is_some()),
            Err(why) => assert!(!cfg!(feature = "tls") && why.contains("--features tls"), "{why}"),
        }
    }

    #[test]
    fn nothing_shows_the_password() {
        let url = Url("postgres://ada:hunter2@host/x".into());
        let target = url.target().unwrap();
        let shown = format!("{url:?} {target:?} {target}");
        assert!(shown.contains("ada@host:5432/x") && !shown.contains("hunter2"), "{shown}");
    }
}
