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
