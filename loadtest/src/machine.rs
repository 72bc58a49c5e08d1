//! This machine: its limits, its CPU usage, its terminal, and Ctrl-C.

pub(crate) mod command_line;
pub(crate) mod cpus;
pub(crate) mod descent;
pub(crate) mod hash;
pub(crate) mod host;
pub(crate) mod interrupt;
pub(crate) mod random;
pub(crate) mod readings;
pub(crate) mod terminal;
pub(crate) mod usage;
pub(crate) mod walls;
