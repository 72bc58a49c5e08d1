//! `loadtest doctor`: the limits of this machine, and which of them comes first.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use load::net::Sources;
use results::target::RECORDED_SWEEP;
use results::walls::{Diagnosis, SCHEMA, TargetWalls, Wall, first};
use results::{Target, file};

use super::plan::cost::ModelCost;
use super::target_choice::{TargetChoice, chosen};
use crate::machine::readings::may;
use crate::machine::terminal::print;
use crate::machine::walls::{Asked, RamCost, Readings, Server, walls};
use crate::output::file::OutputFile;

/// Say whether this machine can hold a number of connections, and which of its limits comes first
///
/// Reads the limits of open files, ports, processes, threads, memory maps, of cgroups, of the firewall, of TCP's memory,
/// and free RAM, for a server and a load generator that are both on this machine. Nothing is started, and nothing is
/// changed. For each limit it says how many connections it allows, and, where it is too low, the command that moves it, and
/// whether this user may. Every run does the same before it starts.
#[derive(Args, Debug)]
#[command(after_help = "Exit status: 0 all fits; 1 a limit is too low, for one server at least; 2 wrong arguments.")]
pub(crate) struct DoctorArgs {
    /// How many connections to hold
    #[arg(short, long, value_name = "N", value_parser = quantity::positive_count)]
    connections: usize,

    /// The servers that are to hold them, one at a time, separated by commas
    #[arg(long, value_enum, value_delimiter = ',', default_value = "all")]
    target: Vec<TargetChoice>,

    /// As in a run: so many processes of each server
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = quantity::positive_count)]
    processes: usize,

    /// As in a run: so many workers on this machine
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = quantity::positive_count)]
    workers: usize,

    /// As in a run: the addresses that connections come from
    #[arg(long, value_name = "ADDR-ADDR|ADDR,…")]
    bind: Option<Sources>,

    /// Take the RAM of a connection from these results, as written by loadtest sweep --json FILE [default: from the sweep
    /// that is recorded in the repository]
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,

    /// Also write it as JSON to this file, or to standard output as -
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Reads the limits, and prints them.
pub(crate) fn run(args: &DoctorArgs) -> Result<ExitCode> {
    let json = args.json.as_deref().map(|path| OutputFile::prepare("--json", path)).transpose()?;
    let targets = chosen(&args.target);
    let (servers, ram_source) = args.servers(&targets)?;
    let sources = args.bind.clone().unwrap_or_default();
    sources.check()?;
    let asked = Asked {
        servers,
        server_processes: args.processes,
        client_processes: args.workers,
        sources: sources.count(),
        ..Asked::new(args.connections, &targets)
    };
    let diagnosis = diagnosis(&targets, walls(&asked, &Readings::now(), may), args.connections, ram_source);
    if let Some(json) = json {
        json.write(&serde_json::to_vec_pretty(&diagnosis)?)?;
    }
    print(&report::walls::text(&diagnosis))?;
    Ok(if diagnosis.fits() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl DoctorArgs {
    /// The servers with the RAM of each, and where that is from.
    fn servers(&self, targets: &[Target]) -> Result<(Vec<Server>, String)> {
        let recorded = format!("the sweep loadtest/record/{RECORDED_SWEEP}");
        let Some(path) = &self.from else {
            return Ok((targets.iter().map(|&target| (target, RamCost::recorded(target))).collect(), recorded));
        };
        let costs = ModelCost::for_models(&file::read(path)?.results);
        let measured = |target: Target| costs.iter().find(|cost| cost.target == target).map(ModelCost::ram);
        let missing: Vec<_> = targets.iter().filter(|&&target| measured(target).is_none()).map(|t| t.name()).collect();
        let servers = targets.iter().map(|&target| (target, measured(target).or(RamCost::recorded(target))));
        let source = match missing[..] {
            [] => path.display().to_string(),
            _ => format!("{}; of {}, which are not in it, {recorded}", path.display(), missing.join(", ")),
        };
        Ok((servers.collect(), source))
    }
}

fn diagnosis(targets: &[Target], walls: Vec<Wall>, connections: usize, ram_source: String) -> Diagnosis {
    let of = |target: &Target| {
        let first = first(&walls, target.name());
        let allows = first.and_then(|wall| wall.allows);
        TargetWalls {
            target: target.name().to_owned(),
            allows,
            first: first.map(|wall| wall.name.clone()),
            fits: allows.is_none_or(|allows| allows >= connections as u64),
        }
    };
    let targets = targets.iter().map(of).collect();
    Diagnosis { schema: SCHEMA.to_owned(), connections: connections as u64, ram_source, targets, walls }
}
