//! Buckets: entries that are kept together, end each by itself, and end all at once.

use super::{
    Behaviour,
    stage::{
        COUNTERS, FIELD_EXPIRY, LEASES, LIFE, NO_FIELD_EXPIRY, SHARED, STORES, Stage, VERSIONS,
        entry,
    },
};
use crate::{ErrorKind, Key, KeySpace, PutMode, Result, key::KeyHead};

pub(super) const ALL: &[Behaviour] = behaviours![
    &[STORES] =>
        one_entry_of_a_bucket_ends_alone;
    &[STORES, FIELD_EXPIRY] =>
        clear_bucket_ends_its_whole_bucket
        clear_bucket_leaves_everything_else
        a_cleared_bucket_fills_anew
        clear_bucket_of_nothing_is_no_error;
    &[STORES, FIELD_EXPIRY, COUNTERS] =>
        a_counter_of_a_cleared_bucket_starts_anew;
    &[STORES, FIELD_EXPIRY, VERSIONS] =>
        if_version_refuses_an_entry_of_a_cleared_bucket;
    &[STORES, FIELD_EXPIRY, LEASES] =>
        a_lease_ends_with_its_bucket
        a_lease_taken_after_its_bucket_was_cleared_keeps;
    &[STORES, FIELD_EXPIRY, SHARED] =>
        another_client_sees_a_bucket_cleared;
    &[NO_FIELD_EXPIRY] =>
        a_bucket_that_is_not_kept_together_stays;
];

fn field(stage: &Stage, name: &str) -> Key {
    Key::new(stage.namespace(), Some("7"), name)
}

async fn one_entry_of_a_bucket_ends_alone(stage: Stage) -> Result<()> {
    let (short, long, never) = (
        field(&stage, "short"),
        field(&stage, "long"),
        field(&stage, "never"),
    );
    stage.keep(&long, "value").await?;
    let for_ever = entry("for ever").with_expires_at(None);
    assert!(stage.put(&never, for_ever, PutMode::Always).await?);
    stage.keep_for(&short, stage.brief()).await?;
    stage.outlive(stage.brief()).await;
    assert_eq!(stage.read(&short).await?, None);
    assert_eq!(stage.read(&long).await?, Some("value".into()));
    assert_eq!(stage.read(&never).await?, Some("for ever".into()));
    stage.delete(&never).await.map(drop)
}

async fn clear_bucket_ends_its_whole_bucket(stage: Stage) -> Result<()> {
    let many = (0..300).map(|number| number.to_string());
    let names: Vec<_> = many
        .chain(["".into(), "a\0\n*?[".into(), "a:b".into()])
        .collect();
    let keys: Vec<_> = names.iter().map(|name| field(&stage, name)).collect();
    for key in &keys {
        stage.keep(key, "value").await?;
    }
    // The name of the key does not matter.
    assert!(stage.clear_bucket(&keys[0]).await?);
    for key in &keys {
        let encoded = key.encoded().escape_ascii();
        assert_eq!(stage.read(key).await?, None, "{encoded}");
    }
    Ok(())
}

async fn clear_bucket_leaves_everything_else(stage: Stage) -> Result<()> {
    let of = |bucket, name| Key::new(stage.namespace(), bucket, name);
    let of_responses = KeyHead::new(stage.namespace(), KeySpace::Response, Some("7"));
    let others = [
        of(None, "7"),
        of(None, "/7:1"),
        of(Some("7s"), "1"),
        of(Some(""), "1"),
        of(Some("77"), "1"),
        of(Some("7:"), "1"),
        of(Some("8"), "1"),
        of_responses.key(b"1").to_key(),
    ];
    for key in &others {
        stage.keep(key, "value").await?;
    }
    stage.keep(&field(&stage, "1"), "value").await?;
    assert!(stage.clear_bucket(&field(&stage, "")).await?);
    for key in &others {
        let encoded = key.encoded().escape_ascii();
        assert!(stage.contains(key).await?, "{encoded}");
    }
    Ok(())
}

async fn a_cleared_bucket_fills_anew(stage: Stage) -> Result<()> {
    let (old, new) = (field(&stage, "old"), field(&stage, "new"));
    for _ in 0..3 {
        stage.keep(&old, "before").await?;
        assert!(stage.clear_bucket(&old).await?);
        stage.keep(&new, "after").await?;
        assert_eq!(stage.read(&old).await?, None);
        assert_eq!(stage.read(&new).await?, Some("after".into()));
    }
    Ok(())
}

async fn clear_bucket_of_nothing_is_no_error(stage: Stage) -> Result<()> {
    let key = field(&stage, "");
    assert!(stage.clear_bucket(&key).await?);
    assert!(stage.clear_bucket(&key).await?);
    Ok(())
}

async fn a_counter_of_a_cleared_bucket_starts_anew(stage: Stage) -> Result<()> {
    let key = field(&stage, "counter");
    stage.increment(&key, 5, Some(LIFE)).await?;
    assert!(stage.clear_bucket(&key).await?);
    assert!(stage.get(&key).await?.is_none());
    assert_eq!(stage.increment(&key, 1, Some(LIFE)).await?, 1);
    Ok(())
}

async fn if_version_refuses_an_entry_of_a_cleared_bucket(stage: Stage) -> Result<()> {
    let key = field(&stage, "cleared");
    stage.keep(&key, "before").await?;
    let version = stage.version(&key).await?;
    assert!(stage.clear_bucket(&key).await?);
    let mode = PutMode::IfVersion(version);
    assert!(!stage.put(&key, entry("after"), mode).await?);
    assert!(!stage.delete_if(&key, version).await?);
    assert_eq!(stage.read(&key).await?, None);
    Ok(())
}

async fn a_lease_ends_with_its_bucket(stage: Stage) -> Result<()> {
    let present = field(&stage, "present");
    stage.keep(&present, "old").await?;
    // Absent ones in number: what ends leases on them may differ from name to name.
    let absent = (0..40).map(|number| field(&stage, &number.to_string()));
    let keys: Vec<_> = absent.chain([present]).collect();
    let leased = stage.get_leased_many(&keys).await?;
    assert!(stage.client(1).clear_bucket(&keys[0]).await?);
    for (key, leased) in keys.iter().zip(leased) {
        let mode = PutMode::IfUnchanged(leased.lease);
        let encoded = key.encoded().escape_ascii();
        assert!(!stage.put(key, entry("loaded"), mode).await?, "{encoded}");
        assert_eq!(stage.read(key).await?, None);
    }
    Ok(())
}

async fn a_lease_taken_after_its_bucket_was_cleared_keeps(stage: Stage) -> Result<()> {
    let key = field(&stage, "anew");
    for _ in 0..3 {
        assert!(stage.client(1).clear_bucket(&key).await?);
        let mode = PutMode::IfUnchanged(stage.get_leased(&key).await?.lease);
        assert!(stage.put(&key, entry("loaded"), mode).await?);
        assert_eq!(stage.read(&key).await?, Some("loaded".into()));
    }
    Ok(())
}

async fn another_client_sees_a_bucket_cleared(stage: Stage) -> Result<()> {
    let key = field(&stage, "shared");
    let other = stage.client(1);
    for _ in 0..3 {
        stage.keep(&key, "value").await?;
        assert!(other.get(&key).await?.is_some());
        assert!(stage.clear_bucket(&key).await?);
        assert!(other.get(&key).await?.is_none());
    }
    Ok(())
}

async fn a_bucket_that_is_not_kept_together_stays(stage: Stage) -> Result<()> {
    let key = field(&stage, "kept");
    stage.keep(&key, "value").await?;
    match stage.clear_bucket(&key).await {
        Err(error) => assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}"),
        Ok(cleared) => assert!(!cleared, "it said that the bucket was cleared"),
    }
    assert_eq!(stage.read(&key).await?, Some("value".into()));
    Ok(())
}
