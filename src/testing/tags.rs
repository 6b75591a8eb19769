//! Entries with tags, and the markers that they end by.

use super::{
    Behaviour,
    stage::{
        CLEAR, IF_ABSENT, LEASES, LIFE, REMOVE_EXPIRED, STORES, Stage, TOUCH, VERSIONS, entry,
    },
};
use crate::{Entry, Key, KeySpace, PutMode, Result, TagStamp, Timestamp, key::KeyHead};

pub(super) const ALL: &[Behaviour] = behaviours![
    &[STORES] =>
        an_entry_keeps_its_tags
        an_entry_has_64_tags_of_256_bytes
        a_marker_is_deleted_with_others;
    &[STORES, LEASES] =>
        a_lease_comes_with_the_tags;
    &[STORES, TOUCH] =>
        touch_leaves_the_tags;
    &[STORES, IF_ABSENT, VERSIONS] =>
        a_marker_is_made_and_extended_and_not_made_again;
    &[STORES, CLEAR] =>
        clear_ends_markers;
    &[STORES, CLEAR, REMOVE_EXPIRED] =>
        remove_expired_takes_what_has_tags;
];

fn stamps(stage: &Stage, names: impl IntoIterator<Item = String>) -> Vec<TagStamp> {
    let stamp = |name| TagStamp::new(stage.namespace(), name, *b"hard id.soft id.");
    names
        .into_iter()
        .map(|name| stamp(name).expect("a tag"))
        .collect()
}

fn tagged(stamps: &[TagStamp]) -> Entry {
    entry("value").with_tags(stamps).expect("not too many")
}

fn marker(stage: &Stage, tag: &str) -> Key {
    let head = KeyHead::new(stage.namespace(), KeySpace::Tag, None);
    head.key(tag.as_bytes()).to_key()
}

async fn read_everywhere(stage: &Stage, key: &Key, stamps: &[TagStamp]) -> Result<()> {
    let many = stage.get_many(std::slice::from_ref(key)).await?;
    let found = many.into_iter().chain([stage.get(key).await?]);
    for found in found {
        let found = found.expect("it was put");
        assert_eq!(found.tags(), stamps);
        assert_eq!(found.payload(), "value");
    }
    assert!(stage.contains(key).await?);
    Ok(())
}

async fn an_entry_keeps_its_tags(stage: Stage) -> Result<()> {
    let key = stage.key("tagged");
    let stamps = stamps(&stage, ["red".into(), "blue".into()]);
    assert!(stage.put(&key, tagged(&stamps), PutMode::Always).await?);
    read_everywhere(&stage, &key, &stamps).await?;
    assert!(stage.put(&key, entry("plain"), PutMode::Always).await?);
    let plain = stage.get(&key).await?.expect("it was put");
    assert!(plain.tags().is_empty());
    Ok(())
}

async fn an_entry_has_64_tags_of_256_bytes(stage: Stage) -> Result<()> {
    let key = stage.key("tagged");
    let stamps = stamps(&stage, (0..64).map(|number| format!("{number:0256}")));
    assert!(stage.put(&key, tagged(&stamps), PutMode::Always).await?);
    read_everywhere(&stage, &key, &stamps).await
}

async fn a_lease_comes_with_the_tags(stage: Stage) -> Result<()> {
    let key = stage.key("tagged");
    let stamps = stamps(&stage, ["red".into()]);
    let lease = stage.get_leased(&key).await?.lease;
    let unchanged = PutMode::IfUnchanged(lease);
    assert!(stage.put(&key, tagged(&stamps), unchanged).await?);
    let leased = stage.get_leased(&key).await?;
    assert_eq!(leased.entry.expect("it was put").tags(), stamps);
    Ok(())
}

async fn touch_leaves_the_tags(stage: Stage) -> Result<()> {
    let key = stage.key("tagged");
    let stamps = stamps(&stage, ["red".into()]);
    assert!(stage.put(&key, tagged(&stamps), PutMode::Always).await?);
    assert!(stage.touch(&key, Some(LIFE / 2)).await?);
    read_everywhere(&stage, &key, &stamps).await?;
    let left = stage.get(&key).await?.expect("it was put");
    assert!(left.remaining(Timestamp::now()) <= Some(LIFE / 2));
    Ok(())
}

async fn a_marker_is_made_and_extended_and_not_made_again(stage: Stage) -> Result<()> {
    let key = marker(&stage, "red");
    let brief = entry("ids").with_ttl(Some(LIFE / 2), Timestamp::now());
    let put = stage.put_many(vec![(key.clone(), brief, PutMode::IfAbsent)]);
    assert_eq!(put.await?, [true]);
    let made = stage.get(&key).await?.expect("it was put");
    let version = PutMode::IfVersion(made.version());
    let put = stage.put_many(vec![(key.clone(), entry("ids"), version)]);
    assert_eq!(put.await?, [true]);
    let extended = stage.get(&key).await?.expect("it was put");
    assert!(extended.expires_at() > made.expires_at());
    let put = stage.put_many(vec![(key.clone(), entry("other"), PutMode::IfAbsent)]);
    assert_eq!(put.await?, [false]);
    assert_eq!(stage.read(&key).await?, Some("ids".into()));
    Ok(())
}

async fn a_marker_is_deleted_with_others(stage: Stage) -> Result<()> {
    let keys = ["red", "blue", "green", ""].map(|tag| marker(&stage, tag));
    for key in &keys {
        stage.keep(key, "ids").await?;
    }
    let (deleted, rest) = keys.split_at(2);
    assert_eq!(stage.delete_many(deleted).await?, [true, true]);
    for key in deleted {
        assert_eq!(stage.read(key).await?, None);
    }
    for key in rest {
        assert_eq!(stage.read(key).await?, Some("ids".into()));
    }
    Ok(())
}

async fn clear_ends_markers(stage: Stage) -> Result<()> {
    let keys = ["red", ""].map(|tag| marker(&stage, tag));
    for key in &keys {
        stage.keep(key, "ids").await?;
    }
    stage.clear(stage.namespace()).await?;
    for key in &keys {
        assert_eq!(stage.read(key).await?, None);
    }
    Ok(())
}

async fn remove_expired_takes_what_has_tags(stage: Stage) -> Result<()> {
    let stamps = stamps(&stage, ["red".into()]);
    let keys = ["one", "two"].map(|name| stage.key(name));
    for key in &keys {
        assert!(stage.put(key, tagged(&stamps), PutMode::Always).await?);
    }
    stage.clear(stage.namespace()).await?;
    let mut removed = 0;
    for _ in 0..1_000 {
        removed += stage.remove_expired(10).await?;
        if removed >= keys.len() {
            return Ok(());
        }
    }
    panic!("{removed} entries were reclaimed");
}
