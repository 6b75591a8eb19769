//! Loads that are kept only if nobody changed or invalidated their key meanwhile, in this process or another.

use super::{
    Behaviour,
    stage::{CLEAR, COUNTERS, LEASES, LIFE, STORES, Stage, entry, together},
};
use crate::{Key, Lease, PutMode, Result};

pub(super) const ALL: &[Behaviour] = behaviours![
    &[STORES, LEASES] =>
        a_lease_shows_what_get_shows
        leases_of_many_keys_have_their_order
        a_lease_on_an_absent_key_keeps
        a_lease_on_an_entry_replaces_it
        a_lease_on_an_expired_entry_keeps
        a_lease_is_good_for_one_put
        a_lease_ends_with_a_put_by_somebody_else
        a_lease_ends_with_a_delete
        a_lease_ends_with_a_delete_of_nothing
        a_lease_ends_with_a_delete_of_many
        a_lease_ends_with_a_put_that_was_deleted_again
        a_lease_taken_after_a_delete_keeps
        put_many_holds_each_entry_to_its_own_lease
        concurrent_leases_have_one_winner
        concurrent_deletes_leave_nothing_of_a_load;
    &[STORES, LEASES, COUNTERS] =>
        a_lease_shows_a_counter;
    &[STORES, LEASES, CLEAR] =>
        a_lease_ends_with_a_clear
        a_lease_taken_after_a_clear_keeps;
];

async fn lease(stage: &Stage, key: &Key) -> Result<Lease> {
    Ok(stage.get_leased(key).await?.lease)
}

async fn load(stage: &Stage, key: &Key, lease: Lease) -> Result<bool> {
    let mode = PutMode::IfUnchanged(lease);
    stage.put(key, entry("loaded"), mode).await
}

async fn a_lease_shows_what_get_shows(stage: Stage) -> Result<()> {
    let key = stage.key("shown");
    assert!(stage.get_leased(&key).await?.entry.is_none());
    stage.keep(&key, "value").await?;
    let leased = stage.get_leased(&key).await?.entry;
    let leased = leased.expect("the entry was put a moment ago");
    assert_eq!(leased.payload(), "value");
    assert_eq!(leased.version(), stage.version(&key).await?);
    stage.delete(&key).await?;
    assert!(stage.get_leased(&key).await?.entry.is_none());
    Ok(())
}

async fn leases_of_many_keys_have_their_order(stage: Stage) -> Result<()> {
    let keys = stage.keys(3);
    stage.keep(&keys[2], "value").await?;
    let asked = [2, 0, 2, 1].map(|number: usize| keys[number].clone());
    let leased = stage.get_leased_many(&asked).await?;
    let found: Vec<_> = leased.iter().map(|leased| leased.entry.is_some()).collect();
    assert_eq!(found, [true, false, true, false]);
    for (key, leased) in asked.iter().zip(&leased).skip(1) {
        assert!(load(&stage, key, leased.lease).await?);
    }
    assert!(stage.get_leased_many(&[]).await?.is_empty());
    Ok(())
}

async fn a_lease_on_an_absent_key_keeps(stage: Stage) -> Result<()> {
    let key = stage.key("absent");
    let lease = lease(&stage, &key).await?;
    assert!(load(&stage, &key, lease).await?);
    assert_eq!(stage.read(&key).await?, Some("loaded".into()));
    Ok(())
}

async fn a_lease_on_an_entry_replaces_it(stage: Stage) -> Result<()> {
    let key = stage.key("present");
    stage.keep(&key, "old").await?;
    let lease = lease(&stage, &key).await?;
    assert!(load(&stage, &key, lease).await?);
    assert_eq!(stage.read(&key).await?, Some("loaded".into()));
    Ok(())
}

async fn a_lease_on_an_expired_entry_keeps(stage: Stage) -> Result<()> {
    let key = stage.key("expired");
    stage.keep_for(&key, stage.brief()).await?;
    stage.outlive(stage.brief()).await;
    let leased = stage.get_leased(&key).await?;
    assert!(leased.entry.is_none());
    assert!(load(&stage, &key, leased.lease).await?);
    assert_eq!(stage.read(&key).await?, Some("loaded".into()));
    Ok(())
}

async fn a_lease_is_good_for_one_put(stage: Stage) -> Result<()> {
    let key = stage.key("once");
    let lease = lease(&stage, &key).await?;
    assert!(load(&stage, &key, lease).await?);
    assert!(!load(&stage, &key, lease).await?);
    Ok(())
}

async fn a_lease_ends_with_a_put_by_somebody_else(stage: Stage) -> Result<()> {
    for (name, before) in [("absent", None), ("present", Some("old"))] {
        let key = stage.key(name);
        if let Some(before) = before {
            stage.keep(&key, before).await?;
        }
        let lease = lease(&stage, &key).await?;
        let other = stage.client(1);
        assert!(other.put(&key, entry("new"), PutMode::Always).await?);
        assert!(!load(&stage, &key, lease).await?, "{name}");
        assert_eq!(stage.read(&key).await?, Some("new".into()));
    }
    Ok(())
}

async fn a_lease_ends_with_a_delete(stage: Stage) -> Result<()> {
    let key = stage.key("deleted");
    stage.keep(&key, "old").await?;
    let lease = lease(&stage, &key).await?;
    assert!(stage.client(1).delete(&key).await?);
    assert!(!load(&stage, &key, lease).await?);
    assert_eq!(stage.read(&key).await?, None);
    Ok(())
}

/// What was deleted may have been nothing here, and yet what a load is reading elsewhere has changed.
async fn a_lease_ends_with_a_delete_of_nothing(stage: Stage) -> Result<()> {
    let key = stage.key("nothing");
    let lease = lease(&stage, &key).await?;
    assert!(!stage.client(1).delete(&key).await?);
    assert!(!load(&stage, &key, lease).await?);
    assert_eq!(stage.read(&key).await?, None);
    Ok(())
}

async fn a_lease_ends_with_a_delete_of_many(stage: Stage) -> Result<()> {
    let keys = stage.keys(3);
    stage.keep(&keys[1], "old").await?;
    let leased = stage.get_leased_many(&keys).await?;
    stage.client(1).delete_many(&keys).await?;
    for (key, leased) in keys.iter().zip(leased) {
        assert!(!load(&stage, key, leased.lease).await?);
    }
    Ok(())
}

async fn a_lease_ends_with_a_put_that_was_deleted_again(stage: Stage) -> Result<()> {
    let key = stage.key("absent again");
    let lease = lease(&stage, &key).await?;
    stage.keep(&key, "new").await?;
    stage.delete(&key).await?;
    assert!(!load(&stage, &key, lease).await?);
    Ok(())
}

async fn a_lease_taken_after_a_delete_keeps(stage: Stage) -> Result<()> {
    let key = stage.key("anew");
    for _ in 0..3 {
        stage.delete(&key).await?;
        let lease = lease(&stage, &key).await?;
        assert!(load(&stage, &key, lease).await?);
        assert_eq!(stage.read(&key).await?, Some("loaded".into()));
    }
    Ok(())
}

/// A backend may end a few leases too many, where keys share what it counts deletions by; not always the same ones.
async fn put_many_holds_each_entry_to_its_own_lease(stage: Stage) -> Result<()> {
    let mut answers = Vec::new();
    for round in 0..5 {
        let keys = [0, 1, 2].map(|number| stage.key(format!("{round} {number}")));
        let leased = stage.get_leased_many(&keys).await?;
        stage.delete(&keys[1]).await?;
        let entries = keys.iter().zip(leased);
        let entries = entries.map(|(key, leased)| {
            let mode = PutMode::IfUnchanged(leased.lease);
            (key.clone(), entry("loaded"), mode)
        });
        let kept = stage.put_many(entries.collect()).await?;
        assert!(!kept[1], "its key was deleted");
        if kept == [true, false, true] {
            return Ok(());
        }
        answers.push(kept);
    }
    panic!("leases on other keys ended every time: {answers:?}");
}

async fn a_lease_shows_a_counter(stage: Stage) -> Result<()> {
    let key = stage.key("counter");
    stage.increment(&key, 5, Some(LIFE)).await?;
    let leased = stage.get_leased(&key).await?.entry;
    let counter = leased.expect("the counter was counted a moment ago");
    assert_eq!(counter.as_counter()?, 5);
    Ok(())
}

async fn a_lease_ends_with_a_clear(stage: Stage) -> Result<()> {
    let (present, absent) = (stage.key("present"), stage.key("absent"));
    stage.keep(&present, "old").await?;
    for key in [present, absent] {
        let lease = lease(&stage, &key).await?;
        stage.client(1).clear(stage.namespace()).await?;
        assert!(!load(&stage, &key, lease).await?);
        assert_eq!(stage.read(&key).await?, None);
    }
    Ok(())
}

async fn a_lease_taken_after_a_clear_keeps(stage: Stage) -> Result<()> {
    let key = stage.key("anew");
    for _ in 0..3 {
        stage.client(1).clear(stage.namespace()).await?;
        let lease = lease(&stage, &key).await?;
        assert!(load(&stage, &key, lease).await?);
        assert_eq!(stage.read(&key).await?, Some("loaded".into()));
    }
    Ok(())
}

const TASKS: usize = 32;
const ROUNDS: usize = 20;

async fn concurrent_leases_have_one_winner(stage: Stage) -> Result<()> {
    let key = stage.key("leased");
    for _ in 0..ROUNDS {
        let lease = lease(&stage, &key).await?;
        let answers = together(TASKS, |number| {
            let (stage, key) = (stage.clone(), key.clone());
            let mode = PutMode::IfUnchanged(lease);
            async move { stage.client(number).put(&key, entry("loaded"), mode).await }
        });
        let answers = answers.await.into_iter().collect::<Result<Vec<_>>>()?;
        assert_eq!(answers.iter().filter(|won| **won).count(), 1, "winners");
    }
    Ok(())
}

/// Whichever comes first, the load or the delete: what was read before the delete is not there after it.
async fn concurrent_deletes_leave_nothing_of_a_load(stage: Stage) -> Result<()> {
    for round in 0..ROUNDS {
        let key = stage.key(round.to_string());
        let mode = PutMode::IfUnchanged(lease(&stage, &key).await?);
        let done = together(2, |number| {
            let (stage, key) = (stage.clone(), key.clone());
            async move {
                let client = stage.client(number);
                match number {
                    0 => client.put(&key, entry("loaded"), mode).await,
                    _ => client.delete(&key).await,
                }
            }
        });
        done.await.into_iter().collect::<Result<Vec<_>>>()?;
        assert_eq!(stage.read(&key).await?, None, "in round {round}");
    }
    Ok(())
}
