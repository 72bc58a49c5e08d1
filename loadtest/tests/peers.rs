//! `loadtest peers` with peers of the test's own: what is measured, what is left out, and what is kept.
//!
//! One test needs wrk (Debian's package): `cargo test -p loadtest --test peers -- --ignored`.

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

const LOADTEST: &str = env!("CARGO_BIN_EXE_loadtest");
const TIMEOUT: Duration = Duration::from_secs(60);

/// A peer: the null server, with these lines beside.
fn peer(directory: &TempDir, name: &str, lines: &str) -> PathBuf {
    let path = directory.path().join(format!("{name}.toml"));
    let text = format!(
        "name = '{name}'\nmodel = 'task per connection'\ninstall = 'nothing'\nversion = 'echo null 1.2.3'\n\
         run = 'exec {LOADTEST} null-server --port {{port}}'\n{lines}\n"
    );
    fs::write(&path, text).unwrap();
    path
}

fn peers(arguments: &[&str], files: &[&Path]) -> Command {
    let list: Vec<_> = files.iter().map(|path| path.to_str().unwrap()).collect();
    let mut command = Command::new(LOADTEST);
    command.args(["peers", "--peer", &list.join(",")]).args(arguments);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A load generator: what this shell command is.
fn client(directory: &TempDir, name: &str, programs: &str, run: &str) -> PathBuf {
    let path = directory.path().join(format!("{name}.toml"));
    let text = format!(
        "kind = 'client'\nname = '{name}'\nprograms = {programs}\ninstall = 'nothing'\nversion = 'echo {name} 1.2.3'\n\
         run = \"\"\"{run}\"\"\"\n[output]\nrequests = '(\\d+) answers'\np99 = 'p99 (\\S+)'\nerrors = ['(\\d+) errors']\n"
    );
    fs::write(&path, text).unwrap();
    path
}

fn clients(arguments: &[&str], list: &str) -> Command {
    let mut command = Command::new(LOADTEST);
    command.args(["peers", "--clients", "--peer", list]).args(arguments);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn wait_for(path: &Path) {
    let deadline = Instant::now() + TIMEOUT;
    while !path.exists() {
        assert!(Instant::now() < deadline, "{} is not there", path.display());
        thread::sleep(Duration::from_millis(20));
    }
}

fn texts(output: &Output) -> (String, String) {
    (String::from_utf8_lossy(&output.stdout).into_owned(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn what_is_installed_is_measured_in_every_round_and_the_rest_is_named() {
    let directory = TempDir::new().unwrap();
    let one = peer(&directory, "one", "programs = []\ndelay_path = '/delay/{ms}'");
    let built = peer(&directory, "built", "programs = ['sh']\nbuild = 'test -f {dir}/a'\n[files]\n'a' = 'port {port}'");
    let absent = peer(&directory, "absent", "programs = ['no-such-program']");
    let old = peer(&directory, "old", "programs = ['sh']\nrequires = 'false'");
    let broken = peer(&directory, "broken", "programs = ['sh']\nbuild = 'echo cannot build it >&2; exit 1'");
    let json = directory.path().join("a.json");
    let arguments = ["-c", "5,10", "--rounds", "2", "-d", "200ms", "--wait", "10ms", "--json", json.to_str().unwrap()];
    let output = peers(&arguments, &[&one, &built, &absent, &old, &broken]).output().unwrap();
    let (stdout, stderr) = texts(&output);
    assert!(output.status.success(), "{stderr}");
    for expected in ["no-such-program is not installed: nothing", "`false` fails", "cannot build it"] {
        assert!(stderr.contains(expected), "{expected}: {stderr}");
    }
    for expected in ["10 connections, answered at once", "5 connections, each answer after 10ms", "1.2.3", "MUST kept"]
    {
        assert!(stdout.contains(expected), "{expected}: {stdout}");
    }
    let runs: Vec<Value> = serde_json::from_slice(&fs::read(&json).unwrap()).unwrap();
    let mut cells: Vec<_> = runs
        .iter()
        .map(|run| {
            let wait = run["wait"]["spec"].as_str().unwrap();
            let connections = run["connections"]["requested"].as_u64().unwrap();
            (run["target"].as_str().unwrap(), wait, connections, run["round"].as_u64().unwrap())
        })
        .collect();
    cells.sort_unstable();
    let mut expected = Vec::new();
    for (name, wait) in [("built", "0s"), ("one", "0s"), ("one", "10ms")] {
        expected.extend([(name, wait, 5, 1), (name, wait, 5, 2), (name, wait, 10, 1), (name, wait, 10, 2)]);
    }
    assert_eq!(cells, expected);
    assert!(runs.iter().all(|run| run["peer"]["version"] == "1.2.3" && run["complete"] == true), "{stderr}");
    // The null server answers 200 to whatever ends like a head.
    let must = |run: &Value| run["peer"]["conformance"]["must"]["passed"].as_u64().unwrap();
    assert!(runs.iter().all(|run| (1..100).contains(&must(run))), "{:?}", runs[0]["peer"]);
    let report = Command::new(LOADTEST).arg("report").arg(&json).output().unwrap();
    assert_eq!(texts(&report).0, stdout);
}

#[test]
fn a_peer_that_does_not_start_is_a_failure_and_costs_no_other() {
    let directory = TempDir::new().unwrap();
    let good = peer(&directory, "good", "programs = []");
    let text = fs::read_to_string(&good).unwrap().replace("'good'", "'bad'").replace("exec ", "exit 3; exec ");
    let bad = directory.path().join("bad.toml");
    fs::write(&bad, text).unwrap();
    let output =
        peers(&["-c", "5", "--rounds", "1", "-d", "200ms", "--no-conformance"], &[&good, &bad]).output().unwrap();
    let (stdout, stderr) = texts(&output);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stdout.contains("not started") && stdout.contains(" good "), "{stdout}");
}

#[test]
fn an_interrupted_comparison_keeps_what_it_measured() {
    let directory = TempDir::new().unwrap();
    let one = peer(&directory, "one", "programs = []");
    let json = directory.path().join("a.json");
    let arguments = ["-c", "5", "--rounds", "50", "-d", "300ms", "--no-conformance", "--json", json.to_str().unwrap()];
    let child = peers(&arguments, &[&one]).spawn().unwrap();
    wait_for(&json);
    kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM).unwrap();
    let output = child.wait_with_output().unwrap();
    let (stdout, stderr) = texts(&output);
    assert_eq!(output.status.code(), Some(130), "{stderr}");
    assert!(stdout.contains("answered at once"), "{stdout}");
    let runs: Vec<Value> = serde_json::from_slice(&fs::read(&json).unwrap()).unwrap();
    assert!((1..50).contains(&runs.len()) && runs[0]["complete"] == true);
}

#[test]
fn an_interrupted_build_leaves_nothing() {
    let directory = TempDir::new().unwrap();
    let marker = directory.path().join("begun");
    let build = format!("programs = ['sh']\nbuild = 'touch {}; sleep 4731; true'", marker.display());
    let slow = peer(&directory, "slow", &build);
    let mut child = peers(&["-c", "5"], &[&slow]).spawn().unwrap();
    wait_for(&marker);
    kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let sleeping = Command::new("pgrep").args(["-fx", "sleep 4731"]).output().unwrap();
    assert_eq!(texts(&sleeping).0, "", "it goes on");
}

#[test]
fn wrong_names_and_files_are_refused_before_anything_runs() {
    let directory = TempDir::new().unwrap();
    let one = peer(&directory, "one", "programs = []");
    let wrong = peer(&directory, "wrong", "programs = []\ncolour = 'red'");
    let changed = |name: &str, from: &str, to: &str| {
        let path = directory.path().join(name);
        fs::write(&path, fs::read_to_string(&one).unwrap().replace(from, to)).unwrap();
        path
    };
    let nameless = changed("nameless.toml", "'one'", "' '");
    let deaf = changed("deaf.toml", "{port}", "8080");
    for (files, expected) in [
        (vec![Path::new("apache")], "there is no peer apache: --list"),
        (vec![Path::new("/no/such/peer.toml")], "/no/such/peer.toml"),
        (vec![&*wrong], "colour"),
        (vec![&*nameless], "its name is empty"),
        (vec![&*deaf], "has {port}, which the server must listen on"),
        (vec![&*one, &*one], "more than one peer one"),
    ] {
        let output = peers(&[], &files).output().unwrap();
        let (_, stderr) = texts(&output);
        // A file that is wrong, or an argument.
        let is_file = files[0].extension().is_some() && files.len() == 1;
        assert_eq!(output.status.code(), Some(if is_file { 1 } else { 2 }), "{stderr}");
        assert!(stderr.contains(expected), "{expected}: {stderr}");
    }
    for wait in ["61s", "1500us"] {
        let output = peers(&["--wait", wait], &[&one]).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{output:?}");
    }
    let listed = Command::new(LOADTEST).args(["peers", "--list"]).output().unwrap();
    let (stdout, _) = texts(&listed);
    assert!(listed.status.success() && stdout.contains("nginx") && stdout.contains("async-codec"), "{stdout}");
}

#[test]
fn load_generators_are_compared_with_ours_and_those_that_are_missing_are_named() {
    let directory = TempDir::new().unwrap();
    let run = "true {url}; echo 1 answers, 3 errors, p99 0.0025 with -t{threads} -c{connections} -d{seconds}";
    let fake = client(&directory, "fake", "['sh']", run);
    let absent = client(&directory, "absent", "['no-such-program']", "{url}");
    let [json, markdown] = ["a.json", "a.md"].map(|name| directory.path().join(name).display().to_string());
    let list = format!("loadtest,{},{}", fake.display(), absent.display());
    let arguments = ["-c", "1,20", "--rounds", "2", "-d", "1s", "--json", &json, "--markdown", &markdown];
    let output = clients(&arguments, &list).output().unwrap();
    let (stdout, stderr) = texts(&output);
    assert!(output.status.success(), "{stderr}");
    assert!(stderr.contains("absent is left out: no-such-program is not installed: nothing"), "{stderr}");
    for expected in ["20 connections, 2 rounds of 1 s", "loadtest / fake", "2.50 ms", "6 errors", "1.2.3"] {
        assert!(stdout.contains(expected), "{expected}: {stdout}");
    }
    let comparison: Value = serde_json::from_slice(&fs::read(&json).unwrap()).unwrap();
    assert_eq!((&comparison["schema"], &comparison["complete"]), (&"c10k-clients/1".into(), &true.into()));
    let runs = comparison["runs"].as_array().unwrap();
    let mut cells: Vec<_> = runs
        .iter()
        .map(|run| (run["client"].as_str().unwrap(), run["connections"].as_u64(), run["round"].as_u64()))
        .collect();
    cells.sort_unstable();
    let all = ["fake", "loadtest"].into_iter().flat_map(|name| {
        [(1, 1), (1, 2), (20, 1), (20, 2)].map(|(connections, round)| (name, Some(connections), Some(round)))
    });
    assert_eq!(cells, all.collect::<Vec<_>>());
    for run in runs.iter().filter(|run| run["client"] == "loadtest") {
        assert!(
            run["requests"].as_u64() > Some(0) && run["errors"] == 0 && run["connected_after_us"].is_u64(),
            "{run}"
        );
        let figures = ["rps", "p99_us", "client_cpu_s", "client_rss_peak_bytes", "server_cpu_s"];
        assert!(figures.iter().all(|name| run[name].as_f64() > Some(0.0)), "{run}");
    }
    for run in runs.iter().filter(|run| run["client"] == "fake") {
        let connections = run["connections"].as_u64().unwrap();
        let asked = format!("-t{} -c{connections} -d1", connections.min(2));
        assert!(run["command"].as_str().unwrap().contains(&asked), "{run}");
        assert_eq!((&run["requests"], &run["rps"]), (&1.into(), &Value::Null), "{run}");
    }
    assert!(fs::read_to_string(&markdown).unwrap().contains("| loadtest / fake |"));
    let report = Command::new(LOADTEST).args(["report", &json]).output().unwrap();
    assert_eq!(texts(&report).0, stdout);
}

#[test]
fn a_load_generator_that_fails_is_a_failure_and_costs_no_other() {
    let directory = TempDir::new().unwrap();
    let bad = client(&directory, "bad", "[]", "echo cannot do it {url} >&2; exit 3");
    let silent = client(&directory, "silent", "[]", "true {url}");
    let idle = client(&directory, "idle", "[]", "echo 0 answers from {url}");
    let list = format!("{},{},{},loadtest", bad.display(), silent.display(), idle.display());
    let output = clients(&["-c", "5", "--rounds", "1", "-d", "1s"], &list).output().unwrap();
    let (stdout, stderr) = texts(&output);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    for expected in [
        "bad failed: exit status 3: cannot do it http://127.0.0.1:",
        "silent failed: it does not say how many answers it had: it printed nothing",
        "idle failed: it had no answer",
    ] {
        assert!(stderr.contains(expected), "{expected}: {stderr}");
    }
    assert_eq!(stdout.matches("1 of 1 failed").count(), 3 * 2, "{stdout}");
    assert!(stdout.contains(" loadtest "), "{stdout}");
}

#[test]
fn a_number_given_twice_is_measured_once_and_too_much_to_look_through_is_a_failure() {
    let directory = TempDir::new().unwrap();
    let brief = client(&directory, "brief", "[]", "echo '7 answers' # {url}").display().to_string();
    let endless =
        client(&directory, "endless", "[]", "yes '7 answers' | head -c 3000000 # {url}").display().to_string();
    let json = directory.path().join("a.json");
    let arguments = ["-c", "6,5,6", "--rounds", "1", "-d", "1s", "--json", json.to_str().unwrap()];
    let output = clients(&arguments, &format!("{brief},{endless}")).output().unwrap();
    let (stdout, stderr) = texts(&output);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("endless failed: it printed 3000000 bytes"), "{stderr}");
    let comparison: Value = serde_json::from_slice(&fs::read(&json).unwrap()).unwrap();
    let runs = comparison["runs"].as_array().unwrap();
    assert_eq!((runs.len(), &comparison["connections"]), (4, &serde_json::json!([6, 5])), "{comparison}");

    // Its file is printed again, also from a pipe, and whatever its figures are; but it has no runs to merge or to judge.
    let report = |arguments: &str, text: &str| {
        fs::write(directory.path().join("b.json"), text).unwrap();
        let command = format!("cat b.json | {LOADTEST} report {arguments}");
        Command::new("sh").args(["-c", &command]).current_dir(&directory).output().unwrap()
    };
    let text = comparison.to_string();
    assert_eq!(texts(&report("/dev/stdin", &text)).0, stdout);
    assert_eq!(report("b.json --fail-if 'errors > 0'", &text).status.code(), Some(2));
    assert_eq!(report("b.json --merge", &text).status.code(), Some(2));
    let vast = text.replace("\"p99_us\":null", "\"p99_us\":1e30").replace("\"errors\":null", "\"errors\":9");
    assert_ne!(vast, text);
    assert!(report("b.json", &vast).status.success());
    let runs = include_str!("../../crates/results/tests/data/runs.json");
    assert!(report("/dev/stdin", runs).status.success());
}

#[test]
fn an_interrupted_comparison_of_load_generators_says_that_it_is_partial_and_leaves_nothing() {
    let directory = TempDir::new().unwrap();
    let marker = directory.path().join("second");
    // The first run ends, and the second does not.
    let first = directory.path().join("first");
    let (one, two) = (first.display(), marker.display());
    let run = format!("if mkdir {one}; then echo 1 answers; else echo {{url}} >{two}; sleep 4732; fi");
    let slow = client(&directory, "slow", "[]", &run);
    let json = directory.path().join("a.json");
    let arguments = ["-c", "5", "--rounds", "9", "-d", "1s", "--json", json.to_str().unwrap()];
    let child = clients(&arguments, slow.to_str().unwrap()).spawn().unwrap();
    wait_for(&marker);
    kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).unwrap();
    let output = child.wait_with_output().unwrap();
    let (stdout, stderr) = texts(&output);
    assert_eq!(output.status.code(), Some(130), "{stderr}");
    assert!(stdout.contains("Partial: interrupted after 1 of 9 runs."), "{stdout}");
    let comparison: Value = serde_json::from_slice(&fs::read(&json).unwrap()).unwrap();
    assert_eq!((&comparison["complete"], comparison["runs"].as_array().unwrap().len()), (&false.into(), 1));
    let url = fs::read_to_string(&marker).unwrap();
    let address = url.trim().trim_start_matches("http://").trim_end_matches('/');
    assert!(TcpStream::connect(address).is_err(), "the server of {url} goes on");
    let sleeping = Command::new("pgrep").args(["-fx", "sleep 4732"]).output().unwrap();
    assert_eq!(texts(&sleeping).0, "", "it goes on");
}

#[test]
fn servers_and_load_generators_are_not_mixed_and_wrong_ones_are_refused() {
    let directory = TempDir::new().unwrap();
    let server = peer(&directory, "server", "programs = []").display().to_string();
    let fake = client(&directory, "fake", "[]", "true {url}").display().to_string();
    let changed = |name: &str, from: &str, to: &str| {
        let path = directory.path().join(name);
        fs::write(&path, fs::read_to_string(&fake).unwrap().replace(from, to)).unwrap();
        path.display().to_string()
    };
    let aimless = changed("aimless.toml", "{url}", "");
    let ours = changed("ours.toml", "'fake'", "'loadtest'");
    let cut_off = changed("cut-off.toml", "[output]", "programs = ['sh'");
    let unseen = changed("unseen.toml", "'fake'", "\"fa\\u001bke\"");
    let groupless = changed("groupless.toml", "(\\d+) answers", "answers");
    for (is_clients, list, status, expected) in [
        (true, "wrk,nginx".to_owned(), 2, "nginx is a server"),
        (true, "async".to_owned(), 2, "async is a server"),
        (true, server, 2, "server.toml is a server"),
        (true, "siege".to_owned(), 2, "there is no load generator siege: --list"),
        (true, format!("{fake},{fake}"), 2, "more than one peer fake"),
        (true, ours, 2, "more than one peer loadtest"),
        (true, cut_off, 1, "TOML parse error"),
        (true, unseen, 1, "characters that nobody can see"),
        (true, aimless, 1, "`run` has no {url}"),
        (true, groupless, 1, "has no group"),
        (false, "nginx,wrk".to_owned(), 2, "wrk is a load generator: `loadtest peers --clients`"),
        (false, fake.clone(), 2, "fake.toml is a load generator"),
    ] {
        let output = if is_clients { clients(&[], &list) } else { peers(&[], &[Path::new(&list)]) }.output().unwrap();
        let (_, stderr) = texts(&output);
        assert_eq!(output.status.code(), Some(status), "{list}: {stderr}");
        assert!(stderr.contains(expected), "{expected}: {stderr}");
    }
    for arguments in [["-d", "1500ms"], ["--wait", "1s"], ["--csv", "a.csv"], ["--slo", "p99 < 1s"]] {
        let output = clients(&arguments, &fake).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{output:?}");
    }
    let listed = Command::new(LOADTEST).args(["peers", "--list"]).output().unwrap();
    let (stdout, _) = texts(&listed);
    assert!(stdout.contains("nginx") && stdout.contains("wrk") && stdout.contains("oha"), "{stdout}");
}

#[test]
#[ignore = "needs wrk"]
fn the_real_wrk_is_measured_as_ours_is() {
    let output = clients(&["-c", "10", "--rounds", "1", "-d", "1s", "--json", "-"], "wrk,loadtest").output().unwrap();
    let (stdout, stderr) = texts(&output);
    assert!(output.status.success(), "{stderr}");
    assert!(stderr.contains("loadtest / wrk"), "{stderr}");
    let comparison: Value = serde_json::from_str(&stdout).unwrap();
    for run in comparison["runs"].as_array().unwrap() {
        let figures = ["requests", "rps", "p99_us", "client_cpu_s", "client_rss_peak_bytes", "server_cpu_s"];
        assert!(figures.iter().all(|name| run[name].as_f64() > Some(0.0)), "{run}");
        assert!(run["errors"] == 0 && run["connected_after_us"].is_u64(), "{run}");
    }
}
