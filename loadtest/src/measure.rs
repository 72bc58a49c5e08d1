//! One run: hold the connections, measure, stop. It takes a load generator and an event sink, and knows neither where
//! the users are nor who watches.

mod cause;
pub(crate) mod client;
mod conclude;
mod doubts;
pub(crate) mod peer;
pub(crate) mod run;
pub(crate) mod target;
