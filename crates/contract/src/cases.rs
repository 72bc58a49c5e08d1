//! The cases.

pub mod abuse;
pub mod conformance;
pub mod connections;
pub mod database;
pub mod drain;
pub mod lifecycle;
pub mod limits;
pub mod malformed;
pub mod metrics;
pub mod mutations;
pub mod routes;
