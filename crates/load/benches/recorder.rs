//! What it costs to record an answer: the load generator does it for every one.

#[expect(dead_code, reason = "what only the load needs")]
#[path = "../src/recorder.rs"]
mod recorder;

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};

use self::recorder::Recorder;

const THREADS: usize = 2;

fn record(criterion: &mut Criterion) {
    let recorder = Recorder::new(THREADS);
    let mut latency_us = 0;
    criterion.bench_function("record an answer", |bencher| {
        bencher.iter(|| {
            // Latencies of up to a second, in no order.
            latency_us = (latency_us + 777_767) % 1_000_003;
            recorder.record_answered(black_box(7), black_box(latency_us), true);
        });
    });
    criterion.bench_function("the answers so far", |bencher| bencher.iter(|| black_box(recorder.good_answers().len())));
}

criterion_group!(benches, record);
criterion_main!(benches);
