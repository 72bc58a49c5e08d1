//! Hostile clients, and the others beside them: what does it cost the server, and whom does it hurt?
//!
//! Each attack meets a fresh server that has well-meaning clients already. It is no test: `scripts/hostile` runs it against
//! several servers and makes a table of its lines.

mod attack;
mod neighbours;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Parser;
use contract::trial::{Crowd, ServerArgs, Subject};

use crate::attack::Attack;
use crate::neighbours::Seen;

/// How many well-meaning clients are there, each with a connection.
const NEIGHBOURS: usize = 50;

/// Lets hostile clients loose on a server, and says what it costs, and whom it hurts
#[derive(Parser)]
#[command(version)]
struct Cli {
    /// How many connections the hostile clients make, where it is their number that matters
    #[arg(short, long, value_name = "N", default_value_t = 5_000)]
    connections: usize,

    /// How many seconds each attack lasts
    #[arg(long, value_name = "S", default_value_t = 6)]
    seconds: u64,

    /// Only these attacks
    #[arg(long, value_name = "ATTACK", value_enum)]
    only: Vec<Attack>,

    /// Where the command leaves its RAM when it ends, as `ramledger --json -o FILE -- SERVER` does
    #[arg(long, value_name = "FILE")]
    ledger: Option<PathBuf>,

    #[command(flatten)]
    server: ServerArgs,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let attacks = if cli.only.is_empty() { Attack::ALL.to_vec() } else { cli.only.clone() };
    let mut is_all_well = true;
    for attack in attacks {
        match meet(&cli, attack) {
            Ok(outcome) => {
                is_all_well &= outcome.is_well();
                println!("{}", outcome.line(&cli.server.label, attack));
            }
            Err(error) => {
                is_all_well = false;
                println!("{}\t{}\tfailed: {error:#}", cli.server.label, attack.name());
            }
        }
    }
    if is_all_well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What became of a server and its well-meaning clients.
struct Outcome {
    seen: Seen,
    /// How many connections the hostile clients made.
    made: usize,
    /// Whether a new connection was answered in the end, and how long after the attack.
    recovered_after: Option<Duration>,
    /// The most RAM that the server had, page cache apart; `None` if that was not measured.
    ram_bytes: Option<u64>,
    /// Processes that were there after the end.
    orphans: usize,
}

/// Starts the server, lets everybody come, and looks.
fn meet(cli: &Cli, attack: Attack) -> anyhow::Result<Outcome> {
    let mut subject = Subject::start(&cli.server)?;
    let neighbours = (0..NEIGHBOURS).map(|_| Crowd::connect(subject.address, 1));
    let neighbours = neighbours.collect::<anyhow::Result<Vec<_>>>()?;
    let (is_over, address) = (AtomicBool::new(false), subject.address);
    let (made, seen) = thread::scope(|scope| {
        let attacking = scope.spawn(|| attack.run(address, cli.connections, &is_over));
        let seen = neighbours::ask_for(Duration::from_secs(cli.seconds), address, neighbours);
        is_over.store(true, Relaxed);
        (attacking.join().expect("it does not panic"), seen)
    });
    let recovered_after = subject.time_until_answer(Instant::now());
    let orphans = subject.stop();
    let ram_bytes = cli.ledger.as_deref().map(ram_bytes).transpose()?;
    Ok(Outcome { seen, made, recovered_after, ram_bytes, orphans })
}

/// The most RAM, of what `ramledger` has written: without page cache, which the server is charged for but does not need.
fn ram_bytes(ledger: &Path) -> anyhow::Result<u64> {
    let text = fs::read_to_string(ledger).with_context(|| format!("no ledger in {}", ledger.display()))?;
    let account: serde_json::Value = serde_json::from_str(&text)?;
    let charged = |part: &str| account["charged"][part].as_u64();
    let total = charged("total_bytes").context("the server has no cgroup of its own: run it as root")?;
    Ok(total - charged("page_cache_bytes").unwrap_or(0))
}

impl Outcome {
    fn is_well(&self) -> bool {
        self.seen.lost == 0 && self.recovered_after.is_some() && self.orphans == 0
    }

    fn line(&self, label: &str, attack: Attack) -> String {
        let ms =
            |duration: Option<Duration>| duration.map_or("-".into(), |time| format!("{:.1}", time.as_secs_f64() * 1e3));
        let (came, served) = self.seen.visitors;
        let ram = self.ram_bytes.map_or("-".into(), |bytes| format!("{:.1}", bytes as f64 / 1e6));
        let (p99, recovered) = (ms(self.seen.p99()), ms(self.recovered_after));
        let Self { made, seen, orphans, .. } = self;
        let lost = seen.lost;
        format!("{label}\t{}\t{made}\t{ram}\t{p99}\t{lost}\t{served} of {came}\t{recovered}\t{orphans}", attack.name())
    }
}
