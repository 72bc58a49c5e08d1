//! Users on other machines, or in other processes of this one: a coordinator drives workers, and adds up exactly what
//! their users observed.
//!
//! A worker runs the same load generator as loadtest itself does. Who is on the other end of a connection proves that it
//! knows the same token (`handshake.rs`), and then both send lines of JSON (`wire.rs`). The coordinator is a
//! [`Generator`](load::Generator) like any other: its server, its phases and its result are those of any run.

mod assemble;
mod clock;
mod generator;
mod handshake;
mod lines;
mod link;
mod token;
mod wire;
pub(crate) mod worker;

pub(crate) use assemble::{Fleet, Workers};
pub(crate) use token::TokenArgs;
