//! Futures that are dropped at every point where they wait, as those of a client that hung up are: what they were about
//! has happened or not, and the backend is as usable as before.

use std::future::Future;

use super::{
    Behaviour,
    stage::{
        CLEAR, COUNTERS, DELETE_PREFIX, IF_ABSENT, LEASES, LIFE, REMOVE_EXPIRED, STORES, Stage,
        TOUCH, VERSIONS, abandon, entry,
    },
};
use crate::{ErrorKind, Key, PutMode, Result};

pub(super) const ALL: &[Behaviour] = behaviours![
    &[STORES] =>
        a_dropped_get_leaves_the_backend_usable
        a_dropped_get_many_leaves_the_backend_usable
        a_dropped_contains_leaves_the_backend_usable
        a_dropped_put_leaves_the_backend_usable
        a_dropped_put_many_leaves_each_entry_whole
        a_dropped_delete_happened_or_not
        a_dropped_delete_many_happened_key_by_key
        a_dropped_ping_leaves_the_backend_usable
        a_dropped_close_can_be_finished
        hundreds_of_dropped_futures_use_nothing_up;
    &[STORES, IF_ABSENT] =>
        a_dropped_if_absent_is_there_for_all_or_for_nobody;
    &[STORES, VERSIONS] =>
        a_dropped_if_version_leaves_each_entry_whole
        a_dropped_delete_if_happened_or_not;
    &[STORES, LEASES] =>
        a_dropped_lease_leaves_the_backend_usable
        a_dropped_load_is_kept_or_not;
    &[STORES, TOUCH] =>
        a_dropped_touch_leaves_the_value;
    &[STORES, COUNTERS] =>
        a_dropped_increment_happened_once_or_not_at_all;
    &[STORES, CLEAR] =>
        a_dropped_clear_can_be_repeated_and_leaves_neighbours;
    &[STORES, DELETE_PREFIX] =>
        a_dropped_delete_prefix_can_be_repeated;
    &[STORES, REMOVE_EXPIRED] =>
        a_dropped_remove_expired_leaves_what_lives;
];

/// More polls than a future of one verb takes.
const POLLS: usize = 100;

/// Fails unless the backend does something else, whose answer cannot be taken for that of what was dropped. In another
/// namespace, which a clearing that is still on its way leaves alone.
async fn is_usable(stage: &Stage, polls: usize) -> Result<()> {
    let witness = Key::new(&format!("{}w", stage.namespace()), None, "witness");
    let value = format!("after {polls} polls");
    stage.keep(&witness, value.clone()).await?;
    assert_eq!(stage.read(&witness).await?, Some(value.into()));
    stage.delete(&witness).await.map(drop)
}

/// Drops a future of `verb` after no poll, after one, and so on, until it ends before it is dropped. `before` prepares a
/// key for each of them, and `after` is told whether the future ended.
async fn at_every_await<T, A, B, C>(
    stage: &Stage,
    before: impl Fn(Stage, Key) -> A,
    verb: impl Fn(Stage, Key) -> B,
    after: impl Fn(Stage, Key, Option<T>) -> C,
) -> Result<()>
where
    A: Future<Output = Result<()>>,
    B: Future<Output = Result<T>>,
    C: Future<Output = Result<()>>,
{
    for polls in 0..POLLS {
        let key = stage.key(format!("dropped {polls}"));
        before(stage.clone(), key.clone()).await?;
        let dropped = abandon(polls, verb(stage.clone(), key.clone())).await;
        let answer = dropped.transpose()?;
        let done = answer.is_some();
        is_usable(stage, polls).await?;
        after(stage.clone(), key, answer).await?;
        if done {
            return Ok(());
        }
    }
    panic!("it does not end within {POLLS} polls");
}

/// The same for a verb that changes nothing, on a key with a value.
async fn reading<T, F>(stage: &Stage, verb: impl Fn(Stage, Key) -> F) -> Result<()>
where
    F: Future<Output = Result<T>>,
{
    at_every_await(stage, keep_old, verb, |stage, key, _| async move {
        assert_eq!(stage.read(&key).await?, Some("old".into()));
        Ok(())
    })
    .await
}

async fn keep_old(stage: Stage, key: Key) -> Result<()> {
    stage.keep(&key, "old").await
}

/// Fails unless `read` is what was there before, or after where the verb ended.
fn is_one_of(
    read: Option<bytes::Bytes>,
    before: Option<&'static str>,
    after: Option<&'static str>,
    done: bool,
) {
    let (before, after) = (before.map(Into::into), after.map(Into::into));
    assert!(read == after || !done && read == before, "{read:?}");
}

/// The answer that nobody waits for any more must not be taken for that of the next question.
async fn a_dropped_get_leaves_the_backend_usable(stage: Stage) -> Result<()> {
    reading(&stage, |stage, key| async move { stage.get(&key).await }).await
}

async fn a_dropped_get_many_leaves_the_backend_usable(stage: Stage) -> Result<()> {
    let others = stage.keys(3);
    for key in &others {
        stage.keep(key, "another").await?;
    }
    reading(&stage, |stage, key| {
        let keys = [&others[..], &[key]].concat();
        async move { stage.get_many(&keys).await }
    })
    .await
}

async fn a_dropped_contains_leaves_the_backend_usable(stage: Stage) -> Result<()> {
    reading(
        &stage,
        |stage, key| async move { stage.contains(&key).await },
    )
    .await
}

async fn a_dropped_ping_leaves_the_backend_usable(stage: Stage) -> Result<()> {
    reading(&stage, |stage, _| async move { stage.ping().await }).await
}

async fn a_dropped_lease_leaves_the_backend_usable(stage: Stage) -> Result<()> {
    reading(
        &stage,
        |stage, key| async move { stage.get_leased(&key).await },
    )
    .await?;
    reading(&stage, |stage, key| async move {
        let keys = [key, stage.key("absent")];
        stage.get_leased_many(&keys).await
    })
    .await
}

async fn a_dropped_put_leaves_the_backend_usable(stage: Stage) -> Result<()> {
    at_every_await(
        &stage,
        keep_old,
        |stage, key| async move { stage.put(&key, entry("new"), PutMode::Always).await },
        |stage, key, done| async move {
            is_one_of(
                stage.read(&key).await?,
                Some("old"),
                Some("new"),
                done.is_some(),
            );
            Ok(())
        },
    )
    .await
}

/// `count` keys that belong to `key`.
fn family(stage: &Stage, key: &Key, count: usize) -> Vec<Key> {
    let name = key.name().to_vec();
    let names = (0..count).map(|number| [&name[..], b" ", number.to_string().as_bytes()].concat());
    names.map(|name| stage.key(name)).collect()
}

async fn keep_all(stage: &Stage, keys: &[Key]) -> Result<()> {
    let entries = keys.iter().map(|key| (key.clone(), entry("old")));
    stage.put_all(entries.collect(), PutMode::Always).await?;
    Ok(())
}

async fn a_dropped_put_many_leaves_each_entry_whole(stage: Stage) -> Result<()> {
    at_every_await(
        &stage,
        |stage, key| async move { keep_all(&stage, &family(&stage, &key, 3)).await },
        |stage, key| async move {
            let entries = family(&stage, &key, 3)
                .into_iter()
                .map(|key| (key, entry("new")));
            stage.put_all(entries.collect(), PutMode::Always).await
        },
        |stage, key, done| async move {
            for key in family(&stage, &key, 3) {
                is_one_of(
                    stage.read(&key).await?,
                    Some("old"),
                    Some("new"),
                    done.is_some(),
                );
            }
            Ok(())
        },
    )
    .await
}

async fn a_dropped_delete_happened_or_not(stage: Stage) -> Result<()> {
    at_every_await(
        &stage,
        keep_old,
        |stage, key| async move { stage.delete(&key).await },
        |stage, key, done| async move {
            is_one_of(stage.read(&key).await?, Some("old"), None, done.is_some());
            Ok(())
        },
    )
    .await
}

async fn a_dropped_delete_many_happened_key_by_key(stage: Stage) -> Result<()> {
    at_every_await(
        &stage,
        |stage, key| async move { keep_all(&stage, &family(&stage, &key, 3)).await },
        |stage, key| async move { stage.delete_many(&family(&stage, &key, 3)).await },
        |stage, key, done| async move {
            for key in family(&stage, &key, 3) {
                is_one_of(stage.read(&key).await?, Some("old"), None, done.is_some());
            }
            Ok(())
        },
    )
    .await
}

/// Whoever asks next finds the key free or taken, as the value that is there says.
async fn a_dropped_if_absent_is_there_for_all_or_for_nobody(stage: Stage) -> Result<()> {
    at_every_await(
        &stage,
        |_, _| async move { Ok(()) },
        |stage, key| async move { stage.put(&key, entry("first"), PutMode::IfAbsent).await },
        |stage, key, done| async move {
            let free = stage.put(&key, entry("second"), PutMode::IfAbsent).await?;
            assert!(!(free && done.is_some()), "a key that was taken is free");
            let winner = if free { "second" } else { "first" };
            assert_eq!(stage.read(&key).await?, Some(winner.into()));
            Ok(())
        },
    )
    .await
}

async fn a_dropped_if_version_leaves_each_entry_whole(stage: Stage) -> Result<()> {
    at_every_await(
        &stage,
        keep_old,
        |stage, key| async move {
            let mode = PutMode::IfVersion(stage.version(&key).await?);
            stage.put(&key, entry("new"), mode).await
        },
        |stage, key, done| async move {
            is_one_of(
                stage.read(&key).await?,
                Some("old"),
                Some("new"),
                done.is_some(),
            );
            Ok(())
        },
    )
    .await
}

async fn a_dropped_delete_if_happened_or_not(stage: Stage) -> Result<()> {
    at_every_await(
        &stage,
        keep_old,
        |stage, key| async move {
            let version = stage.version(&key).await?;
            stage.delete_if(&key, version).await
        },
        |stage, key, done| async move {
            is_one_of(stage.read(&key).await?, Some("old"), None, done.is_some());
            Ok(())
        },
    )
    .await
}

async fn a_dropped_load_is_kept_or_not(stage: Stage) -> Result<()> {
    at_every_await(
        &stage,
        keep_old,
        |stage, key| async move {
            let mode = PutMode::IfUnchanged(stage.get_leased(&key).await?.lease);
            stage.put(&key, entry("loaded"), mode).await
        },
        |stage, key, done| async move {
            let read = stage.read(&key).await?;
            is_one_of(read, Some("old"), Some("loaded"), done == Some(true));
            stage.delete(&key).await?;
            assert_eq!(stage.read(&key).await?, None);
            Ok(())
        },
    )
    .await
}

async fn a_dropped_touch_leaves_the_value(stage: Stage) -> Result<()> {
    at_every_await(
        &stage,
        keep_old,
        |stage, key| async move { stage.touch(&key, Some(2 * LIFE)).await },
        |stage, key, done| async move {
            let read = stage.get(&key).await?.expect("a touch removes nothing");
            assert_eq!(read.payload(), "old");
            let left = read.remaining(crate::Timestamp::now());
            let touched = left.is_some_and(|left| left > LIFE);
            assert!(touched || done.is_none(), "{left:?} are left");
            Ok(())
        },
    )
    .await
}

async fn a_dropped_increment_happened_once_or_not_at_all(stage: Stage) -> Result<()> {
    at_every_await(
        &stage,
        |stage, key| async move { stage.increment(&key, 1, Some(LIFE)).await.map(drop) },
        |stage, key| async move { stage.increment(&key, 10, Some(LIFE)).await },
        |stage, key, done| async move {
            let sum = stage.increment(&key, 100, Some(LIFE)).await?;
            assert!(sum == 111 || done.is_none() && sum == 101, "{sum}");
            Ok(())
        },
    )
    .await
}

async fn a_dropped_clear_can_be_repeated_and_leaves_neighbours(stage: Stage) -> Result<()> {
    let neighbour = &Key::new(&format!("{}x", stage.namespace()), None, "neighbour");
    stage.keep(neighbour, "value").await?;
    at_every_await(
        &stage,
        keep_old,
        |stage, _| async move { stage.clear(stage.namespace()).await },
        |stage, key, done| async move {
            is_one_of(stage.read(&key).await?, Some("old"), None, done.is_some());
            stage.clear(stage.namespace()).await?;
            assert_eq!(stage.read(&key).await?, None);
            // What was dropped may still be on its way, and comes once.
            for _ in 0..2 {
                stage.keep(&key, "after").await?;
                if stage.contains(&key).await? {
                    break;
                }
            }
            assert_eq!(stage.read(&key).await?, Some("after".into()));
            assert!(stage.contains(neighbour).await?);
            Ok(())
        },
    )
    .await?;
    stage.delete(neighbour).await.map(drop)
}

async fn a_dropped_delete_prefix_can_be_repeated(stage: Stage) -> Result<()> {
    at_every_await(
        &stage,
        |stage, key| async move { keep_all(&stage, &family(&stage, &key, 3)).await },
        |stage, key| async move { stage.delete_prefix(&key).await },
        |stage, key, _| async move {
            stage.delete_prefix(&key).await?;
            for key in family(&stage, &key, 3) {
                assert_eq!(stage.read(&key).await?, None);
            }
            Ok(())
        },
    )
    .await
}

async fn a_dropped_remove_expired_leaves_what_lives(stage: Stage) -> Result<()> {
    reading(
        &stage,
        |stage, _| async move { stage.remove_expired(10).await },
    )
    .await
}

/// Dropped before it was polled, a future has done nothing, so that the backend is there for the rest of the check.
async fn a_dropped_close_can_be_finished(stage: Stage) -> Result<()> {
    abandon(0, stage.close()).await.transpose()?;
    is_usable(&stage, 0).await?;
    abandon(1, stage.close()).await.transpose()?;
    stage.close().await?;
    match stage.get(&stage.key("closed")).await {
        Ok(read) => panic!("it answered {read:?}"),
        Err(error) => assert_eq!(error.kind(), ErrorKind::Closed, "{error}"),
    }
    Ok(())
}

/// More than a pool has connections.
const HUNDREDS: usize = 300;

/// A connection or a permit that a dropped future does not give back is missing only after many of them.
async fn hundreds_of_dropped_futures_use_nothing_up(stage: Stage) -> Result<()> {
    let keys = stage.keys(2);
    for key in &keys {
        stage.keep(key, "value").await?;
    }
    let drop_many = |polls| {
        let (stage, keys) = (&stage, &keys);
        async move {
            for number in 0..HUNDREDS {
                let key = &keys[number % 2];
                match number % 3 {
                    0 => drop(abandon(polls, stage.get(key)).await.transpose()?),
                    1 => drop(abandon(polls, stage.get_many(keys)).await.transpose()?),
                    _ => {
                        let put = stage.put(key, entry("value"), PutMode::Always);
                        abandon(polls, put).await.transpose()?;
                    }
                }
            }
            Result::Ok(())
        }
    };
    drop_many(1).await?;
    drop_many(2).await?;
    for key in &keys {
        assert_eq!(stage.read(key).await?, Some("value".into()));
    }
    Ok(())
}
