//! Ending a namespace, and reclaiming what has ended.

use super::{
    Behaviour,
    stage::{
        CLEAR, COUNTERS, DELETE_PREFIX, IF_ABSENT, LEASES, LIFE, REMOVE_EXPIRED, SHARED, STORES,
        Stage, VERSIONS, entry,
    },
};
use crate::{Key, KeySpace, Peek, PutMode, Result, Timestamp, key::KeyHead};

pub(super) const ALL: &[Behaviour] = behaviours![
    &[CLEAR] =>
        clear_of_an_unknown_namespace_is_no_error;
    &[STORES, CLEAR] =>
        clear_ends_its_whole_namespace
        clear_leaves_every_other_namespace
        a_cleared_entry_is_absent_to_every_verb
        a_put_after_a_clear_lives
        a_namespace_can_be_cleared_again_and_again;
    &[STORES, CLEAR, COUNTERS] =>
        a_cleared_counter_starts_anew
        clear_leaves_a_neighbours_counter;
    &[STORES, CLEAR, LEASES] =>
        clear_leaves_a_neighbours_lease;
    &[STORES, CLEAR, IF_ABSENT] =>
        if_absent_fills_a_cleared_key;
    &[STORES, CLEAR, VERSIONS] =>
        if_version_refuses_a_cleared_entry;
    &[STORES, CLEAR, SHARED] =>
        another_client_sees_a_clear;
    &[STORES, DELETE_PREFIX] =>
        delete_prefix_ends_what_begins_with_it
        delete_prefix_leaves_what_does_not
        delete_prefix_counts_live_entries;
    &[STORES, REMOVE_EXPIRED] =>
        remove_expired_takes_what_has_ended_in_steps;
    &[STORES, REMOVE_EXPIRED, CLEAR] =>
        remove_expired_takes_what_was_cleared;
];

async fn clear_of_an_unknown_namespace_is_no_error(stage: Stage) -> Result<()> {
    stage.clear(stage.namespace()).await?;
    stage.clear("").await
}

async fn clear_ends_its_whole_namespace(stage: Stage) -> Result<()> {
    let key = |space, bucket| {
        KeyHead::new(stage.namespace(), space, bucket)
            .key(b"name")
            .to_key()
    };
    let keys = [
        key(KeySpace::Value, None),
        key(KeySpace::Value, Some("bucket")),
        key(KeySpace::Value, Some("")),
        key(KeySpace::Response, None),
        key(KeySpace::Response, Some("bucket")),
    ];
    for key in &keys {
        stage.keep(key, "value").await?;
    }
    stage.clear(stage.namespace()).await?;
    for key in &keys {
        let encoded = key.encoded().escape_ascii();
        assert_eq!(stage.read(key).await?, None, "{encoded}");
    }
    Ok(())
}

async fn clear_leaves_every_other_namespace(stage: Stage) -> Result<()> {
    let base = stage.namespace();
    let cleared = [
        base.to_owned(),
        base[..base.len() - 1].to_owned(),
        format!("{base}*"),
        format!("{base}%"),
        format!("{base}_"),
        format!("{base}?"),
        format!("{base}[a-z]"),
        base.to_uppercase(),
    ];
    let others = ["x", ":", ":x", "/x", "@http", " ", "%3A"].map(|end| format!("{base}{end}"));
    let keys = others
        .iter()
        .map(|namespace| Key::new(namespace, None, "name"));
    let keys: Vec<_> = keys.collect();
    for key in &keys {
        stage.keep(key, "value").await?;
    }
    for namespace in &cleared {
        stage.clear(namespace).await?;
        for key in &keys {
            let encoded = key.encoded().escape_ascii();
            assert!(
                stage.contains(key).await?,
                "clearing {namespace} ended {encoded}"
            );
        }
    }
    for key in &keys {
        stage.delete(key).await?;
    }
    Ok(())
}

async fn a_cleared_entry_is_absent_to_every_verb(stage: Stage) -> Result<()> {
    let key = stage.key("cleared");
    stage.keep(&key, "value").await?;
    stage.clear(stage.namespace()).await?;
    assert!(!matches!(
        stage.peek(key.as_key_ref(), Timestamp::now()),
        Peek::Hit(_)
    ));
    assert!(stage.get(&key).await?.is_none());
    assert!(stage.get_many(std::slice::from_ref(&key)).await?[0].is_none());
    assert!(!stage.contains(&key).await?);
    if stage.capabilities().touch {
        assert!(!stage.touch(&key, Some(LIFE)).await?);
    }
    assert!(!stage.delete(&key).await?);
    Ok(())
}

async fn a_put_after_a_clear_lives(stage: Stage) -> Result<()> {
    let (old, new) = (stage.key("old"), stage.key("new"));
    stage.keep(&old, "before").await?;
    stage.clear(stage.namespace()).await?;
    stage.keep(&old, "after").await?;
    stage.keep(&new, "after").await?;
    assert_eq!(stage.read(&old).await?, Some("after".into()));
    assert_eq!(stage.read(&new).await?, Some("after".into()));
    Ok(())
}

async fn a_namespace_can_be_cleared_again_and_again(stage: Stage) -> Result<()> {
    let key = stage.key("again");
    for _ in 0..5 {
        stage.keep(&key, "value").await?;
        assert!(stage.contains(&key).await?);
        stage.clear(stage.namespace()).await?;
        assert!(!stage.contains(&key).await?);
        stage.clear(stage.namespace()).await?;
    }
    Ok(())
}

async fn a_cleared_counter_starts_anew(stage: Stage) -> Result<()> {
    let key = stage.key("counter");
    stage.increment(&key, 5, Some(LIFE)).await?;
    stage.clear(stage.namespace()).await?;
    assert!(stage.get(&key).await?.is_none());
    assert_eq!(stage.increment(&key, 1, Some(LIFE)).await?, 1);
    Ok(())
}

async fn clear_leaves_a_neighbours_counter(stage: Stage) -> Result<()> {
    let neighbour = Key::new(&format!("{}x", stage.namespace()), None, "counter");
    stage.increment(&neighbour, 5, Some(LIFE)).await?;
    stage.clear(stage.namespace()).await?;
    assert_eq!(stage.increment(&neighbour, 1, Some(LIFE)).await?, 6);
    stage.delete(&neighbour).await.map(drop)
}

async fn clear_leaves_a_neighbours_lease(stage: Stage) -> Result<()> {
    let neighbour = Key::new(&format!("{}x", stage.namespace()), None, "leased");
    let lease = stage.get_leased(&neighbour).await?.lease;
    stage.clear(stage.namespace()).await?;
    let mode = PutMode::IfUnchanged(lease);
    assert!(stage.put(&neighbour, entry("loaded"), mode).await?);
    stage.delete(&neighbour).await.map(drop)
}

async fn if_absent_fills_a_cleared_key(stage: Stage) -> Result<()> {
    let key = stage.key("cleared");
    stage.keep(&key, "before").await?;
    stage.clear(stage.namespace()).await?;
    assert!(stage.put(&key, entry("after"), PutMode::IfAbsent).await?);
    assert_eq!(stage.read(&key).await?, Some("after".into()));
    Ok(())
}

async fn if_version_refuses_a_cleared_entry(stage: Stage) -> Result<()> {
    let key = stage.key("cleared");
    stage.keep(&key, "before").await?;
    let version = stage.version(&key).await?;
    stage.clear(stage.namespace()).await?;
    let mode = PutMode::IfVersion(version);
    assert!(!stage.put(&key, entry("after"), mode).await?);
    assert!(!stage.delete_if(&key, version).await?);
    assert_eq!(stage.read(&key).await?, None);
    Ok(())
}

async fn another_client_sees_a_clear(stage: Stage) -> Result<()> {
    let key = stage.key("shared");
    let other = stage.client(1);
    for _ in 0..3 {
        stage.keep(&key, "value").await?;
        assert!(other.get(&key).await?.is_some());
        stage.clear(stage.namespace()).await?;
        assert!(other.get(&key).await?.is_none());
    }
    Ok(())
}

async fn delete_prefix_ends_what_begins_with_it(stage: Stage) -> Result<()> {
    let many = (0..300).map(|number| format!("shop/{number}"));
    let names: Vec<_> = many
        .chain(["shop/".into(), "shop/a\0\n*?[".into()])
        .collect();
    let keys: Vec<_> = names.iter().map(|name| stage.key(name)).collect();
    for key in &keys {
        stage.keep(key, "value").await?;
    }
    let deleted = stage.delete_prefix(&stage.key("shop/")).await?;
    assert_eq!(deleted, keys.len());
    for key in &keys {
        let encoded = key.encoded().escape_ascii();
        assert!(!stage.contains(key).await?, "{encoded}");
    }
    stage.keep(&keys[0], "after").await?;
    assert_eq!(stage.read(&keys[0]).await?, Some("after".into()));
    Ok(())
}

async fn delete_prefix_leaves_what_does_not(stage: Stage) -> Result<()> {
    let near = [
        "shop",
        "sho",
        "Shop*/1",
        "shop?/1",
        "shopx/1",
        "shop*",
        "x/shop*/1",
    ];
    let mut keys: Vec<_> = near.iter().map(|name| stage.key(name)).collect();
    keys.push(Key::new(stage.namespace(), Some("bucket"), "shop*/1"));
    keys.push(Key::new(
        &format!("{}x", stage.namespace()),
        None,
        "shop*/1",
    ));
    for key in &keys {
        stage.keep(key, "value").await?;
    }
    stage.delete_prefix(&stage.key("shop*/")).await?;
    for key in &keys {
        let encoded = key.encoded().escape_ascii();
        assert!(stage.contains(key).await?, "{encoded}");
    }
    stage.delete(&keys[keys.len() - 1]).await?;
    Ok(())
}

async fn delete_prefix_counts_live_entries(stage: Stage) -> Result<()> {
    let (short, long) = (stage.key("p/short"), stage.key("p/long"));
    stage.keep_for(&short, stage.brief()).await?;
    stage.keep(&long, "value").await?;
    stage.outlive(stage.brief()).await;
    let prefix = stage.key("p/");
    assert_eq!(stage.delete_prefix(&prefix).await?, 1);
    assert_eq!(stage.delete_prefix(&prefix).await?, 0);
    Ok(())
}

/// Calls `remove_expired` with a small limit until nothing is left to remove.
async fn remove_in_steps(stage: &Stage) -> Result<()> {
    const LIMIT: usize = 7;
    // On a server that others use too there can be any number of theirs.
    for _ in 0..10_000 {
        let removed = stage.remove_expired(LIMIT).await?;
        assert!(removed <= LIMIT, "{removed} is over the limit of {LIMIT}");
        if removed == 0 {
            return Ok(());
        }
    }
    panic!("remove_expired never comes to an end");
}

/// Fails unless the backend holds `count` entries, where it can tell and nobody else has any there.
fn holds(stage: &Stage, count: u64) {
    if let (Some(usage), false) = (stage.usage(), stage.capabilities().shared) {
        assert_eq!(usage.entries, count, "entries held");
    }
}

async fn remove_expired_takes_what_has_ended_in_steps(stage: Stage) -> Result<()> {
    let keys = stage.keys(30);
    let (short, long) = keys.split_at(25);
    for key in short {
        stage.keep_for(key, stage.brief()).await?;
    }
    for key in long {
        stage.keep(key, "value").await?;
    }
    stage.outlive(stage.brief()).await;
    remove_in_steps(&stage).await?;
    for key in short {
        assert!(!stage.contains(key).await?);
    }
    for key in long {
        assert_eq!(stage.read(key).await?, Some("value".into()));
    }
    holds(&stage, long.len() as u64);
    Ok(())
}

async fn remove_expired_takes_what_was_cleared(stage: Stage) -> Result<()> {
    let keys = stage.keys(30);
    for key in &keys {
        stage.keep(key, "before").await?;
    }
    stage.clear(stage.namespace()).await?;
    for key in &keys[..5] {
        stage.keep(key, "after").await?;
    }
    remove_in_steps(&stage).await?;
    for key in &keys[..5] {
        assert_eq!(stage.read(key).await?, Some("after".into()));
    }
    holds(&stage, 5);
    Ok(())
}
