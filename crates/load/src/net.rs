//! Connections to the server under test.

mod connection;
mod sources;
mod stream;
mod url;

pub(crate) use connection::Connection;
pub use sources::Sources;
pub use stream::Endpoint;
pub use url::Url;
