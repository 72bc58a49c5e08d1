//! What a load is asked to do, in a form that another process can be told.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};

use crate::net::Endpoint;
use crate::requests::Requests;
use crate::spec::LoadSpec;

/// A [`LoadSpec`] whose requests are all the same.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PortableSpec {
    /// Where to connect.
    pub address: SocketAddr,
    /// How many users.
    pub users: usize,
    tls_host: Option<String>,
    greeting: Option<Vec<u8>>,
    request: Vec<u8>,
    threads: usize,
    timeout: Option<Duration>,
    spread: Duration,
    interval: Option<Duration>,
}

impl TryFrom<LoadSpec> for PortableSpec {
    type Error = anyhow::Error;

    fn try_from(spec: LoadSpec) -> Result<Self> {
        let Requests::Same(request) = spec.requests else { bail!("a script runs in this process only") };
        Ok(Self {
            address: spec.endpoint.address,
            users: spec.users,
            tls_host: spec.endpoint.tls_host(),
            greeting: spec.greeting,
            request,
            threads: spec.threads,
            timeout: spec.timeout,
            spread: spec.spread,
            interval: spec.interval,
        })
    }
}

impl TryFrom<PortableSpec> for LoadSpec {
    type Error = anyhow::Error;

    fn try_from(spec: PortableSpec) -> Result<Self> {
        let endpoint = match &spec.tls_host {
            Some(host) => Endpoint::tls(spec.address, host)?,
            None => Endpoint::tcp(spec.address),
        };
        Ok(Self {
            endpoint,
            greeting: spec.greeting,
            requests: Requests::Same(spec.request),
            users: spec.users,
            threads: spec.threads,
            timeout: spec.timeout,
            spread: spec.spread,
            interval: spec.interval,
        })
    }
}
