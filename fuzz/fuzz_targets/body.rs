//! Whatever comes as a body: it reads the same from pieces as from the whole, never grows beyond its limit, and what was
//! put into chunks comes out of them.

#![no_main]

use common::http::body::{BodyDecoder, Framing};
use common::http::{Limits, Reject};
use fuzz::Sent;
use libfuzzer_sys::fuzz_target;

const LIMITS: Limits = Limits { max_head_bytes: 256, max_body_bytes: 1000 };

/// What was read of a body.
#[derive(Debug, PartialEq)]
struct Read {
    data: Vec<u8>,
    /// How many bytes belong to it so far, or why it is refused.
    outcome: Result<usize, Reject>,
    is_done: bool,
}

fn read<'a>(framing: Framing, pieces: impl Iterator<Item = &'a [u8]>) -> Read {
    let mut decoder = BodyDecoder::new(framing, &LIMITS);
    let (mut data, mut taken) = (Vec::new(), 0);
    for piece in pieces {
        match decoder.decode(piece, |bytes| data.extend_from_slice(bytes)) {
            Ok(count) => {
                assert!(count == piece.len() || (count < piece.len() && decoder.is_done()), "bytes were left");
                taken += count;
            }
            Err(reject) => return Read { data, outcome: Err(reject), is_done: false },
        }
        assert!(data.len() <= LIMITS.max_body_bytes, "longer than the limit");
        if decoder.is_done() {
            break;
        }
    }
    Read { data, outcome: Ok(taken), is_done: decoder.is_done() }
}

fn check(framing: Framing, sent: Sent) {
    let whole = read(framing, sent.whole());
    assert_eq!(whole, read(framing, sent.pieces()));
    assert_eq!(whole, read(framing, sent.single_bytes()));
}

/// The data in chunks, one for each piece.
fn in_chunks(sent: Sent) -> Vec<u8> {
    let chunk = |piece: &[u8]| [format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat();
    sent.pieces().flat_map(chunk).chain(*b"0\r\nTrailer: x\r\n\r\n").collect()
}

fuzz_target!(|input: &[u8]| {
    let sent = Sent::new(input);
    check(Framing::Chunked, sent);
    let half = sent.bytes.len().min(LIMITS.max_body_bytes) / 2;
    check(Framing::Length(half as u64), sent);
    assert_eq!(read(Framing::Length(half as u64), sent.pieces()).data, &sent.bytes[..half]);

    if sent.bytes.len() <= LIMITS.max_body_bytes {
        let mut encoded = in_chunks(sent);
        let end = encoded.len();
        encoded.extend_from_slice(b"GET / HTTP/1.1\r\n");
        let expected = Read { data: sent.bytes.to_vec(), outcome: Ok(end), is_done: true };
        assert_eq!(read(Framing::Chunked, std::iter::once(encoded.as_slice())), expected);
    }
});
