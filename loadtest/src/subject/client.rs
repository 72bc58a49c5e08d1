//! Load generators to compare ours with: data in `loadtest/peers`, or a file of the user's.

use std::env;
use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;
use std::process::ExitStatus;

use anyhow::{Context as _, Result, ensure};
use regex::Regex;
use results::clients::OURS;
use results::printable::printable;
use serde::Deserialize;

use super::launch::{self, Guarded};
use super::peer_file::{self, check_name, is_client, not_a_client};
use super::process::describe_exit;
use crate::machine::interrupt::{Interrupt, kill_group};

/// The load generators that loadtest knows. Ours prints what the first prints.
const BUILT_IN: [&str; 2] = [include_str!("../../peers/wrk.toml"), include_str!("../../peers/oha.toml")];
/// As wrk has them by default; more would leave the server no CPU.
const THREADS: usize = 2;
/// No load generator has more to say. What says more is cut off in the middle of a figure.
const MAX_OUTPUT_BYTES: u64 = 1 << 20;

/// A load generator. In `run`, `{url}` is what to load, `{threads}` and `{connections}` with how many of them, and
/// `{seconds}` for how long.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Client {
    /// `client`: without it, a peer is a server.
    #[serde(rename = "kind")]
    _kind: String,
    /// Its name in tables and on the command line.
    pub(crate) name: String,
    /// The programs that must be installed.
    programs: Vec<String>,
    /// How to install them.
    install: String,
    /// A shell command that prints its version.
    version: String,
    /// A shell command that becomes the load generator.
    run: String,
    /// What to look for in what it prints.
    output: Output,
}

/// Regular expressions with a group for each number. Counts are the sum of all groups of all matches.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Output {
    /// How many answers there were.
    requests: Pattern,
    /// Answers a second.
    rps: Option<Pattern>,
    /// The 99th percentile of the latency: with a unit, or in seconds.
    p99: Option<Pattern>,
    /// How many failures there were; none if nothing matches.
    errors: Option<Vec<Pattern>>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "String")]
struct Pattern(Regex);

/// What a load generator says of a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Said {
    /// How many answers there were.
    pub(crate) requests: u64,
    /// Answers a second.
    pub(crate) rps: Option<f64>,
    /// The 99th percentile of the latency.
    pub(crate) p99_us: Option<f64>,
    /// Failures of all kinds.
    pub(crate) errors: Option<u64>,
}

/// All load generators that loadtest knows, ours first.
///
/// # Errors
/// One of them is wrong, which a test excludes; or our own executable is not known.
pub(crate) fn built_in() -> Result<Vec<Client>> {
    let parse = |text: &&str| toml::from_str(text).context("a load generator of loadtest's own");
    let others: Vec<Client> = BUILT_IN.iter().map(parse).collect::<Result<_>>()?;
    let own = env::current_exe().context("cannot find loadtest's own executable")?;
    let own = shlex::try_quote(&own.to_string_lossy()).context("the path of loadtest")?.into_owned();
    let ours = Client {
        name: OURS.to_owned(),
        programs: Vec::new(),
        install: String::new(),
        version: format!("{own} -v"),
        run: format!("exec {own} -t{{threads}} -c{{connections}} -d{{seconds}}s --latency {{url}}"),
        ..others[0].clone()
    };
    Ok([ours].into_iter().chain(others).collect())
}

/// A load generator of the user's own.
///
/// # Errors
/// The file cannot be read, or is of none.
pub(crate) fn read(path: &Path) -> Result<Client> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read the peer {}", path.display()))?;
    let is_no_peer = || format!("{} is no peer: loadtest/peers/wrk.toml is an example", path.display());
    ensure!(is_client(&text).with_context(is_no_peer)?, not_a_client(&path.display().to_string()));
    let client: Client = toml::from_str(&text).with_context(is_no_peer)?;
    check_name(&client.name).with_context(|| path.display().to_string())?;
    ensure!(client.run.contains("{url}"), "{}: `run` has no {{url}}, which it must load", path.display());
    Ok(client)
}

impl Client {
    /// Why it cannot be run here, if it cannot.
    pub(crate) fn missing(&self) -> Option<String> {
        peer_file::missing(&self.programs, &self.install)
    }

    /// What its program says of its version.
    pub(crate) fn version(&self) -> Option<String> {
        peer_file::version(&self.version)
    }

    /// The shell command that loads this URL.
    pub(crate) fn command(&self, connections: usize, seconds: u64, url: &str) -> String {
        // Each thread of wrk has as many connections, and what is left over is not opened.
        let threads = if connections.is_multiple_of(THREADS) { THREADS } else { 1 }.to_string();
        let (connections, seconds) = (connections.to_string(), seconds.to_string());
        let values =
            [("{threads}", &*threads), ("{connections}", &connections), ("{seconds}", &seconds), ("{url}", url)];
        values.into_iter().fold(self.run.clone(), |text, (name, value)| text.replace(name, value))
    }

    /// The figures in what it printed.
    ///
    /// # Errors
    /// It does not say how many answers there were.
    pub(crate) fn figures(&self, printed: &str) -> Result<Said> {
        let Output { requests, rps, p99, errors } = &self.output;
        let requests = requests.sum(printed);
        Ok(Said {
            requests: requests.with_context(|| format!("it does not say how many answers it had: {}", end(printed)))?,
            rps: rps.as_ref().and_then(|pattern| pattern.first(printed)?.parse().ok()).filter(is_possible),
            p99_us: p99.as_ref().and_then(|pattern| micros(pattern.first(printed)?)).filter(is_possible),
            errors: errors.as_ref().map(|patterns| {
                let counts = patterns.iter().filter_map(|pattern| pattern.sum(printed));
                counts.fold(0, u64::saturating_add)
            }),
        })
    }
}

impl TryFrom<String> for Pattern {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let pattern = Regex::new(&text).map_err(|error| error.to_string())?;
        if pattern.captures_len() < 2 {
            return Err(format!("{text} has no group ( ) around a number"));
        }
        Ok(Self(pattern))
    }
}

impl Pattern {
    /// What the group of the first match has.
    fn first<'a>(&self, text: &'a str) -> Option<&'a str> {
        Some(self.0.captures(text)?.get(1)?.as_str())
    }

    /// The sum of all groups of all matches; `None` if there is no match.
    fn sum(&self, text: &str) -> Option<u64> {
        let matches = self.0.captures_iter(text);
        let groups = matches.flat_map(|captures| captures.iter().skip(1).flatten().collect::<Vec<_>>());
        groups.filter_map(|group| group.as_str().parse::<u64>().ok()).reduce(u64::saturating_add)
    }
}

/// Whether a figure is one: a program may print `nan`, or less than nothing.
fn is_possible(figure: &f64) -> bool {
    figure.is_finite() && *figure >= 0.0
}

/// A time in microseconds: with a unit, or in seconds.
fn micros(text: &str) -> Option<f64> {
    let seconds = text.parse::<f64>().ok();
    Some(seconds.or_else(|| Some(quantity::duration(text).ok()?.as_secs_f64()))? * 1e6)
}

/// The last lines of what a program printed, for a message.
fn end(text: &str) -> String {
    let lines: Vec<_> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    if lines.is_empty() {
        return "it printed nothing".to_owned();
    }
    printable(&lines[lines.len().saturating_sub(5)..].join("\n  "))
}

/// A load generator that was started. Drop kills it.
#[derive(Debug)]
pub(crate) struct RunningClient {
    guarded: Guarded,
    stdout: File,
    stderr: File,
    interrupt: Interrupt,
}

impl RunningClient {
    /// Starts this command; the first Ctrl-C kills it.
    ///
    /// # Errors
    /// It cannot be started.
    pub(crate) fn start(command: &str, interrupt: &Interrupt) -> Result<Self> {
        let (stdout, stderr) = (tempfile::tempfile()?, tempfile::tempfile()?);
        let (to_stdout, to_stderr) = (stdout.try_clone()?, stderr.try_clone()?);
        let argv = ["sh", "-c", &peer_file::with_limits(command)].map(str::to_owned);
        let guarded = launch::start(&argv, &[], None, |command| {
            command.stdout(to_stdout).stderr(to_stderr);
        })?;
        interrupt.guard_disposable(guarded.guard.id() as i32);
        Ok(Self { guarded, stdout, stderr, interrupt: interrupt.clone() })
    }

    /// The pid of the load generator itself.
    pub(crate) fn pid(&self) -> i32 {
        self.guarded.pid
    }

    /// Its exit status, once it has exited.
    ///
    /// # Errors
    /// It is not ours any more.
    pub(crate) fn exit(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.guarded.guard.try_wait()?)
    }

    /// What it has printed on stdout.
    ///
    /// # Errors
    /// That cannot be read, or is too much.
    pub(crate) fn printed(&mut self) -> Result<String> {
        let bytes = self.stdout.metadata()?.len();
        ensure!(
            bytes <= MAX_OUTPUT_BYTES,
            "it printed {bytes} bytes, and more than {MAX_OUTPUT_BYTES} are not looked through"
        );
        read_end(&mut self.stdout)
    }

    /// Why it failed, with the last lines of what it has printed.
    pub(crate) fn failure(&mut self, exit: ExitStatus) -> String {
        let printed = [&mut self.stdout, &mut self.stderr].map(|file| read_end(file).unwrap_or_default());
        format!("{}: {}", describe_exit(exit), end(&printed.concat()))
    }
}

impl Drop for RunningClient {
    fn drop(&mut self) {
        if !matches!(self.guarded.guard.try_wait(), Ok(Some(_))) {
            kill_group(self.guarded.guard.id() as i32);
            let _ = self.guarded.guard.wait();
        }
        self.interrupt.guard(0);
    }
}

/// The last [`MAX_OUTPUT_BYTES`] of a file.
fn read_end(file: &mut File) -> Result<String> {
    let mut bytes = Vec::new();
    let start = file.metadata()?.len().saturating_sub(MAX_OUTPUT_BYTES);
    file.seek(SeekFrom::Start(start))?;
    file.take(MAX_OUTPUT_BYTES).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRK: &str = "\
Running 1s test @ http://127.0.0.1:8084/
  2 threads and 20 connections
  Latency Distribution
     50%  341.00us
     99%    1.23ms
  56353 requests in 1.10s, 7.36MB read
Requests/sec:  51203.79
";
    const OHA: &str = r#"{
  "summary": { "requestsPerSec": 48467.2 },
  "metrics": { "latency_ms": { "p99": 4.3 } },
  "latencyPercentiles": {
    "p50": 0.000183685,
    "p99": 4.3e-3,
    "p99.9": 0.0076
  },
  "rps": { "percentiles": { "p99": 59356.0 } },
  "responseTimeHistogram": { "0.000035326": 1, "0.001": 51072 },
  "statusCodeDistribution": {
    "200": 48775,
    "503": 25
  },
  "errorDistribution": {
    "Connection refused (os error 111)": 40,
    "timeout": 2
  }
}"#;

    fn client(name: &str) -> Client {
        built_in().unwrap().into_iter().find(|client| client.name == name).unwrap()
    }

    #[test]
    fn the_figures_of_wrk_and_oha_are_found() {
        let said = client("wrk").figures(WRK).unwrap();
        let expected = Said { requests: 56_353, rps: Some(51_203.79), p99_us: Some(1_230.0), errors: Some(0) };
        assert_eq!(said, expected);
        let failed =
            WRK.to_owned() + "  Socket errors: connect 1, read 2, write 3, timeout 4\n  Non-2xx or 3xx responses: 5\n";
        assert_eq!(client(OURS).figures(&failed).unwrap(), Said { errors: Some(15), ..expected });
        let said = client("oha").figures(OHA).unwrap();
        assert_eq!((said.requests, said.rps, said.errors), (48_800, Some(48_467.2), Some(67)));
        assert_eq!(said.p99_us.map(f64::round), Some(4_300.0));
    }

    #[test]
    fn what_is_not_said_is_absent_and_no_answers_are_a_failure() {
        let mut wrk = client("wrk");
        (wrk.output.errors, wrk.output.p99) = (None, None);
        let said = wrk.figures("7 requests in 1s").unwrap();
        assert_eq!(said, Said { requests: 7, rps: None, p99_us: None, errors: None });
        for figure in ["nan", "inf", "-1"] {
            wrk.output.rps = Some(Pattern::try_from("rate (.*)".to_owned()).unwrap());
            assert_eq!(wrk.figures(&format!("7 requests in 1s\nrate {figure}")).unwrap().rps, None, "{figure}");
        }
        wrk.output.errors = Some(vec![Pattern::try_from("lost (.*)".to_owned()).unwrap(); 2]);
        let most = u64::MAX;
        assert_eq!(wrk.figures(&format!("7 requests in 1s\nlost {most}")).unwrap().errors, Some(most));
        let error = wrk.figures("unable to connect\n").unwrap_err().to_string();
        assert!(error.contains("how many answers") && error.contains("unable to connect"), "{error}");
    }

    #[test]
    fn a_command_has_the_number_of_connections_and_no_more_threads() {
        let command = client("wrk").command(1, 5, "http://127.0.0.1:80/");
        assert_eq!(command, "exec wrk -t1 -c1 -d5s --latency http://127.0.0.1:80/");
        assert!(client("wrk").command(21, 5, "http://a/").contains(" -t1 -c21 "), "two threads would open 20");
        assert!(client(OURS).command(200, 5, "http://a/").contains(" -t2 -c200 -d5s --latency http://a/"));
    }

    #[test]
    fn a_pattern_needs_a_group() {
        let error = Pattern::try_from("requests".to_owned()).unwrap_err();
        assert!(error.contains("has no group"), "{error}");
        assert!(Pattern::try_from("(".to_owned()).is_err());
    }
}
