//! `loadtest report`, with the real binary and result files.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

const BINARY: &str = env!("CARGO_BIN_EXE_loadtest");
/// A run of threads and one of threadpool, with 10,000 connections.
const RUNS: &str = include_str!("../../crates/results/tests/data/runs.json");

/// A directory of result files.
struct Files {
    directory: TempDir,
}

impl Files {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, runs: &Value) {
        fs::write(self.path(name), runs.to_string()).unwrap();
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    fn report(&self, arguments: &[&str]) -> Reported {
        let mut command = Command::new(BINARY);
        command.arg("report").args(arguments).current_dir(self.directory.path());
        Reported::from(command.output().unwrap())
    }
}

struct Reported {
    status: Option<i32>,
    stdout: String,
    stderr: String,
}

impl From<Output> for Reported {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { status: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

impl Reported {
    #[track_caller]
    fn assert(&self, status: i32, stdout: &[&str], stderr: &[&str]) {
        assert_eq!(self.status, Some(status), "{}\n{}", self.stdout, self.stderr);
        for (text, expected) in [(&self.stdout, stdout), (&self.stderr, stderr)] {
            for expected in expected {
                assert!(text.contains(expected), "{expected:?} is missing in {text}");
            }
        }
    }
}

fn runs() -> Value {
    serde_json::from_str(RUNS).unwrap()
}

/// The run against threads, with another peak.
fn with_peak(peak_bytes: u64) -> Value {
    let mut run = runs()[0].take();
    run["memory"]["peak_bytes"] = peak_bytes.into();
    run
}

#[test]
fn one_file_is_printed_as_by_its_run_and_written_in_every_format() {
    let files = Files::new();
    files.write("a.json", &runs());
    let outputs = ["--json", "b.json", "--csv", "b.csv", "--csv-series", "s.csv", "--markdown", "b.md"];
    let reported = files.report(&[&["a.json"][..], &outputs].concat());
    reported.assert(0, &["threads: 10,000 connections, database wait 1s", "RAM, peak", "377.43 MB", "≥ 10.2 s"], &[]);
    // Without a terminal there are no colours and no bars.
    assert!(!reported.stdout.contains(['\x1b', '█']), "{}", reported.stdout);
    assert_eq!(serde_json::from_str::<Value>(&files.read("b.json")).unwrap(), runs());
    assert_eq!((files.read("b.csv").lines().count(), files.read("s.csv").lines().count()), (3, 5));
    assert!(files.read("b.md").starts_with("| ") && files.read("b.md").contains("| RAM, peak"));
    // A single run has no table.
    files.write("one.json", &with_peak(1));
    assert!(!files.report(&["one.json"]).stdout.contains("RAM, peak"));
}

#[test]
fn several_files_are_compared() {
    let files = Files::new();
    files.write("before.json", &[300_000_000, 310_000_000].map(with_peak).to_vec().into());
    files.write("after.json", &[150_000_000, 160_000_000].map(with_peak).to_vec().into());
    let outputs = ["--json", "all.json", "--csv", "all.csv", "--markdown", "all.md"];
    let reported = files.report(&[&["before.json", "after.json"][..], &outputs].concat());
    for row in [["305.00 MB", "155.00 MB", "0.51x", "beyond"], ["300.00..310.00 MB", "150.00..160.00 MB", "", ""]] {
        let is_row = |line: &str| row.iter().all(|cell| line.contains(cell));
        assert!(reported.stdout.lines().any(is_row), "{row:?} is missing in {}", reported.stdout);
    }
    reported.assert(0, &["within", "1 of 3 figures"], &[]);
    assert_eq!(serde_json::from_str::<Value>(&files.read("all.json")).unwrap().as_array().unwrap().len(), 4);
    assert_eq!(files.read("all.csv").lines().count(), 5);
    assert!(files.read("all.md").contains("(150.00..160.00 MB) | 0.51x |     beyond |"), "{}", files.read("all.md"));
    files.write("one.json", &with_peak(1));
    files.report(&["before.json", "one.json"]).assert(0, &["A single run (one.json) has no spread"], &[]);
    files.write("other.json", &runs()[1]);
    files.report(&["before.json", "other.json"]).assert(1, &[], &["nothing to compare"]);
}

#[test]
fn load_generators_are_merged() {
    let files = Files::new();
    files.write("a.json", &with_peak(500_000_000));
    let mut other = with_peak(400_000_000);
    other["started_at"] = "2026-11-24T18:39:13Z".into();
    files.write("b.json", &other);
    let merge = ["--merge", "a.json", "b.json", "--json", "merged.json"];
    files.report(&merge).assert(0, &["threads: 20,000 connections", "500.00 MB at the peak", "119,896 answered"], &[]);
    let [one, merged] = ["a.json", "merged.json"].map(|name| serde_json::from_str::<Value>(&files.read(name)).unwrap());
    assert_eq!(merged["latency_us"], one["latency_us"], "twice the same is still the same");
    assert_eq!(merged["rps"].as_f64().unwrap(), one["rps"].as_f64().unwrap() * 2.0);
    files.report(&["merged.json"]).assert(0, &["threads: 20,000 connections"], &[]);
    files.report(&["--merge", "a.json"]).assert(1, &[], &["several load generators"]);
}

#[test]
fn conditions_set_the_status() {
    let files = Files::new();
    files.write("a.json", &runs());
    let with = |condition: &str| files.report(&["a.json", "--fail-if", "errors > 0", "--fail-if", condition]);
    with("memory.peak > 1GB").assert(0, &[], &[]);
    with("p99 > 5s").assert(3, &["threads"], &["failed: threadpool, 10,000 connections: p99 > 5s: it is ≥ 10.2 s"]);
    with("rps < 1k").assert(3, &[], &["failed: threadpool, 10,000 connections: rps < 1k: it is 256"]);
    with("p99 < 1s").assert(0, &[], &[]);
    with("p99 > 1h").assert(3, &[], &["unknown whether p99 > 1h: it is only known to be ≥ 10.2 s"]);
    with("memory.cgroup.slab > 0").assert(3, &[], &["unknown whether", "was not measured"]);
    with("p98 > 1s").assert(2, &[], &["unknown figure \"p98\"; the figures are", "p99, p999"]);
    with("p99 > 1").assert(2, &[], &["has no unit: write"]);
}

#[test]
fn files_that_are_not_results_are_refused() {
    let files = Files::new();
    fs::write(files.path("cut.json"), &RUNS[..1000]).unwrap();
    fs::write(files.path("no.json"), "requests: 5").unwrap();
    let mut old = with_peak(1);
    old["schema"] = "c10k-loadtest/1".into();
    files.write("old.json", &old);
    files.report(&["cut.json"]).assert(1, &[], &["cut.json is cut off at line"]);
    files.report(&["no.json"]).assert(1, &[], &["no.json is not JSON"]);
    files.report(&["old.json"]).assert(1, &[], &["old.json: the layout is c10k-loadtest/1"]);
    files.report(&["missing.json"]).assert(1, &[], &["missing.json cannot be read"]);
    files.report(&[]).assert(2, &[], &["<FILE>"]);
}

#[test]
fn a_misspelt_subcommand_is_suggested() {
    let error = |word| Reported::from(Command::new(BINARY).args([word, "--json", "x"]).output().unwrap());
    error("sweeep").assert(2, &[], &["there is no subcommand `sweeep`: did you mean `loadtest sweep`?"]);
    error("attack").assert(2, &[], &["the subcommands are report, sweep", "a URL begins with http://"]);
    error("localhost:80").assert(2, &[], &["the scheme is missing"]);
}

#[test]
fn an_unwritable_folder_is_detected_before_anything_runs() {
    let Some(unshare) = [&["-m"][..], &["-rm"]].into_iter().find(|flags| can_unshare(flags)) else {
        eprintln!("skipped: this needs the right to mount");
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    for (options, expected) in [("size=64k", "No space left on device"), ("ro", "Read-only file system")] {
        let script =
            format!("mount -t tmpfs -o {options} none \"$1\" && exec \"$2\" --target async --csv \"$1/a.csv\"");
        let mut command = Command::new("unshare");
        command.args(unshare).args(["sh", "-c", &script, "sh"]).arg(directory.path()).arg(BINARY);
        let reported = Reported::from(command.output().unwrap());
        reported.assert(1, &[], &["--csv ", "/a.csv cannot be written", expected]);
        assert!(reported.stdout.is_empty() && !reported.stderr.contains("Finished"), "{}", reported.stderr);
    }
}

fn can_unshare(flags: &[&str]) -> bool {
    Command::new("unshare").args(flags).arg("true").output().is_ok_and(|output| output.status.success())
}
