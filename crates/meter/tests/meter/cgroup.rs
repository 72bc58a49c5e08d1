use std::path::{Path, PathBuf};
use std::process;

use meter::{Cgroup, MeterError, remove_stale};

use crate::eventually;
use crate::started::Started;

const MIB: u64 = 1 << 20;

/// A cgroup for the test; `None` where the machine does not allow one, and then the error has to say why.
fn create(test: &str) -> Option<Cgroup> {
    match Cgroup::create(&name(test)) {
        Ok(cgroup) => Some(cgroup),
        Err(MeterError::NoCgroup { why, remedy }) => {
            eprintln!("{test}: no cgroup here: {why}; {remedy}");
            assert!(why.contains("/sys/fs/cgroup") || why.contains("memory controller"), "{why}");
            assert!(!remedy.is_empty());
            None
        }
        Err(other) => panic!("{other:?}"),
    }
}

fn name(test: &str) -> String {
    format!("meter-{test}-{}", process::id())
}

/// The directories of the cgroup, the memory controller's first.
fn dirs(cgroup: &Cgroup) -> Vec<PathBuf> {
    let parent = |procs: PathBuf| procs.parent().map(Path::to_owned).expect("has one");
    cgroup.join_paths().into_iter().map(parent).collect()
}

#[test]
fn memory_and_cpu_of_members_are_charged() {
    let Some(cgroup) = create("charged") else { return };
    assert!(cgroup.pids().expect("pids").is_empty());
    let before = cgroup.current_bytes().expect("current");
    let cpu_before_usec = cgroup.cpu_usec().expect("cpu");

    let mut holding = Started::shell_in(&cgroup.join_paths(), "head -c 64M /dev/zero | tail");
    eventually("64 MiB are charged", || cgroup.parts().expect("parts").anon_bytes >= Some(64 * MIB));
    let parts = cgroup.parts().expect("parts");
    assert!(parts.total_bytes >= before + 64 * MIB);
    assert!(parts.kernel_bytes > Some(0));
    assert!(parts.file_bytes.is_some());
    assert!(cgroup.cpu_usec().expect("cpu") > cpu_before_usec);
    assert!(cgroup.pids().expect("pids").contains(&holding.pid()));

    cgroup.kill_all().expect("all die");
    holding.wait();
    assert!(cgroup.pids().expect("pids").is_empty());
    eventually("the memory is given back", || cgroup.current_bytes().expect("current") < 32 * MIB);
    assert!(cgroup.peak_bytes().expect("peak") >= 64 * MIB);
    assert_eq!(cgroup.oom_kills().expect("oom_kills"), 0);
}

#[test]
fn the_total_includes_the_kernels_part() {
    let Some(cgroup) = create("kernel") else { return };
    let _holding = Started::shell_in(&cgroup.join_paths(), "for i in $(seq 50); do sleep 60 & done; wait");
    eventually("51 processes", || cgroup.pids().expect("pids").len() == 51);
    eventually("the parts are the total, but for batches of charges", || {
        let parts = cgroup.parts().expect("parts");
        let sum = [parts.anon_bytes, parts.file_bytes, parts.kernel_bytes, parts.sockets_bytes];
        let sum: u64 = sum.into_iter().flatten().sum();
        let kernel = parts.kernel_bytes.expect("known");
        // Every process has at least a kernel stack.
        kernel > 50 * 16 * 1024 && parts.total_bytes + MIB > sum && parts.total_bytes < sum + 2 * MIB
    });
}

#[test]
fn the_buffers_of_sockets_are_charged() {
    let Some(cgroup) = create("sockets") else { return };
    let _holding = Started::role_in(&cgroup.join_paths(), "connections_64_full");
    let parts = cgroup.parts().expect("parts");
    assert!(parts.sockets_bytes >= Some(4 * MIB), "{parts:?}");
    assert!(parts.total_bytes >= parts.sockets_bytes.expect("known"));
}

#[test]
fn the_peak_can_be_reset() {
    let Some(cgroup) = create("peak") else { return };
    let mut started = Started::shell_in(&cgroup.join_paths(), "head -c 32M /dev/zero | tail | cat > /dev/null");
    started.wait();
    assert!(cgroup.peak_bytes().expect("peak") >= 32 * MIB);
    match cgroup.reset_peak() {
        Ok(()) => assert!(cgroup.peak_bytes().expect("peak") < 32 * MIB),
        Err(error) => assert!(matches!(error, MeterError::Unavailable { .. }), "{error}"),
    }
}

#[test]
fn a_member_can_read_its_own_cgroup() {
    let Some(cgroup) = create("own") else { return };
    cgroup.set_limit_bytes(256 * MIB).expect("set a limit");
    let _reading = Started::role_in(&cgroup.join_paths(), "read_own_cgroup");
}

#[test]
fn oom_kills_are_counted() {
    let Some(cgroup) = create("oom") else { return };
    cgroup.set_limit_bytes(16 * MIB).expect("set a limit");
    let _started = Started::shell_in(&cgroup.join_paths(), "head -c 64M /dev/zero | tail");
    eventually("a process is killed", || cgroup.oom_kills().expect("oom_kills") >= 1);
}

#[test]
fn dropping_removes_the_directories_and_the_name_is_free_again() {
    let Some(cgroup) = create("drop") else { return };
    let dirs = dirs(&cgroup);
    assert!(!dirs.is_empty() && dirs.iter().all(|dir| dir.exists()));

    let taken = Cgroup::create(&name("drop")).expect_err("the name is taken");
    assert!(taken.to_string().contains("another run uses this name"), "{taken}");
    assert!(dirs.iter().all(|dir| dir.exists()), "a failed creation removed another cgroup");

    drop(cgroup);
    assert!(dirs.iter().all(|dir| !dir.exists()));
    drop(create("drop").expect("the name is free"));
}

#[test]
fn dropping_waits_for_exiting_processes() {
    let Some(cgroup) = create("busy") else { return };
    let dirs = dirs(&cgroup);
    let _started = Started::shell_in(&cgroup.join_paths(), "exec sleep 0.2");
    eventually("it has joined", || !cgroup.pids().expect("pids").is_empty());
    drop(cgroup);
    assert!(dirs.iter().all(|dir| !dir.exists()));
}

#[test]
fn a_name_is_one_directory() {
    for bad in ["", ".", "..", "a/b", "../a", "a\0b"] {
        let error = Cgroup::create(bad).expect_err("a bad name");
        assert!(error.to_string().contains("not a directory name"), "{error}");
    }
}

#[test]
fn only_the_groups_of_dead_creators_are_removed() {
    let prefix = "meter-stale-";
    let Some(alive) = create("stale") else { return };
    // The creator also checks that `kill_all` does not kill its caller.
    let mut creator = Started::creator_of_a_stale_cgroup();
    let creator_pid = creator.pid();
    assert!(creator.wait(), "the role failed");

    // A killed run of these tests may have left others.
    let removed = remove_stale(prefix);
    let from_creator = removed.iter().filter(|dir| dir.ends_with(format!("{prefix}{creator_pid}")));
    assert_eq!(from_creator.count(), dirs(&alive).len(), "{removed:?}");
    assert!(removed.iter().all(|dir| !dir.exists()));
    assert!(dirs(&alive).iter().all(|dir| dir.exists()));
}
