//! Requests that follow each other, as a [`RequestSource`](crate::RequestSource) may return them at once.

use anyhow::{Result, bail};
use common::http::Limits;
use common::http::body::{BodyDecoder, Framing};

/// The most fields of a request.
const MAX_FIELDS: usize = 256;

/// Counts the requests in these bytes.
///
/// # Errors
/// They are not a sequence of whole requests, or there is none.
pub fn count_requests(mut bytes: &[u8]) -> Result<u64> {
    let mut count = 0;
    while !bytes.is_empty() {
        let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
        let mut request = httparse::Request::new(&mut fields);
        let head_bytes = match request.parse(bytes) {
            Ok(httparse::Status::Complete(head_bytes)) => head_bytes,
            Ok(httparse::Status::Partial) => bail!("request number {} is incomplete", count + 1),
            Err(error) => bail!("request number {} is malformed: {error}", count + 1),
        };
        let body = bytes.get(head_bytes..).unwrap_or_default();
        let Some(rest) = body_bytes(request.headers, body).and_then(|length| body.get(length..)) else {
            bail!("the body of request number {} is incomplete", count + 1);
        };
        bytes = rest;
        count += 1;
    }
    if count == 0 { bail!("the request is empty") } else { Ok(count) }
}

/// How many of these bytes are the body of a request with these fields; `None` if it is not whole.
fn body_bytes(fields: &[httparse::Header<'_>], bytes: &[u8]) -> Option<usize> {
    let value = |name: &str| fields.iter().find(|field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value);
    if value("transfer-encoding").is_some_and(|codings| codings.to_ascii_lowercase().ends_with(b"chunked")) {
        let limits = Limits { max_head_bytes: usize::MAX, max_body_bytes: usize::MAX };
        let mut decoder = BodyDecoder::new(Framing::Chunked, &limits);
        let used = decoder.decode(bytes, |_| {}).ok()?;
        return decoder.is_done().then_some(used);
    }
    value("content-length").map_or(Some(0), |length| str::from_utf8(length).ok()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_at_once_are_counted() {
        let post = "POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc";
        assert_eq!(count_requests(format!("{post}GET / HTTP/1.1\r\n\r\n{post}").as_bytes()).unwrap(), 3);
        let chunked = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
        assert_eq!(count_requests(format!("{chunked}{post}{chunked}").as_bytes()).unwrap(), 3);
        assert!(count_requests(&chunked.as_bytes()[..chunked.len() - 2]).is_err());
        for broken in ["", "GET / HTTP/1.1\r\n", "hello\r\n\r\n", &post[..post.len() - 1]] {
            assert!(count_requests(broken.as_bytes()).is_err(), "{broken:?}");
        }
    }
}
