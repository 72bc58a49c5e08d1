//! The contract that all four servers keep, with either of the two that speak HTTP here, and either of what drives the codec.
//! Where there is no io_uring, `uring` fails, and the server says why.

mod hyper {
    contract::tests!(env!("CARGO_BIN_EXE_server-async"), &["--http", "hyper"]);
}

mod codec {
    contract::tests!(env!("CARGO_BIN_EXE_server-async"), &["--http", "codec"]);
}

mod uring {
    contract::tests!(env!("CARGO_BIN_EXE_server-async"), &["--http", "codec", "--driver", "uring"]);
}

/// A flag that would do nothing, or not what it says, is refused.
#[test]
fn pipelining_needs_a_database_and_gives_no_connection_away() {
    let target = contract::Target { program: env!("CARGO_BIN_EXE_server-async"), flags: &[], database_flags: &[] };
    for (flags, what) in [
        (&["--db-pipeline", "8"][..], "--db <URL>"),
        (&["--db-pipeline", "8", "--db", "postgres://nobody@127.0.0.1:1/none", "--db-hold", "20ms"], "--db-hold"),
        (&["--db-pipeline", "0", "--db", "postgres://nobody@127.0.0.1:1/none"], "--db-pipeline"),
    ] {
        let exit = contract::server::run(&target, flags);
        assert_eq!((exit.code(), exit.stdout.as_str()), (Some(2), ""), "{exit:?}");
        assert!(exit.stderr.contains(what), "{exit:?}");
    }
}

/// A switch of chaos is refused without it, also as an environment variable, and says so before it listens.
#[test]
fn burning_on_the_loop_needs_chaos() {
    let target = contract::Target { program: env!("CARGO_BIN_EXE_server-async"), flags: &[], database_flags: &[] };
    for chaos in [&[][..], &["--allow-chaos=no"]] {
        let exit = contract::server::run(&target, &[&["--burn-on-loop"], chaos].concat());
        assert_eq!(exit.code(), Some(2), "{exit:?}");
        assert!(exit.stderr.contains("--burn-on-loop needs --allow-chaos"), "{exit:?}");
        assert_eq!(exit.stdout, "");
    }
    let exit = contract::server::run_with_variable(&target, "C10K_BURN_ON_LOOP", "yes");
    assert_eq!(exit.code(), Some(2), "{exit:?}");
}
