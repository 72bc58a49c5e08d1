//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::exit;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{CommandFactory as _, Parser};

const EXAMPLES: &str = "\
Examples:
  A command, until it ends; its output and its exit status stay its own:
    ramledger -- cargo build

  A server that runs, once a second:
    ramledger --pid 4711 --watch

  A container, for a script:
    ramledger --container postgres --json

How to read it:
  charged     what the kernel charges to the cgroup of the processes. The
              parts add up to the total, but for what it charges in batches
              (256 KiB for each CPU). Page cache is charged to whoever read a
              file first.
  in /proc    what the processes show: nothing of it needs a cgroup. PSS, page
              tables, kernel stacks and sockets may be added. RSS counts a
              page that 100 processes share 100 times: it may not.

Exit status: with a command its own, or 128 and the number of the signal that
ended it, 126 or 127 if it cannot be run, 125 if ramledger fails. Else 0, and
1 if there is nothing to read. 2 for wrong arguments.";

/// Say where the RAM of a command, a process, a cgroup or a container is, the kernel's part included
///
/// A command is started in a cgroup of its own where that is allowed (as root, or in a delegated cgroup). What is shown of
/// it are the peak, and the parts at the reading with the highest total.
#[derive(Parser, Debug)]
#[command(name = "ramledger", version, after_long_help = EXAMPLES, after_help = "--help shows examples, and how to read it.")]
pub(crate) struct Cli {
    /// The process and all that descends from it
    #[arg(long, value_name = "PID", group = "what", value_parser = clap::value_parser!(i32).range(1..))]
    pid: Option<i32>,

    /// The processes in the cgroup with this directory (on cgroup v1 that of the memory controller), and in those below
    #[arg(long, value_name = "DIRECTORY", group = "what")]
    cgroup: Option<PathBuf>,

    /// The container with this name or id, as docker or podman knows it
    #[arg(long, value_name = "NAME", group = "what")]
    container: Option<String>,

    /// Show it again and again while it runs
    #[arg(long)]
    pub(crate) watch: bool,

    /// The time between two readings: 1s, 200ms. It gets longer where reading takes more than a tenth of it
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = quantity::positive_duration)]
    pub(crate) interval: Duration,

    /// JSON in place of the table; with --watch a line for each reading
    #[arg(long)]
    pub(crate) json: bool,

    /// Write it here. Else it goes to standard output, and beside a command, whose that is, to standard error
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,

    /// Print the manual page
    #[arg(long, group = "what")]
    generate_man: bool,

    /// The command to run and its arguments
    #[arg(last = true, group = "what", value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// What to meter.
#[derive(Debug)]
pub(crate) enum What<'a> {
    /// This command, from its start to its end.
    Command(&'a [OsString]),
    /// Something that runs already.
    Running(Subject),
}

/// Something that runs already.
#[derive(Clone, Debug)]
pub(crate) enum Subject {
    /// A process and all that descends from it.
    Tree(i32),
    /// A cgroup and those below it.
    Cgroup(PathBuf),
    /// A container.
    Container(String),
}

/// Parses the command line. Exits if it is wrong or asks for help.
pub(crate) fn parse() -> Cli {
    let cli = Cli::parse();
    if cli.generate_man {
        let printed = clap_mangen::Man::new(Cli::command()).render(&mut std::io::stdout());
        exit(i32::from(printed.is_err()));
    }
    if cli.subject().is_none() && cli.command.is_empty() {
        let message = "say what to meter: -- COMMAND, --pid, --cgroup or --container";
        Cli::command().error(ErrorKind::MissingRequiredArgument, message).exit();
    }
    cli
}

impl Cli {
    pub(crate) fn what(&self) -> What<'_> {
        self.subject().map_or(What::Command(&self.command), What::Running)
    }

    fn subject(&self) -> Option<Subject> {
        let tree = self.pid.map(Subject::Tree);
        let cgroup = || self.cgroup.clone().map(Subject::Cgroup);
        let container = || self.container.clone().map(Subject::Container);
        tree.or_else(cgroup).or_else(container)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn there_is_one_subject() {
        for line in
            ["ramledger --pid 1 --cgroup /a", "ramledger --pid 1 -- true", "ramledger --pid 0", "ramledger true"]
        {
            assert!(Cli::try_parse_from(line.split(' ')).is_err(), "{line}");
        }
    }

    #[test]
    fn the_help_fits_80_columns() {
        for line in EXAMPLES.lines() {
            assert!(line.chars().count() <= 78, "{line}");
        }
    }
}
