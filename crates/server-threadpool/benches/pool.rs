//! What it costs to hand a request over to a worker, and to hear that it is done.

#[allow(dead_code, unused_imports, reason = "what only the server and its tests need")]
#[path = "../src/jobs.rs"]
mod jobs;
#[expect(dead_code, reason = "what only the server needs")]
#[path = "../src/pool.rs"]
mod pool;
/// A benchmark is compiled as a test, and must not have the twins that tests have.
mod sync {
    pub(crate) use std::sync::{Condvar, Mutex, MutexGuard};
}

use common::app::{Plan, Work};
use common::counters::Counters;
use common::http::Response;
use criterion::{Criterion, criterion_group, criterion_main};
use mio::{Events, Poll, Token, Waker};

use self::pool::Pool;

const WAKER: Token = Token(0);
const MAX_QUEUED: usize = 1024;

fn hand_over(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("there and back");
    for (name, at_once) in [("one request", 1), ("64 requests at once", 64)] {
        let mut poll = Poll::new().unwrap();
        let waker = Waker::new(poll.registry(), WAKER).unwrap();
        let counters: &'static Counters = Box::leak(Box::default());
        let pool = Pool::start(2, MAX_QUEUED, 0, counters, waker, |plan| plan.response).unwrap();
        let mut events = Events::with_capacity(8);
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                for number in 0..at_once {
                    pool.submit(Token(number), Plan { work: Work::Nothing, response: Response::full() }).unwrap();
                }
                let mut done = 0;
                while done < at_once {
                    poll.poll(&mut events, None).unwrap();
                    done += pool.done().len();
                }
            });
        });
    }
    group.finish();
}

criterion_group!(benches, hand_over);
criterion_main!(benches);
