//! `Cache` in memory against the engines that it stands on, in one run. See the README beside this file.

use std::{
    sync::Barrier,
    time::{Duration, Instant},
};

use criterion::{Criterion, criterion_group, criterion_main};

#[path = "cases/values.rs"]
mod values;

use larder::MemoryPolicy;
use values::{Run, Verb};

const VERBS: [(&str, Verb); 4] = [
    ("get_shared", Verb::GetShared),
    ("get", Verb::Get),
    ("get_or_load", Verb::GetOrLoad),
    ("put", Verb::Put),
];

const POLICIES: [MemoryPolicy; 3] = [
    MemoryPolicy::S3Fifo,
    MemoryPolicy::TinyLfu,
    MemoryPolicy::Lru,
];

fn one_thread(criterion: &mut Criterion) {
    for keys in [1_000, 100_000] {
        for (verb_name, verb) in VERBS {
            let name = format!("{verb_name} of {keys} keys");
            compare(criterion, &name, verb, keys, timed);
        }
    }
}

fn two_threads(criterion: &mut Criterion) {
    for keys in [1_000, 100_000] {
        for (verb_name, verb) in VERBS {
            let name = format!("{verb_name} of {keys} keys by two threads");
            compare(criterion, &name, verb, keys, timed_twice);
        }
    }
}

/// Measures `verb` with each policy, and what each engine does in its place.
fn compare(
    criterion: &mut Criterion,
    name: &str,
    verb: Verb,
    keys: usize,
    time: fn(&Run, u64) -> Duration,
) {
    let mut group = criterion.benchmark_group(name);
    let mut measure = |name: &str, run: Run| {
        run(2 * keys as u64);
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|count| time(&run, count));
        });
    };
    measure("quick_cache", values::quick_cache(verb, keys));
    measure("moka", values::moka(verb, keys));
    for policy in POLICIES {
        let run = values::larder(policy, verb, keys);
        measure(&format!("larder {}", policy.name()), run);
    }
    group.finish();
}

fn timed(run: &Run, count: u64) -> Duration {
    let start = Instant::now();
    run(count);
    start.elapsed()
}

/// The time in which two threads do so much each.
fn timed_twice(run: &Run, count: u64) -> Duration {
    let barrier = Barrier::new(2);
    let each = || {
        barrier.wait();
        timed(run, count)
    };
    std::thread::scope(|scope| {
        let other = scope.spawn(each);
        let own = each();
        own.max(other.join().expect("the runs do not panic"))
    })
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1));
    targets = one_thread, two_threads
}
criterion_main!(benches);
