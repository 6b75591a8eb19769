//! The behaviour suite on the backends that need no server.

mod support_servers;

use larder::{
    Backend, Memory, MemoryPolicy, Null,
    testing::{self, Outcome, Report, behaviours},
};
use support_servers::matrix;

async fn memory_suite(policy: MemoryPolicy) -> Report {
    let start = || async move { Memory::builder().policy(policy).build() };
    let report = testing::examine(start).await;
    matrix::judge("memory", policy.name(), &report);
    report
}

/// Only what memory is not, or cannot do without a limit, is left out.
fn leaves_out_nothing_of_memory(report: &Report) {
    for (name, missing) in report.skipped() {
        let expected = ["shared", "leases"].contains(&missing)
            || missing.contains("false")
            || missing.contains("MiB");
        assert!(expected, "{name} was left out for {missing}");
    }
    assert!(report.passed().count() >= 80, "{report}");
}

#[tokio::test(start_paused = true)]
async fn memory_by_s3_fifo_passes() {
    leaves_out_nothing_of_memory(&memory_suite(MemoryPolicy::S3Fifo).await);
}

#[tokio::test(start_paused = true)]
async fn memory_by_tiny_lfu_passes() {
    leaves_out_nothing_of_memory(&memory_suite(MemoryPolicy::TinyLfu).await);
}

#[tokio::test(start_paused = true)]
async fn memory_by_lru_passes() {
    leaves_out_nothing_of_memory(&memory_suite(MemoryPolicy::Lru).await);
}

#[tokio::test(start_paused = true)]
async fn keys_in_a_bucket_pass_in_memory() {
    let report = testing::examine_in_bucket(|| async { Memory::new() }).await;
    matrix::judge("memory", "buckets", &report);
    leaves_out_nothing_of_memory(&report);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn memory_is_atomic_on_many_threads() {
    for policy in [
        MemoryPolicy::S3Fifo,
        MemoryPolicy::TinyLfu,
        MemoryPolicy::Lru,
    ] {
        let start = || async move { Memory::builder().policy(policy).build() };
        let capabilities = start().await.capabilities();
        let races = behaviours().filter(|it| it.name().starts_with("concurrent"));
        for race in races.filter(|it| it.missing(&capabilities).is_none()) {
            assert_eq!(
                race.run(&start).await,
                Outcome::Passed,
                "{race:?} by {policy:?}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn null_passes_for_what_it_declares() {
    let report = testing::examine(|| async { Null }).await;
    matrix::judge("null", "as it is", &report);
    let passed: Vec<_> = report.passed().collect();
    assert!(passed.contains(&"nothing_is_kept"), "{report}");
    assert!(!passed.contains(&"a_value_reads_as_it_was_put"), "{report}");
}

#[test]
fn every_behaviour_has_a_name_of_its_own() {
    let mut names: Vec<_> = behaviours().map(|it| it.name()).collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
}
