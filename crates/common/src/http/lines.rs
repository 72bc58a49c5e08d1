//! Sections of lines: where they end, and the fields in them (§2.2, §5).

use super::{Limits, Reject, Status};

/// The most fields that a head or a trailer section may have.
const MAX_FIELDS: usize = 100;
/// As many fields as are parsed on the stack. There would be room for all, but 10,000 stacks would keep the page.
pub const FEW_FIELDS: usize = 8;

/// Looks for the empty line that ends a section of lines, and refuses on the way what no line may hold: a bare CR or LF
/// (§2.2) and control characters (RFC 9110 §5.5). It resumes where it stopped, so that bytes that trickle in are looked
/// at once.
#[derive(Clone, Debug)]
pub struct Scanner {
    position: usize,
    line_start: usize,
    /// A line that is not empty has begun...
    has_begun: bool,
    /// ...and one has ended.
    has_line: bool,
    skips_leading_empty_lines: bool,
}

impl Scanner {
    /// Scans a head: empty lines before the request line are skipped (§2.2).
    pub fn head() -> Self {
        Self { skips_leading_empty_lines: true, ..Self::trailers() }
    }

    /// Scans a trailer section, which may be empty.
    pub fn trailers() -> Self {
        Self { position: 0, line_start: 0, has_begun: false, has_line: false, skips_leading_empty_lines: false }
    }

    /// How much of the section was looked at.
    pub fn position(&self) -> usize {
        self.position
    }

    /// Whether more than empty lines has come.
    pub fn has_begun(&self) -> bool {
        self.has_begun
    }

    /// The length of the section with its empty line, once it is complete.
    ///
    /// # Errors
    /// 400 for what no line may hold; 501 or 414 (§3), or 431 (RFC 6585 §5), for a section that is too long.
    pub fn scan(&mut self, buffer: &[u8], limits: &Limits) -> Result<Option<usize>, Reject> {
        while let Some(&byte) = buffer.get(self.position) {
            if self.position == limits.max_head_bytes {
                return Err(self.too_long(&buffer[self.line_start..self.position]));
            }
            let after_cr = self.position > 0 && buffer[self.position - 1] == b'\r';
            self.position += 1;
            self.has_begun |= byte != b'\r' && byte != b'\n';
            match byte {
                b'\n' if after_cr => {
                    let is_empty = self.position - self.line_start == 2;
                    self.line_start = self.position;
                    if !is_empty {
                        self.has_line = true;
                    } else if self.has_line || !self.skips_leading_empty_lines {
                        return Ok(Some(self.position));
                    }
                }
                _ if after_cr => return Err(Reject::bad("a CR without LF")),
                b'\n' => return Err(Reject::bad("a LF without CR")),
                b'\r' | b'\t' => {}
                0..b' ' | 0x7f => return Err(Reject::bad("a control character")),
                _ => {}
            }
        }
        Ok(None)
    }

    /// It is the fault of the method or of the target if even the first line has no end yet.
    fn too_long(&self, line: &[u8]) -> Reject {
        if self.has_line || !self.skips_leading_empty_lines {
            Reject::new(Status::RequestHeaderFieldsTooLarge, "the fields are too long")
        } else if line.iter().all(|&byte| is_token_byte(byte)) {
            Reject::new(Status::NotImplemented, "the method is too long")
        } else {
            Reject::new(Status::UriTooLong, "the request line is too long")
        }
    }
}

/// RFC 9110 §5.6.2's `tchar`.
pub fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Parses field lines up to and with the empty line, into `few` or, if they are more, into `many`.
///
/// # Errors
/// 400 for a malformed line (§5), 431 for too many (RFC 6585 §5).
pub fn parse_fields<'h, 'b>(
    section: &'b [u8],
    few: &'h mut [httparse::Header<'b>; FEW_FIELDS],
    many: &'h mut Vec<httparse::Header<'b>>,
) -> Result<&'h [httparse::Header<'b>], Reject> {
    let mut result = httparse::parse_headers(section, few);
    if result == Err(httparse::Error::TooManyHeaders) {
        many.resize(MAX_FIELDS, httparse::EMPTY_HEADER);
        result = httparse::parse_headers(section, many);
    }
    match result {
        Ok(httparse::Status::Complete((_, fields))) => Ok(fields),
        Ok(httparse::Status::Partial) => Err(Reject::bad("a field line without end")),
        Err(httparse::Error::TooManyHeaders) => {
            Err(Reject::new(Status::RequestHeaderFieldsTooLarge, "too many fields"))
        }
        Err(_) => Err(Reject::bad("a malformed field line")),
    }
}
