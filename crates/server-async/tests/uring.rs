//! Where there is no io_uring, the server says why, and what to do.

use std::process::Command;

#[test]
#[ignore = "needs strace"]
fn who_has_no_io_uring_is_told_to_take_epoll() {
    for (error, why) in [("EPERM", "forbidden"), ("ENOSYS", "has none"), ("EINVAL", "Linux 6.1")] {
        let mut strace = Command::new("strace");
        strace.args(["-f", "-o", "/dev/null", "-e", &format!("inject=io_uring_setup:error={error}")]);
        strace.arg(env!("CARGO_BIN_EXE_server-async")).args(["--http", "codec", "--driver", "uring"]);
        let output = strace.args(["--listen", "127.0.0.1:0"]).output().expect("strace is installed");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{said}");
        assert!(said.contains(why) && said.contains("--driver epoll"), "{said}");
    }
}

#[test]
fn it_drives_the_codec_without_a_real_database_only() {
    for (flags, what) in [
        (&["--http", "hyper"][..], "--http codec"),
        (&["--http", "codec", "--db", "postgres://nobody@127.0.0.1/none"], "--driver epoll"),
    ] {
        let mut server = Command::new(env!("CARGO_BIN_EXE_server-async"));
        server.args(["--driver", "uring", "--listen", "127.0.0.1:0"]).args(flags);
        let output = server.output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(what), "{said}");
    }
}
