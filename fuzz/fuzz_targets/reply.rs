//! Whatever a server sends: the decoder of answers never panics, takes every byte at most once, and reads the same from
//! pieces as from the whole.

#![no_main]

use common::http::reply::{Answer, Content, Reply};
use libfuzzer_sys::fuzz_target;

/// More answers than this say nothing new.
const MAX_ANSWERS: usize = 64;

/// Reads the bytes in pieces of these sizes: the answers with their contents, up to what is no answer.
fn read(bytes: &[u8], sizes: impl Iterator<Item = usize>, is_to_head: bool) -> Vec<(Answer, Content)> {
    let mut reply = Reply::with_content();
    reply.is_to_head = is_to_head;
    let mut answers = Vec::new();
    let mut rest = bytes;
    for size in sizes {
        let (mut piece, later) = rest.split_at(size.min(rest.len()));
        rest = later;
        while !piece.is_empty() && answers.len() < MAX_ANSWERS {
            let Ok((used, answer)) = reply.push(piece) else { return answers };
            assert!(used <= piece.len() && (used > 0 || answer.is_some()), "nothing was taken");
            piece = &piece[used..];
            answers.extend(answer.map(|answer| (answer, reply.take_content().unwrap_or_default())));
        }
        if rest.is_empty() {
            break;
        }
    }
    if answers.len() < MAX_ANSWERS {
        answers.extend(reply.end().map(|answer| (answer, reply.take_content().unwrap_or_default())));
    }
    answers
}

fuzz_target!(|input: (bool, Vec<u8>, &[u8])| {
    let (is_to_head, sizes, bytes) = input;
    let whole = read(bytes, std::iter::repeat(bytes.len().max(1)), is_to_head);
    let sizes = sizes.iter().map(|&size| usize::from(size) + 1).chain([1]).collect::<Vec<_>>();
    let pieces = read(bytes, sizes.into_iter().cycle(), is_to_head);
    assert_eq!(whole, pieces);
});
