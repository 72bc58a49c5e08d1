//! Lines of JSON over TCP, of a bounded length.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// A histogram of a long run takes some 100 kB.
const MAX_LINE_BYTES: usize = 16 << 20;
/// What a stranger may send before it has proved that it knows the token.
const MAX_STRANGER_LINE_BYTES: usize = 1024;
/// How long a line may take to be sent.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);
const READ_BYTES: usize = 64 << 10;

/// Reads lines.
#[derive(Debug)]
pub(super) struct LineReader {
    stream: TcpStream,
    /// What was read and is not used yet.
    buffer: Vec<u8>,
    /// How much of the buffer is known to have no line end.
    searched: usize,
    max_bytes: usize,
}

impl LineReader {
    /// Reads lines of a stranger, which may be short only.
    ///
    /// # Errors
    /// The connection is gone.
    pub(super) fn of_stranger(stream: &TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(WRITE_TIMEOUT))?;
        let stream = stream.try_clone()?;
        Ok(Self { stream, buffer: Vec::new(), searched: 0, max_bytes: MAX_STRANGER_LINE_BYTES })
    }

    /// From now on lines may be long.
    pub(super) fn trust(&mut self) {
        self.max_bytes = MAX_LINE_BYTES;
    }

    /// Reads one message, which has to be here `within` this time.
    ///
    /// # Errors
    /// It is not, the connection ends, the line is too long, or it is not such a message.
    pub(super) fn read<T: DeserializeOwned>(&mut self, within: Duration) -> io::Result<T> {
        let deadline = Instant::now() + within;
        loop {
            if let Some(end) = self.buffer[self.searched..].iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=self.searched + end).collect();
                self.searched = 0;
                return serde_json::from_slice(&line).map_err(|error| wrong(format!("not a message: {error}")));
            }
            self.searched = self.buffer.len();
            if self.buffer.len() >= self.max_bytes {
                return Err(wrong(format!("a line of more than {} bytes", self.max_bytes)));
            }
            self.fill(deadline, within)?;
        }
    }

    fn fill(&mut self, deadline: Instant, within: Duration) -> io::Result<()> {
        let silent = || io::Error::new(ErrorKind::TimedOut, format!("silent for {within:?}"));
        let remaining = deadline.checked_duration_since(Instant::now()).filter(|time| !time.is_zero());
        self.stream.set_read_timeout(Some(remaining.ok_or_else(silent)?))?;
        let mut bytes = vec![0; READ_BYTES.min(self.max_bytes)];
        match self.stream.read(&mut bytes) {
            Ok(0) => Err(io::Error::new(ErrorKind::UnexpectedEof, "the connection was closed")),
            Ok(count) => {
                self.buffer.extend_from_slice(&bytes[..count]);
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(()),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Err(silent()),
            Err(error) => Err(error),
        }
    }
}

/// Writes one message as a line.
///
/// # Errors
/// The connection is gone, or the other side does not read.
pub(super) fn write(mut stream: &TcpStream, message: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    stream.write_all(&line)
}

fn wrong(why: String) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    const SOON: Duration = Duration::from_secs(20);

    fn reader_of(bytes: Vec<u8>) -> LineReader {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, _) = listener.accept().unwrap();
        // The reader may stop before all is sent.
        thread::spawn(move || peer.write_all(&bytes));
        LineReader::of_stranger(&stream).unwrap()
    }

    #[test]
    fn lines_are_messages_and_bounded() {
        let mut reader = reader_of(b"1\n[2]\nx\n".to_vec());
        assert_eq!(reader.read::<u8>(SOON).unwrap(), 1);
        assert_eq!(reader.read::<Vec<u8>>(SOON).unwrap(), [2]);
        assert_eq!(reader.read::<u8>(SOON).unwrap_err().kind(), ErrorKind::InvalidData);
        assert_eq!(reader.read::<u8>(SOON).unwrap_err().kind(), ErrorKind::UnexpectedEof);
        let error = reader_of(vec![b'1'; 5000]).read::<u8>(SOON).unwrap_err();
        assert!(error.to_string().contains("more than 1024 bytes"), "{error}");
        let mut reader = reader_of([&vec![b' '; 5000][..], b"7\n"].concat());
        reader.trust();
        assert_eq!(reader.read::<u8>(SOON).unwrap(), 7);
    }

    #[test]
    fn who_sends_byte_by_byte_does_not_get_more_time() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, _) = listener.accept().unwrap();
        let drip = thread::spawn(move || {
            while peer.write_all(b"1").is_ok() {
                thread::sleep(Duration::from_millis(20))
            }
        });
        let mut reader = LineReader::of_stranger(&stream).unwrap();
        assert_eq!(reader.read::<u8>(Duration::from_millis(200)).unwrap_err().kind(), ErrorKind::TimedOut);
        drop((reader, stream));
        drip.join().unwrap();
    }
}
