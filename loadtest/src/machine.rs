//! The machine that this runs on: what it is and allows, what it did meanwhile, its terminal, and its user's Ctrl-C.

pub(crate) mod cpus;
pub(crate) mod host;
pub(crate) mod interrupt;
pub(crate) mod terminal;
pub(crate) mod usage;
