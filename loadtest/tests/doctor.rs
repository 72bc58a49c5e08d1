//! The limits of a machine, with the real binary under real limits; and loadtest where nothing can be built.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

const LOADTEST: &str = env!("CARGO_BIN_EXE_loadtest");

fn doctor(limits: &[&str], arguments: &[&str]) -> (Option<i32>, Value, String) {
    let mut command = Command::new("prlimit");
    command.args(limits).args([LOADTEST, "doctor", "--json", "-"]).args(arguments);
    let output = command.output().expect("prlimit is installed");
    let diagnosis = serde_json::from_slice(&output.stdout).unwrap_or_default();
    (output.status.code(), diagnosis, stderr(&output))
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn target<'a>(diagnosis: &'a Value, name: &str) -> &'a Value {
    let targets = diagnosis["targets"].as_array().unwrap();
    targets.iter().find(|target| target["target"] == name).unwrap()
}

#[test]
fn a_limit_of_files_is_named_with_what_moves_it() {
    let (status, diagnosis, text) = doctor(&["--nofile=300:4096"], &["-c", "4k", "--target", "async,prefork"]);
    assert_eq!((status, &diagnosis["schema"]), (Some(1), &"c10k-doctor/1".into()), "{text}");
    let walls = diagnosis["walls"].as_array().unwrap();
    let is_files = |wall: &&Value| wall["name"] == "open files" && wall["side"] == "server";
    let files = walls.iter().find(is_files).unwrap();
    // An eighth is not for connections.
    assert_eq!((&files["limit"], &files["allows"]), (&4_096.into(), &3_584.into()));
    assert_eq!((&files["targets"], &files["is_hit"]), (&serde_json::json!(["async"]), &true.into()));
    assert_eq!(files["remedy"]["command"], "ulimit -Hn 4667");
    assert_eq!(target(&diagnosis, "async")["allows"], 3_584);
    // A process has its own files; 4,000 of the client's are enough.
    assert_eq!(target(&diagnosis, "prefork")["fits"], true, "{text}");
    assert!(text.contains("async: does not fit; first comes open files, server, at 3,584 connections."), "{text}");
    assert!(text.contains("`ulimit -Hn 4667`"), "{text}");
}

#[test]
fn what_fits_is_status_0_and_nonsense_is_2() {
    let (status, diagnosis, text) = doctor(&["--nofile=4096:4096"], &["-c", "100"]);
    assert_eq!((status, diagnosis["targets"].as_array().map(Vec::len)), (Some(0), Some(6)), "{text}");
    assert_eq!(doctor(&[], &["-c", "0"]).0, Some(2));
    let (status, _, text) = doctor(&[], &["-c", "1", "--from", "/nowhere"]);
    assert!(status == Some(2) && text.contains("/nowhere"), "{text}");
}

/// Only where this user may make a group, as root.
#[test]
fn a_pids_cgroup_is_a_wall_of_processes_and_threads() {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap();
    let path =
        own.lines().find_map(|line| line.split_once(":pids:")).map_or("", |(_, path)| path.trim_end_matches('/'));
    let group = format!("/sys/fs/cgroup/pids{path}/loadtest-doctor-{}", std::process::id());
    if fs::create_dir(&group).is_err() {
        return eprintln!("not checked: {group} cannot be made");
    }
    fs::write(format!("{group}/pids.max"), "200").unwrap();
    let line =
        format!("echo $$ > {group}/cgroup.procs; exec {LOADTEST} doctor -c 1000 --target threads,async --json -");
    let output = Command::new("sh").args(["-c", &line]).output().unwrap();
    fs::remove_dir(&group).unwrap();
    let diagnosis: Value = serde_json::from_slice(&output.stdout).unwrap();
    let threads = target(&diagnosis, "threads");
    // loadtest itself is in the group, and some room is left.
    assert_eq!((&threads["first"], &threads["allows"]), (&"pids cgroup".into(), &(200 - 1 - 16).into()), "{threads}");
    assert_eq!(target(&diagnosis, "async")["fits"], true);
    // A new limit has room for loadtest itself, too.
    let expected = format!("`echo 1017 > {group}/pids.max`");
    assert!(stderr(&output).contains(&expected), "{}", stderr(&output));
}

#[test]
fn a_run_is_refused_before_it_starts() {
    // Alone: beside the one that was built, there are servers.
    let folder = tempfile::tempdir().unwrap();
    let alone = folder.path().join("loadtest");
    fs::copy(LOADTEST, &alone).unwrap();
    let refused = |limits: &str, target: &str| {
        let mut command = Command::new("prlimit");
        command.args([limits, "env", "--unset=CARGO", "PATH=/nowhere"]).arg(&alone);
        command.args(["--target", target, "-c", "3000"]);
        let output = command.output().expect("prlimit is installed");
        assert_eq!(output.status.code(), Some(1));
        stderr(&output)
    };
    let text = refused("--nofile=1024", "async");
    assert!(text.contains("open files, server") && text.contains("or hold fewer with -c 896"), "{text}");
    // Not what stops it here: it got as far as looking for the servers.
    let text = refused("--nofile=8000", "async");
    assert!(text.contains("server-async is not beside loadtest"), "{text}");
}

#[test]
fn without_cargo_the_servers_beside_loadtest_are_measured() {
    let folder = tempfile::tempdir().unwrap();
    let here = |name: &str| folder.path().join(name);
    let run = |executable: &Path, json: &Path| {
        let mut command = Command::new(executable);
        command.args(["--target", "async-codec", "-c", "20", "-d", "300ms", "--db-wait", "50ms", "--json"]).arg(json);
        command
    };
    // Cargo builds it, and the result says where.
    let output = run(Path::new(LOADTEST), &here("built.json")).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let built: Value = serde_json::from_slice(&fs::read(here("built.json")).unwrap()).unwrap();
    fs::copy(LOADTEST, here("loadtest")).unwrap();
    fs::copy(built["command"][0].as_str().unwrap(), here("server-async")).unwrap();

    let mut installed = run(&here("loadtest"), &here("installed.json"));
    let output = installed.env("PATH", "/nowhere").env_remove("CARGO").current_dir(folder.path()).output().unwrap();
    assert!(output.status.success() && stderr(&output).contains("beside loadtest"), "{}", stderr(&output));
    let result: Value = serde_json::from_slice(&fs::read(here("installed.json")).unwrap()).unwrap();
    assert_eq!(result["command"][0], here("server-async").to_str().unwrap());
    assert_eq!(result["connections"]["open_peak"], 20);
}
