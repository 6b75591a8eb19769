//! Counters: one atomic command, bare integers, and never mistaken for values.

use std::time::Duration;

use super::{
    Behaviour,
    stage::{COUNTERS, IF_ABSENT, LIFE, STORES, Stage, TOUCH, entry},
};
use crate::{Entry, ErrorKind, Key, PutMode, Result};

pub(super) const ALL: &[Behaviour] = behaviours![
    &[STORES, COUNTERS] =>
        an_absent_counter_starts_at_zero
        a_counter_goes_up_and_down
        a_counter_holds_every_i64
        an_overflow_leaves_the_counter_as_it_was
        a_counter_reads_as_a_counter
        a_value_does_not_count
        a_value_of_digits_does_not_count
        a_counter_keeps_its_first_end
        a_counter_starts_anew_after_its_end
        a_counter_without_an_end_stays
        the_shortest_ttl_ends_a_counter
        the_longest_ttl_keeps_a_counter
        a_counter_can_be_deleted
        a_put_replaces_a_counter;
    &[STORES, COUNTERS, IF_ABSENT] =>
        if_absent_leaves_a_counter;
    &[STORES, COUNTERS, TOUCH] =>
        touch_moves_the_end_of_a_counter;
];

/// What `get` says of the counter under `key`.
async fn count(stage: &Stage, key: &Key) -> Result<Option<i64>> {
    let entry = stage.get(key).await?;
    entry.as_ref().map(Entry::as_counter).transpose()
}

async fn an_absent_counter_starts_at_zero(stage: Stage) -> Result<()> {
    for delta in [5, -5, 0] {
        let key = stage.key(delta.to_string());
        assert_eq!(stage.increment(&key, delta, Some(LIFE)).await?, delta);
        assert_eq!(count(&stage, &key).await?, Some(delta));
    }
    Ok(())
}

async fn a_counter_goes_up_and_down(stage: Stage) -> Result<()> {
    let key = stage.key("counter");
    for (delta, sum) in [
        (1, 1),
        (41, 42),
        (-2, 40),
        (0, 40),
        (-50, -10),
        (11, 1),
        (98, 99),
        (1, 100),
    ] {
        assert_eq!(stage.increment(&key, delta, Some(LIFE)).await?, sum);
        assert_eq!(count(&stage, &key).await?, Some(sum));
    }
    Ok(())
}

async fn a_counter_holds_every_i64(stage: Stage) -> Result<()> {
    for end in [i64::MAX, i64::MIN] {
        let key = stage.key(end.to_string());
        let inward = -end.signum();
        assert_eq!(stage.increment(&key, end, Some(LIFE)).await?, end);
        assert_eq!(count(&stage, &key).await?, Some(end));
        let next = end + inward;
        assert_eq!(stage.increment(&key, inward, Some(LIFE)).await?, next);
        assert_eq!(stage.increment(&key, -inward, Some(LIFE)).await?, end);
    }
    Ok(())
}

async fn an_overflow_leaves_the_counter_as_it_was(stage: Stage) -> Result<()> {
    for (end, outward) in [(i64::MAX, 1), (i64::MIN, -1), (i64::MAX, i64::MAX)] {
        let key = stage.key(format!("{end} {outward}"));
        stage.increment(&key, end, Some(LIFE)).await?;
        match stage.increment(&key, outward, Some(LIFE)).await {
            Ok(sum) => panic!("{end} and {outward} gave {sum}"),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Overflow, "{error}"),
        }
        assert_eq!(count(&stage, &key).await?, Some(end));
    }
    Ok(())
}

async fn a_counter_reads_as_a_counter(stage: Stage) -> Result<()> {
    let keys = stage.keys(3);
    stage.increment(&keys[0], 7, Some(LIFE)).await?;
    stage.keep(&keys[1], "value").await?;
    assert!(stage.contains(&keys[0]).await?);

    let read = stage.get_many(&keys).await?;
    let kinds = read.iter().map(|read| match read.as_ref()?.as_counter() {
        Ok(sum) => Some(Ok(sum)),
        Err(error) => Some(Err(error.kind())),
    });
    let kinds: Vec<_> = kinds.collect();
    assert_eq!(kinds, [Some(Ok(7)), Some(Err(ErrorKind::WrongType)), None]);
    Ok(())
}

/// Fails unless the value under `key` is refused as a counter and left as it is.
async fn does_not_count(stage: &Stage, value: &'static str) -> Result<()> {
    let key = stage.key(value);
    stage.keep(&key, value).await?;
    match stage.increment(&key, 1, Some(LIFE)).await {
        Ok(sum) => panic!("a value was taken for a counter and gave {sum}"),
        Err(error) => assert_eq!(error.kind(), ErrorKind::WrongType, "{error}"),
    }
    assert_eq!(stage.read(&key).await?, Some(value.into()));
    Ok(())
}

async fn a_value_does_not_count(stage: Stage) -> Result<()> {
    does_not_count(&stage, "some text").await?;
    does_not_count(&stage, "").await
}

async fn a_value_of_digits_does_not_count(stage: Stage) -> Result<()> {
    does_not_count(&stage, "42").await
}

async fn a_counter_keeps_its_first_end(stage: Stage) -> Result<()> {
    let (long, short) = (stage.key("long"), stage.key("short"));
    let ttl = stage.brief();
    stage.increment(&long, 1, Some(LIFE)).await?;
    stage.increment(&short, 1, Some(ttl)).await?;
    assert_eq!(stage.increment(&long, 1, Some(ttl)).await?, 2);
    assert_eq!(stage.increment(&short, 1, Some(LIFE)).await?, 2);
    stage.outlive(ttl).await;
    assert_eq!(count(&stage, &long).await?, Some(2));
    assert_eq!(count(&stage, &short).await?, None);
    Ok(())
}

async fn a_counter_starts_anew_after_its_end(stage: Stage) -> Result<()> {
    let key = stage.key("anew");
    assert_eq!(stage.increment(&key, 5, Some(stage.brief())).await?, 5);
    assert_eq!(count(&stage, &key).await?, Some(5));
    stage.outlive(stage.brief()).await;
    assert_eq!(stage.increment(&key, 1, Some(stage.brief())).await?, 1);
    stage.outlive(stage.brief()).await;
    assert_eq!(
        count(&stage, &key).await?,
        None,
        "its second life has an end too"
    );
    Ok(())
}

async fn a_counter_without_an_end_stays(stage: Stage) -> Result<()> {
    let key = stage.key("endless");
    stage.increment(&key, 1, None).await?;
    stage.increment(&key, 1, Some(stage.brief())).await?;
    stage.outlive(stage.brief()).await;
    assert_eq!(count(&stage, &key).await?, Some(2));
    // Nothing else would remove it from a server.
    stage.delete(&key).await?;
    Ok(())
}

async fn the_shortest_ttl_ends_a_counter(stage: Stage) -> Result<()> {
    let key = stage.key("shortest");
    let ttl = Duration::from_nanos(1);
    assert_eq!(stage.increment(&key, 1, Some(ttl)).await?, 1);
    stage.outlive(ttl).await;
    assert_eq!(count(&stage, &key).await?, None);
    Ok(())
}

async fn the_longest_ttl_keeps_a_counter(stage: Stage) -> Result<()> {
    for ttl in [Duration::from_secs(40 * 24 * 60 * 60), Duration::MAX] {
        let key = stage.key(format!("{ttl:?}"));
        assert_eq!(stage.increment(&key, 1, Some(ttl)).await?, 1);
        assert_eq!(count(&stage, &key).await?, Some(1), "{ttl:?}");
        stage.delete(&key).await?;
    }
    Ok(())
}

async fn a_counter_can_be_deleted(stage: Stage) -> Result<()> {
    let key = stage.key("deleted");
    stage.increment(&key, 5, Some(LIFE)).await?;
    assert!(stage.delete(&key).await?);
    assert_eq!(count(&stage, &key).await?, None);
    assert_eq!(stage.increment(&key, 1, Some(LIFE)).await?, 1);
    Ok(())
}

async fn a_put_replaces_a_counter(stage: Stage) -> Result<()> {
    let key = stage.key("replaced");
    stage.increment(&key, 5, Some(LIFE)).await?;
    stage.keep(&key, "value").await?;
    assert_eq!(stage.read(&key).await?, Some("value".into()));
    Ok(())
}

async fn if_absent_leaves_a_counter(stage: Stage) -> Result<()> {
    let key = stage.key("present");
    stage.increment(&key, 5, Some(LIFE)).await?;
    assert!(!stage.put(&key, entry("new"), PutMode::IfAbsent).await?);
    assert_eq!(count(&stage, &key).await?, Some(5));
    Ok(())
}

async fn touch_moves_the_end_of_a_counter(stage: Stage) -> Result<()> {
    let (long, short) = (stage.key("long"), stage.key("short"));
    let ttl = stage.brief();
    stage.increment(&long, 1, Some(ttl)).await?;
    stage.increment(&short, 1, Some(LIFE)).await?;
    assert!(stage.touch(&long, Some(LIFE)).await?);
    assert!(stage.touch(&short, Some(ttl)).await?);
    stage.outlive(ttl).await;
    assert_eq!(count(&stage, &long).await?, Some(1));
    assert_eq!(count(&stage, &short).await?, None);
    assert_eq!(stage.increment(&long, 1, Some(LIFE)).await?, 2);
    Ok(())
}
