//! How the project's servers are built.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

use results::Target;

use crate::machine::interrupt::Interrupt;

/// The profile that loadtest was built in: see `build.rs`.
const PROFILE: &str = env!("CARGO_PROFILE");

/// The cargo package of a server, which is also the name of its binary.
pub(crate) fn package(target: Target) -> &'static str {
    match target {
        Target::Prefork => "server-prefork",
        Target::Threads => "server-threads",
        Target::Threadpool => "server-threadpool",
        Target::Async | Target::AsyncCodec => "server-async",
    }
}

/// The flags that select the mode of the server.
pub(crate) fn mode_flags(target: Target) -> &'static [&'static str] {
    match target {
        Target::Async => &["--http", "hyper"],
        Target::AsyncCodec => &["--http", "codec"],
        _ => &[],
    }
}

/// The executables of some targets.
pub(crate) type Executables = HashMap<Target, PathBuf>;

/// Builds the servers, in the profile that loadtest itself was built in, before anything is measured: both profiles optimise
/// fully, and the dependencies that loadtest shares with the servers are built once. Nothing if the user has interrupted it.
pub(crate) fn build(targets: &[Target], interrupt: &Interrupt) -> Result<Option<Executables>> {
    if targets.is_empty() {
        return Ok(Some(Executables::new()));
    }
    match build_packages(&workspace()?, targets, interrupt) {
        Err(_) if interrupt.is_raised() => Ok(None),
        built => built.map(Some),
    }
}

/// The workspace that loadtest was built from: it holds the sources of the servers.
fn workspace() -> Result<PathBuf> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    let workspace = own.parent().unwrap_or(own);
    ensure!(
        workspace.join("Cargo.toml").exists(),
        "the sources of the servers are not in {} any more, where loadtest was built: run it from a checkout, \
         with `cargo run -p loadtest -- --target ...`",
        workspace.display()
    );
    Ok(workspace.to_owned())
}

fn build_packages(workspace: &Path, targets: &[Target], interrupt: &Interrupt) -> Result<Executables> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut command = Command::new(&cargo);
    command.args(["build", "--profile", PROFILE, "--message-format=json-render-diagnostics"]);
    // All of them, whatever is measured: a server is the same one whether or not others are measured with it.
    command.args(Target::ALL.into_iter().flat_map(|target| ["--package", package(target)]));
    command.current_dir(workspace).stdin(Stdio::null()).stdout(Stdio::piped()).process_group(0);
    let mut child =
        command.spawn().with_context(|| format!("{} cannot be run to build the servers", cargo.display()))?;
    interrupt.guard_idle(child.id() as i32);
    let mut built = HashMap::new();
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).lines() {
            built.extend(executable_in(&line?));
        }
    }
    let status = child.wait()?;
    interrupt.guard(0);
    ensure!(status.success(), "the servers could not be built ({status}); cargo has said why above");
    let executable = |&target: &Target| {
        let executable = built.get(package(target)).cloned();
        Ok((target, executable.with_context(|| format!("cargo has named no executable of {}", package(target)))?))
    };
    targets.iter().map(executable).collect()
}

/// The name of a binary, and where cargo has put it, which depends on CARGO_TARGET_DIR, its configuration and the platform.
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
    fn the_executable_is_read_from_cargos_messages() {
        let artifact = r#"{"reason":"compiler-artifact","package_id":"x","target":{"kind":["bin"],"name":"server-async"},
            "executable":"/t/release/server-async","fresh":true}"#;
        assert_eq!(executable_in(artifact), Some(("server-async".into(), "/t/release/server-async".into())));
        assert_eq!(executable_in(r#"{"reason":"build-finished","success":true}"#), None);
        assert_eq!(executable_in("warning: not JSON"), None);
    }
}
