//! A limit on the RAM of the server's cgroup, of which a process per connection soon asks too much.

use contract::server::{children_of, wait_until};
use contract::{Client, Server, Target};
use meter::{Cgroup, MeterError};

const TARGET: Target = Target { program: env!("CARGO_BIN_EXE_server-prefork"), flags: &[], database_flags: &[] };
const LIMIT_BYTES: u64 = 48 << 20;

/// A cgroup with the limit; `None` where the machine does not allow one.
fn cgroup(test: &str) -> Option<Cgroup> {
    match Cgroup::create(&format!("prefork-{test}-{}", std::process::id())) {
        Ok(cgroup) => {
            cgroup.set_limit_bytes(LIMIT_BYTES).expect("a cgroup has a limit");
            Some(cgroup)
        }
        Err(MeterError::NoCgroup { why, remedy }) => {
            eprintln!("skipped: no cgroup here: {why}; {remedy}");
            None
        }
        Err(other) => panic!("{other:?}"),
    }
}

/// Each library costs each of 10,000 processes five memory maps, 1.5 kB of the kernel's memory.
#[test]
fn no_library_is_mapped() {
    let server = Server::start(&TARGET, &[]);
    let maps = std::fs::read_to_string(format!("/proc/{}/maps", server.pid())).unwrap();
    let libraries: Vec<&str> = maps.lines().filter(|map| map.contains(".so")).collect();
    // There are those of the C library, its loader and the unwinder where there is no libc.a: see build.rs.
    assert!(libraries.is_empty() || cfg!(not(static_libc)), "{libraries:?}");
}

/// A page that a child writes to, or its parent at the fork, is copied: 10,000 children, 10,000 copies.
#[test]
fn a_child_has_two_pages_of_stack_and_none_of_a_file() {
    let server = Server::start(&TARGET, &["--start", "4", "--max-connections", "4"]);
    let mut clients: Vec<Client> = (0..4).map(|_| server.connect()).collect();
    for client in &mut clients {
        assert_eq!(client.get("/").status, 200);
        client.send(b"GET /?wait=60s HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    server.wait_for_metric("c10k_requests_waiting", 4);
    for pid in children_of(server.pid()) {
        let maps = std::fs::read_to_string(format!("/proc/{pid}/smaps")).unwrap();
        let (_, stack) = maps.split_once("[stack]\n").expect("there is a stack");
        let own = stack.lines().find(|line| line.starts_with("Private_Dirty:")).unwrap();
        assert!(own.ends_with(" 4 kB") || own.ends_with(" 8 kB"), "of the stack: {own}");
        for map in maps.split("VmFlags:").filter(|map| map.contains(".so") || map.contains("/server-prefork")) {
            let own = map.lines().find(|line| line.starts_with("Private_Dirty:"));
            assert!(own.is_some_and(|own| own.ends_with(" 0 kB")), "{map}");
        }
    }
}

#[test]
fn at_the_limit_who_comes_is_refused_and_nobody_is_killed() {
    let Some(cgroup) = cgroup("full") else { return };
    let mut server = Server::start_in(&TARGET, &cgroup.join_paths(), &["--start", "4"]);
    let mut clients: Vec<Client> = (0..1_000).map(|_| server.connect()).collect();
    clients.iter_mut().for_each(|client| drop(client.try_send(b"GET /?wait=2s HTTP/1.1\r\nHost: a\r\n\r\n")));
    let open = || server.metric("c10k_connections_open");
    let refused = || server.metric("c10k_connections_refused_total");
    let oom_kills = || cgroup.oom_kills().expect("they are counted");
    let counted = || format!("{} are served, {} refused, {} killed", open(), refused(), oom_kills());
    wait_until(|| open() + refused() == 1_000, counted);
    assert!(refused() > 0 && open() > 50, "{} are served and {} refused", open(), refused());
    let statuses: Vec<u16> = clients.iter_mut().map(|client| client.read_response().status).collect();
    assert!(statuses.iter().all(|status| [200, 503].contains(status)), "{statuses:?}");
    assert_eq!(oom_kills(), 0);
    drop(clients);
    server.wait_for_metric("c10k_connections_open", 0);
    assert_eq!(server.connect().get("/").status, 200);
    assert!(server.is_running());
    drop(server);
    cgroup.kill_all().expect("nobody is left");
}

/// What the supervisor cannot foresee: its children grow together. One of them dies for it.
#[test]
fn beyond_the_limit_a_child_is_killed_and_not_the_supervisor() {
    let Some(cgroup) = cgroup("killed") else { return };
    let flags = ["--allow-chaos", "--max-connections", "8", "--start", "8"];
    let mut server = Server::start_in(&TARGET, &cgroup.join_paths(), &flags);
    let mut clients: Vec<Client> = (0..8).map(|_| server.connect()).collect();
    for _ in 0..8 {
        for client in &mut clients {
            let _ = client.try_send(b"POST /chaos/leak HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
        }
    }
    wait_until(|| cgroup.oom_kills().expect("they are counted") > 0, || "64 MiB fitted into 48".into());
    assert!(server.is_running());
    drop(clients);
    server.wait_for_metric("c10k_connections_open", 0);
    assert_eq!(server.connect().get("/").status, 200);
    drop(server);
    cgroup.kill_all().expect("nobody is left");
}
