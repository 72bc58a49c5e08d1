//! A connection on a blocking socket, for the servers that wait for the database in a process or a thread.

use std::io::{self, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use nix::sys::socket::MsgFlags;
use socket2::{Domain, SockAddr, Socket, Type};

use super::connection::{Connection, Step};
use super::error::{Error, Kind};
use super::target::{Host, Target};
use super::{Answer, Question};

/// How much is read at once: more than the answer to a query.
const READ_BYTES: usize = 2048;

/// A connection on a blocking socket, ready for a question. Dropped, it is closed.
pub struct Session {
    socket: Socket,
    connection: Connection,
    /// The timeout that the socket has now: setting it is a system call, which the usual query does without.
    read_timeout: Duration,
}

impl Session {
    /// Connects, and blocks until the database lets us in.
    ///
    /// # Errors
    /// It does not, or not in `timeout`.
    pub fn connect(target: &Arc<Target>, timeout: Duration) -> Result<Self, Error> {
        let deadline = Instant::now() + timeout;
        let socket = open(target, deadline)?;
        let mut session = Self { socket, connection: Connection::new(target.clone()), read_timeout: Duration::ZERO };
        let mut output = BytesMut::new();
        session.connection.start(&mut output)?;
        match session.exchange(output, deadline, timeout)? {
            Step::Ready => Ok(session),
            _ => Err(Error::new(Kind::Protocol, "an answer before a question")),
        }
    }

    /// Asks, and blocks until the answer is there.
    ///
    /// # Errors
    /// The answer did not come, or not in `timeout`: the session must be dropped. What the database complains of is inside.
    pub fn ask(&mut self, question: &Question<'_>, timeout: Duration) -> Result<Result<Answer, Error>, Error> {
        let deadline = Instant::now() + timeout;
        let mut output = BytesMut::new();
        self.connection.ask(question, &mut output)?;
        match self.exchange(output, deadline, timeout)? {
            Step::Answer(answer) => Ok(answer),
            _ => Err(Error::new(Kind::Protocol, "no answer to the question")),
        }
    }

    /// Whether the database has said nothing since the last answer: it has not closed either.
    pub fn is_fresh(&self) -> bool {
        self.connection.is_idle() && is_silent(&self.socket)
    }

    /// Closes, and blocks until the database has room for another connection, or for `timeout`.
    pub fn close(mut self, timeout: Duration) {
        let mut output = BytesMut::new();
        let deadline = Instant::now() + timeout;
        // Whatever fails, it is closed; and to wait was only polite.
        let ended = self.connection.end(&mut output).and_then(|()| self.send(&mut output, deadline));
        if ended.is_ok() && self.socket.set_read_timeout(Some(timeout)).is_ok() {
            // TLS has a last word, too, before the end.
            let mut rest = [0; 64];
            while (&self.socket).read(&mut rest).is_ok_and(|count| count > 0) && Instant::now() < deadline {}
        }
    }

    /// Sends `output`, and reads until something is complete.
    fn exchange(&mut self, mut output: BytesMut, deadline: Instant, timeout: Duration) -> Result<Step, Error> {
        // The first read has all the time: nothing has taken any of it yet.
        let mut remaining = timeout;
        loop {
            self.send(&mut output, deadline)?;
            if remaining.is_zero() {
                return Err(Error::timeout());
            }
            if remaining != self.read_timeout {
                self.socket.set_read_timeout(Some(remaining)).map_err(|error| Error::socket(&error))?;
                self.read_timeout = remaining;
            }
            let mut bytes = [0; READ_BYTES];
            match (&self.socket).read(&mut bytes) {
                Ok(0) => return Err(Error::closed()),
                Ok(count) => {
                    self.connection.receive(&bytes[..count], &mut output)?;
                    if let Some(step) = self.connection.next(&mut output)? {
                        return Ok(step);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::socket(&error)),
            }
            remaining = deadline.saturating_duration_since(Instant::now());
        }
    }

    fn send(&self, output: &mut BytesMut, deadline: Instant) -> Result<(), Error> {
        while !output.is_empty() {
            match (&self.socket).write(output) {
                Ok(count) => drop(output.split_to(count)),
                // The socket's write timeout may have begun before.
                Err(error) if error.kind() == io::ErrorKind::Interrupted && Instant::now() < deadline => {}
                Err(error) => return Err(Error::socket(&error)),
            }
        }
        Ok(())
    }
}

/// A connected socket.
fn open(target: &Target, deadline: Instant) -> Result<Socket, Error> {
    let mut last = Error::new(Kind::Refused, "the name has no address");
    for address in addresses(target)? {
        let remaining = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        match connect(&address, remaining) {
            Ok(socket) => return Ok(socket),
            // A full backlog of a socket in a folder says so at once.
            Err(error) => last = Error::socket(&error),
        }
    }
    Err(last)
}

fn connect(address: &SockAddr, timeout: Duration) -> io::Result<Socket> {
    let socket = Socket::new(Domain::from(i32::from(address.family())), Type::STREAM, None)?;
    socket.connect_timeout(address, timeout)?;
    socket.set_write_timeout(Some(timeout))?;
    if !address.is_unix() {
        socket.set_tcp_nodelay(true)?;
    }
    Ok(socket)
}

/// Where the database may listen.
fn addresses(target: &Target) -> Result<Vec<SockAddr>, Error> {
    let refused = |error: io::Error| Error::new(Kind::Refused, error.to_string());
    match &target.host {
        Host::Unix(folder) => Ok(vec![SockAddr::unix(socket_path(folder, target.port)).map_err(refused)?]),
        Host::Tcp(host) => {
            let found = (host.as_str(), target.port).to_socket_addrs().map_err(refused)?;
            Ok(found.map(|address: SocketAddr| address.into()).collect())
        }
    }
}

/// The socket of the database in its folder.
pub fn socket_path(folder: &Path, port: u16) -> PathBuf {
    folder.join(format!(".s.PGSQL.{port}"))
}

/// Whether there is nothing to read from a connection, not even its end. Does not block.
pub fn is_silent(socket: &Socket) -> bool {
    let mut byte = [MaybeUninit::uninit()];
    let peeked = socket.recv_with_flags(&mut byte, (MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT).bits());
    peeked.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
}
