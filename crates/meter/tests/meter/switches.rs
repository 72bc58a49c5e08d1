use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};

use meter::{MeterError, Switches, process_tree};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::eventually;
use crate::started::Started;

fn switches_of(started: &Started) -> Switches {
    Switches::read(&process_tree(started.pid())).expect("it runs")
}

#[test]
fn who_waits_for_each_of_a_hundred_bytes_is_switched_a_hundred_times() {
    const BYTES: u64 = 100;
    let mut cat = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("spawn");
    let (mut to, mut from) = (cat.stdin.take().expect("piped"), cat.stdout.take().expect("piped"));
    let mut send = || {
        to.write_all(b"x").expect("it reads");
        from.read_exact(&mut [0]).expect("it answers");
    };
    let read = || Switches::read(&[cat.id() as i32]).expect("it runs");
    // It has started, and waits again.
    send();
    std::thread::sleep(std::time::Duration::from_millis(100));
    let before = read();
    (0..BYTES).for_each(|_| send());
    eventually("it waits again", || read().since(&before) >= Some(BYTES));
    let switches = read().since(&before).expect("the same process");
    // On a busy machine some are against its will.
    assert!(switches < 2 * BYTES, "{switches}");
    drop(to);
    assert!(cat.wait().expect("wait").success());
}

#[test]
fn switches_of_threads_and_of_children_count() {
    let threads = Started::role("a_thread_that_sleeps_often", &[]);
    let children = Started::shell("while :; do read line; done < /dev/zero & cat /dev/zero | cat > /dev/null");
    eventually("two shells and two cats", || process_tree(children.pid()).len() == 4);
    for started in [threads, children] {
        let before = switches_of(&started);
        eventually("100 switches", || switches_of(&started).since(&before) >= Some(100));
    }
}

#[test]
fn the_switches_of_threads_that_came_or_went_are_unknown() {
    let started = Started::shell("sleep 60 & sleep 60 & wait");
    eventually("a shell and two sleeps", || process_tree(started.pid()).len() == 3);
    let (tree, before) = (process_tree(started.pid()), switches_of(&started));
    assert!(switches_of(&started).since(&before).is_some());
    let without_one = Switches::read(&tree[..2]).expect("it runs");
    assert_eq!((without_one.since(&before), before.since(&without_one)), (None, None));
    // As many, but another.
    let other = Started::shell("sleep 60");
    let exchanged = Switches::read(&[tree[0], tree[1], other.pid()]).expect("they run");
    assert_eq!(exchanged.since(&before), None);
    kill(Pid::from_raw(tree[2]), Signal::SIGKILL).expect("it runs");
    eventually("it is gone", || matches!(Switches::read(&tree), Err(MeterError::NoSuchProcess { .. })));
}
