use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use meter::{Ledger, LedgerWalk, MeterError, ledger};

use crate::eventually;
use crate::started::Started;

const MIB: u64 = 1 << 20;

fn ledger_of(started: &Started) -> Ledger {
    ledger(started.pid()).expect("it runs")
}

#[test]
fn allocated_memory_is_in_pss_and_private_dirty() {
    let idle = Started::shell("sleep 60 | sleep 60");
    let holding = Started::shell("head -c 64M /dev/zero | tail");
    eventually("64 MiB of private dirty memory", || ledger_of(&holding).private_dirty_bytes >= Some(64 * MIB));
    eventually("a shell and two sleeps", || ledger_of(&idle).processes == 3);

    let (holding, idle) = (ledger_of(&holding), ledger_of(&idle));
    for (with, without) in [
        (holding.pss_bytes, idle.pss_bytes),
        (holding.private_dirty_bytes, idle.private_dirty_bytes),
        (holding.rss_sum_bytes, idle.rss_sum_bytes),
    ] {
        let moved = with.expect("own process") - without.expect("own process");
        assert!((62 * MIB..72 * MIB).contains(&moved), "moved by {moved}");
    }
    // 64 MiB in pages of 4 KiB need 32 page tables, unless they are huge pages.
    assert!(holding.page_tables_bytes >= idle.page_tables_bytes);
    assert!(idle.page_tables_bytes > Some(0));
    assert_eq!(idle.missing, []);
}

#[test]
fn shared_pages_count_once_in_pss_and_often_in_rss() {
    let started = Started::shell("for i in 1 2 3 4 5 6 7 8; do sleep 60 & done; wait");
    eventually("a shell and eight sleeps", || ledger_of(&started).processes == 9);
    let ledger = ledger_of(&started);
    let (pss, rss) = (ledger.pss_bytes.expect("own"), ledger.rss_sum_bytes.expect("own"));
    assert!(pss < rss, "PSS {pss}, RSS {rss}");
}

#[test]
fn threads_are_counted_and_each_has_a_kernel_stack() {
    let without = ledger_of(&Started::role("threads", &[]));
    let with = ledger_of(&Started::role("threads", &[("THREADS", "100")]));
    assert_eq!((without.processes, with.processes), (1, 1));
    assert_eq!(with.threads - without.threads, 100);
    let stacks = with.kernel_stacks_bytes.zip(without.kernel_stacks_bytes);
    let (with, without) = stacks.expect("always known");
    assert!(with - without >= 100 * 16 * 1024);
}

#[test]
fn many_sockets_are_read_in_many_steps() {
    let listeners: Vec<_> = (0..400).map(|_| TcpListener::bind("127.0.0.1:0").expect("a port")).collect();
    let own = std::process::id() as i32;
    let mut walk = LedgerWalk::new(own, vec![own]);
    let mut steps = 0;
    while walk.read_next() {
        steps += 1;
    }
    assert!(steps >= 6, "{steps}");
    assert!(walk.finish().expect("it is us").sockets >= Some(listeners.len() as u64));
}

#[test]
fn sockets_and_what_is_queued_in_them_are_counted() {
    let empty = ledger_of(&Started::role("connections", &[("CONNECTIONS", "20")]));
    let queues = [("CONNECTIONS", "20"), ("QUEUED_BYTES", "10000")];
    let full = ledger_of(&Started::role("connections", &queues));
    // Both ends of each connection, and the listener.
    assert_eq!((empty.sockets, full.sockets), (Some(41), Some(41)));
    assert_eq!(empty.missing, []);

    let (empty, full) = (empty.sockets_bytes.expect("own"), full.sockets_bytes.expect("own"));
    let each = empty / 41;
    assert!((2_500..8_000).contains(&each), "{each} bytes for a socket");
    assert_eq!(full - empty, 20 * 10_000);
}

#[test]
fn an_inherited_socket_counts_once() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let client = TcpStream::connect(listener.local_addr().expect("address")).expect("connect");
    let (unix, _peer) = UnixStream::pair().expect("pair");
    let started = Started::command(
        Command::new("sh")
            .args(["-c", "for i in 1 2 3 4; do sleep 60 & done; wait"])
            .stdout(Stdio::from(OwnedFd::from(client)))
            .stderr(Stdio::from(OwnedFd::from(unix))),
    );
    eventually("a shell and four sleeps", || ledger_of(&started).processes == 5);
    let ledger = ledger_of(&started);
    assert_eq!(ledger.sockets, Some(2));
    assert_eq!(ledger.missing, []);
}

#[test]
fn a_listeners_backlog_is_not_payload() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = listener.local_addr().expect("address");
    let mut sleep = Command::new("sleep");
    let started = Started::command(sleep.arg("60").stdout(Stdio::from(OwnedFd::from(listener))));
    let before = ledger_of(&started).sockets_bytes;
    let _waiting: Vec<_> = (0..8).map(|_| TcpStream::connect(address).expect("connect")).collect();
    assert_eq!(ledger_of(&started).sockets_bytes, before);
}

#[test]
fn an_unlisted_socket_is_reported() {
    // Reset by its peer: still open here, but no longer in /proc/net/tcp.
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let client = TcpStream::connect(listener.local_addr().expect("address")).expect("connect");
    let (accepted, _) = listener.accept().expect("accept");
    std::io::Write::write_all(&mut &accepted, b"unread").expect("write");
    let mut sleep = Command::new("sleep");
    let started = Started::command(sleep.arg("60").stdout(Stdio::from(OwnedFd::from(accepted))));
    assert_eq!(ledger_of(&started).missing, []);
    drop(client);
    eventually("the reset socket is missing", || {
        let missing = ledger_of(&started).missing;
        missing.len() == 1 && missing[0].figure == "sockets_bytes"
    });
    assert_eq!(ledger_of(&started).sockets, Some(1));
}

#[test]
fn processes_that_exit_while_read_are_not_an_error() {
    let started = Started::shell("while :; do sleep 0 & sleep 0; done");
    for _ in 0..100 {
        let ledger = ledger_of(&started);
        assert!(ledger.processes >= 1);
        assert_eq!(ledger.missing, []);
    }
}

#[test]
fn a_zombie_holds_nothing() {
    let started = Started::command(&mut Command::new("true"));
    eventually("a zombie is no process", || matches!(ledger(started.pid()), Err(MeterError::NoSuchProcess { .. })));
    assert_eq!(meter::process_tree(started.pid()), [started.pid()]);
}

#[test]
fn unreadable_figures_are_none_with_a_reason() {
    // The whole machine, which only root can read, and not always even root.
    let Ok(ledger) = ledger(1) else {
        return; // another user's init, hidden by hidepid
    };
    let figures = [
        ("pss_bytes", ledger.pss_bytes),
        ("private_dirty_bytes", ledger.private_dirty_bytes),
        ("page_tables_bytes", ledger.page_tables_bytes),
    ];
    for (figure, bytes) in figures {
        let missing = ledger.missing.iter().find(|missing| missing.figure == figure);
        assert_eq!(bytes.is_none(), missing.is_some(), "{figure}");
        assert!(missing.is_none_or(|missing| missing.why.contains("Permission Denied")), "{missing:?}");
    }
}
