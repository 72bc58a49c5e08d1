//! Servers to compare ours with: data in `loadtest/peers`, or a file of the user's.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io::{Read as _, Seek as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Component, Path};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use common::db::Latency;
use common::limits::DEFAULT_MAX_CONNECTIONS;
use results::Target;
use results::run::Conformance;
use serde::Deserialize;
use tempfile::TempDir;

use super::peer_file::{self, check_name, is_client, not_a_server, shell};
use super::{build, launch};
use crate::machine::interrupt::{Interrupt, kill_group};

/// The peers that loadtest knows.
const BUILT_IN: [&str; 12] = [
    include_str!("../../peers/nginx.toml"),
    include_str!("../../peers/h2o.toml"),
    include_str!("../../peers/lighttpd.toml"),
    include_str!("../../peers/apache-event.toml"),
    include_str!("../../peers/apache-worker.toml"),
    include_str!("../../peers/apache-prefork.toml"),
    include_str!("../../peers/go.toml"),
    include_str!("../../peers/node.toml"),
    include_str!("../../peers/java-virtual-threads.toml"),
    include_str!("../../peers/java-threads.toml"),
    include_str!("../../peers/python-asyncio.toml"),
    include_str!("../../peers/python-threads.toml"),
];
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// A server to compare. In `run`, `build` and the files, `{dir}` is a folder of its own, `{port}` the port to listen on at
/// 127.0.0.1, `{cpus}` how many CPUs there are, and `{slots}` how many connections to be ready for.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Peer {
    /// Its name in tables and on the command line.
    pub(crate) name: String,
    /// How it serves many connections at once.
    pub(crate) model: String,
    /// The programs that must be installed.
    programs: Vec<String>,
    /// How to install them.
    pub(crate) install: String,
    /// A shell command that prints its version.
    version: String,
    /// A shell command that fails if what is installed does not do.
    requires: Option<String>,
    /// A shell command that is run once, before anything is measured.
    build: Option<String>,
    /// A shell command that becomes the server, which must stay in the foreground.
    run: String,
    /// How long it needs after it listens until it is ready, in seconds: to fork 12,000 children.
    #[serde(default)]
    pub(crate) settle_s: u64,
    /// What to ask for; it is answered at once.
    #[serde(default = "root")]
    path: String,
    /// What to ask for to be answered after `{ms}` milliseconds, if it can wait.
    delay_path: Option<String>,
    /// Files that it needs, by name.
    #[serde(default)]
    files: BTreeMap<String, String>,
}

fn root() -> String {
    "/".to_owned()
}

/// A peer that can be started.
#[derive(Debug)]
pub(crate) struct Installed {
    pub(crate) peer: Peer,
    /// What its program says of its version.
    pub(crate) version: Option<String>,
    directory: TempDir,
    /// How many connections it is configured for: all, and some room for those that reconnect.
    slots: usize,
    /// How it keeps to HTTP/1.1, once it was asked.
    pub(crate) conformance: Option<Conformance>,
}

/// All peers that loadtest knows.
///
/// # Errors
/// One of them is wrong, which a test excludes.
pub(crate) fn built_in() -> Result<Vec<Peer>> {
    BUILT_IN.iter().map(|text| toml::from_str(text).context("a peer of loadtest's own")).collect()
}

/// A peer of the user's own.
///
/// # Errors
/// The file cannot be read, or is no peer.
pub(crate) fn read(path: &Path) -> Result<Peer> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read the peer {}", path.display()))?;
    let is_no_peer = || format!("{} is no peer: loadtest/peers has examples", path.display());
    ensure!(!is_client(&text).with_context(is_no_peer)?, not_a_server(&path.display().to_string()));
    let peer: Peer = toml::from_str(&text).with_context(is_no_peer)?;
    check_name(&peer.name).with_context(|| path.display().to_string())?;
    let is_told = peer.files.values().chain([&peer.run]).any(|text| text.contains("{port}"));
    ensure!(is_told, "{}: neither `run` nor a file has {{port}}, which the server must listen on", path.display());
    Ok(peer)
}

/// One of our own servers as a peer.
pub(crate) fn ours(target: Target, executable: &Path) -> Result<Peer> {
    let command = build::command(target, executable, Latency::Fixed(Duration::ZERO));
    let quoted = shlex::try_join(command.iter().map(String::as_str)).context("the path of a server")?;
    let version =
        shlex::try_join([executable.to_string_lossy().as_ref(), "--version"]).context("the path of a server")?;
    let model = match target {
        Target::Prefork => "process per connection",
        Target::Threads => "thread per connection",
        Target::Threadpool => "event loop, with a pool for requests",
        Target::Async => "task per connection, hyper",
        Target::AsyncCodec => "task per connection, our codec",
        Target::AsyncUring => "task per connection, our codec, io_uring",
    };
    Ok(Peer {
        name: target.name().to_owned(),
        model: model.to_owned(),
        programs: Vec::new(),
        install: String::new(),
        version,
        requires: None,
        build: None,
        run: format!("exec {} --max-connections {{slots}}", quoted.replacen("127.0.0.1:0", "127.0.0.1:{port}", 1)),
        settle_s: 0,
        path: root(),
        delay_path: Some("/delay/{ms}".to_owned()),
        files: BTreeMap::new(),
    })
}

impl Peer {
    /// Whether it can be asked to wait.
    pub(crate) fn can_wait(&self) -> bool {
        self.delay_path.is_some()
    }

    /// Why it cannot be run here, if it cannot.
    pub(crate) fn missing(&self) -> Option<String> {
        let install = &self.install;
        if let Some(why) = peer_file::missing(&self.programs, install) {
            return Some(why);
        }
        let is_met = |command: &String| succeeds(shell(command));
        let unmet = self.requires.iter().find(|command| !is_met(command));
        unmet.map(|command| format!("`{command}` fails: {install}"))
    }

    /// Builds it in a folder of its own, for so many connections at most.
    ///
    /// # Errors
    /// It cannot be built: the message has what the build said. Or the user asked to stop.
    pub(crate) fn install(self, connections: usize, interrupt: &Interrupt) -> Result<Installed> {
        let directory = tempfile::Builder::new().prefix("loadtest-peer-").tempdir()?;
        let name = directory.path().to_string_lossy();
        // It goes into commands and configurations of every grammar.
        let is_plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/._-".contains(&byte));
        ensure!(is_plain, "{name} has characters that configurations do not take: set TMPDIR to another folder");
        // Servers that are started as root read the files as somebody else.
        fs::set_permissions(directory.path(), Permissions::from_mode(0o755))?;
        let version = peer_file::version(&self.version);
        let slots = DEFAULT_MAX_CONNECTIONS.max(connections + connections / 5);
        let installed = Installed { peer: self, version, directory, slots, conformance: None };
        installed.write_files(0)?;
        if let Some(build) = &installed.peer.build {
            run_build(&installed.fill(build, 0), interrupt)
                .with_context(|| format!("{} cannot be built", installed.peer.name))?;
        }
        Ok(installed)
    }
}

/// Runs a build to its end; it ends with us, and with the user's patience.
fn run_build(build: &str, interrupt: &Interrupt) -> Result<()> {
    let mut said = tempfile::tempfile()?;
    let (stdout, stderr) = (said.try_clone()?, said.try_clone()?);
    let argv = ["sh", "-c", &peer_file::with_path(build)].map(str::to_owned);
    let mut guarded = launch::start(&argv, &[], None, move |command| {
        command.stdout(stdout).stderr(stderr);
    })?;
    let group = guarded.guard.id() as i32;
    interrupt.guard_disposable(group);
    let status = loop {
        if interrupt.is_raised() {
            kill_group(group);
        }
        match guarded.guard.try_wait()? {
            Some(status) => break status,
            None => thread::sleep(POLL_INTERVAL),
        }
    };
    interrupt.guard(0);
    ensure!(!interrupt.is_raised(), "interrupted");
    let mut text = String::new();
    said.rewind()?;
    let _ = said.read_to_string(&mut text);
    ensure!(status.success(), "{}", text.trim());
    Ok(())
}

impl Installed {
    /// The shell command that becomes the server at this port.
    ///
    /// # Errors
    /// Its files cannot be written.
    pub(crate) fn command(&self, port: u16) -> Result<String> {
        self.write_files(port)?;
        let directory = self.directory();
        let run = self.fill(&self.peer.run, port);
        Ok(peer_file::with_limits(&format!("cd {directory}; {run}")))
    }

    /// What to ask it for.
    ///
    /// # Errors
    /// It cannot wait.
    pub(crate) fn path(&self, wait_ms: u64) -> Result<String> {
        match &self.peer.delay_path {
            _ if wait_ms == 0 => Ok(self.peer.path.clone()),
            Some(path) => Ok(path.replace("{ms}", &wait_ms.to_string())),
            None => bail!("{} cannot wait", self.peer.name),
        }
    }

    fn write_files(&self, port: u16) -> Result<()> {
        for (name, content) in &self.peer.files {
            let is_plain = Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
            ensure!(is_plain, "{name} of the peer {} is not the name of a file", self.peer.name);
            let path = self.directory.path().join(name);
            let written = fs::write(&path, self.fill(content, port));
            let readable = written.and_then(|()| fs::set_permissions(&path, Permissions::from_mode(0o644)));
            readable.with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(())
    }

    fn fill(&self, text: &str, port: u16) -> String {
        let cpus = thread::available_parallelism().map_or(1, usize::from).to_string();
        let (port, slots) = (port.to_string(), self.slots.to_string());
        let values = [("{dir}", &self.directory()), ("{port}", &port), ("{cpus}", &cpus), ("{slots}", &slots)];
        values.into_iter().fold(text.to_owned(), |text, (name, value)| text.replace(name, value))
    }

    fn directory(&self) -> String {
        self.directory.path().to_string_lossy().into_owned()
    }
}

fn succeeds(mut command: Command) -> bool {
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peers_of_loadtest_are_right() {
        let peers = built_in().unwrap();
        let mut names: Vec<_> = peers.iter().map(|peer| peer.name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), BUILT_IN.len(), "a name twice");
        for peer in &peers {
            let texts = peer.files.values().chain([&peer.run]);
            assert!(texts.clone().any(|text| text.contains("{port}")), "{}", peer.name);
            assert!(peer.delay_path.iter().all(|path| path.contains("{ms}")), "{}", peer.name);
        }
    }

    #[test]
    fn a_file_stays_in_its_folder_and_unknown_fields_are_named() {
        let text =
            "name = 'a'\nmodel = 'b'\nprograms = []\ninstall = ''\nversion = ''\nrun = ''\n[files]\n'../a' = ''\n";
        let peer: Peer = toml::from_str(text).unwrap();
        let installed =
            Installed { peer, version: None, directory: TempDir::new().unwrap(), slots: 5, conformance: None };
        assert!(installed.write_files(0).unwrap_err().to_string().contains("../a"));
        let error = toml::from_str::<Peer>(&format!("colour = 'red'\n{text}")).unwrap_err().to_string();
        assert!(error.contains("colour"), "{error}");
    }
}
