//! Connections to the server under test.

mod connection;
mod stream;
mod url;

pub(crate) use connection::Connection;
pub use stream::Endpoint;
pub use url::Url;
