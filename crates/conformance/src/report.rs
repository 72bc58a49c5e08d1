//! Findings for people and for programs.

use std::fmt::Write as _;

use serde_json::json;

use crate::finding::{Count, Finding, Verdict};
use crate::rows::{Case, Level, Manner};

/// No input is shown beyond this; long ones say how long they are.
const SHOWN_CHARS: usize = 160;

/// What was found of one server.
#[derive(Clone, Debug)]
pub struct Report {
    /// Which server.
    pub server: String,
    /// Its version.
    pub version: String,
    /// All cases.
    pub findings: Vec<Finding>,
}

impl Report {
    /// The table of several servers, in Markdown.
    pub fn table(reports: &[Self]) -> String {
        let mut table = "| server | version | cases | MUST: tried | passed | failed | SHOULD: tried | passed | failed \
            | as our contract |\n|---|---|---:|---:|---:|---:|---:|---:|---:|---:|\n"
            .to_owned();
        for report in reports {
            let count = |level| {
                let count = Count::of_level(&report.findings, level);
                format!("{} | {} | {}", count.tried, count.passed, count.failed())
            };
            let (must, should) = (count(Level::Must), count(Level::Should));
            let (cases, contract) = (report.findings.len(), Count::of_contract(&report.findings).passed);
            let _ = writeln!(
                table,
                "| {} | {} | {cases} | {must} | {should} | {contract} |",
                report.server, report.version
            );
        }
        table
    }

    /// A line for every finding that is at least as bad as that.
    pub fn lines(&self, least: Verdict) -> String {
        let shown = self.findings.iter().filter(|finding| finding.verdict() >= least);
        shown.map(|finding| line(finding) + "\n").collect()
    }

    /// A JSON object a line: one for each case, and one that counts them.
    pub fn json_lines(&self) -> String {
        let count = |count: Count| json!({"tried": count.tried, "passed": count.passed, "failed": count.failed()});
        let summary = json!({
            "server": self.server,
            "version": self.version,
            "cases": self.findings.len(),
            "must": count(Count::of_level(&self.findings, Level::Must)),
            "should": count(Count::of_level(&self.findings, Level::Should)),
            "contract": count(Count::of_contract(&self.findings)),
        });
        let cases = self.findings.iter().map(|finding| self.json(finding));
        cases.chain([summary]).map(|object| format!("{object}\n")).collect()
    }

    fn json(&self, finding: &Finding) -> serde_json::Value {
        let demand = finding.case.demand;
        json!({
            "server": self.server,
            "version": self.version,
            "row": finding.case.row,
            "level": demand.level.to_string(),
            "section": demand.section,
            "input": shown(&finding.case),
            "allowed": demand.allowed.to_string(),
            "contract": finding.case.ours.to_string(),
            "came": finding.came(),
            "keeps_rfc": finding.keeps_rfc,
            "keeps_contract": finding.keeps_contract,
        })
    }
}

fn line(finding: &Finding) -> String {
    let (case, demand) = (&finding.case, finding.case.demand);
    let verdict = match finding.verdict() {
        Verdict::Good => "pass",
        Verdict::Differs => "pass, not as ours",
        Verdict::Weak => "fail",
        Verdict::Violates => "FAIL",
    };
    format!(
        "row {:2}  {:6}  RFC {:16}  {}\n        allowed: {}; came: {}: {verdict}",
        case.row,
        demand.level,
        demand.section,
        shown(case),
        demand.allowed,
        finding.came(),
    )
}

/// The input, escaped and short, and how it is sent if that is not all at once.
pub(super) fn shown(case: &Case) -> String {
    let escaped = case.input.escape_ascii().to_string();
    let how = match case.manner {
        Manner::Alone | Manner::Together => String::new(),
        Manner::Pieces(1) => ", byte by byte".to_owned(),
        Manner::Pieces(bytes) => format!(", in pieces of {bytes} bytes"),
        Manner::Ended => ", then the end".to_owned(),
        Manner::HeadFirst => ", the head first".to_owned(),
    };
    match escaped.char_indices().nth(SHOWN_CHARS) {
        Some((end, _)) => format!("\"{}\"... ({} bytes){how}", &escaped[..end], case.input.len()),
        None => format!("\"{escaped}\"{how}"),
    }
}
