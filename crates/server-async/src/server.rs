//! A task accepts; every connection has a task, which awaits.

use std::borrow::Cow;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::thread;

use anyhow::{Context as _, Result};
use common::admin::Admin;
use common::app::{self, Plan, Work};
use common::config::{Config, Overload};
use common::counters::Counters;
use common::db::Database;
use common::http::{Method, Persistence, Request, Response};
use common::limits;
use common::listener::{self, AcceptError};
use common::log;
use common::shutdown::Shutdown;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body as _, Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use smol_str::{SmolStr, format_smolstr};
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{consume_budget, spawn_blocking};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::codec::Connection;
use crate::guard::{Exchange, Guard};
use crate::{Cli, Http};

/// The most connections that linger at once after a 503; beyond it they are closed at once.
const MAX_REFUSALS: usize = 1024;

/// What all tasks share. It lives as long as the process.
pub(crate) struct Shared {
    pub(crate) config: Config,
    http: Http,
    database: Database,
    pub(crate) counters: Counters,
    /// A permit for each connection that there may be.
    room: Arc<Semaphore>,
    refusals: Arc<Semaphore>,
    tasks: TaskTracker,
    draining: CancellationToken,
}

/// Starts the server, and runs it until it is told to stop.
pub(crate) fn run(cli: &Cli) -> Result<()> {
    let config = cli.config.clone();
    let max_connections = limits::max_connections(config.max_connections, &[limits::descriptors()?])?;
    let shutdown = Shutdown::install()?;
    let listener = listener::bind("--listen", config.listen, config.backlog)?;
    let address = listener.local_addr()?;
    listener.set_nonblocking(true)?;
    let admin = Admin::bind(&config, env!("CARGO_BIN_NAME"), max_connections)?;
    let admin_address = admin.as_ref().map(Admin::local_addr).transpose()?;
    let shared: &'static Shared = Box::leak(Box::new(Shared {
        database: config.database(),
        config,
        http: cli.http,
        counters: Counters::default(),
        room: Arc::new(Semaphore::new(max_connections)),
        refusals: Arc::new(Semaphore::new(MAX_REFUSALS)),
        tasks: TaskTracker::new(),
        draining: CancellationToken::new(),
    }));
    if let Some(admin) = admin {
        thread::Builder::new().spawn(|| admin.run(&shared.counters)).context("no thread for --admin")?;
    }
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    if let Some(threads) = cli.threads {
        limits::check_threads("--threads", threads)?;
        runtime.worker_threads(threads);
    }
    let runtime = runtime.enable_io().enable_time().build().context("the runtime could not be started")?;
    runtime.block_on(async {
        let listener = TcpListener::from_std(listener)?;
        let shutdown = UnixStream::from_std(shutdown.into_stream())?;
        listener::announce(address, admin_address);
        accept(&listener, &shutdown, shared).await;
        drain(listener, shared).await;
        anyhow::Ok(())
    })?;
    // A burn that runs on the blocking pool must not hold up the exit.
    runtime.shutdown_background();
    Ok(())
}

/// Accepts connections, each for a task of its own, until the server is told to stop.
async fn accept(listener: &TcpListener, shutdown: &UnixStream, shared: &'static Shared) {
    loop {
        let accepted = tokio::select! {
            _ = shutdown.readable() => return,
            accepted = accept_one(listener, shared) => accepted,
        };
        match accepted {
            Ok((stream, Some(permit))) => {
                // It fails only on a connection that has failed, which shows soon.
                let _ = stream.set_nodelay(true);
                // The connection may fail: that is the end of it, and of nothing else.
                match shared.http {
                    Http::Hyper => drop(shared.tasks.spawn(serve_hyper(stream, permit, shared))),
                    Http::Codec => drop(shared.tasks.spawn(serve(stream, permit, shared))),
                }
            }
            Ok((stream, None)) => refuse(stream, shared),
            Err(error) => {
                if AcceptError::of(&error) == AcceptError::Exhausted {
                    sleep(listener::EXHAUSTED_PAUSE).await;
                }
            }
        }
    }
}

/// Accepts one connection, with a permit if there is room for it.
async fn accept_one(listener: &TcpListener, shared: &Shared) -> io::Result<(TcpStream, Option<OwnedSemaphorePermit>)> {
    // Backpressure: when full, the next connection gets a 503, or stays in the backlog.
    let permit = match shared.config.overload {
        Overload::Wait => shared.room.clone().acquire_owned().await.ok(),
        Overload::Reject => None,
    };
    let (stream, _) = listener.accept().await?;
    Ok((stream, permit.or_else(|| shared.room.clone().try_acquire_owned().ok())))
}

fn refuse(stream: TcpStream, shared: &'static Shared) {
    shared.counters.refuse();
    // A new socket has room for it. tokio does not know that yet, and would have us wait.
    let is_sent = SockRef::from(&stream).send(&Response::full().encode()).is_ok();
    if let (true, Ok(permit)) = (is_sent, shared.refusals.clone().try_acquire_owned()) {
        shared.tasks.spawn(async move {
            let _permit = permit;
            Connection::new(stream, shared).linger().await
        });
    }
}

/// Serves one connection until it ends.
///
/// Not an `async fn`: each of 10,000 tasks would keep room for the arguments, besides what was made of them.
fn serve(
    stream: TcpStream,
    permit: OwnedSemaphorePermit,
    shared: &'static Shared,
) -> impl Future<Output = io::Result<()>> {
    let held = (permit, shared.counters.open());
    let mut connection = Connection::new(stream, shared);
    async move {
        // Only mentioned, so that the task has it until its end.
        let _held = &held;
        let mut draining = pin!(shared.draining.cancelled());
        // Not `while let`, which would keep room for what it has matched.
        loop {
            let Some(request) = connection.read(draining.as_mut()).await? else { return Ok(()) };
            // A client that sends without pause never makes us wait: others want their turn.
            consume_budget().await;
            let mut response = handle(request, shared).await;
            if shared.draining.is_cancelled() {
                response.persistence = Persistence::Close;
            }
            connection.write(&response).await?;
            if response.persistence == Persistence::Close {
                return Box::pin(connection.linger()).await;
            }
        }
    }
}

/// Serves one connection until it ends; hyper speaks HTTP. Not an `async fn`: see [`serve`].
fn serve_hyper(
    stream: TcpStream,
    permit: OwnedSemaphorePermit,
    shared: &'static Shared,
) -> impl Future<Output = hyper::Result<()>> {
    let held = (permit, shared.counters.open());
    let exchange = Arc::new(Exchange::default());
    let guard = Guard::new(stream, &shared.config, &shared.counters, exchange.clone());
    let mut connection = http1::Builder::new()
        .half_close(true)
        .title_case_headers(true)
        // The guard keeps all deadlines.
        .header_read_timeout(None)
        .serve_connection(guard, service_fn(move |request| answer(request, exchange.clone(), shared)));
    async move {
        let _held = &held;
        tokio::select! {
            result = &mut connection => return result,
            () = shared.draining.cancelled() => {}
        }
        Pin::new(&mut connection).graceful_shutdown();
        // Not moved: the task would have room for two.
        (&mut connection).await
    }
}

/// Translates between hyper and [`handle`]. Not async up to the body: a future keeps its arguments, and nothing of
/// hyper's request shall be left while it is handled.
fn answer(
    request: hyper::Request<Incoming>,
    exchange: Arc<Exchange>,
    shared: &'static Shared,
) -> impl Future<Output = hyper::Result<hyper::Response<Full<Bytes>>>> {
    let mut translated = Request {
        method: Method::from_token(request.method().as_str().as_bytes()),
        target: target(request.uri()),
        // hyper knows whether the connection persists, and says so.
        persistence: Persistence::KeepAlive,
        body: Vec::new(),
    };
    let body = request.into_body();
    let has_body = !body.is_end_stream();
    let body = has_body.then(|| Box::pin(body.collect()));
    async move {
        if let Some(body) = body {
            match (body.await, exchange.body_verdict.get()) {
                (Ok(body), _) => translated.body = body.to_bytes().into(),
                (Err(_), Some(&reject)) => {
                    exchange.answer(reject.status, None);
                    return Ok(translate(reject.into()));
                }
                (Err(error), None) => return Err(error),
            }
        }
        let request_start = Instant::now();
        let response = handle(translated, shared).await;
        exchange.answer(response.status, Some(request_start));
        Ok(translate(response))
    }
}

/// The path and query. `Uri` keeps a path that is empty, as `http://a?b` has it, empty.
fn target(uri: &hyper::Uri) -> SmolStr {
    match uri.query() {
        Some(query) => format_smolstr!("{}?{query}", uri.path()),
        None => uri.path().into(),
    }
}

fn translate(response: Response) -> hyper::Response<Full<Bytes>> {
    let mut translated = hyper::Response::new(Full::default());
    if let Ok(status) = hyper::StatusCode::from_u16(response.status.code()) {
        *translated.status_mut() = status;
    }
    // hyper keeps the map for the next request. Unasked, it would have room for twice the usual three fields.
    translated.headers_mut().reserve(3);
    for (name, value) in response.fields().into_iter().flatten() {
        if let (Ok(name), Ok(value)) = (name.parse::<hyper::header::HeaderName>(), value.to_string().try_into()) {
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

/// Answers one request; the database wait suspends this task. Not an `async fn`: see [`serve`].
fn handle(request: Request, shared: &'static Shared) -> impl Future<Output = Response> {
    let Plan { work, response } = app::plan(request, shared.config.allow_chaos);
    async move {
        match work {
            Work::Nothing => {}
            Work::Query(wait) => {
                let _waiting = shared.counters.wait();
                // Even for a wait of zero, tokio sleeps to the next millisecond. Not `if latency.is_zero()`: what is
                // borrowed has room in the task.
                if let Some(latency) = Some(shared.database.latency(wait)).filter(|latency| !latency.is_zero()) {
                    sleep(latency).await;
                }
            }
            // A burn would keep other tasks off this thread.
            Work::Burn(duration) => spawn_blocking(move || app::burn(duration)).await.unwrap_or_default(),
            Work::Chaos(chaos) => chaos.strike(),
        }
        response
    }
}

/// Stops accepting, ends the silent connections, and waits for the requests in flight.
async fn drain(listener: TcpListener, shared: &Shared) {
    drop(listener);
    shared.counters.drain();
    shared.draining.cancel();
    shared.tasks.close();
    if timeout(shared.config.drain_timeout, shared.tasks.wait()).await.is_err() {
        log::warn!("{} connections were cut off by --drain-timeout", shared.tasks.len());
    }
}
