//! Our own command line for a result, which others may read.

use std::error::Error;
use std::fmt;

use super::hash;

/// The headers whose values are not for others.
const SECRET_HEADERS: [&str; 4] = ["authorization", "proxy-authorization", "cookie", "x-api-key"];

/// An argument is wrong, which showed only after the command line was parsed: the exit status is 2 then, too.
#[derive(Debug)]
pub(crate) struct WrongArguments(pub(crate) String);

impl WrongArguments {
    /// Whatever kept a subcommand from its verdict, where a status of 1 is one.
    pub(crate) fn from(error: &anyhow::Error) -> Self {
        Self(format!("{error:#}"))
    }
}

impl fmt::Display for WrongArguments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for WrongArguments {}

/// The arguments of this process without secrets.
pub(crate) fn own() -> Vec<String> {
    let program = std::iter::once("loadtest".to_owned());
    program.chain(std::env::args().skip(1).map(|argument| without_secret(&argument))).collect()
}

/// A header, an option with one, or a URL with a password; two different secrets still differ.
pub(crate) fn without_secret(argument: &str) -> String {
    if let Some((before, password, after)) = password(argument) {
        return format!("{before}SHA-256 {}{after}", hash::sha256(password));
    }
    let Some((name, value)) = argument.split_once(':') else { return argument.to_owned() };
    let header = name.trim_start_matches("--header=").trim_start_matches("-H").trim();
    match SECRET_HEADERS.iter().any(|secret| header.eq_ignore_ascii_case(secret)) {
        true => format!("{name}: SHA-256 {}", hash::sha256(value.trim())),
        false => argument.to_owned(),
    }
}

/// The password of a URL, and what is before and after it.
fn password(argument: &str) -> Option<(&str, &str, &str)> {
    let authority = argument.find("://")? + "://".len();
    let end = argument[authority..].find(['/', '?', '#']).map_or(argument.len(), |end| authority + end);
    let at = authority + argument[authority..end].rfind('@')?;
    let colon = authority + argument[authority..at].find(':')?;
    Some((&argument[..=colon], &argument[colon + 1..at], &argument[at..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_hidden_however_they_are_given() {
        for argument in ["authorization: hunter2", "-HCookie:hunter2", "--header=X-API-Key: hunter2"] {
            let hidden = without_secret(argument);
            assert!(hidden.contains(": SHA-256 ") && !hidden.contains("hunter2"), "{hidden}");
        }
        for url in ["postgres://c10k:hunter2@127.0.0.1:5432/c10k", "--db=postgres://c10k:hunter2@/c10k?host=/tmp"] {
            let hidden = without_secret(url);
            assert!(hidden.contains("//c10k:SHA-256 ") && !hidden.contains("hunter2"), "{hidden}");
            assert_eq!(
                hidden.rsplit_once('@'),
                url.rsplit_once('@').map(|(_, rest)| (hidden.rsplit_once('@').unwrap().0, rest))
            );
        }
        assert_ne!(without_secret("Cookie: a"), without_secret("Cookie: b"));
        for plain in ["Accept: text/html", "http://localhost:80/", "http://a/b:c@d", "postgres://c10k@[::1]/a", "-c"] {
            assert_eq!(without_secret(plain), plain);
        }
    }
}
