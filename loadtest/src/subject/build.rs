//! Builds the project's servers.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;

use results::Target;

use crate::machine::interrupt::Interrupt;

/// The cargo package of a server, also the name of its binary.
pub(crate) fn package(target: Target) -> &'static str {
    match target {
        Target::Prefork => "server-prefork",
        Target::Threads => "server-threads",
        Target::Threadpool => "server-threadpool",
        Target::Async | Target::AsyncCodec => "server-async",
    }
}

/// The flags that select the server's mode.
pub(crate) fn mode_flags(target: Target) -> &'static [&'static str] {
    match target {
        Target::Async => &["--http", "hyper"],
        Target::AsyncCodec => &["--http", "codec"],
        _ => &[],
    }
}

/// The executables by target.
pub(crate) type Executables = HashMap<Target, PathBuf>;

/// Builds the servers in release mode, whatever profile loadtest itself has, before anything is measured. `None` if
/// interrupted.
pub(crate) fn build(targets: &[Target], interrupt: &Interrupt) -> Result<Option<Executables>> {
    match build_all(targets, interrupt) {
        Err(_) if interrupt.is_raised() => Ok(None),
        built => built.map(Some),
    }
}

fn build_all(targets: &[Target], interrupt: &Interrupt) -> Result<Executables> {
    let mut executables = Executables::new();
    if targets.is_empty() {
        return Ok(executables);
    }
    let workspace = workspace()?;
    for &target in targets {
        executables.insert(target, build_package(&workspace, package(target), interrupt)?);
    }
    Ok(executables)
}

/// The workspace that loadtest was built from, with the sources of the servers.
fn workspace() -> Result<PathBuf> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    let workspace = own.parent().unwrap_or(own);
    ensure!(
        workspace.join("Cargo.toml").exists(),
        "loadtest was built in {}, but the sources of the servers are no longer there: run it from a checkout \
         with `cargo run -p loadtest -- --target ...`",
        workspace.display()
    );
    Ok(workspace.to_owned())
}

fn build_package(workspace: &Path, package: &str, interrupt: &Interrupt) -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut command = Command::new(&cargo);
    command.args(["build", "--release", "--package", package, "--message-format=json-render-diagnostics"]);
    command.current_dir(workspace).stdin(Stdio::null()).stdout(Stdio::piped()).process_group(0);
    let mut child = command.spawn().with_context(|| format!("cannot run {} to build {package}", cargo.display()))?;
    interrupt.guard_disposable(child.id() as i32);
    let mut executable = None;
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).lines() {
            executable = executable_in(&line?, package).or(executable);
        }
    }
    let status = child.wait()?;
    interrupt.guard(0);
    if !status.success() {
        bail!("cannot build {package} ({status}); see cargo's output above");
    }
    executable.with_context(|| format!("cargo built {package}, but named no executable"))
}

/// The executable's path from cargo's messages: it depends on CARGO_TARGET_DIR, the configuration and the platform.
fn executable_in(message: &str, package: &str) -> Option<PathBuf> {
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
    let is_ours = artifact.reason == "compiler-artifact"
        && artifact.target.name == package
        && artifact.target.kind.iter().any(|kind| kind == "bin");
    artifact.executable.filter(|_| is_ours)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_executable_is_read_from_cargos_messages() {
        let artifact = r#"{"reason":"compiler-artifact","package_id":"x","target":{"kind":["bin"],"name":"server-async"},
            "executable":"/t/release/server-async","fresh":true}"#;
        assert_eq!(executable_in(artifact, "server-async"), Some("/t/release/server-async".into()));
        assert_eq!(executable_in(artifact, "server-threads"), None);
        assert_eq!(executable_in(r#"{"reason":"build-finished","success":true}"#, "server-async"), None);
        assert_eq!(executable_in("warning: not JSON", "server-async"), None);
    }
}
