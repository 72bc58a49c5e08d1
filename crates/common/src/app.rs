//! The application: a pure function from a request to a plan, so that each server may wait in its own way.

use std::borrow::Cow;
use std::hint::black_box;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

use crate::http::{Method, Request, Response, Status};

/// The longest wait that `?wait=` may ask for.
pub const MAX_WAIT: Duration = Duration::from_secs(60);
/// The longest burn that `?for=` may ask for.
pub const MAX_BURN: Duration = Duration::from_secs(10);
/// What `/cpu` burns by default.
const DEFAULT_BURN: Duration = Duration::from_millis(20);
/// What one `POST /chaos/leak` leaks, in bytes.
const LEAK_BYTES: usize = 1 << 20;

/// The person that is found if nobody else is asked for.
const FIRST_ID: i32 = 1;

/// The row that every query of the simulated database finds, and a real one for the first id.
const ROW: &[u8] = b"{\"id\":1,\"name\":\"Ada Lovelace\",\"born\":1815}\n";

/// What to do for a request: the work first, then the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// What must be done before the answer is sent.
    pub work: Work,
    /// The answer.
    pub response: Response,
}

/// What a request has to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Nothing: answer at once.
    Nothing,
    /// One query of the database, which takes this long, or as long as the database draws.
    Query(Option<Duration>, Query),
    /// This much time on a CPU.
    Burn(Duration),
    /// A fault.
    Chaos(Chaos),
}

/// What a real database is asked. The simulated one finds the same row each time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Query {
    /// The person with this id.
    Find(i32),
    /// To keep the body of the answer, and to give it back.
    Insert,
}

/// The faults that `--allow-chaos` lets a client cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chaos {
    /// A panic in the handler.
    Panic,
    /// `abort`: the process dies of SIGABRT.
    Abort,
    /// The process dies of SIGSEGV.
    Segv,
    /// A mebibyte is never freed.
    Leak,
}

/// Plans the answer to `request`.
pub fn plan(request: Request, allow_chaos: bool) -> Plan {
    let persistence = request.persistence;
    let head_only = request.method == Method::Head;
    let mut plan = route(request, allow_chaos);
    plan.response.persistence = persistence;
    plan.response.head_only = head_only;
    plan
}

fn route(request: Request, allow_chaos: bool) -> Plan {
    let target = request.target;
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    match (request.method, path) {
        (Method::Unknown, _) => now(Response::text(Status::NotImplemented, "no such method")),
        (Method::Get | Method::Head, "/") => with_duration(query, "wait", MAX_WAIT, |wait| Plan {
            work: Work::Query(wait, Query::Find(id(query))),
            response: Response::new(Status::Ok, "application/json", ROW),
        }),
        (Method::Post, "/") => with_duration(query, "wait", MAX_WAIT, |wait| Plan {
            work: Work::Query(wait, Query::Insert),
            response: Response::new(Status::Ok, "application/octet-stream", Cow::Owned(request.body)),
        }),
        (Method::Get | Method::Head, "/health") => now(Response::new(Status::Ok, "text/plain", &b"ok\n"[..])),
        (Method::Get | Method::Head, "/cpu") => with_duration(query, "for", MAX_BURN, |burn| Plan {
            work: Work::Burn(burn.unwrap_or(DEFAULT_BURN)),
            response: Response::new(Status::Ok, "text/plain", &b"burnt\n"[..]),
        }),
        (Method::Get | Method::Head, path) if delay(path).is_some() => Plan {
            work: Work::Query(delay(path), Query::Find(FIRST_ID)),
            response: Response::new(Status::Ok, "application/json", ROW),
        },
        (method, path) => match (method, allowed(path, allow_chaos)) {
            (_, None) => now(Response::text(Status::NotFound, "no such path")),
            (Method::Options, Some(allow)) => now(empty(allow)),
            (Method::Post, Some(_)) if allow_chaos => chaos(path),
            (_, Some(allow)) => {
                let mut response = Response::text(Status::MethodNotAllowed, "see Allow");
                response.allow = Some(allow);
                now(response)
            }
        },
    }
}

/// The methods that a path knows, for the Allow field (RFC 9110 §10.2.1).
fn allowed(path: &str, allow_chaos: bool) -> Option<&'static str> {
    match path {
        "*" => Some("GET, HEAD, POST, OPTIONS"),
        "/" => Some("GET, HEAD, POST, OPTIONS"),
        "/health" | "/cpu" => Some("GET, HEAD, OPTIONS"),
        path if delay(path).is_some() => Some("GET, HEAD, OPTIONS"),
        "/chaos/panic" | "/chaos/abort" | "/chaos/segv" | "/chaos/leak" if allow_chaos => Some("POST, OPTIONS"),
        _ => None,
    }
}

/// The wait that `/delay/{ms}` asks for, the route of HttpArena; `None` for another path. It is capped as `?wait=` is.
fn delay(path: &str) -> Option<Duration> {
    let millis = path.strip_prefix("/delay/")?;
    let is_number = !millis.is_empty() && millis.bytes().all(|byte| byte.is_ascii_digit());
    // What is too large a number is above the cap, too.
    is_number.then(|| Duration::from_millis(millis.parse().unwrap_or(u64::MAX)).min(MAX_WAIT))
}

fn now(response: Response) -> Plan {
    Plan { work: Work::Nothing, response }
}

fn empty(allow: &'static str) -> Response {
    let mut response = Response::new(Status::NoContent, "text/plain", &b""[..]);
    response.allow = Some(allow);
    response
}

fn chaos(path: &str) -> Plan {
    let chaos = match path {
        "/chaos/panic" => Chaos::Panic,
        "/chaos/abort" => Chaos::Abort,
        "/chaos/segv" => Chaos::Segv,
        _ => Chaos::Leak,
    };
    Plan { work: Work::Chaos(chaos), response: Response::new(Status::Ok, "text/plain", &b"done\n"[..]) }
}

/// The id that `?id=` asks for; what is no id is one that nobody has.
fn id(query: &str) -> i32 {
    let value = query.split('&').find_map(|pair| pair.strip_prefix("id="));
    value.map_or(FIRST_ID, |value| value.parse().unwrap_or(0))
}

/// The plan for the duration that the query string gives to `name`, which is capped at `max`; 400 if it is none.
fn with_duration(query: &str, name: &str, max: Duration, plan: impl FnOnce(Option<Duration>) -> Plan) -> Plan {
    let value = query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    match value.map(quantity::duration).transpose() {
        Ok(duration) => plan(duration.map(|duration| duration.min(max))),
        Err(_) => now(Response::text(Status::BadRequest, "not a duration: write 250ms or 2s")),
    }
}

/// Uses a CPU for `duration`. Time in which others had it does not count.
pub fn burn(duration: Duration) {
    // Reading this clock is a system call: nothing costs nothing.
    if duration.is_zero() {
        return;
    }
    // Every Linux has this clock.
    let used = || clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::MAX, Duration::from);
    let start = used();
    let mut state = 1_u64;
    while used().saturating_sub(start) < duration {
        for _ in 0..1_000 {
            state = black_box(state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
        }
    }
}

impl Chaos {
    /// Causes the fault. Only a leak returns.
    #[expect(clippy::panic, reason = "that is what was asked for")]
    pub fn strike(self) {
        match self {
            Chaos::Panic => panic!("a client asked for a panic (--allow-chaos)"),
            Chaos::Abort => std::process::abort(),
            // Whether it is handled or ignored: as the kernel does it.
            Chaos::Segv => {
                let _ = signal_hook::low_level::emulate_default_handler(signal_hook::consts::SIGSEGV);
                std::process::abort()
            }
            Chaos::Leak => {
                // Without it, the compiler sees that nobody reads the leak, and leaks nothing.
                black_box(vec![1_u8; LEAK_BYTES].leak());
            }
        }
    }
}
