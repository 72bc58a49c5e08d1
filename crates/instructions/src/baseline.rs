//! The recorded counts, and whether others are near them.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};

/// How to record other counts.
pub(crate) const RENEW: &str = "cargo run --release -p instructions -- --renew";
/// Counts that are as near as this share are alike.
const TOLERANCE: f64 = 0.05;
const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/baseline.json");

/// What was counted when the code was as it should be.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Baseline {
    /// The compiler that the programs were built with.
    pub(crate) compiler: String,
    /// The C library, parts of which are counted, and valgrind. Another of these makes little difference.
    pub(crate) counted_with: String,
    /// The instructions of each case.
    pub(crate) instructions: BTreeMap<String, u64>,
}

impl Baseline {
    /// Reads the file.
    ///
    /// # Errors
    /// There is none, or it is not one of this program's.
    pub(crate) fn read() -> Result<Self> {
        let text = fs::read(PATH).with_context(|| format!("{PATH} cannot be read; to make one: {RENEW}"))?;
        serde_json::from_slice(&text).with_context(|| format!("{PATH} is no baseline; to make one: {RENEW}"))
    }

    /// Writes the file.
    ///
    /// # Errors
    /// It cannot be written.
    pub(crate) fn write(&self) -> Result<()> {
        let text = serde_json::to_string_pretty(self)? + "\n";
        fs::write(PATH, text).with_context(|| format!("{PATH} cannot be written"))
    }

    /// A line for each count that is not near the recorded one. Fewer are a reason to complain, too: against a baseline that
    /// is too high, what is lost later goes unseen.
    pub(crate) fn compare(&self, counted_with: &str, instructions: &BTreeMap<String, u64>) -> Vec<String> {
        let other_tools = match self.counted_with == counted_with {
            true => String::new(),
            false => format!(" (recorded with {}, and counted with {counted_with})", self.counted_with),
        };
        let complaint = |(name, &count): (&String, &u64)| {
            let Some(&recorded) = self.instructions.get(name) else {
                return Some(format!("{name}: {count} instructions, and none are recorded. To record them: {RENEW}"));
            };
            let change = count as f64 / recorded as f64 - 1.0;
            let percent = (change * 100.0).abs();
            let (how, what) = match change {
                more if more > TOLERANCE => ("more", "Find out why, or, if it must be so,"),
                less if less < -TOLERANCE => ("less", "So that it stays so,"),
                _ => return None,
            };
            Some(format!(
                "{name}: {count} instructions, {percent:.1} % {how} than the {recorded} recorded{other_tools}. {what} renew: {RENEW}"
            ))
        };
        let gone = self.instructions.keys().filter(|name| !instructions.contains_key(*name));
        let gone = gone.map(|name| format!("{name} is recorded, and not counted any more. Renew: {RENEW}"));
        instructions.iter().filter_map(complaint).chain(gone).collect()
    }
}

/// The compiler: its version, target and LLVM, on all of which the counts depend.
///
/// # Errors
/// It cannot be run.
pub(crate) fn compiler() -> Result<String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).arg("-vV").output().context("cannot run rustc")?;
    ensure!(output.status.success(), "rustc -vV fails");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)).unwrap_or("?").trim().to_owned();
    Ok(format!("rustc {}, {}, LLVM {}", value("release:"), value("host:"), value("LLVM version:")))
}

/// The C library and valgrind.
///
/// # Errors
/// There is no valgrind.
pub(crate) fn tools() -> Result<String> {
    let first_line = |program: &str, argument: &str| {
        let output = Command::new(program).arg(argument).output().ok()?;
        Some(String::from_utf8_lossy(&output.stdout).lines().next()?.trim().to_owned())
    };
    let valgrind = first_line("valgrind", "--version").context("valgrind is missing: apt-get install valgrind")?;
    let libc = first_line("getconf", "GNU_LIBC_VERSION").unwrap_or_else(|| "a C library of unknown version".into());
    Ok(format!("{libc}, {valgrind}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(counts: &[(&str, u64)]) -> BTreeMap<String, u64> {
        counts.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
    }

    #[test]
    fn what_is_not_near_the_baseline_is_named_with_the_way_out() {
        let instructions = counts(&[("codec", 1_000), ("reply", 1_000), ("async", 1_000), ("old", 5)]);
        let baseline = Baseline { compiler: "rustc".into(), counted_with: "glibc".into(), instructions };
        assert_eq!(baseline.compare("musl", &baseline.instructions), [""; 0]);
        let found = counts(&[("codec", 1_051), ("reply", 1_049), ("async", 949), ("new", 7)]);
        assert!(baseline.compare("musl", &found)[0].contains("recorded with glibc, and counted with musl"));
        let complaints = baseline.compare("glibc", &found);
        for (complaint, expected) in complaints.iter().zip([
            "async: 949 instructions, 5.1 % less than the 1000 recorded",
            "codec: 1051 instructions, 5.1 % more than the 1000 recorded",
            "new: 7 instructions, and none are recorded",
            "old is recorded, and not counted any more",
        ]) {
            assert!(complaint.starts_with(expected) && complaint.ends_with(RENEW), "{complaint}");
        }
        assert_eq!(complaints.len(), 4, "{complaints:?}");
    }

    #[test]
    fn the_recorded_baseline_has_every_case_and_a_compiler_like_this_one() {
        let baseline = Baseline::read().unwrap();
        let names: Vec<_> = crate::case::Case::ALL.iter().map(|case| case.name.to_owned()).collect();
        let mut recorded: Vec<_> = baseline.instructions.keys().cloned().collect();
        recorded.sort_by_key(|name| names.iter().position(|other| other == name));
        assert_eq!(recorded, names);
        assert!(baseline.compiler.starts_with("rustc 1.") && compiler().unwrap().starts_with("rustc 1."));
    }
}
