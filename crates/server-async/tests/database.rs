//! The contract with a real database behind the wait, with either of the two that speak HTTP here, and with several
//! queries at once on a connection.

mod hyper {
    contract::database_tests!(env!("CARGO_BIN_EXE_server-async"), &["--http", "hyper"]);
}

mod codec {
    contract::database_tests!(env!("CARGO_BIN_EXE_server-async"), &["--http", "codec"]);
}

mod pipelined {
    contract::database_tests!(env!("CARGO_BIN_EXE_server-async"), &["--http", "codec"], &["--db-pipeline", "4"]);
}
