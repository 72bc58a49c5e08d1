//! What people look at: results as text, as a table, as CSV and Markdown, as a page of charts, and beside each other.
//!
//! Nothing in here measures, and nothing writes to a file or a terminal: results go in, text comes out.

#![forbid(unsafe_code)]

mod bars;
mod command;
pub mod compare;
pub mod csv;
pub mod html;
pub mod live;
pub mod markdown;
mod notes;
mod table;
pub mod text;

pub use table::{TextTable, table_of};
