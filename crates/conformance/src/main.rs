//! Asks any HTTP/1.1 server what it makes of the rows of `HTTP-CASES.md`.

use std::fs;
use std::io::{self, Write as _};
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Parser;
use conformance::{PATIENCE, Report, Verdict, probe};

/// Sends well-formed and malformed requests to HTTP/1.1 servers, and says which answers RFC 9110 and 9112 do not allow
///
/// The servers need only answer GET / with 200 and GET /nowhere with 404. What the RFCs require (MUST) is counted apart from
/// what they recommend (SHOULD), and from what the servers of this project answer, whose contract is stricter.
///
/// Exit status: 0 all servers do what the RFCs require; 1 one does not, or cannot be connected to; 2 wrong arguments.
#[derive(Debug, Parser)]
struct Arguments {
    /// Servers, with names for the table: 127.0.0.1:8082, nginx/1.22.1=localhost:8080
    #[arg(required = true, value_name = "[NAME[/VERSION]=]ADDRESS")]
    servers: Vec<String>,

    /// Print only what fails
    #[arg(long)]
    failed: bool,

    /// Write all findings to a file, a JSON object a line
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let least = if arguments.failed { Verdict::Weak } else { Verdict::Good };
    let mut out = io::stdout();
    let mut reports = Vec::new();
    for server in &arguments.servers {
        let report = ask(server)?;
        writeln!(out, "{} {}\n{}", report.server, report.version, report.lines(least))?;
        reports.push(report);
    }
    write!(out, "{}", Report::table(&reports))?;
    if let Some(path) = arguments.json {
        let lines: String = reports.iter().map(Report::json_lines).collect();
        fs::write(&path, lines).with_context(|| format!("{} cannot be written", path.display()))?;
    }
    let is_violated =
        reports.iter().flat_map(|report| &report.findings).any(|finding| finding.verdict() == Verdict::Violates);
    Ok(if is_violated { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn ask(server: &str) -> Result<Report> {
    let (name, address) = server.rsplit_once('=').unwrap_or((server, server));
    let (name, version) = name.rsplit_once('/').unwrap_or((name, ""));
    let findings = resolve(address).and_then(|address| probe(address, PATIENCE));
    let findings =
        findings.with_context(|| format!("{address} cannot be connected to: is a server listening there?"))?;
    Ok(Report { server: name.into(), version: version.into(), findings })
}

fn resolve(address: &str) -> io::Result<SocketAddr> {
    address.to_socket_addrs()?.next().ok_or_else(|| io::Error::other("no such host"))
}
