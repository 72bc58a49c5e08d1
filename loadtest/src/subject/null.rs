//! `--null`: a server that does next to nothing, to measure the load generator itself.
//!
//! A process of its own rather than a thread: 10,000 connections need 10,000 descriptors at each end, more than many
//! machines allow one process.

use std::io;
use std::net::Ipv4Addr;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use common::limits;
use common::listener::{self, DEFAULT_BACKLOG};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;

/// The shortest answer that every client accepts.
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
const HEAD_END: &[u8] = b"\r\n\r\n";
const READ_BYTES: usize = 4096;

/// Prints its address, and answers each request head there with the same few bytes until killed.
pub(crate) fn serve(port: u16) -> Result<ExitCode> {
    limits::descriptors()?;
    let listener = listener::bind("--null", (Ipv4Addr::LOCALHOST, port).into(), DEFAULT_BACKLOG, false)?;
    listener.set_nonblocking(true)?;
    let runtime = Builder::new_multi_thread()
        .enable_io()
        .enable_time()
        .build()
        .context("cannot start the null server's threads")?;
    runtime.block_on(async {
        let listener = TcpListener::from_std(listener)?;
        listener::announce(listener.local_addr()?, None);
        loop {
            match listener.accept().await {
                Ok((stream, _)) => drop(tokio::spawn(answer(stream))),
                Err(_) => tokio::time::sleep(listener::EXHAUSTED_PAUSE).await,
            }
        }
    })
}

async fn answer(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut end = HeadEnd::default();
    loop {
        stream.readable().await?;
        // On the stack only while there is something to read.
        let mut bytes = [0; READ_BYTES];
        let heads = match stream.try_read(&mut bytes) {
            Ok(0) => return Ok(()),
            Ok(count) => end.count(&bytes[..count]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error),
        };
        match heads {
            0 => {}
            1 => stream.write_all(ANSWER).await?,
            _ => stream.write_all(&ANSWER.repeat(heads)).await?,
        }
    }
}

/// Counts the ends of request heads, however the bytes are split. Bodies are not supported.
#[derive(Debug, Default)]
struct HeadEnd {
    matched: usize,
}

impl HeadEnd {
    fn count(&mut self, bytes: &[u8]) -> usize {
        let mut heads = 0;
        for &byte in bytes {
            self.matched = match byte {
                _ if byte == HEAD_END[self.matched] => self.matched + 1,
                b'\r' => 1,
                _ => 0,
            };
            if self.matched == HEAD_END.len() {
                heads += 1;
                self.matched = 0;
            }
        }
        heads
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_counted_however_they_are_split() {
        let heads = b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: b\r\n\r\n";
        for size in 1..heads.len() {
            let mut end = HeadEnd::default();
            assert_eq!(heads.chunks(size).map(|chunk| end.count(chunk)).sum::<usize>(), 2, "{size}");
        }
    }
}
