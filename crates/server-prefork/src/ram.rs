//! A limit on the RAM of this server's cgroup. At the limit the kernel kills a process: it must not be the supervisor, which
//! every connection depends on, and the supervisor must not bring it about by forking.

use std::fs;

use meter::ExistingCgroup;

/// How much more than the supervisor a child invites the kernel to kill it, in thousandths of the limit.
const OOM_SCORE_ADJ: &str = "500";
/// What is left free for the children that are there, which grow when they serve, and on a busy machine later than others are
/// forked: a twentieth of the limit, but no less...
const MIN_RESERVE_BYTES: u64 = 8 << 20;
/// ...nor more.
const MAX_RESERVE_BYTES: u64 = 64 << 20;

/// The limit; without one, nothing here does anything.
pub(crate) struct Ram {
    cgroup: Option<ExistingCgroup>,
    reserve_bytes: u64,
}

impl Ram {
    /// Looks for a limit.
    pub(crate) fn find() -> Self {
        let limited = |cgroup: &ExistingCgroup| cgroup.limit_bytes().ok().flatten();
        let found = ExistingCgroup::own().and_then(|cgroup| Some((limited(&cgroup)?, cgroup)));
        let (limit_bytes, cgroup) = found.unzip();
        let reserve_bytes = (limit_bytes.unwrap_or(0) / 20).clamp(MIN_RESERVE_BYTES, MAX_RESERVE_BYTES);
        Self { cgroup, reserve_bytes }
    }

    /// Whether one child more might be one too many.
    pub(crate) fn is_short(&self) -> bool {
        let headroom_bytes = self.cgroup.as_ref().and_then(|cgroup| cgroup.headroom_bytes().ok().flatten());
        headroom_bytes.is_some_and(|headroom_bytes| headroom_bytes < self.reserve_bytes)
    }

    /// In a child: has the kernel kill it rather than the supervisor.
    pub(crate) fn offer_this_process(&self) {
        if self.cgroup.is_some() {
            // Without it, the kernel chooses as it did.
            let _ = fs::write("/proc/self/oom_score_adj", OOM_SCORE_ADJ);
        }
    }
}
