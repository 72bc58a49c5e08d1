//! What stands in for [`tls`](super) in a build without it: nobody can have any of it, and it takes no room.

use bytes::BytesMut;

use super::error::Error;
use super::trust::Trust;

/// How connections are encrypted: there is no such thing here.
#[derive(Clone)]
pub(super) enum Tls {}

impl Tls {
    pub(super) fn new(_trust: Trust, _roots: Option<&str>, _host: &str) -> Result<Self, String> {
        Err("TLS to the database is not in this build: build with `--features tls`, or leave sslmode out".to_owned())
    }
}

/// The TLS of one connection: there is no such thing here.
pub(super) enum Layer {}

impl Layer {
    pub(super) fn begin(tls: &Tls, _output: &mut BytesMut) -> Result<Self, Error> {
        match *tls {}
    }

    pub(super) fn receive(&mut self, _: &[u8], _: &mut BytesMut, _: &mut BytesMut) -> Result<(), Error> {
        match *self {}
    }

    pub(super) fn send(&mut self, _: &[u8], _: &mut BytesMut) -> Result<(), Error> {
        match *self {}
    }
}
