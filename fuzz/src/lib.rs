//! What the targets share.

/// Bytes as a client sends them, and where the network cuts them.
#[derive(Clone, Copy, Debug)]
pub struct Sent<'a> {
    sizes: &'a [u8],
    /// All that is sent.
    pub bytes: &'a [u8],
}

impl<'a> Sent<'a> {
    /// An input is a line, each byte of which is the size of a piece, and then what is sent: so a seed can be written with
    /// an editor, and one with an empty first line is sent byte by byte.
    pub fn new(input: &'a [u8]) -> Self {
        let end = input.iter().position(|&byte| byte == b'\n').unwrap_or(input.len());
        Self { sizes: &input[..end], bytes: input.get(end + 1..).unwrap_or_default() }
    }

    /// The pieces. The sizes start anew where they end.
    pub fn pieces(self) -> impl Iterator<Item = &'a [u8]> {
        let Self { sizes, bytes: mut rest } = self;
        let sizes: &[u8] = if sizes.is_empty() { &[1] } else { sizes };
        let sizes = sizes.iter().map(|&size| usize::from(size.max(1))).cycle();
        sizes.map_while(move |size| {
            let (piece, later) = rest.split_at(size.min(rest.len()));
            rest = later;
            (!piece.is_empty()).then_some(piece)
        })
    }

    /// Each byte on its own.
    pub fn single_bytes(self) -> impl Iterator<Item = &'a [u8]> {
        self.bytes.chunks(1)
    }

    /// All at once.
    pub fn whole(self) -> impl Iterator<Item = &'a [u8]> {
        std::iter::once(self.bytes)
    }
}
