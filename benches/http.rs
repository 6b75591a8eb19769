//! A hit, a miss and the handler that they stand for, in process and in one run. See the README beside this file.

use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};

#[path = "cases/http.rs"]
mod cases;

fn http(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("http");
    for case in &cases::CASES {
        let mut serving = (case.build)();
        group.bench_function(case.name, |bencher| {
            bencher.iter_custom(|count| {
                let start = Instant::now();
                (serving.run)(count);
                start.elapsed()
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(40)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(2));
    targets = http
}
criterion_main!(benches);
