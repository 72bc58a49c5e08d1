//! What only a server with threads can get wrong.

use std::io;
use std::process::Command;

use contract::{Server, Target};
use nix::sys::signal::Signal;

const TARGET: Target = Target { program: env!("CARGO_BIN_EXE_server-threads"), flags: &[], database_flags: &[] };

/// Sets the limit of the server's address space: `prlimit(2)` has no safe interface, `prlimit(1)` is everywhere.
fn limit_address_space(server: &Server, bytes: &str) {
    let flags = [format!("--pid={}", server.pid()), format!("--as={bytes}:unlimited")];
    assert!(Command::new("prlimit").args(flags).status().expect("prlimit is installed").success());
}

fn address_space_bytes(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let size = status.lines().find_map(|line| line.strip_prefix("VmSize:")).unwrap();
    size.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

fn memory_maps(server: &Server) -> usize {
    std::fs::read_to_string(format!("/proc/{}/maps", server.pid())).unwrap().lines().count()
}

/// A stack and its guard page. With a signal stack and its guard page there are four, and a thread that cannot have them aborts.
#[test]
fn a_thread_has_two_memory_maps() {
    let server = Server::start(&TARGET, &[]);
    let mut clients: Vec<_> = (0..50).map(|_| server.connect()).collect();
    clients.iter_mut().for_each(|client| assert_eq!(client.get("/health").status, 200));
    let before = memory_maps(&server);
    let mut more: Vec<_> = (0..100).map(|_| server.connect()).collect();
    more.iter_mut().for_each(|client| assert_eq!(client.get("/health").status, 200));
    // Some allocations have a map of their own.
    let added = memory_maps(&server) - before;
    assert!((200..250).contains(&added), "{added} maps for 100 threads");
}

#[test]
fn who_gets_no_thread_is_told_so_and_the_next_one_may_get_one() {
    let (mut server, log) = Server::start_logged(&TARGET, &[]);
    let mut first = server.connect();
    assert_eq!(first.get("/").status, 200);
    // There is no room for the stack of another thread.
    limit_address_space(&server, &address_space_bytes(&server).to_string());
    for _ in 0..3 {
        let mut refused = server.connect();
        assert_eq!(refused.read_response().status, 503);
        refused.assert_closed();
    }
    assert_eq!(first.get("/").status, 200);
    limit_address_space(&server, "unlimited");
    assert_eq!(server.connect().get("/").status, 200);
    server.signal(Signal::SIGTERM);
    assert!(server.wait().success());
    let log = io::read_to_string(log).unwrap();
    assert_eq!(log.matches("no thread could be spawned").count(), 1, "{log}");
}
