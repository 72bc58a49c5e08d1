//! What [`common::postgres::session`] does with a thread, done with a task.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use common::postgres::connection::{Connection, Step};
use common::postgres::error::{Error, Kind};
use common::postgres::session::{is_silent, socket_path};
use common::postgres::target::{Host, Target};
use common::postgres::{Answer, Question};
use socket2::SockRef;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

/// How much is read at once: more than the answer to a query.
const READ_BYTES: usize = 2048;

/// A connection to a real database.
pub(crate) struct Session {
    pub(crate) stream: Stream,
    pub(crate) connection: Connection,
}

impl Session {
    pub(crate) async fn connect(target: &Arc<Target>, limit: Duration) -> Result<Self, Error> {
        let connect = async {
            let stream = Stream::open(target).await.map_err(|error| Error::socket(&error))?;
            let mut session = Self { stream, connection: Connection::new(target.clone()) };
            let mut output = BytesMut::new();
            session.connection.start(&mut output)?;
            match session.exchange(output).await? {
                Step::Ready => Ok(session),
                _ => Err(Error::new(Kind::Protocol, "an answer before a question")),
            }
        };
        timeout(limit, connect).await.unwrap_or_else(|_| Err(Error::timeout()))
    }

    pub(crate) async fn ask(
        &mut self,
        question: &Question<'_>,
        limit: Duration,
    ) -> Result<Result<Answer, Error>, Error> {
        let mut output = BytesMut::new();
        self.connection.ask(question, &mut output)?;
        match timeout(limit, self.exchange(output)).await.unwrap_or_else(|_| Err(Error::timeout()))? {
            Step::Answer(answer) => Ok(answer),
            _ => Err(Error::new(Kind::Protocol, "no answer to the question")),
        }
    }

    /// Sends `output`, and reads until something is complete.
    async fn exchange(&mut self, mut output: BytesMut) -> Result<Step, Error> {
        loop {
            self.stream.write_all(&mut output).await.map_err(|error| Error::socket(&error))?;
            self.stream.readable().await.map_err(|error| Error::socket(&error))?;
            self.try_receive(&mut output)?;
            if let Some(step) = self.connection.next(&mut output)? {
                return Ok(step);
            }
        }
    }

    /// Takes what has come. Not async: the buffer must not become a part of the task.
    pub(crate) fn try_receive(&mut self, output: &mut BytesMut) -> Result<(), Error> {
        let mut bytes = [0; READ_BYTES];
        match self.stream.try_read(&mut bytes) {
            Ok(0) => Err(Error::closed()),
            Ok(count) => self.connection.receive(&bytes[..count], output),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(Error::socket(&error)),
        }
    }

    pub(crate) fn is_fresh(&self) -> bool {
        self.connection.is_idle() && self.stream.is_silent()
    }
}

pub(crate) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    async fn open(target: &Target) -> io::Result<Self> {
        match &target.host {
            Host::Unix(folder) => UnixStream::connect(socket_path(folder, target.port)).await.map(Stream::Unix),
            Host::Tcp(host) => {
                let stream = TcpStream::connect((host.as_str(), target.port)).await?;
                stream.set_nodelay(true)?;
                Ok(Stream::Tcp(stream))
            }
        }
    }

    async fn write_all(&self, bytes: &mut BytesMut) -> io::Result<()> {
        while !bytes.is_empty() {
            self.write(bytes).await?;
        }
        Ok(())
    }

    /// Sends as many of the bytes as the socket takes at once. If it is not awaited to its end, none are lost.
    pub(crate) async fn write(&self, bytes: &mut BytesMut) -> io::Result<()> {
        let written = match self {
            Stream::Tcp(stream) => stream.writable().await.and_then(|()| stream.try_write(bytes)),
            Stream::Unix(stream) => stream.writable().await.and_then(|()| stream.try_write(bytes)),
        };
        match written {
            Ok(count) => drop(bytes.split_to(count)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn is_silent(&self) -> bool {
        match self {
            Stream::Tcp(stream) => is_silent(&SockRef::from(stream)),
            Stream::Unix(stream) => is_silent(&SockRef::from(stream)),
        }
    }

    pub(crate) async fn readable(&self) -> io::Result<()> {
        match self {
            Stream::Tcp(stream) => stream.readable().await,
            Stream::Unix(stream) => stream.readable().await,
        }
    }

    fn try_read(&self, bytes: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.try_read(bytes),
            Stream::Unix(stream) => stream.try_read(bytes),
        }
    }
}
