//! Many clients with one request each, who want to know what becomes of them.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Result;
use common::http::reply::Reply;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// A client gives up after this time.
const TIMEOUT: Duration = Duration::from_secs(30);
/// As many may wait to be accepted.
const BACKLOG: usize = 1000;

/// The clients.
pub(crate) struct Crowd {
    runtime: Runtime,
    clients: Vec<JoinHandle<Fate>>,
}

/// What became of one client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Answered,
    /// 503: it knows where it stands.
    TurnedAway,
    Lost,
}

/// What became of all.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Fates {
    /// Got their answer.
    pub(crate) answered: usize,
    /// Got a 503.
    pub(crate) turned_away: usize,
    /// Got none.
    pub(crate) lost: usize,
}

impl Crowd {
    /// Sends `GET path` on each of `count` connections.
    pub(crate) fn gather(address: SocketAddr, count: usize, path: &str) -> Result<Self> {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let request = request("GET", address, path);
        let room = std::sync::Arc::new(tokio::sync::Semaphore::new(BACKLOG));
        let clients = (0..count)
            .map(|_| {
                let (request, room) = (request.clone(), room.clone());
                runtime.spawn(async move {
                    let answered = async {
                        let stream = {
                            let _permit = room.acquire().await;
                            TcpStream::connect(address).await.ok()?
                        };
                        ask(stream, &request).await
                    };
                    match timeout(TIMEOUT, answered).await.ok().flatten() {
                        Some(503) => Fate::TurnedAway,
                        Some(_) => Fate::Answered,
                        None => Fate::Lost,
                    }
                })
            })
            .collect();
        Ok(Self { runtime, clients })
    }

    /// Waits for all of them.
    pub(crate) fn fates(self) -> Fates {
        let mut fates = Fates::default();
        self.runtime.block_on(async {
            for client in self.clients {
                match client.await.unwrap_or(Fate::Lost) {
                    Fate::Answered => fates.answered += 1,
                    Fate::TurnedAway => fates.turned_away += 1,
                    Fate::Lost => fates.lost += 1,
                }
            }
        });
        fates
    }
}

/// A client that asks one thing after the other, each on a connection of its own.
pub(crate) struct Client {
    runtime: Runtime,
    address: SocketAddr,
}

impl Client {
    /// A client of the server at this address.
    pub(crate) fn new(address: SocketAddr) -> Result<Self> {
        Ok(Self { runtime: Builder::new_multi_thread().worker_threads(1).enable_all().build()?, address })
    }

    /// Sends requests, all at once. The time until each was answered; `None` for those that were not.
    pub(crate) fn ask(&self, method: &str, paths: &[&str]) -> Vec<Option<Duration>> {
        let clients: Vec<_> = paths
            .iter()
            .map(|path| {
                let (address, request) = (self.address, request(method, self.address, path));
                self.runtime.spawn(async move {
                    let start = Instant::now();
                    let answered = async { ask(TcpStream::connect(address).await.ok()?, &request).await };
                    let status = timeout(TIMEOUT, answered).await.ok().flatten()?;
                    (status == 200).then(|| start.elapsed())
                })
            })
            .collect();
        self.runtime.block_on(async {
            let mut times = Vec::new();
            for client in clients {
                times.push(client.await.ok().flatten());
            }
            times
        })
    }

    /// Sends one request.
    pub(crate) fn ask_one(&self, method: &str, path: &str) -> Option<Duration> {
        self.ask(method, &[path])[0]
    }

    /// Asks again and again, in the background, until it is aborted or this client is dropped.
    pub(crate) fn keep_asking(&self, path: &str) -> JoinHandle<()> {
        let (address, request) = (self.address, request("GET", self.address, path));
        self.runtime.spawn(async move {
            loop {
                let Ok(stream) = TcpStream::connect(address).await else { return };
                ask(stream, &request).await;
            }
        })
    }
}

/// The server closes, so that no port of ours is left in TIME_WAIT.
fn request(method: &str, address: SocketAddr, path: &str) -> Vec<u8> {
    let body = if method == "POST" { "Content-Length: 0\r\n" } else { "" };
    format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\n{body}Connection: close\r\n\r\n").into_bytes()
}

/// The status of the answer; `None` if there is none.
async fn ask(mut stream: TcpStream, request: &[u8]) -> Option<u16> {
    stream.write_all(request).await.ok()?;
    let (mut reply, mut bytes) = (Reply::with_content(), [0; 1024]);
    let mut status = None;
    loop {
        let count = stream.read(&mut bytes).await.ok()?;
        if count == 0 {
            return status;
        }
        if status.is_none() {
            status = reply.push(&bytes[..count]).ok()?.1.map(|answer| answer.status);
        }
    }
}
