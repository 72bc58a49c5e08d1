//! The URL to load.

use std::net::{Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs as _};
use std::time::Duration;

use anyhow::{Context as _, Result};

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
    given_port: Option<u16>,
    /// Whether to use TLS.
    is_tls: bool,
    /// Path and query.
    path: String,
}

impl Url {
    /// Parses an `http:` or `https:` URL. As in wrk, everything after the host is sent as it is, except that a path is
    /// never empty: `http://h?x=1` asks for `/?x=1`.
    ///
    /// # Errors
    /// Says what is wrong and how to write it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (scheme, rest) = text.split_once("://").ok_or("the scheme is missing; write http://127.0.0.1:8084/")?;
        let is_tls = match scheme.to_ascii_lowercase().as_str() {
            "http" => false,
            "https" => true,
            _ => return Err(format!("{scheme} is not supported; write http:// or https://")),
        };
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        // A name and a password are for the client, not for the server.
        let authority = authority.rsplit('@').next().unwrap_or_default();
        let (host, given_port) = split_authority(authority)?;
        if let Some(character) = path.chars().find(|character| *character == ' ' || character.is_control()) {
            return Err(format!("{character:?} cannot be in a URL; write %{:02X}", u32::from(character)));
        }
        let slash = if path.starts_with('/') { "" } else { "/" };
        Ok(Self {
            text: text.to_owned(),
            authority: authority.to_owned(),
            host: host.to_owned(),
            given_port,
            is_tls,
            path: format!("{slash}{path}"),
        })
    }

    /// The first of its addresses that accepts a connection.
    ///
    /// # Errors
    /// The host cannot be resolved, or nothing listens there.
    pub fn connectable_address(&self) -> Result<SocketAddr> {
        let (host, port) = (self.host(), self.port());
        let addresses = (host, port).to_socket_addrs();
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

    /// A GET request for this URL with extra fields (`Name: value`). A Host among them replaces the default one. As in wrk,
    /// a Content-Length is left out: there is no body, and the server would wait for it.
    pub fn request(&self, fields: &[String]) -> String {
        let has_host =
            fields.iter().any(|field| field.split_once(':').is_some_and(|(name, _)| name.eq_ignore_ascii_case("host")));
        let mut request = format!("GET {} HTTP/1.1\r\n", self.path);
        if !has_host {
            request += &format!("Host: {}\r\n", self.authority);
        }
        for field in fields.iter().filter(|field| is_sent(field)) {
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

    /// The port to connect to.
    pub fn port(&self) -> u16 {
        self.given_port.unwrap_or(if self.is_tls { 443 } else { 80 })
    }

    /// The port, if the URL has one.
    pub fn given_port(&self) -> Option<u16> {
        self.given_port
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

/// Host and port, as in `localhost`, `localhost:80` or `[::1]:80`.
fn split_authority(authority: &str) -> Result<(&str, Option<u16>), String> {
    let (host, port) = match authority.strip_prefix('[').map(|rest| rest.split_once(']').ok_or("the ] is missing")) {
        Some(parts) => {
            let (host, port) = parts?;
            host.parse::<Ipv6Addr>().map_err(|error| format!("[{host}]: {error}"))?;
            (
                host,
                port.strip_prefix(':')
                    .map_or(if port.is_empty() { Ok(None) } else { Err("what follows ] is no port") }, |port| {
                        Ok(Some(port))
                    })?,
            )
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    let is_name = |character: char| character.is_alphanumeric() || matches!(character, '-' | '.' | '_' | ':');
    match host.chars().find(|character| !is_name(*character)) {
        _ if host.is_empty() => Err("the host is missing".into()),
        Some(character) => Err(format!("{character:?} cannot be in the name of a host")),
        None => Ok((host, port.map(parse_port).transpose()?)),
    }
}

fn parse_port(text: &str) -> Result<u16, String> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let port = text.parse::<u16>().ok().filter(|port| is_number && *port > 0);
    port.ok_or_else(|| format!("{text:?} is not a port; write a number from 1 to 65535"))
}

/// Whether wrk would send this field without a body.
fn is_sent(field: &str) -> bool {
    let name = field.split_once(':').map_or(field, |(name, _)| name);
    !name.trim().eq_ignore_ascii_case("content-length")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_the_host_is_sent_as_it_is() {
        for (url, path) in [
            ("http://h?x=1", "/?x=1"),
            ("http://h/a#b", "/a#b"),
            ("http://h#b", "/#b"),
            ("http://h/a|b^{}\"<>%zz", "/a|b^{}\"<>%zz"),
            ("HTTP://h/ä", "/ä"),
            ("http://user:pass@h:80/@", "/@"),
        ] {
            assert_eq!(Url::parse(url).unwrap().path(), path, "{url}");
        }
    }

    #[test]
    fn ports_are_checked() {
        for text in ["99999", "65536", "0", "", "80a", "-1", "+80", "80:80"] {
            let error = Url::parse(&format!("http://127.0.0.1:{text}/")).unwrap_err();
            assert!(error.contains("is not a port; write a number from 1 to 65535"), "{text}: {error}");
        }
        assert_eq!(Url::parse("http://[::1]:65535/").unwrap().port(), 65_535);
    }

    #[test]
    fn a_length_without_a_body_is_not_sent() {
        let request = Url::parse("http://h/").unwrap().request(&["Content-Length: 5".into(), "X: y".into()]);
        assert_eq!(request, "GET / HTTP/1.1\r\nHost: h\r\nX: y\r\n\r\n");
    }

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
        assert_eq!((url.host.as_str(), url.port(), url.path.as_str()), ("::1", 80, "/"));
        assert_eq!(url.given_port(), None);
        assert_eq!(url.request(&[]), "GET / HTTP/1.1\r\nHost: [::1]\r\n\r\n");
        let url = Url::parse("https://localhost/").unwrap();
        assert_eq!((url.scheme(), url.port(), url.given_port()), ("https", 443, None));
    }

    #[test]
    fn a_port_with_leading_zeros_is_given() {
        let url = Url::parse("http://h:080/").unwrap();
        assert_eq!((url.port(), url.given_port(), url.authority()), (80, Some(80), "h:080"));
    }

    #[test]
    fn invalid_urls_are_refused() {
        for text in [
            "",
            "localhost",
            "localhost:80",
            "/path",
            "ftp://localhost/",
            "http://",
            "http:///a",
            "http://:80/",
            "http://a b/",
            "http://a/b c",
            "http://[::1/",
            "http://[x]/",
            "http://[::1]x/",
            "http://a/\r\n",
        ] {
            assert!(Url::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_refused_connection_is_reported() {
        let error = format!("{:#}", Url::parse("http://127.0.0.1:1/").unwrap().connectable_address().unwrap_err());
        assert!(error.contains("unable to connect to 127.0.0.1:1") && error.contains("refused"), "{error}");
    }
}
