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

/// A switch of chaos is refused without it, also as an environment variable, and says so before it listens.
#[test]
fn burning_on_the_loop_needs_chaos() {
    let target = contract::Target { program: env!("CARGO_BIN_EXE_server-async"), flags: &[] };
    for chaos in [&[][..], &["--allow-chaos=no"]] {
        let exit = contract::server::run(&target, &[&["--burn-on-loop"], chaos].concat());
        assert_eq!(exit.code(), Some(2), "{exit:?}");
        assert!(exit.stderr.contains("--burn-on-loop needs --allow-chaos"), "{exit:?}");
        assert_eq!(exit.stdout, "");
    }
    let exit = contract::server::run_with_variable(&target, "C10K_BURN_ON_LOOP", "yes");
    assert_eq!(exit.code(), Some(2), "{exit:?}");
}
