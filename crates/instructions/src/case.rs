//! What is counted, each by a difference: a program that does it many times, less one that does it a few times.

use std::path::Path;

use anyhow::Result;

use crate::callgrind;
use crate::server;
use crate::work::Work;

/// Enough to be past what only the first times need: buffers that grow, the first look for a symbol.
const FEW: u64 = 50;
const MANY: u64 = 500;
/// A server's threads do not meet in the same order each time. What that costs comes on top: the lowest of so many counts
/// is taken.
const ROUNDS: usize = 3;

/// Something that is done for each request.
pub(crate) struct Case {
    /// Its name in the baseline.
    pub(crate) name: &'static str,
    /// What is counted.
    pub(crate) what: &'static str,
    program: Program,
}

enum Program {
    /// This one.
    Own(Work),
    /// A server with these flags.
    Server(&'static str, &'static [&'static str]),
}

impl Case {
    /// All of them, in the order in which they are counted.
    pub(crate) const ALL: [Case; 7] = [
        case("codec", "a request decoded and its answer encoded", Program::Own(Work::Codec)),
        case("reply", "that answer decoded by the client", Program::Own(Work::Reply)),
        case("prefork", "a request, by a process", Program::Server("server-prefork", &["--start", "1"])),
        case("threads", "a request, by a thread", Program::Server("server-threads", &[])),
        case(
            "threadpool",
            "a request, by a reactor and a worker",
            Program::Server("server-threadpool", &["--workers", "1"]),
        ),
        case("async", "a request, by a task with hyper", Program::Server("server-async", &["--threads", "1"])),
        case(
            "async-codec",
            "a request, by a task with our codec",
            Program::Server("server-async", &["--threads", "1", "--http", "codec"]),
        ),
    ];

    /// The instructions of one time, of the programs in `folder`.
    ///
    /// # Errors
    /// The program or valgrind fails.
    pub(crate) fn count(&self, folder: &Path) -> Result<u64> {
        let mut lowest = u64::MAX;
        for _ in 0..ROUNDS {
            let (few, many) = (self.instructions(folder, FEW)?, self.instructions(folder, FEW + MANY)?);
            lowest = lowest.min(many.saturating_sub(few) / MANY);
        }
        Ok(lowest)
    }

    /// All instructions of a program that does it so many times, from its start to its end.
    fn instructions(&self, folder: &Path, times: u64) -> Result<u64> {
        match self.program {
            Program::Own(work) => {
                callgrind::start(&folder.join("instructions"), &["work", work.name(), &times.to_string()])?.finish()
            }
            Program::Server(name, flags) => server::instructions(&folder.join(name), flags, times),
        }
    }
}

const fn case(name: &'static str, what: &'static str, program: Program) -> Case {
    Case { name, what, program }
}
