//! A server is the same, built alone, as `--target` does, or beside the others.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

/// The packages that these servers are made of, each with its features.
fn parts(servers: &[&str]) -> BTreeSet<String> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap());
    cargo.args(["tree", "--locked", "--edges=normal,build", "--prefix=none", "--no-dedupe", "--format={p} [{f}]"]);
    cargo.args(servers.iter().flat_map(|server| ["--package", server]));
    let output = cargo.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(String::from).collect()
}

#[test]
fn each_server_alone_is_made_of_what_it_is_made_of_beside_the_others() {
    let servers = ["server-prefork", "server-threads", "server-threadpool", "server-async"];
    let together = parts(&servers);
    for server in servers {
        let alone = parts(&[server]);
        assert!(alone.len() > 50, "{alone:?}");
        let own: Vec<_> = alone.difference(&together).collect();
        assert!(
            own.is_empty(),
            "{server} has other features alone; let the workspace's manifest name them all: {own:?}"
        );
    }
}
