//! Whatever a wrk script returns as requests: they are counted or refused, and no strict server sees more or fewer.
//!
//! There is no Lua in here: what a script returns is bytes.

#![no_main]

use common::http::{Decoder, Limits, Phase, Step};
use libfuzzer_sys::fuzz_target;
use load::count_requests;

const LIMITS: Limits = Limits { max_head_bytes: 8192, max_body_bytes: 8192 };

/// How many requests a server sees, if it accepts all of these bytes as whole requests.
fn seen_by_server(bytes: &[u8]) -> Option<u64> {
    let mut decoder = Decoder::new(LIMITS);
    let (mut count, mut bytes) = (0, bytes);
    loop {
        match decoder.decode(std::mem::take(&mut bytes)).ok()? {
            Step::Request(_) => count += 1,
            Step::Continue => {}
            Step::Need => return (decoder.phase() == Phase::Idle).then_some(count),
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    let counted = count_requests(bytes);
    if let Ok(count) = counted {
        assert!(count > 0);
        let twice = count_requests(&[bytes, bytes].concat());
        assert_eq!(twice.ok(), Some(2 * count), "what is whole can follow itself");
        if let Some(seen) = seen_by_server(bytes) {
            assert_eq!(count, seen);
        }
    }
});
