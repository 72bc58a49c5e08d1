//! `loadtest db` with a real PostgreSQL, and with none.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

const LOADTEST: &str = env!("CARGO_BIN_EXE_loadtest");
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/postgres");
const TIMEOUT: Duration = Duration::from_secs(120);

/// A folder that PostgreSQL's own user may look into.
fn folder() -> TempDir {
    let folder = TempDir::new().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

/// `loadtest`, with its temporary files in `temporary`.
fn loadtest(temporary: &TempDir, arguments: &[&str]) -> Command {
    let mut command = Command::new(LOADTEST);
    command.args(arguments).env("TMPDIR", temporary.path()).env_remove("C10K_DB");
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn texts(output: &Output) -> (String, String) {
    (String::from_utf8_lossy(&output.stdout).into_owned(), String::from_utf8_lossy(&output.stderr).into_owned())
}

fn runs(json: &Path) -> Vec<Value> {
    let value: Value = serde_json::from_slice(&fs::read(json).unwrap()).unwrap();
    value.as_array().cloned().unwrap_or_else(|| vec![value])
}

fn is_empty(folder: &TempDir) -> bool {
    fs::read_dir(folder.path()).unwrap().next().is_none()
}

#[track_caller]
fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + TIMEOUT;
    while !is_so() {
        assert!(Instant::now() < deadline, "not in {TIMEOUT:?}: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
#[ignore = "needs PostgreSQL and PgBouncer"]
fn every_pool_is_measured_and_no_password_is_kept() {
    let (directory, temporary) = (folder(), folder());
    let [json, markdown, page, chart] = ["a.json", "a.md", "a.html", "a.svg"].map(|name| directory.path().join(name));
    let files = [("--json", &json), ("--markdown", &markdown), ("--report", &page), ("--chart", &chart)];
    let mut command =
        loadtest(&temporary, &["db", "--target", "prefork,async", "--pool", "4,1", "-c", "20", "-d", "1s"]);
    command.args(["--db-wait", "50ms"]).args(files.iter().flat_map(|(flag, path)| [*flag, path.to_str().unwrap()]));
    let output = command.output().unwrap();
    let (stdout, stderr) = texts(&output);
    assert!(output.status.success(), "{stderr}{stdout}");
    assert!(is_empty(&temporary), "something of the database is left");

    let runs = runs(&json);
    assert_eq!(runs.len(), 6, "prefork alone and behind PgBouncer, and async, each with two pools");
    for run in &runs {
        let (database, pool) = (&run["database"], run["database"]["pool"].as_f64().unwrap());
        // Each connection gives at most 20 answers a second, and one that it was at before.
        assert!(run["rps"].as_f64().unwrap() <= pool * 21.0, "{run}");
        assert!(
            database["answers"].as_u64() > Some(0) && database["answer_wait_us"].as_f64() >= Some(50_000.0),
            "{run}"
        );
        assert!(
            database["connection_wait_us"].is_number() && database["postgres_bytes"].as_u64() > Some(1 << 20),
            "{run}"
        );
        assert!(database["errors"].as_object().unwrap().is_empty() && database["tls"] == false, "{run}");
    }
    let behind = runs.iter().filter(|run| run["database"]["through_pgbouncer"] == true).collect::<Vec<_>>();
    assert!(behind.len() == 2 && behind.iter().all(|run| run["target"] == "prefork"));
    // Who connects for each query, and who keeps what it has.
    let connects = |target: &str| {
        let runs = runs.iter().filter(|run| run["target"] == target && run["database"]["through_pgbouncer"] == false);
        runs.map(|run| run["database"]["connects"].as_u64().unwrap()).sum::<u64>()
    };
    assert!(connects("prefork") > 0 && connects("async") == 0);
    let cpu_us = |run: &&Value| run["database"]["postgres_cpu_us"].as_f64().unwrap();
    let (keeping, connecting): (Vec<_>, Vec<_>) = runs
        .iter()
        .filter(|run| run["database"]["through_pgbouncer"] == false)
        .partition(|run| run["target"] == "async");
    let most = keeping.iter().map(cpu_us).fold(0.0, f64::max);
    assert!(most > 0.0 && connecting.iter().all(|run| cpu_us(run) > most), "a login costs more than a query: {runs:?}");

    assert!(
        stdout.contains("prefork + PgBouncer") && stdout.contains("enough connections to PostgreSQL are"),
        "{stdout}"
    );
    let report = Command::new(LOADTEST).args(["report", json.to_str().unwrap()]).output().unwrap();
    assert_eq!(texts(&report).0, stdout);
    let kept = files.map(|(_, path)| fs::read_to_string(path).unwrap()).concat();
    assert!(!(kept + &stdout + &stderr).contains("postgres://"));
}

#[test]
#[ignore = "needs PostgreSQL"]
fn an_interrupted_study_keeps_what_it_measured_and_ends_its_database() {
    let (directory, temporary) = (folder(), folder());
    let json = directory.path().join("a.json");
    let arguments = ["db", "--target", "async", "--pool", "2", "--rounds", "20", "-c", "5", "-d", "500ms", "--json"];
    let child = loadtest(&temporary, &arguments).arg(&json).spawn().unwrap();
    wait_until("a run is measured", || fs::read(&json).is_ok_and(|json| !json.is_empty()));
    kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).unwrap();
    let output = child.wait_with_output().unwrap();
    let (stdout, stderr) = texts(&output);
    assert_eq!(output.status.code(), Some(130), "{stderr}");
    assert!(stdout.contains("Requests/s by connections to PostgreSQL") && runs(&json).len() < 20, "{stdout}");
    assert!(is_empty(&temporary), "something of the database is left");
}

#[test]
#[ignore = "needs PostgreSQL"]
fn an_interrupt_while_the_database_starts_is_no_failure() {
    let temporary = folder();
    let child = loadtest(&temporary, &["db", "--target", "async"]).spawn().unwrap();
    wait_until("its folder is there", || !is_empty(&temporary));
    kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", texts(&output).1);
    assert!(is_empty(&temporary), "something of the database is left");
}

#[test]
#[ignore = "needs PostgreSQL"]
fn a_killed_loadtest_leaves_no_database() {
    let temporary = folder();
    let mut child =
        loadtest(&temporary, &["db", "--target", "async", "--pool", "2", "-c", "5", "-d", "1m"]).spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap()).lines();
    stderr.find(|line| line.as_ref().unwrap().contains("1 run: about")).expect("it says what it will do").unwrap();
    wait_until("the database is there", || !is_empty(&temporary));
    child.kill().unwrap();
    child.wait().unwrap();
    wait_until("the database is gone", || is_empty(&temporary));
}

/// A PostgreSQL of the test's own, and its URL.
struct Database {
    script: Child,
    url: String,
}

impl Database {
    fn start(temporary: &TempDir) -> Self {
        let mut command = Command::new(SCRIPT);
        command.env("TMPDIR", temporary.path()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut script = command.spawn().unwrap();
        let mut lines = BufReader::new(script.stdout.take().unwrap()).lines();
        Self { url: lines.next().unwrap().unwrap(), script }
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // The end of its input ends it.
        drop(self.script.stdin.take());
        let _ = self.script.wait();
    }
}

#[test]
#[ignore = "needs PostgreSQL"]
fn a_database_of_ones_own_is_asked_and_its_password_is_kept_nowhere() {
    let (directory, temporary) = (folder(), folder());
    let database = Database::start(&temporary);
    let password = database.url.split([':', '@']).nth(2).unwrap();
    assert_eq!(password.len(), 32);
    let json = directory.path().join("a.json");
    let kept = ["-c", "5", "-d", "500ms", "--db-wait", "10ms", "--json", json.to_str().unwrap()];

    let flags = ["db", "--target", "prefork", "--pool", "2", "--hold", "20ms"];
    let mut study = loadtest(&temporary, &[&flags, &kept[..]].concat());
    let output = study.env("C10K_DB", &database.url).output().unwrap();
    let (stdout, stderr) = texts(&output);
    assert!(output.status.success(), "{stderr}{stdout}");
    let first = fs::read_to_string(&json).unwrap();
    let run = &runs(&json)[0];
    assert_eq!(
        (runs(&json).len(), &run["database"]["postgres_bytes"], &run["database"]["postgres_cpu_us"]),
        (1, &Value::Null, &Value::Null),
        "it is not loadtest's to meter"
    );
    // Each connection gives at most an answer in 30 ms, and two that it was at before.
    let most = 2.0 * (run["duration_s"].as_f64().unwrap() / 0.03 + 2.0);
    assert!(run["requests"].as_f64().unwrap() <= most && run["database"]["hold_us"] == 20_000, "{run}");
    assert!(!(first + &stdout + &stderr).contains(password));

    // One run tells both waits, too. On a command line others can read it, which is up to who writes it there.
    let flags = ["--", "--db", &database.url, "--db-pool", "2"];
    let output = loadtest(&temporary, &[&["--target", "async"], &kept[..], &flags].concat()).output().unwrap();
    let (stdout, stderr) = texts(&output);
    assert!(output.status.success() && stdout.contains("for a connection, then"), "{stderr}{stdout}");
    let run = &runs(&json)[0];
    assert!(run["database"]["answer_wait_us"].as_f64() >= Some(10_000.0), "{run}");
    assert!(!(fs::read_to_string(&json).unwrap() + &stdout + &stderr).contains(password));
}

#[test]
fn a_database_that_is_not_there_fails_each_run_with_the_reason() {
    let temporary = folder();
    let mut study = loadtest(&temporary, &["db", "--target", "async", "--pool", "2", "-c", "5", "-d", "500ms"]);
    let output = study.env("C10K_DB", "postgres://c10k:hunter2@127.0.0.1:1/c10k").output().unwrap();
    let (stdout, stderr) = texts(&output);
    assert_eq!(output.status.code(), Some(1), "{stderr}{stdout}");
    assert!(stderr.contains("127.0.0.1:1/c10k") && stderr.contains("refused"), "{stderr}");
    assert!(!(stdout + &stderr).contains("hunter2"));
}

#[test]
#[ignore = "needs PostgreSQL and PgBouncer"]
fn processes_keep_a_connection_each_if_there_are_enough() {
    let (directory, temporary) = (folder(), folder());
    let json = directory.path().join("a.json");
    let arguments = ["db", "--target", "prefork", "--pool", "19,20", "-c", "20", "-d", "500ms", "--json"];
    let output = loadtest(&temporary, &arguments).arg(&json).output().unwrap();
    let (stdout, stderr) = texts(&output);
    assert!(output.status.success(), "{stderr}{stdout}");
    let runs = runs(&json);
    let alone = runs.iter().map(|run| &run["database"]).filter(|database| database["through_pgbouncer"] == false);
    let connects = |pool: u64| {
        let mut those = alone.clone().filter(|database| database["pool"] == pool);
        those.next().unwrap()["connects"].as_u64().unwrap()
    };
    assert!(connects(19) > 20, "they take turns, and connect for each query");
    assert_eq!(connects(20), 0, "each has connected before the window, and keeps what it has");
}

#[test]
#[ignore = "needs PostgreSQL"]
fn those_that_can_have_several_queries_on_the_way() {
    let (directory, temporary) = (folder(), folder());
    let json = directory.path().join("a.json");
    let flags =
        ["db", "--target", "threads,async-codec", "--pool", "2", "--pipeline", "1,4", "-c", "20", "-d", "500ms"];
    let kept = ["--db-wait", "5ms", "--json", json.to_str().unwrap()];
    let output = loadtest(&temporary, &[&flags[..], &kept].concat()).output().unwrap();
    let (stdout, stderr) = texts(&output);
    assert!(output.status.success() && stdout.contains("pipelines 4"), "{stderr}{stdout}");
    let mut ways: Vec<_> = runs(&json)
        .iter()
        .map(|run| (run["target"].as_str().unwrap().to_owned(), run["database"]["pipeline"].as_u64().unwrap()))
        .collect();
    ways.sort();
    assert_eq!(
        ways,
        [("async-codec", 1), ("async-codec", 4), ("threads", 1)].map(|(name, way)| (name.to_owned(), way))
    );
    let answer_us = |pipeline: u64| {
        let runs = runs(&json);
        let run =
            runs.iter().find(|run| run["database"]["pipeline"] == pipeline && run["target"] == "async-codec").unwrap();
        run["database"]["answer_wait_us"].as_f64().unwrap()
    };
    // A connection answers one after another: with four on the way, each waits for those before it.
    assert!(answer_us(4) > 2.0 * answer_us(1), "{} and {}", answer_us(4), answer_us(1));
}

#[test]
fn what_no_server_can_do_is_refused() {
    for (flags, why) in [
        (&["--target", "async-uring"][..], "async-uring cannot ask a database"),
        (&["--target", "threads", "--pipeline", "8"], "add 1 to --pipeline"),
        (&["--target", "async", "--pipeline", "8", "--hold", "20ms"], "0s to --hold"),
    ] {
        let output = loadtest(&folder(), &[&["db"], flags].concat()).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        assert!(texts(&output).1.contains(why), "{output:?}");
    }
}
