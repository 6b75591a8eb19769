//! What a backend answers where it cannot do something, or keeps nothing at all.

use std::{fmt, future::Future};

use super::{
    Behaviour,
    stage::{
        FORGETS, LIFE, NO_CLEAR, NO_COUNTERS, NO_DELETE_PREFIX, NO_IF_ABSENT, NO_LEASES, NO_TOUCH,
        NO_VERSIONS, Stage, entry,
    },
};
use crate::{ErrorKind, Peek, PutMode, Result, Timestamp};

pub(super) const ALL: &[Behaviour] = behaviours![
    &[NO_COUNTERS] => increment_is_unsupported_where_it_is_not_declared;
    &[NO_IF_ABSENT] => if_absent_is_unsupported_where_it_is_not_declared;
    &[NO_VERSIONS] => versions_are_unsupported_where_they_are_not_declared;
    &[NO_LEASES] => leases_are_unsupported_where_they_are_not_declared;
    &[NO_TOUCH] => touch_is_unsupported_where_it_is_not_declared;
    &[NO_DELETE_PREFIX] => delete_prefix_is_unsupported_where_it_is_not_declared;
    &[NO_CLEAR] => clear_is_unsupported_where_it_is_not_declared;
    &[FORGETS] =>
        nothing_is_kept
        nothing_is_found
        many_keys_have_as_many_answers_though_nothing_is_kept;
];

async fn unsupported<T: fmt::Debug>(answer: impl Future<Output = Result<T>>) {
    match answer.await {
        Ok(answer) => panic!("it answered {answer:?}"),
        Err(error) => assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}"),
    }
}

async fn increment_is_unsupported_where_it_is_not_declared(stage: Stage) -> Result<()> {
    unsupported(stage.increment(&stage.key("counter"), 1, Some(LIFE))).await;
    Ok(())
}

async fn if_absent_is_unsupported_where_it_is_not_declared(stage: Stage) -> Result<()> {
    let key = stage.key("absent");
    unsupported(stage.put(&key, entry("value"), PutMode::IfAbsent)).await;
    assert_eq!(stage.read(&key).await?, None);
    Ok(())
}

async fn versions_are_unsupported_where_they_are_not_declared(stage: Stage) -> Result<()> {
    let key = stage.key("version");
    stage.keep(&key, "old").await?;
    let version = stage.version(&key).await?;
    unsupported(stage.put(&key, entry("new"), PutMode::IfVersion(version))).await;
    unsupported(stage.delete_if(&key, version)).await;
    assert_eq!(stage.read(&key).await?, Some("old".into()));
    Ok(())
}

async fn leases_are_unsupported_where_they_are_not_declared(stage: Stage) -> Result<()> {
    let key = stage.key("leased");
    unsupported(stage.get_leased(&key)).await;
    unsupported(stage.get_leased_many(&[key])).await;
    Ok(())
}

async fn touch_is_unsupported_where_it_is_not_declared(stage: Stage) -> Result<()> {
    let key = stage.key("touched");
    stage.keep(&key, "value").await?;
    unsupported(stage.touch(&key, Some(LIFE))).await;
    Ok(())
}

async fn delete_prefix_is_unsupported_where_it_is_not_declared(stage: Stage) -> Result<()> {
    let key = stage.key("prefix");
    stage.put(&key, entry("value"), PutMode::Always).await?;
    let before = stage.contains(&key).await?;
    unsupported(stage.delete_prefix(&key)).await;
    assert_eq!(stage.contains(&key).await?, before);
    Ok(())
}

async fn clear_is_unsupported_where_it_is_not_declared(stage: Stage) -> Result<()> {
    unsupported(stage.clear(stage.namespace())).await;
    Ok(())
}

async fn nothing_is_kept(stage: Stage) -> Result<()> {
    let key = stage.key("forgotten");
    for mode in [PutMode::Always, PutMode::IfAbsent, PutMode::IfVersion(1)] {
        assert!(!stage.put(&key, entry("value"), mode).await?, "{mode:?}");
        assert!(stage.get(&key).await?.is_none(), "{mode:?}");
    }
    Ok(())
}

async fn nothing_is_found(stage: Stage) -> Result<()> {
    let key = stage.key("absent");
    let peek = stage.peek(key.as_key_ref(), Timestamp::now());
    assert!(!matches!(peek, Peek::Hit(_)));
    assert!(!stage.contains(&key).await?);
    assert!(!stage.delete(&key).await?);
    assert!(!stage.delete_if(&key, 1).await?);
    if stage.capabilities().delete_prefix {
        assert_eq!(stage.delete_prefix(&key).await?, 0);
    }
    assert!(!stage.touch(&key, Some(LIFE)).await?);
    Ok(())
}

async fn many_keys_have_as_many_answers_though_nothing_is_kept(stage: Stage) -> Result<()> {
    let keys = stage.keys(3);
    let entries = keys.iter().map(|key| (key.clone(), entry("value")));
    let kept = stage.put_all(entries.collect(), PutMode::Always).await?;
    assert_eq!(kept, [false; 3]);
    let read = stage.get_many(&keys).await?;
    assert!(read.len() == 3 && read.iter().all(Option::is_none));
    assert_eq!(stage.delete_many(&keys).await?, [false; 3]);
    assert!(stage.get_many(&[]).await?.is_empty());
    Ok(())
}
