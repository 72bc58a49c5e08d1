//! What peers have in common, servers and load generators: a file each, programs that must be installed, a version.

use std::env;
use std::process::{Command, Stdio};

use anyhow::{Result, ensure};
use serde::Deserialize;

use crate::machine::command_line::WrongArguments;
use crate::machine::host;

/// Debian keeps servers there, where the PATH of a user does not look.
const MORE_PATH: &str = "/usr/local/sbin:/usr/sbin:/sbin";
/// What to say where none of the chosen peers is installed.
pub(crate) const NOTHING_INSTALLED: &str = "there is nothing to compare: --list shows what can be installed";

/// Whether a peer's file says that it is a load generator; all others are servers.
///
/// # Errors
/// It is no TOML.
pub(super) fn is_client(text: &str) -> Result<bool> {
    #[derive(Deserialize)]
    struct Head {
        kind: Option<String>,
    }
    Ok(toml::from_str::<Head>(text)?.kind.as_deref() == Some("client"))
}

/// Checks the name of a peer, which is for tables and command lines.
///
/// # Errors
/// There is none, or a terminal would not show it.
pub(super) fn check_name(name: &str) -> Result<()> {
    ensure!(!name.trim().is_empty(), "its name is empty");
    ensure!(!name.chars().any(char::is_control), "its name has characters that nobody can see: {name:?}");
    Ok(())
}

/// The error of a load generator among servers.
pub(crate) fn not_a_server(name: &str) -> WrongArguments {
    WrongArguments(format!(
        "{name} is a load generator: `loadtest peers --clients` compares those, and servers have a run of their own"
    ))
}

/// The error of a server among load generators.
pub(crate) fn not_a_client(name: &str) -> WrongArguments {
    WrongArguments(format!(
        "{name} is a server: `loadtest peers` without --clients compares those, and the file of a load generator has \
         kind = \"client\""
    ))
}

/// Which of these programs is missing, and how to install it.
pub(super) fn missing(programs: &[String], install: &str) -> Option<String> {
    let missing = programs.iter().find(|program| !is_installed(program))?;
    Some(format!("{missing} is not installed: {install}"))
}

fn is_installed(program: &str) -> bool {
    let path = format!("{}:{MORE_PATH}", env::var("PATH").unwrap_or_default());
    host::is_in(path.as_ref(), program)
}

/// What a shell is to run, with all programs in its path.
pub(super) fn with_path(command: &str) -> String {
    format!("PATH=$PATH:{MORE_PATH}; {command}")
}

/// The same with as many open files as allowed: many raise that limit by themselves, and all may have as many.
pub(super) fn with_limits(command: &str) -> String {
    with_path(&format!("ulimit -n \"$(ulimit -Hn)\"; {command}"))
}

/// This command in a shell.
pub(super) fn shell(command: &str) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", &with_path(command)]).stdin(Stdio::null());
    shell
}

/// The version in what this command prints.
pub(super) fn version(command: &str) -> Option<String> {
    let said = shell(command).output().ok()?;
    version_in(&[said.stdout, said.stderr].concat())
}

/// The first number with a dot or a `v` in what a program says of its version.
fn version_in(said: &[u8]) -> Option<String> {
    let said = String::from_utf8_lossy(said);
    let words = said.split(|character: char| character.is_whitespace() || "/()\"".contains(character));
    let starts_with_digit = |word: &str| word.starts_with(|character: char| character.is_ascii_digit());
    let versions = words.map(|word| word.trim_start_matches("go").trim_start_matches('v').trim_end_matches(','));
    versions.filter(|word| starts_with_digit(word) && word.contains('.')).map(str::to_owned).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_found_in_what_programs_say() {
        for (said, expected) in [
            ("nginx version: nginx/1.22.1\n", "1.22.1"),
            ("Server version: Apache/2.4.62 (Debian)\n", "2.4.62"),
            ("h2o version 2.2.5\nOpenSSL: 3\n", "2.2.5"),
            ("go version go1.19.8 linux/amd64\n", "1.19.8"),
            ("v20.20.2\n", "20.20.2"),
            ("openjdk 17.0.13 2024-10-15\n", "17.0.13"),
            ("lighttpd/1.4.69 (ssl) - a light and fast webserver\n", "1.4.69"),
            ("wrk debian/4.1.0-3+b2 [epoll] Copyright (C) 2012 Will Glozer\n", "4.1.0-3+b2"),
            ("oha 1.16.0\n", "1.16.0"),
        ] {
            assert_eq!(version_in(said.as_bytes()).as_deref(), Some(expected), "{said}");
        }
        assert_eq!(version_in(b"no idea"), None);
    }

    #[test]
    fn a_file_of_a_load_generator_says_so() {
        assert!(is_client("kind = 'client'\nname = 'wrk'").unwrap());
        assert!(!is_client("name = 'nginx'").unwrap() && !is_client("kind = 'server'").unwrap());
        assert!(is_client("kind =").is_err() && is_client("kind = 3").is_err());
    }

    #[test]
    fn a_name_can_be_shown() {
        assert!(check_name("free-threaded 3.13").is_ok());
        for name in ["", " ", "a\u{1b}[31mb", "a\nb"] {
            assert!(check_name(name).is_err(), "{name:?}");
        }
    }
}
