//! What a load is asked to do, in a form that another process can be told.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};

use crate::net::{Endpoint, Sources};
use crate::requests::Requests;
use crate::spec::LoadSpec;

/// A [`LoadSpec`] whose requests are all the same.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PortableSpec {
    /// Where to connect.
    pub address: SocketAddr,
    /// How many users.
    pub users: usize,
    /// Where connections come from; with none, the kernel chooses.
    pub sources: Vec<Ipv4Addr>,
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
            sources: spec.endpoint.sources().addresses().to_vec(),
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
            endpoint: endpoint.from_sources(Sources::new(spec.sources))?,
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
