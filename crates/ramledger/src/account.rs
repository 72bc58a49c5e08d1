//! What is known of the RAM of some processes at one moment: the kernel's account of their cgroup, and the ledger of `/proc`.

use meter::{CgroupParts, Ledger};
use serde::Serialize;

/// The name of the form of the JSON, in each object.
const SCHEMA: &str = "ramledger/1";

/// How much longer than a reading the pause behind it is at least: the kernel walks all page tables for it.
pub(crate) const PAUSE_PER_READING: u32 = 10;

/// The RAM of some processes at one moment. What could not be read is absent.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Account {
    pub(crate) schema: &'static str,
    /// The command, or what else was asked for.
    pub(crate) subject: String,
    /// When it was read, in seconds since ramledger started.
    pub(crate) at_s: f64,
    /// The highest total of the cgroup so far, also between readings, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) peak_bytes: Option<u64>,
    /// What the kernel charges to the cgroup.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) charged: Option<Charged>,
    /// What the processes show in `/proc`; absent if they ended before it could be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) seen: Option<Ledger>,
    /// What limits these figures.
    pub(crate) notes: Vec<String>,
    /// How the command ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) end: Option<End>,
}

/// What the kernel charges to a cgroup, in bytes, by parts that do not overlap.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Charged {
    /// Everything.
    pub(crate) total_bytes: u64,
    /// Heap, stacks, and pages that were copied on write.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) anonymous_bytes: Option<u64>,
    /// Files that the group was the first to read, and memory that processes share.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) page_cache_bytes: Option<u64>,
    /// Page tables: on cgroup v1 as `/proc` has them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) page_tables_bytes: Option<u64>,
    /// Kernel stacks: on cgroup v1 as `/proc` has them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) kernel_stacks_bytes: Option<u64>,
    /// Objects of the kernel (slab) and whatever else it keeps for the group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) slab_and_rest_bytes: Option<u64>,
    /// What is queued in sockets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) socket_buffers_bytes: Option<u64>,
    /// These parts added up, if all are known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) sum_bytes: Option<u64>,
}

/// How a command ended.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct End {
    /// In words: `exit status 0`.
    pub(crate) how: String,
    /// How long it ran.
    pub(crate) after_s: f64,
}

impl Account {
    pub(crate) fn new(subject: &str, at_s: f64) -> Self {
        Self {
            schema: SCHEMA,
            subject: subject.to_owned(),
            at_s,
            peak_bytes: None,
            charged: None,
            seen: None,
            notes: Vec::new(),
            end: None,
        }
    }

    /// By what the highest reading is found: what the kernel charges, or without a cgroup what `/proc` shows.
    pub(crate) fn total_bytes(&self) -> Option<u64> {
        self.charged.as_ref().map(|charged| charged.total_bytes).or_else(|| seen_sum_bytes(self.seen.as_ref()?))
    }
}

impl Charged {
    /// The parts of a cgroup. On v1 the kernel names one sum for its own part: what `/proc` shows of it is taken out.
    pub(crate) fn new(parts: &CgroupParts, seen: Option<&Ledger>) -> Self {
        let page_tables = parts.page_tables_bytes.or(seen.and_then(|seen| seen.page_tables_bytes));
        let kernel_stacks = parts.kernel_stacks_bytes.or(seen.and_then(|seen| seen.kernel_stacks_bytes));
        let named = page_tables.unwrap_or(0) + kernel_stacks.unwrap_or(0);
        let sum = [parts.anon_bytes, parts.file_bytes, parts.kernel_bytes, Some(parts.sockets_bytes.unwrap_or(0))];
        Self {
            total_bytes: parts.total_bytes,
            anonymous_bytes: parts.anon_bytes,
            page_cache_bytes: parts.file_bytes,
            page_tables_bytes: page_tables,
            kernel_stacks_bytes: kernel_stacks,
            slab_and_rest_bytes: parts.kernel_bytes.map(|kernel| kernel.saturating_sub(named)),
            socket_buffers_bytes: parts.sockets_bytes,
            sum_bytes: sum.into_iter().sum(),
        }
    }
}

/// The parts of a ledger that may be added; `None` unless all are known.
pub(crate) fn seen_sum_bytes(seen: &Ledger) -> Option<u64> {
    [seen.pss_bytes, seen.page_tables_bytes, seen.kernel_stacks_bytes, seen.sockets_bytes].into_iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn on_cgroup_v1_the_ledger_takes_the_kernels_sum_apart() {
        let parts = CgroupParts {
            total_bytes: 1_000,
            anon_bytes: Some(600),
            file_bytes: Some(100),
            kernel_bytes: Some(250),
            sockets_bytes: Some(50),
            ..CgroupParts::default()
        };
        let seen = Ledger { page_tables_bytes: Some(90), kernel_stacks_bytes: Some(32), ..Ledger::default() };
        let charged = Charged::new(&parts, Some(&seen));
        assert_eq!((charged.page_tables_bytes, charged.kernel_stacks_bytes), (Some(90), Some(32)));
        assert_eq!((charged.slab_and_rest_bytes, charged.sum_bytes), (Some(128), Some(1_000)));
    }

    #[test]
    fn a_part_that_is_not_known_is_absent_and_so_is_the_sum() {
        let parts = CgroupParts { total_bytes: 1_000, anon_bytes: Some(600), ..CgroupParts::default() };
        let json = serde_json::to_value(Charged::new(&parts, None)).unwrap();
        assert_eq!(json, serde_json::json!({ "total_bytes": 1_000, "anonymous_bytes": 600 }));
        assert_eq!(seen_sum_bytes(&Ledger { pss_bytes: Some(1), ..Ledger::default() }), None);
    }
}
