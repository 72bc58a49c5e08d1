//! The contract that all four servers keep.

contract::tests!(env!("CARGO_BIN_EXE_server-threads"), &[]);
