//! Asks any HTTP/1.1 server what it makes of the rows of `HTTP-CASES.md`.

use std::fs;
use std::io::{self, Write as _};
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};
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
    #[arg(required = true, value_name = "[NAME[/VERSION]=]ADDRESS", value_parser = server)]
    servers: Vec<Server>,

    /// Print only what fails
    #[arg(long)]
    failed: bool,

    /// Write all findings to a file, a JSON object a line
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// A server to ask.
#[derive(Clone, Debug)]
struct Server {
    name: String,
    version: String,
    address: SocketAddr,
}

/// Reads a server's name and address, which may be that of its page.
fn server(text: &str) -> Result<Server, String> {
    let (name, address) = text.rsplit_once('=').unwrap_or((text, text));
    let (name, version) = if name == address { (name, "") } else { name.rsplit_once('/').unwrap_or((name, "")) };
    let host = address.strip_prefix("http://").unwrap_or(address);
    let host = host.split_once('/').map_or(host, |(host, _)| host);
    let found = host.to_socket_addrs().map_err(|error| error.to_string());
    let found = found.and_then(|mut found| found.next().ok_or_else(|| "no such host".to_owned()));
    let address = found.map_err(|error| format!("{error}: write HOST:PORT, as in 127.0.0.1:8080 or [::1]:8080"))?;
    Ok(Server { name: name.into(), version: version.into(), address })
}

fn main() -> ExitCode {
    run(&Arguments::parse()).unwrap_or_else(|error| {
        let _ = writeln!(io::stderr(), "error: {error:#}");
        ExitCode::FAILURE
    })
}

fn run(arguments: &Arguments) -> Result<ExitCode> {
    let least = if arguments.failed { Verdict::Weak } else { Verdict::Good };
    let mut out = io::stdout();
    let mut reports = Vec::new();
    for server in &arguments.servers {
        let report = ask(server)?;
        writeln!(out, "{} {}\n{}", report.server, report.version, report.lines(least))?;
        reports.push(report);
    }
    write!(out, "{}", Report::table(&reports))?;
    if let Some(path) = &arguments.json {
        let lines: String = reports.iter().map(Report::json_lines).collect();
        fs::write(path, lines).with_context(|| format!("{} cannot be written", path.display()))?;
    }
    let is_violated =
        reports.iter().flat_map(|report| &report.findings).any(|finding| finding.verdict() == Verdict::Violates);
    Ok(if is_violated { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn ask(server: &Server) -> Result<Report> {
    let Server { name, version, address } = server;
    let findings = probe(*address, PATIENCE);
    let findings =
        findings.with_context(|| format!("{address} cannot be connected to: is a server listening there?"))?;
    let has_answered = findings.iter().any(|finding| !finding.observed.answers.is_empty());
    ensure!(has_answered, "{address} answers no request with HTTP/1.1: is it another kind of server?");
    Ok(Report { server: name.clone(), version: version.clone(), findings })
}
