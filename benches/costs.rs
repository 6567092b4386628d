//! What the product's own code costs, without a network: the time of each case.

mod cases;

use std::hint::black_box;

use criterion::{criterion_group, criterion_main, Criterion};

fn costs(c: &mut Criterion) {
    for case in cases::all() {
        let mut work = (case.prepare)();
        c.bench_function(case.name, |b| b.iter(|| black_box(work())));
    }
}

criterion_group!(benches, costs);
criterion_main!(benches);
