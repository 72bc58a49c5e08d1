//! The listening socket, and what the errors of `accept` mean.

use std::io::{self, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::thread;
use std::time::Duration;

use anyhow::Result;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::{Domain, Protocol, SockFilter, SockRef, Socket, Type};

use crate::log;

/// The backlog that servers ask for by default.
pub const DEFAULT_BACKLOG: u32 = 4096;
/// How long to leave `accept` alone after it failed because descriptors or memory ran out.
pub const EXHAUSTED_PAUSE: Duration = Duration::from_millis(50);

/// Binds and listens, as the flag says. The backlog is `backlog` connections, or what the kernel clips it to. With
/// `reuse_port`, other processes that say so too may listen there, and the kernel spreads the connections over them.
///
/// # Errors
/// The address is in use or not ours: the message says what to do.
pub fn bind(flag: &str, address: SocketAddr, backlog: u32, reuse_port: bool) -> Result<TcpListener> {
    let with_advice = |error: io::Error| {
        let advice = match error.kind() {
            io::ErrorKind::AddrInUse => "stop whatever listens there, or choose another",
            io::ErrorKind::PermissionDenied => "choose a port above 1023",
            _ => "choose an address of this machine",
        };
        anyhow::Error::from(error)
            .context(format!("cannot listen on {address}: {advice} with {flag} (port 0 picks a free one)"))
    };
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(reuse_port)?;
    socket.bind(&address.into()).map_err(with_advice)?;
    socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX)).map_err(with_advice)?;
    warn_if_clipped(backlog);
    Ok(socket.into())
}

fn warn_if_clipped(backlog: u32) {
    let somaxconn = std::fs::read_to_string("/proc/sys/net/core/somaxconn");
    if let Some(somaxconn) = somaxconn.ok().and_then(|text| text.trim().parse::<u32>().ok())
        && somaxconn < backlog
    {
        log::warn!("the kernel clips --backlog {backlog} to net.core.somaxconn = {somaxconn}");
    }
}

/// Says on standard output where the server listens, now that it accepts. Nobody may be reading: that is no error, and if
/// the pipe is full, no reason to wait.
pub fn announce(address: SocketAddr, admin: Option<SocketAddr>) {
    let admin = admin.map(|admin| format!("admin on http://{admin}\n")).unwrap_or_default();
    let lines = format!("listening on http://{address}\n{admin}");
    let stdout = io::stdout();
    // A pipe that is ready has room for 4 KiB.
    let is_ready = poll(&mut [PollFd::new(stdout.as_fd(), PollFlags::POLLOUT)], PollTimeout::ZERO);
    if is_ready.is_ok_and(|count| count > 0) {
        let _ = stdout.lock().write_all(lines.as_bytes());
    }
    log::info!("listening on http://{address}");
}

/// How long a handshake under way may take to end. Between machines that are near it is a fraction of this.
const HANDSHAKE_PAUSE: Duration = Duration::from_millis(20);

/// Has the kernel begin no more connections: who knocks now is told nothing, knocks again, and finds the port closed. What is
/// in the backlog can still be accepted, and so can who was about to come in, for whom this waits. Without it, more would
/// come until the listener is closed, which resets them, and what they have sent is lost.
pub fn stop(listener: &impl AsFd) {
    // It fails only where a sandbox forbids it.
    if SockRef::from(listener).attach_filter(&NO_SYN).is_ok() {
        thread::sleep(HANDSHAKE_PAUSE);
    }
}

/// Drops the packets that ask for a connection, and no other: a filter begins with the header of TCP, whose flags are at 13.
const NO_SYN: [SockFilter; 4] = {
    const LOAD_BYTE: u16 = 0x30;
    const JUMP_IF_ANY_BIT: u16 = 0x45;
    const RETURN: u16 = 0x06;
    const SYN: u32 = 0x02;
    [
        SockFilter::new(LOAD_BYTE, 0, 0, 13),
        SockFilter::new(JUMP_IF_ANY_BIT, 0, 1, SYN),
        SockFilter::new(RETURN, 0, 0, 0),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
    ]
};

/// Whether somebody is in the backlog. Once descriptors have run out, `accept` says only that, also if nobody is.
pub fn has_backlog(listener: &impl AsFd) -> bool {
    poll(&mut [PollFd::new(listener.as_fd(), PollFlags::POLLIN)], PollTimeout::ZERO).is_ok_and(|count| count > 0)
}

/// What a failed `accept` means. None of them ends a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcceptError {
    /// No connection is there.
    WouldBlock,
    /// That connection is gone, or a signal came: accept the next one.
    TryNext,
    /// Descriptors or memory ran out: the connection stays in the backlog; try again after [`EXHAUSTED_PAUSE`].
    Exhausted,
}

impl AcceptError {
    /// What the error of `accept` means. Linux also passes on errors of the network, such as EHOSTUNREACH, that only
    /// concern the one connection (accept(2)).
    pub fn classify(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::WouldBlock => AcceptError::WouldBlock,
            io::ErrorKind::Interrupted
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::NetworkDown => AcceptError::TryNext,
            _ => AcceptError::Exhausted,
        }
    }
}
