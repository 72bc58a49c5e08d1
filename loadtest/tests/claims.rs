//! `loadtest claims` on the real binary: verdicts, files, interruption.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

/// Includes building what is measured.
const TIMEOUT: Duration = Duration::from_secs(900);

/// Two claims on cheap figures: the first is true, and the second is the same made false. The third is of a figure that
/// nobody has, and the last needs Python.
const ARTICLE: &str = r#"
name = "test"
title = "A test"
url = "https://example.org/"

[[claim]]
name = "true"
section = "One"
says = "Threads see each other's writes, | and processes do not"
checks = [{ figure = "sharing.thread", at_least = "yes" }, { figure = "sharing.process", at_most = "no" }]
also = ["sharing.lost_atomic"]
reading = "Read it so."

[[claim]]
name = "made-false"
section = "One"
says = "Threads do not see each other's writes"
checks = [{ figure = "sharing.thread", at_most = "no" }]
reading = "Nobody believes it."

[[claim]]
name = "half"
section = "Two"
says = "Threads and processes alike"
checks = [{ figure = "sharing.thread", at_least = "yes" }, { figure = "sharing.process", at_least = "yes" }]
reading = "One of them."

[[claim]]
name = "unknown"
section = "Two"
says = "Nobody measures this"
checks = [{ figure = "sharing.nothing", at_most = "1" }]
reading = "It is absent, and not 0."

[[claim]]
name = "slow"
section = "Two"
says = "Python waits"
checks = [{ figure = "interpreters.python.threads_wait", at_least = "0.1" }]
reading = "It takes a while."
"#;

struct Paths(TempDir);

impl Paths {
    fn new() -> Self {
        let directory = TempDir::new().unwrap();
        fs::write(directory.path().join("article.toml"), ARTICLE).unwrap();
        Self(directory)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    fn start(&self, arguments: &[&str]) -> Child {
        self.start_with(&[], arguments)
    }

    /// With these variables in the environment: `NAME=value`.
    fn start_with(&self, variables: &[&str], arguments: &[&str]) -> Child {
        // Whoever runs the tests in the background of a shell ignores SIGINT, and so would loadtest.
        let mut command = Command::new("env");
        command.arg("--default-signal=INT").args(variables);
        command.args([env!("CARGO_BIN_EXE_loadtest"), "claims", "--quick"]);
        if !arguments.contains(&"--article") {
            command.args(["--article", &self.text("article.toml")]);
        }
        command.args(arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.start(arguments).wait_with_output().unwrap()
    }
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn read(path: &Path) -> Value {
    fs::read(path).map_or(Value::Null, |bytes| serde_json::from_slice(&bytes).unwrap())
}

fn verdicts(judgement: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let claims = judgement["claims"].as_array().unwrap();
    claims.iter().map(|claim| (text(&claim["name"]), text(&claim["verdict"]))).collect()
}

#[test]
fn a_claim_that_is_made_false_is_reported_so() {
    let paths = Paths::new();
    let [json, csv, markdown, page] = ["c.json", "c.csv", "c.md", "c.html"].map(|name| paths.text(name));
    let only = ["--only", "true,made-false,half,unknown"];
    let files = ["--json", &json, "--csv", &csv, "--markdown", &markdown, "--report", &page];
    let output = paths.run(&[&only[..], &files].concat());
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let judgement = read(&paths.path("c.json"));
    let expected = [("true", "holds"), ("made-false", "does_not_hold"), ("half", "depends"), ("unknown", "unchecked")];
    assert_eq!(verdicts(&judgement), expected.map(|(name, verdict)| (name.to_owned(), verdict.to_owned())));
    assert_eq!((&judgement["complete"], &judgement["experiments"]), (&true.into(), &vec!["sharing"].into()));
    assert_eq!(judgement["claims"][3]["findings"][0]["figure"], Value::Null);
    assert_eq!(judgement["claims"][0]["beside"][0]["name"], "sharing.lost_atomic");
    let text = stdout(&output);
    for part in ["does not hold       Threads do not see", "Nobody believes it. [made-false]", "it was not measured"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(text.ends_with("4 claims: holds 1, does not hold 1, depends 1, not checked here 1\n"), "{text}");
    assert_eq!(fs::read_to_string(paths.path("c.csv")).unwrap().lines().count(), 1 + 6);
    // Somebody else judges the same figures, and measures nothing.
    let again = ["--from", &json, "--markdown", &markdown, "--only", "made-false"];
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadtest"));
    command.args(["claims", "--article", &paths.text("article.toml")]).args(again);
    let output = command.output().unwrap();
    assert!(stdout(&output).ends_with("1 claim: does not hold 1\n"), "{output:?}");
    let table = fs::read_to_string(paths.path("c.md")).unwrap();
    assert!(
        table.contains("Threads do not see each other's writes | yes | **does not hold** |")
            && table.contains("the article: no"),
        "{table}"
    );
    let page = fs::read_to_string(paths.path("c.html")).unwrap();
    assert!(page.contains("made-false") && !page.contains("<script"), "{page}");
}

#[test]
fn an_interrupted_run_keeps_what_it_has_and_is_resumed() {
    let paths = Paths::new();
    let json = paths.text("c.json");
    let only = ["--only", "true,slow", "--json", &json];
    let child = paths.start(&only);
    let deadline = Instant::now() + TIMEOUT;
    while read(&paths.path("c.json"))["experiments"] != Value::from(vec!["sharing"]) {
        assert!(Instant::now() < deadline, "the first experiment does not end");
        thread::sleep(Duration::from_millis(20));
    }
    kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).unwrap();
    let output = child.wait_with_output().unwrap();
    let judgement = read(&paths.path("c.json"));
    if judgement["complete"] == true {
        // Python was quicker than the signal.
        return;
    }
    assert_eq!(output.status.code(), Some(130), "{}", stderr(&output));
    assert!(stdout(&output).contains("(partial: --resume continues)"), "{}", stdout(&output));
    let [first, second] = [0, 1].map(|index| verdicts(&judgement)[index].1.clone());
    assert_eq!((first.as_str(), second.as_str()), ("holds", "unchecked"));
    let output = paths.run(&[&only[..], &["--resume", &json]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stderr(&output).contains("[1/1] interpreters"), "{}", stderr(&output));
    let judgement = read(&paths.path("c.json"));
    assert_eq!(judgement["experiments"], Value::from(vec!["sharing", "interpreters"]));
    // Both efforts are never mixed.
    let mut full = Command::new(env!("CARGO_BIN_EXE_loadtest"));
    let output = full.args(["claims", "--resume", &json]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("with --quick: figures of both would be mixed"), "{}", stderr(&output));
}

#[test]
fn a_failed_experiment_is_measured_again() {
    let paths = Paths::new();
    let json = paths.text("c.json");
    let only = ["--only", "true", "--json", &json];
    // Built before, because linking needs the directory that is then missing.
    assert_eq!(paths.run(&only).status.code(), Some(0));
    let no_directory = format!("TMPDIR={}", paths.text("missing"));
    let output = paths.start_with(&[&no_directory], &only).wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(stderr(&output).contains("sharing: No such file or directory"), "{}", stderr(&output));
    let judgement = read(&paths.path("c.json"));
    assert_eq!((&judgement["complete"], &judgement["experiments"]), (&false.into(), &Value::Array(Vec::new())));
    assert_eq!(verdicts(&judgement)[0].1, "unchecked");
    let why = judgement["claims"][0]["findings"][0]["why_missing"].as_str().unwrap();
    assert!(why.contains("No such file or directory"), "{why}");
    let output = paths.run(&[&only[..], &["--resume", &json]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stderr(&output).contains("[1/1] sharing"), "{}", stderr(&output));
    let judgement = read(&paths.path("c.json"));
    assert_eq!((&judgement["complete"], &judgement["experiments"]), (&true.into(), &vec!["sharing"].into()));
    assert_eq!(verdicts(&judgement)[0].1, "holds");
    // The reason why it failed is gone.
    let findings = judgement["findings"].as_array().unwrap();
    assert!(findings.iter().all(|finding| finding["name"] != "sharing"), "{findings:?}");
}

#[test]
fn what_is_wrong_is_said_before_anything_is_measured() {
    let paths = Paths::new();
    let broken = |from: &str, to: &str| {
        let text = ARTICLE.replacen(from, to, 1);
        assert_ne!(text, ARTICLE, "{from}");
        fs::write(paths.path("broken.toml"), text).unwrap();
        let output = paths.run(&["--article", &paths.text("broken.toml")]);
        assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
        stderr(&output)
    };
    for (from, to, expected) in [
        ("sharing.thread", "nothing.thread", "there is no experiment \"nothing\""),
        ("at_least = \"yes\"", "at_least = \"8.1MiB\"", "8.1MiB is not a whole number"),
        ("at_least = \"yes\"", "at_laest = \"yes\"", "unknown field `at_laest`"),
        ("name = \"made-false\"", "name = \"true\"", "two claims are named"),
    ] {
        let error = broken(from, to);
        assert!(error.contains(expected), "{error}");
    }
    let output = paths.run(&["--only", "nothing"]);
    assert!(stderr(&output).contains("`loadtest claims --list` names all"), "{}", stderr(&output));
    let output = paths.run(&["--json", "/nowhere/c.json"]);
    assert!(stderr(&output).contains("--json /nowhere/c.json cannot be written"), "{}", stderr(&output));
    let same = paths.text("same");
    let output = paths.run(&["--json", &same, "--csv", &same]);
    assert!(stderr(&output).contains("are the same file"), "{}", stderr(&output));
}

#[test]
fn the_claims_of_the_article_can_be_listed() {
    let output = Command::new(env!("CARGO_BIN_EXE_loadtest")).args(["claims", "--list"]).output().unwrap();
    let text = stdout(&output);
    assert!(text.starts_with("BEE-11001, \"Threads vs Processes vs Coroutines\": "), "{text}");
    assert!(text.contains("\n  mistake-5-unbounded         Unbounded tasks exhaust memory"), "{text}");
}
