//! Whose CPU time counts: that of the CPUs which the server and the load generator may use.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use tempfile::TempDir;

const LOADTEST: &str = env!("CARGO_BIN_EXE_loadtest");
/// What these tests use of the CPUs is theirs alone.
static CPUS: Mutex<()> = Mutex::new(());
/// Long enough for a share of the time to mean something.
const NULL_RUN: [&str; 5] = ["--null", "-c", "10", "-d", "2s"];

/// Runs `command`, which ends with a call of loadtest, with these arguments.
fn measure(command: &[&str], arguments: &[&str]) -> Value {
    let directory = TempDir::new().unwrap();
    let json = directory.path().join("run.json");
    let words = [command, arguments, &["--json", json.to_str().unwrap()]].concat();
    let output = Command::new(words[0]).args(&words[1..]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&fs::read(json).unwrap()).unwrap()
}

fn has_warning(result: &Value, kind: &str) -> bool {
    result["warnings"].as_array().unwrap().iter().any(|warning| warning["kind"] == kind)
}

fn alone() -> MutexGuard<'static, ()> {
    CPUS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether nothing else uses the CPUs.
fn is_idle() -> bool {
    let ticks = || meter::machine::cpu_ticks(|_| true).unwrap();
    let before = ticks();
    std::thread::sleep(std::time::Duration::from_millis(500));
    let now = ticks();
    (now.busy - before.busy) * 20 < now.busy + now.idle - before.busy - before.idle
}

/// Keeps a CPU busy until it is dropped.
struct Burner(Child);

impl Burner {
    fn start(cpu: &str) -> Self {
        Self(
            Command::new("timeout")
                .args(["30", "taskset", "-c", cpu, "sh", "-c", "while :; do :; done"])
                .spawn()
                .unwrap(),
        )
    }
}

impl Drop for Burner {
    fn drop(&mut self) {
        // `timeout` passes on SIGTERM, but dies of SIGKILL alone.
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.0.id() as i32), nix::sys::signal::SIGTERM);
        let _ = self.0.wait();
    }
}

#[test]
fn the_cpus_of_both_count_and_no_others() {
    if std::thread::available_parallelism().unwrap().get() < 2 {
        eprintln!("skipped: this needs two CPUs");
        return;
    }
    let _alone = alone();
    if !is_idle() {
        eprintln!("skipped: this needs idle CPUs");
        return;
    }
    let apart = measure(&[LOADTEST], &[&NULL_RUN[..], &["--cpus", "0:1"]].concat());
    assert_eq!(apart["host"]["cpus"], 2, "the server's CPU and the load generator's");
    assert_eq!(measure(&["taskset", "-c", "0", LOADTEST], &NULL_RUN)["host"]["cpus"], 1);
    // Somebody on another CPU is in nobody's way; on the same one he is.
    let burner = Burner::start("1");
    let undisturbed = measure(&["taskset", "-c", "0", LOADTEST], &NULL_RUN);
    let disturbed = measure(&["taskset", "-c", "1", LOADTEST], &NULL_RUN);
    drop(burner);
    assert!(!has_warning(&undisturbed, "busy_machine"), "{}", undisturbed["warnings"]);
    assert!(has_warning(&disturbed, "busy_machine"), "{}", disturbed["warnings"]);
}

/// A cgroup with a quota of a fifth of a CPU; `None` without the right to make one.
fn cgroup_with_quota() -> Option<PathBuf> {
    let name = format!("loadtest-quota-{}", std::process::id());
    let v1 = Path::new("/sys/fs/cgroup/cpu").join(&name);
    let v2 = Path::new("/sys/fs/cgroup").join(&name);
    let limits: [(&Path, &[(&str, &str)]); 2] = [
        (&v1, &[("cpu.cfs_period_us", "100000"), ("cpu.cfs_quota_us", "20000")]),
        (&v2, &[("cpu.max", "20000 100000")]),
    ];
    limits.into_iter().find_map(|(dir, files)| {
        fs::create_dir(dir).ok()?;
        // Without the controller there are no such files.
        let is_limited =
            files.iter().all(|(file, limit)| dir.join(file).exists() && fs::write(dir.join(file), limit).is_ok());
        if is_limited {
            return Some(dir.to_owned());
        }
        let _ = fs::remove_dir(dir);
        None
    })
}

#[test]
fn a_used_up_quota_is_a_warning() {
    let Some(cgroup) = cgroup_with_quota() else {
        eprintln!("skipped: this needs the right to create a cgroup with a CPU quota");
        return;
    };
    let _alone = alone();
    let enter = format!("echo $$ > {}/cgroup.procs && exec \"$@\"", cgroup.display());
    let result = measure(&["sh", "-c", &enter, "sh", LOADTEST], &NULL_RUN);
    fs::remove_dir(&cgroup).unwrap();
    assert_eq!(result["host"]["cpu_quota"], 0.2);
    assert!(has_warning(&result, "cpu_quota"), "{}", result["warnings"]);
    assert!(!has_warning(&measure(&[LOADTEST], &NULL_RUN), "cpu_quota"));
}
