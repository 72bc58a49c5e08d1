//! The URL to load.

use std::net::{SocketAddr, TcpStream, ToSocketAddrs as _};
use std::time::Duration;

use anyhow::{Context as _, Result};
use http::Uri;

use super::stream::Endpoint;

/// How long an address may take to answer before the load starts.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A URL and its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    text: String,
    /// As in a Host field: with the port, if the URL has one.
    authority: String,
    host: String,
    port: u16,
    /// Whether to use TLS.
    is_tls: bool,
    /// Path and query.
    path: String,
}

impl Url {
    /// Parses an `http:` or `https:` URL.
    pub fn parse(text: &str) -> Result<Self, String> {
        let uri: Uri = text.parse().map_err(|error| format!("{error}; write http://127.0.0.1:8084/"))?;
        let is_tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            Some(scheme) => return Err(format!("{scheme} is not supported; write http:// or https://")),
            None => return Err("the scheme is missing; write http://127.0.0.1:8084/".into()),
        };
        let authority = uri.authority().ok_or("the host is missing")?;
        Ok(Self {
            text: text.to_owned(),
            authority: authority.as_str().rsplit('@').next().unwrap_or_default().to_owned(),
            host: authority.host().trim_matches(['[', ']']).to_owned(),
            port: authority.port_u16().unwrap_or(if is_tls { 443 } else { 80 }),
            is_tls,
            path: uri.path_and_query().map_or("/", |path| path.as_str()).to_owned(),
        })
    }

    /// The first of its addresses that accepts a connection.
    ///
    /// # Errors
    /// The host cannot be resolved, or nothing listens there.
    pub fn connectable_address(&self) -> Result<SocketAddr> {
        let Self { host, port, .. } = self;
        let addresses = (host.as_str(), *port).to_socket_addrs();
        let mut last = None;
        for address in addresses.with_context(|| format!("unable to resolve {host}:{port}"))? {
            match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
                Ok(_) => return Ok(address),
                Err(error) => last = Some(error),
            }
        }
        let error = last.map_or_else(|| anyhow::anyhow!("it has no address"), anyhow::Error::from);
        Err(error.context(format!("unable to connect to {host}:{port}")))
    }

    /// How to connect to `address`, which is one of this URL's addresses.
    ///
    /// # Errors
    /// The host is not a valid name for TLS.
    pub fn endpoint(&self, address: SocketAddr) -> Result<Endpoint> {
        if self.is_tls { Endpoint::tls(address, &self.host) } else { Ok(Endpoint::tcp(address)) }
    }

    /// A GET request for this URL with extra fields (`Name: value`). A Host among them replaces the default one.
    pub fn request(&self, fields: &[String]) -> String {
        let has_host =
            fields.iter().any(|field| field.split_once(':').is_some_and(|(name, _)| name.eq_ignore_ascii_case("host")));
        let mut request = format!("GET {} HTTP/1.1\r\n", self.path);
        if !has_host {
            request += &format!("Host: {}\r\n", self.authority);
        }
        for field in fields {
            request += &format!("{field}\r\n");
        }
        request + "\r\n"
    }

    /// `http` or `https`.
    pub fn scheme(&self) -> &'static str {
        if self.is_tls { "https" } else { "http" }
    }

    /// The host; an IPv6 address comes without its brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, if the URL has one.
    pub fn given_port(&self) -> Option<u16> {
        self.authority.strip_suffix(&self.port.to_string())?.ends_with(':').then_some(self.port)
    }

    /// Path and query.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Host and port, as in a Host field.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// The URL as the user wrote it.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_becomes_a_request() {
        let url = Url::parse("http://localhost:8084/a?b=c").unwrap();
        assert_eq!((url.host.as_str(), url.given_port()), ("localhost", Some(8084)));
        assert_eq!(url.request(&[]), "GET /a?b=c HTTP/1.1\r\nHost: localhost:8084\r\n\r\n");
        let fields = ["Host: example.org".to_owned(), "X-A: 1".to_owned()];
        assert_eq!(url.request(&fields), "GET /a?b=c HTTP/1.1\r\nHost: example.org\r\nX-A: 1\r\n\r\n");
    }

    #[test]
    fn missing_parts_have_defaults() {
        let url = Url::parse("http://[::1]").unwrap();
        assert_eq!((url.host.as_str(), url.port, url.path.as_str()), ("::1", 80, "/"));
        assert_eq!(url.given_port(), None);
        assert_eq!(url.request(&[]), "GET / HTTP/1.1\r\nHost: [::1]\r\n\r\n");
        let url = Url::parse("https://localhost/").unwrap();
        assert_eq!((url.scheme(), url.port, url.given_port()), ("https", 443, None));
    }

    #[test]
    fn invalid_urls_are_refused() {
        for text in ["", "localhost", "localhost:80", "/path", "ftp://localhost/", "http://"] {
            assert!(Url::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_refused_connection_is_reported() {
        let error = format!("{:#}", Url::parse("http://127.0.0.1:1/").unwrap().connectable_address().unwrap_err());
        assert!(error.contains("unable to connect to 127.0.0.1:1") && error.contains("refused"), "{error}");
    }
}
