//! One connection, and what came back over it.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use common::http::reply::read_head;

use crate::server::TIMEOUT;

/// One connection.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    received: Vec<u8>,
}

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The fields, in their order.
    pub fields: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Client {
    /// Connects.
    pub fn connect(address: SocketAddr) -> Self {
        Self::try_connect(address).expect("the server accepts connections")
    }

    /// Connects to a server that may be gone.
    pub fn try_connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        Ok(Self { stream, received: Vec::new() })
    }

    /// Sends bytes.
    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the server takes what is sent");
    }

    /// Sends bytes to a server that may have closed.
    pub fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Sends a GET and reads the answer.
    pub fn get(&mut self, target: &str) -> Response {
        self.request("GET", target)
    }

    /// Sends a request without body and reads the answer.
    pub fn request(&mut self, method: &str, target: &str) -> Response {
        self.send(format!("{method} {target} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes());
        self.read_response_to(method)
    }

    /// Reads the answer to a request that is not HEAD.
    pub fn read_response(&mut self) -> Response {
        self.read_response_to("GET")
    }

    /// Reads an answer, which to HEAD has no body.
    pub fn read_response_to(&mut self, method: &str) -> Response {
        let (mut response, head_bytes) = loop {
            if let Some(head) = parse_head(&self.received) {
                break head;
            }
            self.read_more();
        };
        self.received.drain(..head_bytes);
        let has_body = method != "HEAD" && response.status != 204 && response.status >= 200;
        let body_bytes = if has_body { response.content_length() } else { 0 };
        while self.received.len() < body_bytes {
            self.read_more();
        }
        response.body = self.received.drain(..body_bytes).collect();
        response
    }

    fn read_more(&mut self) {
        let mut bytes = [0; 64 * 1024];
        match self.stream.read(&mut bytes) {
            Ok(0) => panic!("closed in the middle of an answer: {}", self.received.escape_ascii()),
            Ok(count) => self.received.extend_from_slice(&bytes[..count]),
            Err(error) => panic!("{error} in the middle of an answer: {}", self.received.escape_ascii()),
        }
    }

    /// Reads to the end: an error if the connection was reset, or if it stayed open for too long.
    pub fn read_to_end(&mut self) -> io::Result<Vec<u8>> {
        let mut rest = std::mem::take(&mut self.received);
        self.stream.read_to_end(&mut rest)?;
        Ok(rest)
    }

    /// The server has closed in good order, and said no more.
    pub fn assert_closed(&mut self) {
        match self.read_to_end() {
            Ok(rest) => assert!(rest.is_empty(), "more came before the end: {}", rest.escape_ascii()),
            Err(error) => panic!("not closed in good order: {error}"),
        }
    }

    /// The server has closed, by a reset or in good order, without an answer.
    pub fn assert_cut_off(&mut self) {
        match self.read_to_end() {
            Ok(rest) => assert!(rest.is_empty(), "an answer came: {}", rest.escape_ascii()),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "not closed: {error}"),
        }
    }

    /// The next answer refuses what was sent: with this status, a date, and a close in good order.
    pub fn assert_rejected(&mut self, status: u16) -> Response {
        let response = self.read_response();
        assert_eq!(response.status, status, "{response:?}");
        response.assert_is_dated();
        assert_eq!(response.field("connection"), Some("close"), "{response:?}");
        self.assert_closed();
        response
    }

    /// The same, of a HEAD request: without a body.
    pub fn assert_head_rejected(&mut self, status: u16) {
        let response = self.read_response_to("HEAD");
        assert_eq!((response.status, response.field("connection")), (status, Some("close")), "{response:?}");
        self.assert_closed();
    }

    /// Sends `request` again and again without waiting for the answers, which are read and dropped, for `time` or until
    /// there is `enough`.
    pub fn pump(&mut self, request: &[u8], time: Duration, enough: &AtomicBool) {
        let requests = request.repeat(64 * 1024 / request.len());
        let mut reader = self.stream.try_clone().expect("the socket can be shared");
        let start = Instant::now();
        thread::scope(|scope| {
            scope.spawn(move || io::copy(&mut reader, &mut io::sink()));
            while start.elapsed() < time && !enough.load(Relaxed) && self.stream.write_all(&requests).is_ok() {}
            // Ends the reader, too.
            let _ = self.stream.shutdown(Shutdown::Both);
        });
    }

    /// Sends `request` again and again, and does not wait, until the server closes. The answers can be read meanwhile.
    pub fn keep_sending(&self, request: &[u8]) {
        let requests = request.repeat(16 * 1024 / request.len());
        let mut writer = self.stream.try_clone().expect("the socket can be shared");
        thread::spawn(move || while writer.write_all(&requests).is_ok() {});
    }

    /// Says that no more will be sent.
    pub fn shut_write(&self) {
        self.stream.shutdown(Shutdown::Write).expect("the connection is open");
    }

    /// Whether nothing comes for a while.
    pub fn is_silent_for(&mut self, duration: Duration) -> bool {
        self.stream.set_read_timeout(Some(duration)).expect("a timeout can be set");
        let is_silent = self.received.is_empty()
            && matches!(self.stream.peek(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock);
        self.stream.set_read_timeout(Some(TIMEOUT)).expect("a timeout can be set");
        is_silent
    }

    /// Closes with a reset.
    pub fn reset(self) {
        socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).expect("linger can be set");
    }

    /// Makes the kernel take little for a client that does not read.
    pub fn shrink_receive_buffer(&self) {
        socket2::SockRef::from(&self.stream).set_recv_buffer_size(4096).expect("a buffer size can be set");
    }
}

fn parse_head(bytes: &[u8]) -> Option<(Response, usize)> {
    let head = read_head(bytes).unwrap_or_else(|error| panic!("{error} in {}", bytes.escape_ascii()))?;
    let text = |(name, value): (String, Vec<u8>)| (name, String::from_utf8_lossy(&value).into_owned());
    let fields = head.fields.into_iter().map(text).collect();
    Some((Response { status: head.status, fields, body: Vec::new() }, head.length))
}

impl Response {
    /// The value of a field, whose name is compared as HTTP does.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> &str {
        str::from_utf8(&self.body).expect("the body is text")
    }

    fn content_length(&self) -> usize {
        let length = self.field("content-length").and_then(|value| value.parse().ok());
        length.unwrap_or_else(|| panic!("no Content-Length in {self:?}"))
    }

    /// It has one Date, which is about now (RFC 9110 §6.6.1).
    pub fn assert_is_dated(&self) {
        let dates = self.fields.iter().filter(|(name, _)| name.eq_ignore_ascii_case("date")).count();
        assert_eq!(dates, 1, "{self:?}");
        let date = httpdate::parse_http_date(self.field("date").unwrap_or_default()).expect("the date is a date");
        let age = SystemTime::now().duration_since(date).unwrap_or_default();
        assert!(age < Duration::from_secs(60), "{self:?}");
    }
}
