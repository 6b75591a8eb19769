//! Puts and deletes on a condition.

use super::{
    Behaviour,
    stage::{IF_ABSENT, STORES, Stage, VERSIONS, entry},
};
use crate::{PutMode, Result};

pub(super) const ALL: &[Behaviour] = behaviours![
    &[STORES, IF_ABSENT] =>
        if_absent_fills_an_absent_key
        if_absent_leaves_what_is_there
        if_absent_fills_a_deleted_key
        if_absent_takes_an_expired_entry_for_absent;
    &[STORES, VERSIONS] =>
        if_version_replaces_the_version_it_names
        if_version_refuses_a_stale_version
        if_version_refuses_an_absent_key
        if_version_refuses_an_expired_entry
        reading_does_not_change_a_version
        every_put_gives_another_version
        no_version_returns_after_a_delete
        get_many_gives_the_versions_of_get
        delete_if_removes_the_version_it_names
        delete_if_leaves_another_version;
];

async fn if_absent_fills_an_absent_key(stage: Stage) -> Result<()> {
    let key = stage.key("absent");
    assert!(stage.put(&key, entry("new"), PutMode::IfAbsent).await?);
    assert_eq!(stage.read(&key).await?, Some("new".into()));
    Ok(())
}

async fn if_absent_leaves_what_is_there(stage: Stage) -> Result<()> {
    let key = stage.key("present");
    stage.keep(&key, "old").await?;
    assert!(!stage.put(&key, entry("new"), PutMode::IfAbsent).await?);
    assert_eq!(stage.read(&key).await?, Some("old".into()));
    Ok(())
}

async fn if_absent_fills_a_deleted_key(stage: Stage) -> Result<()> {
    let key = stage.key("deleted");
    stage.keep(&key, "old").await?;
    stage.delete(&key).await?;
    assert!(stage.put(&key, entry("new"), PutMode::IfAbsent).await?);
    assert_eq!(stage.read(&key).await?, Some("new".into()));
    Ok(())
}

async fn if_absent_takes_an_expired_entry_for_absent(stage: Stage) -> Result<()> {
    let key = stage.key("expired");
    stage.keep_for(&key, stage.brief()).await?;
    stage.outlive(stage.brief()).await;
    assert!(stage.put(&key, entry("new"), PutMode::IfAbsent).await?);
    assert_eq!(stage.read(&key).await?, Some("new".into()));
    Ok(())
}

async fn if_version_replaces_the_version_it_names(stage: Stage) -> Result<()> {
    let key = stage.key("current");
    stage.keep(&key, "old").await?;
    let mode = PutMode::IfVersion(stage.version(&key).await?);
    assert!(stage.put(&key, entry("new"), mode).await?);
    assert_eq!(stage.read(&key).await?, Some("new".into()));
    Ok(())
}

async fn if_version_refuses_a_stale_version(stage: Stage) -> Result<()> {
    let key = stage.key("stale");
    stage.keep(&key, "first").await?;
    let mode = PutMode::IfVersion(stage.version(&key).await?);
    stage.keep(&key, "second").await?;
    assert!(!stage.put(&key, entry("third"), mode).await?);
    assert_eq!(stage.read(&key).await?, Some("second".into()));
    Ok(())
}

async fn if_version_refuses_an_absent_key(stage: Stage) -> Result<()> {
    let key = stage.key("absent");
    stage.keep(&key, "old").await?;
    let version = stage.version(&key).await?;
    stage.delete(&key).await?;
    for version in [version, 0, 1, u64::MAX] {
        let mode = PutMode::IfVersion(version);
        assert!(!stage.put(&key, entry("new"), mode).await?, "{mode:?}");
    }
    assert_eq!(stage.read(&key).await?, None);
    Ok(())
}

async fn if_version_refuses_an_expired_entry(stage: Stage) -> Result<()> {
    let key = stage.key("expired");
    stage.keep_for(&key, stage.brief()).await?;
    let mode = PutMode::IfVersion(stage.version(&key).await?);
    stage.outlive(stage.brief()).await;
    assert!(!stage.put(&key, entry("new"), mode).await?);
    assert_eq!(stage.read(&key).await?, None);
    Ok(())
}

async fn reading_does_not_change_a_version(stage: Stage) -> Result<()> {
    let key = stage.key("read");
    stage.keep(&key, "value").await?;
    let version = stage.version(&key).await?;
    assert!(stage.contains(&key).await?);
    assert_eq!(stage.version(&key).await?, version);
    Ok(())
}

async fn every_put_gives_another_version(stage: Stage) -> Result<()> {
    let key = stage.key("versions");
    let mut versions = Vec::new();
    for number in 0..20 {
        stage.keep(&key, number.to_string()).await?;
        versions.push(stage.version(&key).await?);
    }
    versions.sort_unstable();
    versions.dedup();
    assert_eq!(versions.len(), 20, "two of 20 puts gave the same version");
    Ok(())
}

/// A server that counts generations begins anew after a delete; who read the first would overwrite the second.
async fn no_version_returns_after_a_delete(stage: Stage) -> Result<()> {
    let key = stage.key("returning");
    stage.keep(&key, "before").await?;
    let mode = PutMode::IfVersion(stage.version(&key).await?);
    stage.delete(&key).await?;
    stage.keep(&key, "after").await?;
    assert!(!stage.put(&key, entry("late"), mode).await?);
    assert_eq!(stage.read(&key).await?, Some("after".into()));
    Ok(())
}

async fn get_many_gives_the_versions_of_get(stage: Stage) -> Result<()> {
    let keys = stage.keys(2);
    for key in &keys {
        stage.keep(key, "value").await?;
    }
    for (key, read) in keys.iter().zip(stage.get_many(&keys).await?) {
        let version = stage.version(key).await?;
        assert_eq!(read.map(|entry| entry.version()), Some(version));
    }
    Ok(())
}

async fn delete_if_removes_the_version_it_names(stage: Stage) -> Result<()> {
    let key = stage.key("current");
    stage.keep(&key, "value").await?;
    let version = stage.version(&key).await?;
    assert!(stage.delete_if(&key, version).await?);
    assert_eq!(stage.read(&key).await?, None);
    assert!(
        !stage.delete_if(&key, version).await?,
        "it was deleted already"
    );
    Ok(())
}

async fn delete_if_leaves_another_version(stage: Stage) -> Result<()> {
    let key = stage.key("stale");
    stage.keep(&key, "first").await?;
    let version = stage.version(&key).await?;
    stage.keep(&key, "second").await?;
    assert!(!stage.delete_if(&key, version).await?);
    assert_eq!(stage.read(&key).await?, Some("second".into()));
    Ok(())
}
