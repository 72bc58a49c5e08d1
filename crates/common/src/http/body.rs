//! The body of a request: its framing, and the chunked transfer coding (§6, §7).

use super::lines::{FEW_FIELDS, Scanner, is_token_byte, parse_fields};
use super::{Limits, Reject, Status};

/// The longest line of a chunk: its size and its extensions, in bytes (§7.1.1 asks for a limit).
const MAX_CHUNK_LINE_BYTES: usize = 4096;

/// The most bytes of extensions that the chunks of a body may have together: nobody needs them, and a body of 1 MiB could
/// otherwise take gigabytes to send.
const MAX_EXTENSION_BYTES: usize = 16_000;

/// How the end of a body is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// After this many bytes.
    Length(u64),
    /// After the last chunk and its trailers.
    Chunked,
}

/// Takes a body out of the bytes that hold it, however they are split.
#[derive(Clone, Debug)]
pub struct BodyDecoder {
    state: State,
    /// What the body may still grow by, in bytes.
    allowed_bytes: u64,
    /// How many bytes of extensions its chunks had so far.
    extension_bytes: usize,
    limits: Limits,
}

#[derive(Clone, Debug)]
enum State {
    /// Bytes of a body with a Content-Length that are still to come.
    Length(u64),
    Chunk(Chunk),
    Done,
}

#[derive(Clone, Debug)]
enum Chunk {
    /// In the line that starts a chunk.
    Line(ChunkLine),
    /// Bytes of a chunk that are still to come.
    Data(u64),
    /// In the CRLF after a chunk's data.
    DataEnd { cr_seen: bool },
    /// In the trailer section, which is kept until it is whole, checked and dropped.
    Trailers { scanner: Scanner, section: Vec<u8> },
}

/// The line that starts a chunk, read a byte at a time: its size, and extensions, which mean nothing here (§7.1.1).
#[derive(Clone, Debug, Default)]
struct ChunkLine {
    size: u64,
    place: Place,
    line_bytes: usize,
}

/// What has come of `chunk-size *( BWS ";" BWS name [ BWS "=" BWS value ] ) CRLF`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    /// Nothing.
    #[default]
    Start,
    /// A digit of the size.
    Size,
    /// White space behind a size or a value: only another extension may follow.
    Gap,
    /// A semicolon: a name must follow.
    Semicolon,
    /// A byte of a name.
    Name,
    /// White space behind a name.
    NameGap,
    /// An equals sign: a value must follow.
    Equals,
    /// A byte of a value.
    Value,
    /// A byte of a quoted value...
    Quoted,
    /// ...a backslash in it...
    Escape,
    /// ...the quotation mark that ends it.
    QuoteEnd,
    /// The CR.
    Cr,
}

impl Place {
    /// Where `byte` leads, inside an extension or to one; `None` if it may not be there.
    fn next(self, byte: u8) -> Option<Self> {
        use Place::{Cr, Equals, Escape, Gap, Name, NameGap, QuoteEnd, Quoted, Semicolon, Size, Value};
        let is_text = byte == b'\t' || (byte >= b' ' && byte != 0x7f);
        Some(match (self, byte) {
            (Quoted, b'"') => QuoteEnd,
            (Quoted, b'\\') => Escape,
            (Quoted | Escape, _) if is_text => Quoted,
            (Size | Gap | Name | NameGap | Value | QuoteEnd, b';') => Semicolon,
            (Size | Name | Value | QuoteEnd, b'\r') => Cr,
            (Size | Gap | Value | QuoteEnd, b' ' | b'\t') => Gap,
            (Name | NameGap, b' ' | b'\t') => NameGap,
            (Semicolon | Equals, b' ' | b'\t') => self,
            (Name | NameGap, b'=') => Equals,
            (Semicolon | Name, _) if is_token_byte(byte) => Name,
            (Equals, b'"') => Quoted,
            (Equals | Value, _) if is_token_byte(byte) => Value,
            _ => return None,
        })
    }
}

impl ChunkLine {
    /// The size of the chunk, once its line has ended.
    fn push(&mut self, byte: u8) -> Result<Option<u64>, Reject> {
        self.line_bytes += 1;
        if self.line_bytes > MAX_CHUNK_LINE_BYTES {
            return Err(Reject::bad("the line of a chunk is too long"));
        }
        match (self.place, char::from(byte).to_digit(16)) {
            (Place::Start | Place::Size, Some(digit)) => self.push_digit(digit)?,
            (Place::Cr, _) if byte == b'\n' => return Ok(Some(self.size)),
            (place, _) => self.place = place.next(byte).ok_or(Reject::bad("a malformed chunk line"))?,
        }
        Ok(None)
    }

    fn push_digit(&mut self, digit: u32) -> Result<(), Reject> {
        self.place = Place::Size;
        self.size = self
            .size
            .checked_mul(16)
            .and_then(|size| size.checked_add(u64::from(digit)))
            .ok_or(Reject::bad("a chunk size that overflows"))?;
        Ok(())
    }

    /// Whether the next byte belongs to an extension, or ends one.
    fn in_extension(&self) -> bool {
        !matches!(self.place, Place::Start | Place::Size | Place::Cr)
    }
}

impl BodyDecoder {
    /// Decodes a body with this framing.
    pub fn new(framing: Framing, limits: &Limits) -> Self {
        let state = match framing {
            Framing::Length(0) => State::Done,
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::Chunk(Chunk::Line(ChunkLine::default())),
        };
        Self { state, allowed_bytes: limits.max_body_bytes as u64, extension_bytes: 0, limits: *limits }
    }

    /// Whether the body is complete.
    pub fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// Takes what belongs to the body off the front of `input`, gives its data to `sink`, and returns how many bytes it
    /// took: all of them, unless the body ended before.
    ///
    /// # Errors
    /// 400 for a malformed chunk or trailer, 413 for a body that is too long.
    pub fn decode(&mut self, input: &[u8], mut sink: impl FnMut(&[u8])) -> Result<usize, Reject> {
        let mut taken = 0;
        while taken < input.len() && !self.is_done() {
            taken += self.advance(&input[taken..], &mut sink)?;
        }
        Ok(taken)
    }

    /// One step over `input`, which is not empty: either a byte of syntax or a run of data.
    fn advance(&mut self, input: &[u8], sink: &mut impl FnMut(&[u8])) -> Result<usize, Reject> {
        match &mut self.state {
            State::Done => Ok(0),
            State::Length(remaining) => {
                let taken = take_data(input, remaining, sink);
                if *remaining == 0 {
                    self.state = State::Done;
                }
                Ok(taken)
            }
            State::Chunk(chunk) => match chunk {
                Chunk::Line(line) => {
                    self.extension_bytes += usize::from(line.in_extension());
                    if self.extension_bytes > MAX_EXTENSION_BYTES {
                        return Err(Reject::bad("the extensions of the chunks are too long"));
                    }
                    if let Some(size) = line.push(input[0])? {
                        self.start_chunk(size)?;
                    }
                    Ok(1)
                }
                Chunk::Data(remaining) => {
                    let taken = take_data(input, remaining, sink);
                    if *remaining == 0 {
                        *chunk = Chunk::DataEnd { cr_seen: false };
                    }
                    Ok(taken)
                }
                Chunk::DataEnd { cr_seen } => {
                    match (*cr_seen, input[0]) {
                        (false, b'\r') => *cr_seen = true,
                        (true, b'\n') => *chunk = Chunk::Line(ChunkLine::default()),
                        _ => return Err(Reject::bad("no CRLF after the data of a chunk")),
                    }
                    Ok(1)
                }
                Chunk::Trailers { scanner, section } => {
                    section.push(input[0]);
                    if scanner.scan(section, &self.limits)?.is_some() {
                        parse_fields(section, &mut [httparse::EMPTY_HEADER; FEW_FIELDS], &mut Vec::new())?;
                        self.state = State::Done;
                    }
                    Ok(1)
                }
            },
        }
    }

    fn start_chunk(&mut self, size: u64) -> Result<(), Reject> {
        self.allowed_bytes =
            self.allowed_bytes.checked_sub(size).ok_or(Reject::new(Status::ContentTooLarge, "the body is too long"))?;
        self.state = State::Chunk(match size {
            0 => Chunk::Trailers { scanner: Scanner::trailers(), section: Vec::new() },
            _ => Chunk::Data(size),
        });
        Ok(())
    }
}

fn take_data(input: &[u8], remaining: &mut u64, sink: &mut impl FnMut(&[u8])) -> usize {
    let taken = usize::try_from(*remaining).unwrap_or(usize::MAX).min(input.len());
    *remaining -= taken as u64;
    sink(&input[..taken]);
    taken
}
