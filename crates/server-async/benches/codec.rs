//! Our codec beside httparse alone, which it parses with, and beside hyper, which this server has for the same.

use std::convert::Infallible;
use std::hint::black_box;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use common::http::{Decoder, Limits, Response, Status, Step};
use criterion::{Criterion, criterion_group, criterion_main};
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::server::conn::http1;
use hyper::service::service_fn;

const REQUEST: &[u8] = b"GET /?wait=250ms HTTP/1.1\r\n\
    Host: 127.0.0.1:8084\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0)\r\n\
    Accept: text/html,application/json;q=0.9,*/*;q=0.8\r\n\
    Accept-Language: en-GB,en;q=0.5\r\n\
    Accept-Encoding: gzip, deflate, br\r\n\
    Connection: keep-alive\r\n\r\n";
const BODY: &[u8] = b"{\"id\":1,\"name\":\"Ada Lovelace\",\"born\":1815}\n";
const LIMITS: Limits = Limits { max_head_bytes: 16 * 1024, max_body_bytes: 1024 * 1024 };

/// The requests that are left to be read; whatever is written is dropped.
struct Memory(u64);

impl Read for Memory {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, mut buffer: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        if self.0 > 0 {
            self.0 -= 1;
            buffer.put_slice(REQUEST);
        }
        Poll::Ready(Ok(()))
    }
}

impl Write for Memory {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(black_box(bytes).len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// How long hyper takes for so many requests on one connection.
fn serve(requests: u64) -> Duration {
    let answered = std::cell::Cell::new(0);
    let service = service_fn(|_| {
        answered.set(answered.get() + 1);
        async { Ok::<_, Infallible>(hyper::Response::new(Full::new(Bytes::from_static(BODY)))) }
    });
    let start = Instant::now();
    let mut connection =
        pin!(http1::Builder::new().header_read_timeout(None).serve_connection(Memory(requests), service));
    // Nothing waits in here: it is pending only where hyper lets other tasks run.
    let mut context = Context::from_waker(Waker::noop());
    while connection.as_mut().poll(&mut context).is_pending() {}
    assert_eq!(answered.get(), requests);
    start.elapsed()
}

fn parsers(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("request");
    group.bench_function("httparse", |bencher| {
        bencher.iter(|| {
            let mut fields = [httparse::EMPTY_HEADER; 16];
            let mut request = httparse::Request::new(&mut fields);
            assert!(request.parse(black_box(REQUEST)).is_ok_and(|status| status.is_complete()));
            black_box(request.headers.len())
        });
    });
    let mut decoder = Decoder::new(LIMITS);
    group.bench_function("codec", |bencher| bencher.iter(|| decode(&mut decoder)));
    group.finish();
}

fn connections(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("request and answer");
    let mut decoder = Decoder::new(LIMITS);
    group.bench_function("codec", |bencher| {
        bencher.iter(|| {
            decode(&mut decoder);
            black_box(Response::new(Status::Ok, "application/json", BODY).encode())
        });
    });
    group.bench_function("hyper", |bencher| bencher.iter_custom(serve));
    group.finish();
}

fn decode(decoder: &mut Decoder) {
    assert!(matches!(black_box(decoder.decode(black_box(REQUEST))), Ok(Step::Request(_))));
}

criterion_group!(benches, parsers, connections);
criterion_main!(benches);
