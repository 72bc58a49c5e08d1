//! The listening socket.

use common::listener;

#[test]
fn a_port_is_shared_by_those_who_all_say_so() {
    let bind = |address, reuse_port| listener::bind("--listen", address, 16, reuse_port);
    let first = bind("127.0.0.1:0".parse().unwrap(), true).unwrap();
    let address = first.local_addr().unwrap();
    let second = bind(address, true).unwrap();
    assert_eq!(second.local_addr().unwrap(), address);
    let error = format!("{:#}", bind(address, false).unwrap_err());
    assert!(error.contains("stop whatever listens there, or choose another with --listen"), "{error}");

    let alone = bind("127.0.0.1:0".parse().unwrap(), false).unwrap();
    assert!(bind(alone.local_addr().unwrap(), true).is_err());
}
