//! What a server did with a case, and what that is worth.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use crate::exchange::Exchange;
use crate::observed::Observed;
use crate::rows::{Case, Level};

/// A case, what came, and what that is worth.
#[derive(Clone, Debug)]
pub struct Finding {
    /// What was sent, and what may come.
    pub case: Case,
    /// What came.
    pub observed: Observed,
    /// Whether that is what the RFC demands; nothing if it demands nothing.
    pub keeps_rfc: Option<bool>,
    /// Whether that is what our servers do.
    pub keeps_contract: bool,
}

/// What a finding is worth, from good to bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// It keeps the RFC, and our contract.
    Good,
    /// It keeps the RFC. Our servers answer otherwise.
    Differs,
    /// It does not do what the RFC recommends.
    Weak,
    /// It does not do what the RFC requires.
    Violates,
}

/// How many cases there were, and how many of them went well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// All of them.
    pub tried: usize,
    /// Those that went well.
    pub passed: usize,
}

impl Finding {
    pub(crate) fn of(case: Case, address: SocketAddr, patience: Duration) -> io::Result<Self> {
        let observed = Exchange::open(address, patience)?.play(&case);
        let demand = case.demand;
        let keeps_rfc = (demand.level != Level::May).then(|| observed.is_allowed(&demand.allowed, &case));
        let keeps_contract = observed.is_allowed(&case.ours, &case);
        Ok(Self { case, observed, keeps_rfc, keeps_contract })
    }

    /// What it is worth.
    pub fn verdict(&self) -> Verdict {
        match (self.keeps_rfc, self.case.demand.level) {
            (Some(false), Level::Must) => Verdict::Violates,
            (Some(false), _) => Verdict::Weak,
            _ if self.keeps_contract => Verdict::Good,
            _ => Verdict::Differs,
        }
    }

    /// What came, in short.
    pub fn came(&self) -> String {
        self.observed.describe(self.case.requests())
    }
}

impl Count {
    /// Those of one level: what the RFC demands of them.
    pub fn of_level(findings: &[Finding], level: Level) -> Self {
        let of_level = findings.iter().filter(|finding| finding.case.demand.level == level);
        Self::of(of_level.filter_map(|finding| finding.keeps_rfc))
    }

    /// All of them: what our contract says.
    pub fn of_contract(findings: &[Finding]) -> Self {
        Self::of(findings.iter().map(|finding| finding.keeps_contract))
    }

    fn of(verdicts: impl Iterator<Item = bool>) -> Self {
        verdicts.fold(Self::default(), |count, is_good| Self {
            tried: count.tried + 1,
            passed: count.passed + usize::from(is_good),
        })
    }

    /// Those that did not go well.
    pub fn failed(&self) -> usize {
        self.tried - self.passed
    }
}
