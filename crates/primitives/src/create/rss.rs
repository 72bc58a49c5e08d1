//! fork, over the RAM of the parent: it copies the page tables of all that the parent has.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use anyhow::Result;
use quantity::format::exact_bytes;
use results::claim::Unit;
use results::statistics::Estimate;

use super::forked::created;
use super::sample;
use crate::sys::{Child, Resident, share};
use crate::{Sink, finding, missing, now_ns};

/// fork takes milliseconds at a gigabyte.
const SLOWNESS: usize = 30;

/// Forks with so much memory, in small pages and in huge ones.
pub(super) fn measure(samples: usize, sizes_bytes: &[u64], sink: Sink<'_>) -> Result<()> {
    let started: &'static AtomicU64 = share(AtomicU64::new(0))?;
    for &bytes in sizes_bytes {
        for (pages, is_huge) in [("small", false), ("huge", true)] {
            let name = format!("create.fork_rss.{}.{pages}", exact_bytes(bytes).replace(' ', ""));
            let resident = match Resident::new(bytes as usize, is_huge) {
                Ok(resident) => resident,
                Err(error) => {
                    sink(missing(&name, format!("no memory in {pages} pages: {error}")));
                    continue;
                }
            };
            let page_tables = meter::ledger(std::process::id() as i32)?.page_tables_bytes;
            let forked = sample(samples / SLOWNESS, &mut || {
                created(started, || Child::fork(|| started.store(now_ns(), SeqCst)))
            })?;
            drop(resident);
            let what = format!("fork by a parent with {} in {pages} pages", exact_bytes(bytes));
            let times = forked.iter().map(|created| (created.returned - created.called) as f64).collect();
            sink(finding(&format!("{name}.returned"), &what, Unit::Ns, Estimate::median(times)));
            let page_tables = page_tables.map(|bytes| Estimate::exact(bytes as f64));
            sink(finding(&format!("{name}.page_tables"), &format!("page tables of {what}"), Unit::Bytes, page_tables));
        }
    }
    Ok(())
}
