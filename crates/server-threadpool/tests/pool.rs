//! What only a server with a bounded queue can get wrong.

use contract::{Client, Server, Target};
use nix::sys::signal::Signal;

const TARGET: Target =
    Target { program: env!("CARGO_BIN_EXE_server-threadpool"), flags: &["--workers", "1"], database_flags: &[] };

/// A client whose request has the only worker.
fn occupy(server: &Server, wait: &str) -> Client {
    let mut client = server.connect();
    client.send(format!("GET /?wait={wait} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes());
    server.wait_for_metric("c10k_requests_waiting", 1);
    client
}

/// Row 49: 503 to HEAD has no body either.
#[test]
fn a_full_queue_is_a_503_and_the_connection_closes() {
    let server = Server::start(&TARGET, &["--queue", "1"]);
    let mut occupying = occupy(&server, "1s");
    let mut queued = server.connect();
    queued.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    server.wait_for_metric("c10k_requests_queued", 1);
    let mut refused = server.connect();
    refused.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let answer = refused.assert_rejected(503);
    assert!(answer.field("retry-after").is_some());
    let mut refused = server.connect();
    refused.send(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
    refused.assert_head_rejected(503);
    assert_eq!(occupying.read_response().status, 200);
    assert_eq!(queued.read_response().status, 200);
}

/// Row 62: with a reset, or in good order.
#[test]
fn the_work_of_those_who_left_is_not_done() {
    let server = Server::start(&TARGET, &[]);
    let _occupying = occupy(&server, "1s");
    let mut clients: Vec<Client> = (0..40).map(|_| server.connect()).collect();
    clients.iter_mut().for_each(|client| client.send(b"GET /?wait=10s HTTP/1.1\r\nHost: a\r\n\r\n"));
    server.wait_for_metric("c10k_requests_queued", 40);
    for client in clients.drain(20..) {
        client.reset();
    }
    drop(clients);
    server.wait_for_metric("c10k_requests_queued", 0);
    assert_eq!(server.connect().get("/").status, 200);
}

/// Who only said that no more will come is told that there is no room, as others are when the queue is full.
#[test]
fn half_closed_while_queued_is_a_503() {
    let server = Server::start(&TARGET, &[]);
    let mut occupying = occupy(&server, "2s");
    let mut queued = server.connect();
    queued.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    queued.shut_write();
    queued.assert_rejected(503);
    occupying.shut_write();
    assert_eq!(occupying.read_response().status, 200);
}

/// Row 65: what a worker began late would be cut off.
#[test]
fn a_drain_leaves_time_for_what_was_begun() {
    let mut server = Server::start(&TARGET, &["--drain-timeout", "8s"]);
    let mut clients = vec![occupy(&server, "3s")];
    for queued in 1..=5 {
        let mut client = server.connect();
        client.send(b"GET /?wait=3s HTTP/1.1\r\nHost: a\r\n\r\n");
        server.wait_for_metric("c10k_requests_queued", queued);
        clients.push(client);
    }
    server.signal(Signal::SIGTERM);
    let statuses: Vec<u16> = clients.iter_mut().map(|client| client.read_response().status).collect();
    assert_eq!((statuses[0], statuses[5]), (200, 503), "{statuses:?}");
    assert_eq!(server.wait().code(), Some(0));
}

/// When the time for the drain is over, who has waited for a worker in vain is told so.
#[test]
fn a_drain_tells_those_that_no_worker_got_to() {
    let mut server = Server::start(&TARGET, &["--drain-timeout", "300ms"]);
    let mut occupying = occupy(&server, "60s");
    let mut queued: Vec<Client> = (0..5).map(|_| server.connect()).collect();
    queued.iter_mut().for_each(|client| client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"));
    server.wait_for_metric("c10k_requests_queued", 5);
    server.signal(Signal::SIGTERM);
    for client in &mut queued {
        client.assert_rejected(503);
    }
    occupying.assert_cut_off();
    assert_eq!(server.wait().code(), Some(0));
}
