//! A connection over hyper: what [`crate::codec`] does with `common`'s codec.

use std::borrow::Cow;
use std::sync::Arc;

use common::http::{Method, Persistence, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body as _, Bytes, Incoming};
use hyper::ext::ReasonPhrase;
use hyper::header::{CONNECTION, HeaderName};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use smol_str::{SmolStr, format_smolstr};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;

use crate::guard::{Exchange, Guard};
use crate::shared::Shared;

/// Serves one connection until it ends; `handle` answers its requests.
///
/// Not an `async fn`: each of 10,000 tasks would keep room for the arguments, besides what was made of them.
pub(crate) fn serve<Handle, Answer>(
    stream: TcpStream,
    permit: OwnedSemaphorePermit,
    shared: &'static Shared,
    handle: Handle,
) -> impl Future<Output = hyper::Result<()>>
where
    Handle: Fn(Request, &'static Shared) -> Answer + Copy,
    Answer: Future<Output = Response>,
{
    let held = (permit, shared.counters.open());
    let exchange = Arc::new(Exchange::default());
    let guard = Guard::new(stream, shared, exchange.clone());
    let mut connection = http1::Builder::new()
        .half_close(true)
        .title_case_headers(true)
        // The guard keeps all deadlines.
        .header_read_timeout(None)
        .serve_connection(guard, service_fn(move |request| answer(request, exchange.clone(), shared, handle)));
    async move {
        let _held = &held;
        tokio::select! {
            result = &mut connection => return result,
            // This only wakes the guard: it ends the input if no request is in hand.
            () = shared.draining.cancelled() => {}
        }
        // Not moved: the task would have room for two.
        (&mut connection).await
    }
}

/// Translates between hyper and `handle`. Not async up to the body: a future keeps its arguments, and nothing of
/// hyper's request shall be left while it is handled.
fn answer<Handle, Answer>(
    request: hyper::Request<Incoming>,
    exchange: Arc<Exchange>,
    shared: &'static Shared,
    handle: Handle,
) -> impl Future<Output = hyper::Result<hyper::Response<Full<Bytes>>>>
where
    Handle: Fn(Request, &'static Shared) -> Answer,
    Answer: Future<Output = Response>,
{
    let mut translated = Request {
        method: Method::from_token(request.method().as_str().as_bytes()),
        target: target(request.uri()),
        persistence: persistence(request.headers().get(CONNECTION)),
        body: Vec::new(),
    };
    let body = request.into_body();
    let has_body = !body.is_end_stream();
    let body = has_body.then(|| Box::pin(collect(body)));
    async move {
        if let Some(body) = body {
            translated.body = body.await?;
        }
        let mut response = match exchange.take_reject() {
            Some(reject) => reject.into(),
            None => handle(translated, shared).await,
        };
        if shared.draining.is_cancelled() {
            response.persistence = Persistence::Close;
        }
        exchange.answer(response.status);
        Ok(translate(response))
    }
}

/// The whole body, whose length the guard has said. What has come is copied, so that hyper has its buffer back.
async fn collect(mut body: Incoming) -> hyper::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(body.size_hint().exact().unwrap_or_default() as usize);
    while let Some(frame) = body.frame().await {
        bytes.extend_from_slice(frame?.data_ref().map_or(&[], |data| data));
    }
    Ok(bytes)
}

/// The path and query, as the guard has written them.
fn target(uri: &hyper::Uri) -> SmolStr {
    match uri.query() {
        Some(query) => format_smolstr!("{}?{query}", uri.path()),
        None => uri.path().into(),
    }
}

fn persistence(connection: Option<&hyper::header::HeaderValue>) -> Persistence {
    match connection.map(|value| value.as_bytes()) {
        Some(b"close") => Persistence::Close,
        Some(b"keep-alive") => Persistence::KeepAliveSaid,
        _ => Persistence::KeepAlive,
    }
}

fn translate(response: Response) -> hyper::Response<Full<Bytes>> {
    let mut translated = hyper::Response::new(Full::default());
    if let Ok(status) = hyper::StatusCode::from_u16(response.status.code()) {
        *translated.status_mut() = status;
        if status.canonical_reason() != Some(response.status.reason()) {
            translated.extensions_mut().insert(ReasonPhrase::from_static(response.status.reason().as_bytes()));
        }
    }
    // hyper keeps the map for the next request. Unasked, it would have room for twice the usual three fields.
    translated.headers_mut().reserve(3);
    for (name, value) in response.fields().into_iter().flatten() {
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), value.to_string().try_into()) {
            translated.headers_mut().append(name, value);
        }
    }
    if response.sends_body() {
        *translated.body_mut() = Full::new(match response.body {
            Cow::Borrowed(body) => Bytes::from_static(body),
            Cow::Owned(body) => Bytes::from(body),
        });
    }
    translated
}
