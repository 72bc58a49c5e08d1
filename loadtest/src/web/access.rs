//! Who may do what: no other site can read or start anything, and beyond loopback starting needs a token.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use axum::extract::{Request, State};
use axum::http::header::{
    AUTHORIZATION, CONTENT_SECURITY_POLICY, HOST, HeaderName, HeaderValue, ORIGIN, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use subtle::ConstantTimeEq as _;

use crate::machine::random;

/// What the page may load: its own files, and nothing in line.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);
/// What a report may load: nothing. Its style is in line.
const REPORT_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; \
     frame-ancestors 'none'",
);
const SAME_ORIGIN: HeaderValue = HeaderValue::from_static("same-origin");

/// What is asked of a request.
#[derive(Debug)]
pub(crate) struct Access {
    /// What starting and stopping needs; `None` on loopback.
    token: Option<String>,
}

impl Access {
    /// The access to a page at this address.
    ///
    /// # Errors
    /// The system gives no random token.
    pub(crate) fn to(address: SocketAddr) -> Result<Self> {
        let token = (!address.ip().is_loopback()).then(random::hex_128).transpose().context("cannot make a token")?;
        Ok(Self { token })
    }

    /// The part of the page's address that has the token. A browser sends it to nobody.
    pub(crate) fn fragment(&self) -> String {
        self.token.as_ref().map_or_else(String::new, |token| format!("#token={token}"))
    }

    /// Whether starting a run needs a token.
    pub(crate) fn needs_token(&self) -> bool {
        self.token.is_some()
    }

    /// Why the request is refused, if it is.
    fn refusal(&self, method: &Method, path: &str, headers: &HeaderMap) -> Option<&'static str> {
        let text = |name: HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or_default());
        let Some(host) = text(HOST).filter(|host| is_address(host)) else {
            return Some("visit this page by an IP address or as localhost: another name may be another site's");
        };
        if text(ORIGIN).is_some_and(|origin| origin != format!("http://{host}")) {
            return Some("the request comes from another site");
        }
        // Another site may link to the page, and to nothing that does or tells something.
        let from = text(HeaderName::from_static("sec-fetch-site")).filter(|from| *from != "none");
        let is_work = ["/api/", "/runs/"].iter().any(|work| path.starts_with(work));
        if (!method.is_safe() || is_work) && from.is_some_and(|from| from != "same-origin") {
            return Some("the request comes from another site");
        }
        let given = text(AUTHORIZATION).and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
        let is_known = |token: &String| bool::from(token.as_bytes().ct_eq(given.as_bytes()));
        if !method.is_safe() && !self.token.as_ref().is_none_or(is_known) {
            return Some("starting and stopping needs the token: open the address that loadtest printed");
        }
        None
    }
}

/// Whether a Host is an address: a name that resolves to here may belong to another site (DNS rebinding).
fn is_address(host: &str) -> bool {
    let without_port = host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()));
    let name = without_port.map_or(host, |(name, _)| name);
    let name = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

/// Refuses what is not allowed, and says in each answer what a browser may do with it.
pub(super) async fn check(State(access): State<Arc<Access>>, request: Request, next: Next) -> Response {
    let is_report = request.uri().path().ends_with(".html");
    let mut response = match access.refusal(request.method(), request.uri().path(), request.headers()) {
        Some(why) => (StatusCode::FORBIDDEN, why).into_response(),
        None => next.run(request).await,
    };
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, if is_report { REPORT_POLICY } else { POLICY });
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(HeaderName::from_static("cross-origin-resource-policy"), SAME_ORIGIN);
    headers.insert(HeaderName::from_static("cross-origin-opener-policy"), SAME_ORIGIN);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(address: &str, method: Method, headers: &[(&'static str, &str)]) -> Option<&'static str> {
        let mut access = Access::to(address.parse().unwrap()).unwrap();
        access.token = access.token.map(|_| "secret".into());
        let headers = headers.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()));
        access.refusal(&method, "/api/runs", &headers.collect())
    }

    #[test]
    fn only_addresses_are_hosts() {
        for host in ["localhost:9000", "127.0.0.1:9000", "[::1]:9000", "192.168.0.7", "LOCALHOST"] {
            assert_eq!(refusal("127.0.0.1:9000", Method::GET, &[("host", host)]), None, "{host}");
        }
        for host in ["evil.example:9000", "localhost.evil.example", "", "127.0.0.1.evil.example:80"] {
            assert!(refusal("127.0.0.1:9000", Method::GET, &[("host", host)]).is_some(), "{host}");
        }
        assert!(refusal("127.0.0.1:9000", Method::GET, &[]).is_some());
    }

    #[test]
    fn another_site_starts_nothing() {
        let host = ("host", "127.0.0.1:9000");
        let post = |header| refusal("127.0.0.1:9000", Method::POST, &[host, header]);
        assert_eq!(post(("origin", "http://127.0.0.1:9000")), None);
        for header in [
            ("origin", "http://evil.example"),
            ("origin", "null"),
            ("origin", "http://127.0.0.1:9001"),
            ("origin", "https://127.0.0.1:9000"),
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
        ] {
            assert!(post(header).is_some(), "{header:?}");
        }
    }

    #[test]
    fn beyond_loopback_starting_needs_the_token() {
        let host = ("host", "192.168.0.7:9000");
        assert_eq!(refusal("0.0.0.0:9000", Method::GET, &[host]), None);
        assert!(refusal("0.0.0.0:9000", Method::POST, &[host]).is_some());
        assert!(refusal("0.0.0.0:9000", Method::POST, &[host, ("authorization", "Bearer secreT")]).is_some());
        assert_eq!(refusal("0.0.0.0:9000", Method::POST, &[host, ("authorization", "Bearer secret")]), None);
        let tokens = [random::hex_128().unwrap(), random::hex_128().unwrap()];
        assert!(tokens[0] != tokens[1] && tokens[0].len() == 32);
    }
}
