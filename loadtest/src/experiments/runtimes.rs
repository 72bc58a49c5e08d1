//! The RAM of an interpreter or virtual machine that does nothing, where one is installed.

use std::fs;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use results::claim::Unit;
use results::statistics::Estimate;

use super::lab::Lab;
use crate::subject::Subject;

/// What each prints once it is up.
const READY: &str = "ready";
/// How long a program is watched: a virtual machine still loads classes after its first word.
const SETTLE: Duration = Duration::from_millis(300);

/// A program for each, and what it is called.
const RUNTIMES: &[(&str, &str, &[&str])] = &[
    ("python", "CPython", &["python3", "-c", "import time; print('ready', flush=True); time.sleep(3600)"]),
    ("node", "Node.js", &["node", "-e", "console.log('ready'); setTimeout(() => {}, 3600000)"]),
    ("perl", "Perl", &["perl", "-e", "$| = 1; print qq(ready\\n); sleep 3600"]),
];

const JAVA: &str = "public class Idle {
    public static void main(String[] arguments) throws Exception {
        System.out.println(\"ready\");
        Thread.sleep(3_600_000);
    }
}
";
const GO: &str = "package main

import (
\t\"fmt\"
\t\"time\"
)

func main() {
\tfmt.Println(\"ready\")
\ttime.Sleep(time.Hour)
}
";
/// Goroutines that sleep, as many as the first argument says.
const GOROUTINES: &str = "package main

import (
\t\"fmt\"
\t\"os\"
\t\"strconv\"
\t\"time\"
)

func main() {
\tcount, _ := strconv.Atoi(os.Args[1])
\tfor i := 0; i < count; i++ {
\t\tgo time.Sleep(time.Hour)
\t}
\ttime.Sleep(500 * time.Millisecond)
\tfmt.Println(\"ready\")
\ttime.Sleep(time.Hour)
}
";

/// Starts each of them a few times.
pub(super) fn run(lab: &mut Lab<'_>) -> Result<()> {
    for (name, what, argv) in RUNTIMES {
        idle(lab, name, what, &argv.iter().map(ToString::to_string).collect::<Vec<_>>())?;
    }
    let directory = tempfile::tempdir()?;
    let path = |name: &str| directory.path().join(name).to_string_lossy().into_owned();
    fs::write(path("Idle.java"), JAVA)?;
    match compiled(lab, &["javac".into(), path("Idle.java")]) {
        Ok(()) => idle(
            lab,
            "java",
            "a JVM",
            &["java".into(), "-cp".into(), directory.path().to_string_lossy().into(), "Idle".into()],
        )?,
        Err(error) => lab.record_missing("runtimes.java", format!("{error:#}")),
    }
    fs::write(path("idle.go"), GO)?;
    fs::write(path("goroutines.go"), GOROUTINES)?;
    match compiled(lab, &["go".into(), "build".into(), "-o".into(), path("idle"), path("idle.go")]) {
        Ok(()) => {
            idle(lab, "go", "a Go program", &[path("idle")])?;
            lab.output_of(&["go".into(), "build".into(), "-o".into(), path("goroutines"), path("goroutines.go")])?;
            goroutines(lab, &path("goroutines"))?;
        }
        Err(error) => {
            lab.check_interrupt()?;
            lab.record_missing("runtimes.go", format!("{error:#}"));
            lab.record_missing("runtimes.goroutine", format!("{error:#}"));
        }
    }
    Ok(())
}

/// Compiles, if the compiler is installed.
fn compiled(lab: &Lab<'_>, argv: &[String]) -> Result<()> {
    ensure!(Lab::is_installed(&argv[0]), "{}", not_installed(&argv[0]));
    lab.output_of(argv).map(drop)
}

fn not_installed(program: &str) -> String {
    format!("{program} is not installed here")
}

/// Several copies of a program: what one of them costs, kernel included.
fn idle(lab: &mut Lab<'_>, name: &str, what: &str, argv: &[String]) -> Result<()> {
    if !Lab::is_installed(&argv[0]) {
        lab.record_missing(format!("runtimes.{name}"), not_installed(&argv[0]));
        return Ok(());
    }
    let rounds = lab.quick_or(2, 5);
    let measured: Result<Vec<f64>> = (0..rounds).map(|_| ledger_bytes(lab, argv)).collect();
    lab.check_interrupt()?;
    match measured {
        Ok(bytes) => {
            let what = format!("RAM of {what} that does nothing (PSS, page tables, kernel stacks)");
            lab.record(format!("runtimes.{name}.bytes"), what, Unit::Bytes, Estimate::mean(&bytes));
        }
        Err(error) => lab.record_missing(format!("runtimes.{name}"), format!("it does not start: {error:#}")),
    }
    Ok(())
}

fn ledger_bytes(lab: &Lab<'_>, argv: &[String]) -> Result<f64> {
    lab.check_interrupt()?;
    let mut program = Subject::program("a runtime", argv, READY, lab.interrupt)?;
    thread::sleep(lab.quick_or(SETTLE / 2, SETTLE));
    program.ledger_bytes().map(|bytes| bytes as f64).context("its RAM cannot be read")
}

fn goroutines(lab: &mut Lab<'_>, program: &str) -> Result<()> {
    let mut points = Vec::new();
    for count in [10_000, 30_000, 100_000] {
        points.push((f64::from(count), ledger_bytes(lab, &[program.to_owned(), count.to_string()])?));
    }
    let slope = Estimate::slope(&points);
    lab.record("runtimes.goroutine.bytes", "RAM of a goroutine that sleeps", Unit::Bytes, slope);
    let many = slope.map(|slope| slope.times(100_000.0));
    lab.record("runtimes.goroutine.of_100000", "RAM of 100,000 goroutines", Unit::Bytes, many);
    Ok(())
}
