//! What the probe makes of a server of ours.

use crate::server::TIMEOUT;
use crate::{Server, Target};
use conformance::{Finding, Report, Verdict, probe, rows};

/// Ours do what the RFCs require, and what the contract says.
pub fn the_probe_finds_nothing(target: &Target) {
    let server = Server::start(target, &[]);
    let findings = probe(server.address, TIMEOUT).expect("the server accepts connections");
    let is_good = |finding: &Finding| finding.keeps_contract && finding.verdict() != Verdict::Violates;
    let (good, bad): (Vec<Finding>, Vec<Finding>) = findings.into_iter().partition(is_good);
    assert_eq!(Report { server: "ours".into(), version: String::new(), findings: bad }.lines(Verdict::Good), "");
    assert_eq!(good.len(), rows::all().len());
}
