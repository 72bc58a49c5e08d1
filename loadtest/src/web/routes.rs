//! What the page asks, and what it gets.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use axum::body::Bytes;
use axum::extract::{Path as UrlPath, Query, State};
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router, middleware};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use report::compare::Comparison;
use report::{csv, html};
use results::event::{Event, Timed};
use results::file::{self, Source};
use results::replay;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::task::spawn_blocking;
use tower_http::services::ServeDir;

use super::access::{self, Access};
use super::child::{Job, Runner};
use super::keep::{Keep, Kept};
use super::order::{Bounds, Order};
use super::plan::{self, Need};
use super::stream;

const PAGE: &str = include_str!("page/index.html");
const STYLE: &str = include_str!("page/live.css");
/// The scripts in the order in which the page loads them.
const SCRIPTS: [(&str, &str); 8] = [
    ("format.js", include_str!("page/format.js")),
    ("dots.js", include_str!("page/dots.js")),
    ("watch.js", include_str!("page/watch.js")),
    ("replay.js", include_str!("page/replay.js")),
    ("play.js", include_str!("page/play.js")),
    ("plan.js", include_str!("page/plan.js")),
    ("claims.js", include_str!("page/claims.js")),
    ("live.js", include_str!("page/live.js")),
];
/// What of the page its own style and scripts replace in a file.
const LINKS: &str = "<!-- links -->";
/// How many times the charts of a replay in a file change at most.
const MAX_FRAMES: usize = 40;

/// Everything that the page is about.
#[derive(Debug)]
pub(crate) struct Site {
    /// The runs.
    pub(crate) keep: Arc<Keep>,
    /// What runs them; `None` if the page only replays.
    pub(crate) runner: Option<Runner>,
    /// What may be ordered.
    pub(crate) bounds: Bounds,
}

/// What the page needs to know first.
#[derive(Debug, Serialize)]
struct About<'a> {
    bounds: &'a Bounds,
    needs_token: bool,
    can_start: bool,
}

type Shared = State<Arc<Site>>;

/// The page, and what it asks for. The files of `out` are beside it.
pub(crate) fn router(site: Arc<Site>, access: Arc<Access>, out: Option<&Path>) -> Router {
    let needs_token = access.needs_token();
    let about = move |State(site): Shared| async move {
        Json(About { bounds: &site.bounds, needs_token, can_start: site.runner.is_some() }).into_response()
    };
    let router = Router::new()
        .route("/", get(Html(page())))
        .route("/page/{file}", get(page_file))
        .route("/api/about", get(about))
        .route("/api/events", get(events))
        .route("/api/runs", post(order))
        .route("/api/runs/{id}/stop", post(stop))
        .route("/api/runs/{id}/charts", get(charts))
        .route("/api/compare", get(compare))
        .route("/api/plan", get(plan))
        .route("/api/claims", get(claims).post(check_claims))
        .route("/runs/{id}/{file}", get(download))
        .with_state(site);
    let router = match out {
        Some(out) => router.fallback_service(ServeDir::new(out)),
        None => router,
    };
    router.layer(middleware::from_fn_with_state(access, access::check))
}

/// The page with links to its style and scripts.
fn page() -> String {
    let scripts = SCRIPTS.map(|(name, _)| format!("<script defer src=\"/page/{name}\"></script>\n"));
    PAGE.replace(LINKS, &format!("<link rel=\"stylesheet\" href=\"/page/live.css\">\n{}", scripts.concat()))
}

fn style() -> String {
    format!("{}{STYLE}", html::STYLE)
}

async fn page_file(UrlPath(file): UrlPath<String>) -> Response {
    if file == "live.css" {
        return ([(CONTENT_TYPE, "text/css; charset=utf-8")], style()).into_response();
    }
    match SCRIPTS.iter().find(|(name, _)| *name == file) {
        Some((_, script)) => ([(CONTENT_TYPE, "text/javascript; charset=utf-8")], *script).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

#[derive(Deserialize)]
struct Followed {
    run: Option<u32>,
}

async fn events(State(site): Shared, Query(followed): Query<Followed>, headers: HeaderMap) -> Response {
    let seen = headers.get("last-event-id").and_then(|id| id.to_str().ok()?.parse().ok()).unwrap_or(0);
    let kept = followed.run.and_then(|id| site.keep.run(id));
    if followed.run.is_some() && kept.is_none() {
        return no_such_run();
    }
    stream::follow(site.keep.clone(), kept, seen).into_response()
}

async fn order(State(site): Shared, body: Bytes) -> Response {
    let order: Order = match serde_json::from_slice(&body) {
        Ok(order) => order,
        Err(error) => return refused(&error.to_string()),
    };
    let mut arguments = match site.bounds.arguments(&order) {
        Ok(arguments) => arguments,
        Err(why) => return refused(&why.to_string()),
    };
    arguments.splice(0..0, ["--events".into(), "-".into()]);
    begin(&site, Job::new(order.targets, order.connections, arguments).with_fault(order.fault))
}

fn begin(site: &Site, job: Job) -> Response {
    let Some(runner) = &site.runner else { return refused("this page only replays") };
    match runner.order(job) {
        Ok(id) => (StatusCode::ACCEPTED, Json(serde_json::json!({ "id": id }))).into_response(),
        Err(why) => refused(&format!("{why:#}")),
    }
}

async fn stop(State(site): Shared, UrlPath(id): UrlPath<u32>) -> Response {
    let Some(runner) = &site.runner else { return refused("this page only replays") };
    runner.stop(id);
    StatusCode::NO_CONTENT.into_response()
}

#[derive(Deserialize)]
struct Until {
    until: Option<f64>,
}

async fn charts(State(site): Shared, UrlPath(id): UrlPath<u32>, Query(Until { until }): Query<Until>) -> Response {
    let Some(kept) = site.keep.run(id) else { return no_such_run() };
    let charts = kept.results_until(until.unwrap_or(f64::INFINITY)).and_then(|results| html::live_charts(&results));
    answer(charts.map(|charts| Html(charts).into_response()))
}

#[derive(Deserialize)]
struct Pair {
    one: u32,
    other: u32,
}

async fn compare(State(site): Shared, Query(Pair { one, other }): Query<Pair>) -> Response {
    let (Some(first), Some(second)) = (site.keep.run(one), site.keep.run(other)) else { return no_such_run() };
    let source = |id: u32, kept: &Kept| -> Result<Source> {
        Ok(Source { name: format!("run {id}"), results: kept.finished()?, is_list: true })
    };
    let compared = source(one, &first)
        .and_then(|one| Ok([one, source(other, &second)?]))
        .and_then(|sources| Comparison::new(&sources))
        .map(|comparison| Html(html::comparison(&comparison)).into_response());
    // Two runs with nothing in common are no fault of the page.
    compared.unwrap_or_else(|why| refused(format!("{why:#}").split(". Print each").next().unwrap_or_default()))
}

async fn plan(State(site): Shared, Query(need): Query<Need>) -> Response {
    let answered = spawn_blocking(move || plan::answer(need, &site.keep.results())).await;
    match answered.map_err(anyhow::Error::from).flatten() {
        Ok(answer) => ([(CONTENT_TYPE, "application/json")], answer).into_response(),
        Err(why) => refused(&format!("{why:#}")),
    }
}

/// Where `claims` writes what it has so far.
fn claims_file(site: &Site) -> PathBuf {
    site.keep.out().join("claims.json")
}

async fn claims(State(site): Shared) -> Response {
    let Ok(content) = fs::read(claims_file(&site)) else {
        return StatusCode::NO_CONTENT.into_response();
    };
    let judgement = serde_json::from_slice(&content).context("claims.json is not what loadtest claims writes");
    answer(judgement.map(|judgement| Html(html::claims_part(&judgement)).into_response()))
}

async fn check_claims(State(site): Shared) -> Response {
    let file = claims_file(&site).to_string_lossy().into_owned();
    let arguments = ["claims", "--quick", "--json", &file].map(String::from).to_vec();
    begin(&site, Job::new(Vec::new(), 0, arguments))
}

async fn download(State(site): Shared, UrlPath((id, name)): UrlPath<(u32, String)>) -> Response {
    let Some(kept) = site.keep.run(id) else { return no_such_run() };
    let content = || -> Result<Option<(&str, Vec<u8>)>> {
        Ok(Some(match name.as_str() {
            "results.json" => ("application/json", file::to_json(&kept.finished()?, true)?),
            "results.csv" => ("text/csv; charset=utf-8", csv::runs(&kept.finished()?)?),
            "report.html" => ("text/html; charset=utf-8", html::page(&kept.finished()?)?.into_bytes()),
            "run.jsonl" => ("application/jsonl", (kept.lines_from(0)?.0.join("\n") + "\n").into_bytes()),
            "replay.html" => ("text/html; charset=utf-8", replay_page(&kept)?.into_bytes()),
            _ => return Ok(None),
        }))
    };
    answer(content().map(|content| match content {
        // The report is for reading here; the rest is for keeping.
        Some((kind, content)) if name == "report.html" => ([(CONTENT_TYPE, kind)], content).into_response(),
        Some((kind, content)) => {
            let disposition = format!("attachment; filename=\"run-{id}-{name}\"");
            ([(CONTENT_TYPE, kind.to_owned()), (CONTENT_DISPOSITION, disposition)], content).into_response()
        }
        None => StatusCode::NOT_FOUND.into_response(),
    }))
}

fn answer(response: Result<Response>) -> Response {
    response.unwrap_or_else(|error| (StatusCode::NOT_FOUND, format!("{error:#}")).into_response())
}

fn no_such_run() -> Response {
    (StatusCode::NOT_FOUND, "there is no such run").into_response()
}

fn refused(why: &str) -> Response {
    (StatusCode::BAD_REQUEST, why.to_owned()).into_response()
}

/// What a replay in a file has in it.
#[derive(Serialize)]
struct Recording {
    events: Vec<Timed>,
    frames: Vec<Frame>,
}

/// The charts from a moment on.
#[derive(Serialize)]
struct Frame {
    at_s: f64,
    charts: String,
}

/// A run as one HTML file that needs neither a server nor a network.
///
/// # Errors
/// The run cannot be read, or a chart cannot be drawn.
pub(crate) fn replay_page(kept: &Kept) -> Result<String> {
    let mut events = kept.events()?;
    let end_s = events.last().context("the run has no events")?.at_s;
    let frame = |index: usize| {
        let at_s = end_s * index as f64 / MAX_FRAMES as f64;
        Ok(Frame { at_s, charts: html::live_charts(&replay::results_until(&events, at_s))? })
    };
    let frames = (1..=MAX_FRAMES).map(frame).collect::<Result<Vec<_>>>()?;
    // Most of an event's bytes, and nothing of the page shows them.
    for timed in &mut events {
        if let Event::Finished(result) = &mut timed.event {
            result.histograms = None;
        }
    }
    // In a script, only `<` can end the data.
    let recording = serde_json::to_string(&Recording { events, frames })?.replace('<', "\\u003c");
    let script = SCRIPTS.map(|(_, script)| script).concat();
    let hash = BASE64_STANDARD.encode(Sha256::digest(&script));
    let policy = format!("default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'sha256-{hash}'");
    let links = format!(
        "<meta http-equiv=\"Content-Security-Policy\" content=\"{policy}\">\n<style>{}</style>\n\
         <script type=\"application/json\" id=\"recording\">{recording}</script>\n",
        style()
    );
    let page = PAGE.replace(LINKS, &links);
    Ok(page.replace("</body>", &format!("<script>{script}</script>\n</body>")))
}
