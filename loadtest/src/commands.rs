//! A file or folder for each subcommand, and the flags that several share.

pub(crate) mod claims;
pub(crate) mod db;
pub(crate) mod doctor;
pub(crate) mod flags;
pub(crate) mod measure;
pub(crate) mod peers;
pub(crate) mod place;
pub(crate) mod plan;
pub(crate) mod report;
mod rounds;
pub(crate) mod serve;
pub(crate) mod slo;
pub(crate) mod sweep;
mod target_choice;
pub(crate) mod url;
pub(crate) mod worker;
