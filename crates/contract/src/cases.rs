//! The cases.

pub mod connections;
pub mod lifecycle;
pub mod limits;
pub mod malformed;
pub mod metrics;
pub mod routes;
