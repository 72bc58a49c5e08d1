//! One connection on which a case is played.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use crate::observed::Observed;
use crate::rows::{Case, Manner};

/// What comes after a case. Its answer says that the server knew where the case ended; and then the server closes.
const NEXT: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
/// Long enough for the server to see one piece on its own, most of the time.
const PAUSE: Duration = Duration::from_millis(1);

/// One connection.
#[derive(Debug)]
pub struct Exchange {
    stream: TcpStream,
    received: Vec<u8>,
    is_to_head: bool,
    is_closed: bool,
}

impl Exchange {
    /// Connects. A server that says nothing for `patience` has nothing to say.
    ///
    /// # Errors
    /// Nobody listens there.
    pub fn open(address: SocketAddr, patience: Duration) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        Ok(Self { stream, received: Vec::new(), is_to_head: false, is_closed: false })
    }

    /// Plays a case, and reads whatever comes of it.
    pub fn play(mut self, case: &Case) -> Observed {
        self.is_to_head = case.input.trim_ascii_start().starts_with(b"HEAD");
        let mut came_before_body = false;
        match case.manner {
            Manner::Alone => {
                self.send(&case.input);
                self.ask_once_answered(case.requests());
            }
            Manner::Together => self.send(&[&case.input, NEXT].concat()),
            Manner::Pieces(bytes) => self.send_in_pieces(&[&case.input, NEXT].concat(), bytes),
            Manner::Ended => {
                self.send(&case.input);
                self.shut_write();
            }
            Manner::HeadFirst => came_before_body = self.send_head_first(&case.input),
        }
        self.read_until(|_| false);
        Observed { came_before_body, ..self.observed() }
    }

    /// Sends the last request when all others have been answered, unless the server will hear no more.
    fn ask_once_answered(&mut self, requests: usize) {
        self.read_until(|observed| observed.answers.len() >= requests || observed.is_garbled);
        let observed = self.observed();
        if observed.answers.last().is_some_and(|answer| answer.is_persistent) && !observed.is_closed {
            self.send(NEXT);
        }
    }

    /// Sends the body when something was said about the head, or when nothing is going to be. Says whether there was.
    fn send_head_first(&mut self, input: &[u8]) -> bool {
        let head_bytes = input.windows(4).position(|bytes| bytes == b"\r\n\r\n").map_or(input.len(), |start| start + 4);
        let (head, body) = input.split_at(head_bytes);
        self.send(head);
        self.read_until(|observed| observed.interim > 0 || !observed.answers.is_empty());
        let observed = self.observed();
        if observed.answers.is_empty() {
            self.send(&[body, NEXT].concat());
        } else {
            // Who was refused sends no body.
            self.shut_write();
        }
        observed.interim > 0 || !observed.answers.is_empty()
    }

    fn send_in_pieces(&mut self, bytes: &[u8], piece_bytes: usize) {
        for piece in bytes.chunks(piece_bytes) {
            self.send(piece);
            thread::sleep(PAUSE);
        }
    }

    /// Sends bytes; a server may have closed before it has them all.
    fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    fn shut_write(&self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Reads until there is enough, until the server has closed, or until it says nothing more.
    fn read_until(&mut self, is_enough: impl Fn(&Observed) -> bool) {
        let mut bytes = [0; 64 * 1024];
        while !self.is_closed && !is_enough(&self.observed()) {
            match self.stream.read(&mut bytes) {
                Ok(0) => self.is_closed = true,
                Ok(count) => self.received.extend_from_slice(&bytes[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // A reset, mostly.
                Err(_) => self.is_closed = true,
            }
        }
    }

    fn observed(&self) -> Observed {
        Observed::read(&self.received, self.is_to_head, self.is_closed)
    }
}
