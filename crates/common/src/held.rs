//! The memory of a real handler: what `--hold` and `--touch-stack` make each request keep while it waits.

use std::hint::black_box;

use crate::config::Config;

const PAGE_BYTES: usize = 4096;

/// The heap that a request keeps while it waits: a parsed request, a result set. Freed when dropped.
#[derive(Debug)]
pub struct Held(#[expect(dead_code, reason = "it is only there")] Box<[u8]>);

impl Held {
    /// Touches as much of this stack and allocates as much heap as the flags say: nothing by default.
    pub fn new(config: &Config) -> Self {
        touch_stack(config.touch_stack);
        // Not zeros, which the kernel would keep as one page for all until they are written.
        // And not what the compiler sees that nobody reads.
        Self(black_box(vec![1; config.hold].into_boxed_slice()))
    }
}

/// Touches so much of the stack, page by page, as deep calls do. The pages stay with the stack.
pub fn touch_stack(bytes: usize) {
    if bytes > 0 {
        touch_page(bytes);
    }
}

#[inline(never)]
fn touch_page(bytes: usize) {
    let mut page = [0_u8; PAGE_BYTES];
    black_box(&mut page);
    if bytes > PAGE_BYTES {
        touch_page(bytes - PAGE_BYTES);
    }
    // Used after the call, or the compiler would make a loop of it.
    black_box(&page);
}
