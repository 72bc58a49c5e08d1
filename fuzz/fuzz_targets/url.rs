//! Whatever the user gives as a URL: what is accepted is made of the parts that it says, and asks for one request.

#![no_main]

use libfuzzer_sys::fuzz_target;
use load::count_requests;
use load::net::Url;

/// The URL of these parts is the same one.
fn check_parts(url: &Url) {
    let (scheme, authority, path) = (url.scheme(), url.authority(), url.path());
    let again = Url::parse(&format!("{scheme}://{authority}{path}")).expect("made of parts of a URL");
    let parts = |url: &Url| (url.scheme(), url.host().to_owned(), url.port(), url.given_port(), url.path().to_owned());
    assert_eq!(parts(url), parts(&again));
    assert_eq!(url.authority(), again.authority());

    let host = if url.host().contains(':') { format!("[{}]", url.host()) } else { url.host().to_owned() };
    let port = authority.strip_prefix(&host).expect("an authority begins with its host");
    assert_eq!(url.given_port().is_some(), !port.is_empty(), "{authority}");
    let default = if scheme == "https" { 443 } else { 80 };
    assert_eq!(url.port(), port.strip_prefix(':').map_or(default, |port| port.parse().expect("a port")));
    assert!(!url.host().is_empty() && url.port() > 0 && url.path().starts_with('/'));
}

fuzz_target!(|text: &str| {
    let url = match Url::parse(text) {
        Ok(url) => url,
        Err(why) => return assert!(!why.is_empty()),
    };
    assert_eq!(url.as_str(), text);
    check_parts(&url);
    let request = url.request(&[]);
    assert_eq!(request, format!("GET {} HTTP/1.1\r\nHost: {}\r\n\r\n", url.path(), url.authority()));
    assert_eq!(count_requests(request.as_bytes()).ok(), Some(1), "{request}");
});
