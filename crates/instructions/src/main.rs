//! Counts the instructions of what runs for every request, under valgrind's callgrind, and compares them with a recorded
//! baseline.
//!
//! A time differs from run to run and from machine to machine by more than most changes of the code. A number of
//! instructions does not, so that a guard can fail by 5 %.

#![forbid(unsafe_code)]

mod baseline;
mod callgrind;
mod case;
mod server;
mod work;

use std::collections::BTreeMap;
use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, ensure};
use clap::{Parser, Subcommand};

use crate::baseline::Baseline;
use crate::case::Case;
use crate::work::Work;

/// Count the instructions of a request, and compare them with crates/instructions/baseline.json
///
/// Counted is what the codec of the servers takes to decode a request and encode the answer, what the client's decoder
/// takes for that answer, and what each server takes for a request on a connection that stays open, its threads and
/// processes included, the kernel's part not.
///
/// Needs valgrind (apt-get install valgrind), and builds the servers in release. Takes about half a minute after that.
#[derive(Parser, Debug)]
#[command(
    after_help = "Exit status: 0 all are within 5 % of the baseline, or it is of another compiler; 1 one is not, or cannot be \
                  counted; 2 wrong arguments."
)]
struct Cli {
    /// Count, and write the baseline anew
    #[arg(long)]
    renew: bool,

    #[command(subcommand)]
    command: Option<Subcommands>,
}

#[derive(Subcommand, Debug)]
enum Subcommands {
    /// Do the work that is counted
    #[command(hide = true)]
    Work {
        #[arg(value_enum)]
        work: Work,
        times: u64,
    },
}

fn main() -> Result<ExitCode> {
    let cli = Cli::parse();
    if let Some(Subcommands::Work { work, times }) = cli.command {
        work.run(times);
        return Ok(ExitCode::SUCCESS);
    }
    let compiler = baseline::compiler()?;
    let recorded = if cli.renew { None } else { Some(Baseline::read()?) };
    if let Some(other) = recorded.as_ref().filter(|recorded| recorded.compiler != compiler) {
        println!(
            "Not compared: the baseline is of {}, and this is {compiler}. To make one of this compiler: {}",
            other.compiler,
            baseline::RENEW
        );
        return Ok(ExitCode::SUCCESS);
    }
    let counted_with = baseline::tools()?;
    let instructions = count(&build()?)?;
    let Some(recorded) = recorded else {
        Baseline { compiler, counted_with, instructions }.write()?;
        return Ok(ExitCode::SUCCESS);
    };
    let complaints = recorded.compare(&counted_with, &instructions);
    complaints.iter().for_each(|complaint| eprintln!("{complaint}"));
    Ok(if complaints.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The folder of this program and the servers, which it builds: an older one would be counted silently.
fn build() -> Result<PathBuf> {
    let own = env::current_exe().context("cannot find this program")?;
    let folder = own.parent().unwrap_or(&own).to_owned();
    ensure!(folder.ends_with("release"), "the baseline is of the release profile: cargo run --release -p instructions");
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let packages = ["prefork", "threads", "threadpool", "async"].map(|name| format!("--package=server-{name}"));
    let built = Command::new(cargo).args(["build", "--release", "--quiet"]).args(packages).status();
    ensure!(built.context("cannot run cargo")?.success(), "the servers cannot be built: see above");
    Ok(folder)
}

fn count(folder: &Path) -> Result<BTreeMap<String, u64>> {
    let mut instructions = BTreeMap::new();
    for case in Case::ALL {
        let count = case.count(folder).with_context(|| format!("{} cannot be counted", case.name))?;
        println!("{:<14} {count:>8} instructions: {}", case.name, case.what);
        instructions.insert(case.name.to_owned(), count);
    }
    Ok(instructions)
}
