//! Gathers the workers: those that this process starts, those that listen somewhere, or those that join.

use std::env;
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::str::FromStr;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use load::{Generator, LoadSpec, Place, PortableSpec, split};

use super::generator::FleetGenerator;
use super::handshake::Side;
use super::link::Link;
use super::token::{self, Token, TokenArgs};
use crate::machine::command_line::WrongArguments;
use crate::machine::descent;
use crate::machine::interrupt::Interrupt;
use crate::machine::terminal::say;

/// How long the workers may take to join.
const JOIN_TIMEOUT: Duration = Duration::from_secs(120);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// How long a worker that this process started may take to end.
const END_TIMEOUT: Duration = Duration::from_secs(3);
/// More strangers than this at once are turned away.
const MAX_STRANGERS: usize = 64;
const MAX_WORKERS: usize = 1_000;

/// Which workers: the value of `--workers`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Workers {
    /// So many, which this process starts on this machine.
    Started(usize),
    /// Those that listen at these addresses.
    At(Vec<String>),
    /// So many, which join at this address.
    Joining(usize, SocketAddr),
}

/// Workers that are there.
#[derive(Debug)]
pub(crate) struct Fleet {
    links: Vec<Arc<Link>>,
    started: Started,
}

/// The workers that this process started. Drop ends them.
#[derive(Debug, Default)]
struct Started(Mutex<Vec<Child>>);

impl FromStr for Workers {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let count = |text: &str| match text.parse() {
            Ok(count @ 1..=MAX_WORKERS) => Ok(count),
            _ => Err(format!("{text:?} is no number of workers from 1 to {MAX_WORKERS}")),
        };
        if let Some((number, address)) = text.split_once('@') {
            let address = address.parse().map_err(|_| {
                format!("{address:?} is no address to listen on: write 4@10.0.0.1:9190, or 4@0.0.0.0:9190 for all")
            })?;
            return Ok(Workers::Joining(count(number)?, address));
        }
        if !text.contains(':') {
            return count(text).map(Workers::Started);
        }
        let addresses: Vec<String> = text.split(',').map(|address| address.trim().to_owned()).collect();
        let has_port = |address: &String| {
            address.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
        };
        match addresses.iter().find(|address| !has_port(address)) {
            Some(address) => Err(format!("{address:?} is no HOST:PORT")),
            None => Ok(Workers::At(addresses)),
        }
    }
}

impl Fleet {
    /// Gathers the workers.
    ///
    /// # Errors
    /// One cannot be started or reached, does not know the token, or does not come in time.
    pub(crate) fn assemble(workers: &Workers, token: &TokenArgs, interrupt: &Interrupt) -> Result<Self> {
        match workers {
            Workers::Started(count) => Self::start(*count, interrupt),
            Workers::At(addresses) => {
                let token = token.read()?;
                let links = addresses.iter().map(|address| dial(address, &token)).collect::<Result<_>>()?;
                Ok(Self { links, started: Started::default() })
            }
            Workers::Joining(count, address) => {
                let token = token.read()?;
                let listener = TcpListener::bind(address)
                    .with_context(|| format!("workers cannot join at {address}: cannot listen there"))?;
                say(format_args!("waiting for {count} workers at {}", listener.local_addr()?));
                let started = Started::default();
                Ok(Self { links: admit(&listener, *count, &token, &started, interrupt)?, started })
            }
        }
    }

    /// Starts workers on this machine, with a token of their own.
    fn start(count: usize, interrupt: &Interrupt) -> Result<Self> {
        let (token, text) = Token::random()?;
        let listener = TcpListener::bind(("127.0.0.1", 0)).context("cannot listen on 127.0.0.1")?;
        let address = listener.local_addr()?.to_string();
        let own = env::current_exe().context("cannot find loadtest's own executable")?;
        let started = Started::default();
        for _ in 0..count {
            let mut command = Command::new(&own);
            command.args(["worker", "--join", &address, "--patience", "0s"]).env(token::VARIABLE, &text);
            // A process group of its own: Ctrl-C on the terminal goes to this process alone, which still needs them.
            command.process_group(0).stdin(Stdio::null()).stdout(Stdio::null());
            let child = command.spawn().context("cannot start a worker")?;
            descent::spare(child.id() as i32);
            started.lock().push(child);
        }
        Ok(Self { links: admit(&listener, count, &token, &started, interrupt)?, started })
    }
}

impl Place for Fleet {
    fn generator(&self, users: usize, specs: &dyn Fn(usize) -> Result<Vec<LoadSpec>>) -> Result<Box<dyn Generator>> {
        let text = || format!("{} workers need as many connections: -c {users} is less", self.links.len());
        ensure!(users >= self.links.len(), WrongArguments(text()));
        let mut shares = Vec::new();
        for (link, users) in self.links.iter().zip(split(users, self.links.len())) {
            let specs: Vec<PortableSpec> =
                specs(users)?.into_iter().map(PortableSpec::try_from).collect::<Result<_>>()?;
            if let Some(spec) = specs.iter().find(|spec| spec.address.ip().is_loopback() && !link.is_here) {
                bail!(
                    "the server is at {}, which for worker {} is its own machine: name the server by an address that all \
                     workers reach (a URL, or --remote)",
                    spec.address,
                    link.name
                );
            }
            shares.push((link.clone(), specs));
        }
        let pids = self.started.lock().iter().map(|child| child.id() as i32).collect();
        Ok(Box::new(FleetGenerator::new(shares, pids)?))
    }

    fn processes(&self) -> usize {
        self.links.len()
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.links.iter().for_each(|link| link.close());
    }
}

impl Started {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Child>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether one has ended.
    fn has_ended(&self) -> bool {
        self.lock().iter_mut().any(|child| !matches!(child.try_wait(), Ok(None)))
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        let deadline = Instant::now() + END_TIMEOUT;
        for child in self.lock().iter_mut() {
            while matches!(child.try_wait(), Ok(None)) && Instant::now() < deadline {
                thread::sleep(POLL_INTERVAL);
            }
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
            descent::forget(child.id() as i32);
        }
    }
}

/// Connects to a worker that listens.
fn dial(address: &str, token: &Token) -> Result<Arc<Link>> {
    let mut failure = None;
    for resolved in address.to_socket_addrs().with_context(|| format!("worker {address} cannot be resolved"))? {
        match TcpStream::connect_timeout(&resolved, CONNECT_TIMEOUT) {
            Ok(stream) => {
                let link = Link::open(stream, Side::Dialed, address.to_owned(), token);
                return link
                    .with_context(|| format!("worker {address} cannot be used; is it another's at the moment?"));
            }
            Err(error) => failure = Some(error),
        }
    }
    let error = failure.map_or_else(|| anyhow::anyhow!("it has no address"), anyhow::Error::from);
    Err(error.context(format!("worker {address} cannot be reached: is `loadtest worker --listen` running there?")))
}

/// Waits until so many workers have joined. Whoever is none is told so and forgotten.
fn admit(
    listener: &TcpListener,
    count: usize,
    token: &Token,
    started: &Started,
    interrupt: &Interrupt,
) -> Result<Vec<Arc<Link>>> {
    listener.set_nonblocking(true)?;
    let (sender, met) = channel();
    let (mut links, mut strangers) = (Vec::new(), 0);
    let deadline = Instant::now() + JOIN_TIMEOUT;
    while links.len() < count {
        ensure!(!interrupt.is_raised(), "interrupted");
        ensure!(Instant::now() < deadline, "only {} of {count} workers joined within {JOIN_TIMEOUT:?}", links.len());
        ensure!(!started.has_ended(), "a worker ended before it joined");
        if strangers < MAX_STRANGERS
            && let Ok((stream, peer)) = listener.accept()
        {
            strangers += 1;
            let (sender, token) = (sender.clone(), token.clone());
            // Each by itself: one that says nothing does not keep the others waiting.
            thread::spawn(move || {
                let opened = stream.set_nonblocking(false).map_err(anyhow::Error::from);
                let link = opened.and_then(|()| Link::open(stream, Side::Listened, peer.to_string(), &token));
                sender.send(link.with_context(|| format!("{peer} was refused as a worker")))
            });
            continue;
        }
        match met.recv_timeout(POLL_INTERVAL) {
            Ok(Ok(link)) => links.push(link),
            Ok(Err(error)) => say(format_args!("warning: {error:#}")),
            Err(_) => continue,
        }
        strangers -= 1;
    }
    Ok(links)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_are_started_or_named_or_awaited() {
        assert_eq!("2".parse(), Ok(Workers::Started(2)));
        assert_eq!("a:1, [::1]:2".parse(), Ok(Workers::At(vec!["a:1".into(), "[::1]:2".into()])));
        assert_eq!("3@0.0.0.0:9190".parse(), Ok(Workers::Joining(3, "0.0.0.0:9190".parse().unwrap())));
        for wrong in ["", "0", "1001", "a", "a:", ":1", "a:1,b", "0@0.0.0.0:1", "2@host", "2@9190", "a:70000"] {
            assert!(wrong.parse::<Workers>().is_err(), "{wrong}");
        }
    }
}
