//! The chunked transfer coding as a client takes it: whatever can be understood in one way only.
//!
//! A server must be strict about what clients send it, because a proxy before it may read the same bytes otherwise. A
//! load generator has no proxy to agree with, and measures servers as they are: padded sizes, extensions of any length, bare
//! line feeds, and a connection that ends instead of the last empty line.

use std::io;

/// Trailer fields and chunk extensions may have this many bytes each.
const MAX_LINE_BYTES: u32 = 64 * 1024;

/// What is missing of a chunked body.
#[derive(Debug)]
pub(super) struct Chunks {
    state: State,
    /// Of the chunk: its size as far as it was read, then what is missing of it.
    missing: u64,
    /// Bytes of a line whose content does not matter.
    line_bytes: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before the first digit of a size.
    Padding,
    /// Among the digits.
    Size,
    /// After the digits, up to the end of the line.
    Extension,
    Data,
    /// The end of the line after the data.
    DataEnd,
    /// At the beginning of a trailer field, or of the empty line that ends the body.
    TrailerStart,
    /// Within a trailer field.
    Trailer,
    Done,
}

impl Chunks {
    /// Nothing is known yet.
    pub(super) fn new() -> Self {
        Self { state: State::Padding, missing: 0, line_bytes: 0 }
    }

    /// Whether the whole body was read.
    pub(super) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Whether only the last empty line is missing, which some servers replace by closing.
    pub(super) fn is_done_at_close(&self) -> bool {
        matches!(self.state, State::TrailerStart | State::Done)
    }

    /// Takes bytes, gives the data in them to `keep`, and returns how many belong to the body.
    ///
    /// # Errors
    /// A size is none, or a line does not end.
    pub(super) fn decode(&mut self, bytes: &[u8], mut keep: impl FnMut(&[u8])) -> io::Result<usize> {
        let mut used = 0;
        while used < bytes.len() && self.state != State::Done {
            if self.state == State::Data {
                let rest = &bytes[used..];
                let data = usize::try_from(self.missing).map_or(rest.len(), |missing| missing.min(rest.len()));
                keep(&rest[..data]);
                self.missing -= data as u64;
                used += data;
                self.state = if self.missing == 0 { State::DataEnd } else { State::Data };
            } else {
                self.state = self.take(bytes[used])?;
                used += 1;
            }
        }
        Ok(used)
    }

    /// The state after one byte outside of the data.
    fn take(&mut self, byte: u8) -> io::Result<State> {
        let is_blank = matches!(byte, b' ' | b'\t');
        Ok(match (self.state, byte) {
            (State::Padding, _) if is_blank => self.within_line(State::Padding)?,
            (State::Padding | State::Size, _) if byte.is_ascii_hexdigit() => self.take_digit(byte)?,
            (State::Size | State::Extension, b'\n') => self.end_size(),
            (State::Size, b';' | b'\r' | b' ' | b'\t') => State::Extension,
            (State::Extension, _) => self.within_line(State::Extension)?,
            (State::DataEnd, b'\r') => State::DataEnd,
            (State::DataEnd, b'\n') => State::Padding,
            (State::TrailerStart, b'\n') => State::Done,
            (State::TrailerStart, b'\r') => State::TrailerStart,
            (State::Trailer, b'\n') => self.start_line(State::TrailerStart),
            (State::TrailerStart | State::Trailer, _) => self.within_line(State::Trailer)?,
            (State::DataEnd, _) => return Err(io::Error::other("a chunk is longer than its size")),
            _ => return Err(io::Error::other("invalid chunk size")),
        })
    }

    fn take_digit(&mut self, byte: u8) -> io::Result<State> {
        let digit = char::from(byte).to_digit(16).unwrap_or_default();
        let size = self.missing.checked_mul(16).and_then(|size| size.checked_add(u64::from(digit)));
        self.missing = size.ok_or_else(|| io::Error::other("a chunk is too large"))?;
        self.within_line(State::Size)
    }

    fn end_size(&mut self) -> State {
        self.start_line(if self.missing == 0 { State::TrailerStart } else { State::Data })
    }

    fn start_line(&mut self, state: State) -> State {
        self.line_bytes = 0;
        state
    }

    fn within_line(&mut self, state: State) -> io::Result<State> {
        self.line_bytes += 1;
        if self.line_bytes > MAX_LINE_BYTES {
            return Err(io::Error::other("a line of the chunked coding does not end"));
        }
        Ok(state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The data, and how many bytes were left; `None` if the body is not whole.
    fn decode(bytes: &[u8], size: usize) -> io::Result<Option<(Vec<u8>, usize)>> {
        let (mut chunks, mut data, mut used) = (Chunks::new(), Vec::new(), 0);
        for piece in bytes.chunks(size) {
            used += chunks.decode(piece, |bytes| data.extend_from_slice(bytes))?;
        }
        Ok(chunks.is_done().then_some((data, bytes.len() - used)))
    }

    #[test]
    fn whatever_is_clear_is_taken_however_it_is_cut() {
        for bytes in [
            &b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\nrest"[..],
            b"3  \r\nabc\r\n 2\r\nde\r\n0 \r\n\r\nrest",
            b"003;name=value\r\nabc\r\n2 ; a=\"b\"\r\nde\r\n000\r\n\r\nrest",
            b"3\nabc\n2\nde\n0\n\nrest",
            b"3\r\nabc\r\n2\r\nde\r\n0\r\nTrailer: 1\r\nOther: 2\r\n\r\nrest",
        ] {
            for size in 1..=bytes.len() {
                let text = String::from_utf8_lossy(bytes);
                assert_eq!(decode(bytes, size).unwrap(), Some((b"abcde".to_vec(), 4)), "{text:?} in pieces of {size}");
            }
        }
    }

    #[test]
    fn what_is_not_clear_is_an_error() {
        let endless = [b"1;".as_slice(), &[b'x'; 70_000]].concat();
        for bytes in [
            &b"x\r\n"[..],
            b"\r\n",
            b"3\r\nabcd\r\n",
            b"-1\r\n",
            b"fffffffffffffffff\r\n",
            b"3 3\r\nabc",
            b"0x3\r\n",
            &endless,
        ] {
            // "3 3": what follows the size is skipped like an extension.
            let is_clear = bytes.starts_with(b"3 3");
            assert_eq!(decode(bytes, 1000).is_ok(), is_clear, "{:?}", String::from_utf8_lossy(bytes));
        }
        assert_eq!(decode(b"3\r\nab", 1000).unwrap(), None);
    }
}
