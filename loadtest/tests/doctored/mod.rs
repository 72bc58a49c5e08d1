//! Servers that misbehave on purpose.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

/// Listens on a free port, and handles each connection in a thread of its own: `handle` gets its number, from 0. It
/// lives as long as the test's process.
pub(crate) fn serve(handle: impl Fn(usize, TcpStream) + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let handle = Arc::new(handle);
    thread::spawn(move || {
        for (number, connection) in listener.incoming().map_while(Result::ok).enumerate() {
            let handle = handle.clone();
            thread::spawn(move || handle(number, connection));
        }
    });
    url
}

/// Reads to the end of a request's head. Returns false if the client has closed.
pub(crate) fn read_head(connection: &mut TcpStream) -> bool {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match connection.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => return false,
        }
    }
    true
}

/// Answers with this status, an empty body and these fields. Returns false if the client has closed.
pub(crate) fn answer(connection: &mut TcpStream, status: u16, fields: &str) -> bool {
    let answer = format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n{fields}\r\n");
    connection.write_all(answer.as_bytes()).is_ok()
}
