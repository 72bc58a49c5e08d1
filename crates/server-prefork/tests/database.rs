//! The contract with a real database behind the wait.

contract::database_tests!(env!("CARGO_BIN_EXE_server-prefork"), &[]);
