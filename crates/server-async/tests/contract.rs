//! The contract that all four servers keep, with either of the two that speak HTTP here.

mod hyper {
    contract::tests!(env!("CARGO_BIN_EXE_server-async"), &["--http", "hyper"]);
}

mod codec {
    contract::tests!(env!("CARGO_BIN_EXE_server-async"), &["--http", "codec"]);
}
