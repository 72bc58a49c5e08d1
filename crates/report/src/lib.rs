//! Reports for people: results as text, tables, CSV, Markdown and a page of charts, and comparisons of results.
//!
//! Nothing here measures, or writes to a file or a terminal: results go in, text comes out.

#![forbid(unsafe_code)]

mod answer;
mod bars;
pub mod claims;
pub mod clients;
mod command;
pub mod compare;
pub mod csv;
pub mod html;
pub mod live;
pub mod markdown;
mod notes;
pub mod peers;
pub mod pools;
pub mod slo;
pub mod sweep;
mod table;
pub mod text;
pub mod walls;

pub use answer::answer;
pub use table::{TextTable, table_of};
