use std::process::Command;

use meter::{MeterError, cpu_time, process_tree, process_trees, rss_peak_bytes};

use crate::eventually;
use crate::started::Started;

#[test]
fn a_tree_has_children_and_grandchildren_and_the_root_first() {
    let started = Started::shell("sh -c 'sleep 60 & sleep 60 & wait' & sleep 60 & wait");
    eventually("two shells and three sleeps", || process_tree(started.pid()).len() == 5);
    assert_eq!(process_tree(started.pid())[0], started.pid());
    assert!(process_tree(std::process::id() as i32).contains(&started.pid()));
}

#[test]
fn several_trees_have_each_process_once_and_the_roots_first() {
    let [one, other] = [(); 2].map(|()| Started::shell("sleep 60 & wait"));
    let roots = [other.pid(), one.pid(), one.pid()];
    eventually("two shells and two sleeps", || process_trees(&roots).len() == 4);
    let mut first: Vec<_> = process_trees(&roots)[..2].to_vec();
    first.sort_unstable();
    let mut expected = vec![one.pid(), other.pid()];
    expected.sort_unstable();
    assert_eq!(first, expected);
    let below = process_trees(&[std::process::id() as i32, one.pid()]);
    assert_eq!(below.iter().filter(|pid| **pid == one.pid()).count(), 1);
    assert!(process_trees(&[]).is_empty());
}

#[test]
fn a_missing_process_has_no_tree_and_no_figures() {
    let mut started = Started::command(&mut Command::new("true"));
    let pid = started.pid();
    started.wait();
    assert!(process_tree(pid).is_empty());
    assert!(matches!(cpu_time(pid), Err(MeterError::NoSuchProcess { .. })));
    assert!(matches!(rss_peak_bytes(pid), Err(MeterError::NoSuchProcess { .. })));
    assert!(matches!(meter::ledger(pid), Err(MeterError::NoSuchProcess { .. })));
}

#[test]
fn cpu_time_counts_a_process_that_spins() {
    let started = Started::command(Command::new("sh").args(["-c", "while :; do :; done"]));
    eventually("CPU time of 50 ms", || cpu_time(started.pid()).expect("it runs").as_millis() >= 50);
}

#[test]
fn the_rss_peak_remains_when_the_memory_is_gone() {
    let started = Started::role("memory_given_back", &[]);
    assert!(rss_peak_bytes(started.pid()).expect("it runs") >= 64 << 20);
    assert!(meter::ledger(started.pid()).expect("it runs").rss_sum_bytes < Some(64 << 20));
}
