//! Builds the project's servers, and what else is measured; or finds them beside loadtest.

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsString;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use common::db::Latency;
use common::postgres::target::Url;
use serde::Deserialize;

use results::Target;

use super::launch;
use crate::machine::host;
use crate::machine::interrupt::Interrupt;
use crate::machine::terminal::say;

/// The cargo package of a server, also the name of its binary.
pub(crate) fn package(target: Target) -> &'static str {
    match target {
        Target::Prefork => "server-prefork",
        Target::Threads => "server-threads",
        Target::Threadpool => "server-threadpool",
        Target::Async | Target::AsyncCodec | Target::AsyncUring => "server-async",
    }
}

/// The flags that select the server's mode.
fn mode_flags(target: Target) -> &'static [&'static str] {
    match target {
        Target::Async => &["--http", "hyper"],
        Target::AsyncCodec => &["--http", "codec"],
        Target::AsyncUring => &["--http", "codec", "--driver", "uring"],
        _ => &[],
    }
}

/// A server's command line with what every experiment and run has: free ports, this database, its mode.
pub(crate) fn command(target: Target, executable: &Path, db_wait: Latency) -> Vec<String> {
    let mut command = vec![executable.to_string_lossy().into_owned()];
    let db_wait = db_wait.to_string();
    command.extend(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--db-wait", &db_wait].map(String::from));
    command.extend(mode_flags(target).iter().map(ToString::to_string));
    // loadtest reads the ledger itself, when that disturbs nothing.
    command.extend(["--ledger-interval", "1h"].map(String::from));
    command
}

/// The executables by target.
pub(crate) type Executables = HashMap<Target, PathBuf>;

/// Builds the servers in release, whatever profile loadtest itself has, before anything is measured: with fewer
/// optimisations a thread touches one more page of its stack. `None` if interrupted.
pub(crate) fn build(targets: &[Target], interrupt: &Interrupt) -> Result<Option<Executables>> {
    if targets.is_empty() {
        return Ok(Some(Executables::new()));
    }
    let packages: BTreeSet<_> = targets.iter().map(|&target| package(target)).collect();
    // Not always: the build takes longer, and what is measured would not be the usual server.
    let features = if needs_tls(std::env::args_os().chain(std::env::var_os("C10K_DB"))) { &["tls"][..] } else { &[] };
    let Some(built) = build_packages(&Vec::from_iter(packages), features, interrupt)? else { return Ok(None) };
    let executable = |&target: &Target| Ok((target, named(&built, package(target))?));
    targets.iter().map(executable).collect::<Result<_>>().map(Some)
}

/// Whether one of these, the flags of servers among them, names a database that is to be asked over TLS.
fn needs_tls(mut given: impl Iterator<Item = OsString>) -> bool {
    let names_it = |text: &str| text.trim_start_matches("--db=").parse().is_ok_and(|url: Url| url.needs_tls());
    given.any(|text| text.to_str().is_some_and(names_it))
}

/// Builds the measurements of `primitives` in release. `None` if interrupted.
///
/// Not together with the servers: cargo would unite the features of what both use, and change the servers.
pub(crate) fn build_primitives(interrupt: &Interrupt) -> Result<Option<PathBuf>> {
    let package = "primitives";
    let Some(built) = build_packages(&[package], &[], interrupt)? else { return Ok(None) };
    named(&built, package).map(Some)
}

fn named(built: &HashMap<String, PathBuf>, package: &str) -> Result<PathBuf> {
    built.get(package).cloned().with_context(|| format!("cargo named no executable of {package}"))
}

/// The executables of these packages by name: built, or, where cargo or the sources are not, those beside loadtest. `None`
/// if interrupted.
fn build_packages(
    packages: &[&str],
    features: &[&str],
    interrupt: &Interrupt,
) -> Result<Option<HashMap<String, PathBuf>>> {
    match cargo_and_workspace() {
        Ok((cargo, workspace)) => match run_cargo(&cargo, workspace, packages, features, interrupt) {
            Err(_) if interrupt.is_raised() => Ok(None),
            built => built.map(Some),
        },
        Err(why) => {
            let own = std::env::current_exe().context("cannot find loadtest's own executable")?;
            beside(own.parent().unwrap_or(&own), packages, &why).map(Some)
        }
    }
}

/// Cargo, and the workspace that loadtest was built from, with the sources of the servers; or why it cannot build them.
fn cargo_and_workspace() -> Result<(String, &'static Path), String> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    let workspace = own.parent().unwrap_or(own);
    if !workspace.join("Cargo.toml").exists() {
        return Err(format!("their sources are not in {}", workspace.display()));
    }
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_there = if cargo.contains('/') { Path::new(&cargo).is_file() } else { host::is_in(&path, &cargo) };
    if is_there { Ok((cargo, workspace)) } else { Err(format!("there is no {cargo} in PATH to build them")) }
}

/// The executables of these names in loadtest's own folder.
fn beside(folder: &Path, packages: &[&str], why_not_built: &str) -> Result<HashMap<String, PathBuf>> {
    let found = |package: &&str| {
        let path = folder.join(package);
        ensure!(
            path.is_file(),
            "{package} is not beside loadtest, in {}, and cannot be built: {why_not_built}. Put the servers there, or run \
             `cargo run -p loadtest -- --target ...` in a checkout",
            folder.display()
        );
        Ok(((*package).to_owned(), path))
    };
    let found = packages.iter().map(found).collect::<Result<_>>()?;
    say(format_args!("taking the servers beside loadtest, in {}: {why_not_built}", folder.display()));
    Ok(found)
}

fn run_cargo(
    cargo: &str,
    workspace: &Path,
    packages: &[&str],
    features: &[&str],
    interrupt: &Interrupt,
) -> Result<HashMap<String, PathBuf>> {
    let mut argv = [cargo, "build", "--release", "--message-format=json-render-diagnostics"].map(String::from).to_vec();
    argv.extend(packages.iter().flat_map(|package| ["--package", package]).map(String::from));
    argv.extend(features.iter().flat_map(|feature| ["--features", feature]).map(String::from));
    // A guard kills what cargo starts, too.
    let guarded = launch::start(&argv, &[], None, |command| {
        command.current_dir(workspace).stdout(Stdio::piped());
    });
    let mut child = guarded.with_context(|| format!("cannot run {cargo} to build {}", packages.join(", ")))?;
    let child = &mut child.guard;
    interrupt.guard_disposable(child.id() as i32);
    let mut built = HashMap::new();
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).lines() {
            built.extend(executable_in(&line?));
        }
    }
    let status = child.wait()?;
    interrupt.guard(0);
    ensure!(status.success(), "cannot build {} ({status}); see cargo's output above", packages.join(", "));
    Ok(built)
}

/// A binary's name and path from cargo's messages: the path depends on CARGO_TARGET_DIR, the configuration and the
/// platform.
fn executable_in(message: &str) -> Option<(String, PathBuf)> {
    #[derive(Deserialize)]
    struct Artifact {
        reason: String,
        target: ArtifactTarget,
        executable: Option<PathBuf>,
    }
    #[derive(Deserialize)]
    struct ArtifactTarget {
        name: String,
        kind: Vec<String>,
    }
    let artifact: Artifact = serde_json::from_str(message).ok()?;
    let is_binary = artifact.reason == "compiler-artifact" && artifact.target.kind.iter().any(|kind| kind == "bin");
    Some((artifact.target.name, artifact.executable.filter(|_| is_binary)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_installed_loadtest_takes_the_servers_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let error = beside(folder.path(), &["server-async"], "no cargo").unwrap_err().to_string();
        assert!(error.contains(folder.path().to_str().unwrap()) && error.contains("built: no cargo"), "{error}");
        std::fs::write(folder.path().join("server-async"), "").unwrap();
        let found = beside(folder.path(), &["server-async"], "no cargo").unwrap();
        assert_eq!(found["server-async"], folder.path().join("server-async"));
    }

    #[test]
    fn tls_is_built_in_for_who_asks_for_it() {
        for (given, needs) in [
            (&["loadtest", "-c", "10", "http://a?sslmode=require"][..], false),
            (&["--", "--db", "postgres://a@b?sslmode=prefer"], false),
            (&["--", "--db", "postgres://a@b?sslmode=require"], true),
            (&["--", "--db=postgres://a@b?sslmode=verify-full&sslrootcert=/c"], true),
            (&["postgres://a@b?sslmode=require&host=/run/postgresql"], false),
        ] {
            assert_eq!(needs_tls(given.iter().map(OsString::from)), needs, "{given:?}");
        }
    }

    #[test]
    fn the_executable_is_read_from_cargos_messages() {
        let artifact = r#"{"reason":"compiler-artifact","package_id":"x","target":{"kind":["bin"],"name":"server-async"},
            "executable":"/t/release/server-async","fresh":true}"#;
        assert_eq!(executable_in(artifact), Some(("server-async".into(), "/t/release/server-async".into())));
        assert_eq!(executable_in(r#"{"reason":"build-finished","success":true}"#), None);
        assert_eq!(executable_in("warning: not JSON"), None);
    }
}
