//! Names, signs of life and the end.

use std::{fmt, future::Future};

use super::{
    Behaviour,
    stage::{LIFE, STORES, Stage, entry},
};
use crate::{ErrorKind, Peek, PutMode, Result, Timestamp};

pub(super) const ALL: &[Behaviour] = behaviours![
    &[] =>
        the_name_is_short_and_plain
        a_ping_is_answered
        closing_twice_is_no_error;
    &[STORES] =>
        peek_agrees_with_get
        a_closed_backend_says_so_on_every_verb;
];

async fn the_name_is_short_and_plain(stage: Stage) -> Result<()> {
    let name = stage.name();
    assert!((1..=32).contains(&name.len()), "{name}");
    let plain =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte);
    assert!(name.bytes().all(plain), "{name}");
    Ok(())
}

async fn a_ping_is_answered(stage: Stage) -> Result<()> {
    stage.ping().await
}

async fn closing_twice_is_no_error(stage: Stage) -> Result<()> {
    stage.close().await?;
    stage.close().await
}

async fn peek_agrees_with_get(stage: Stage) -> Result<()> {
    let key = stage.key("peeked");
    let peek = || stage.peek(key.as_key_ref(), Timestamp::now());
    assert!(
        !matches!(peek(), Peek::Hit(_)),
        "a hit, and nothing is there"
    );
    for value in ["first", "second"] {
        stage.keep(&key, value).await?;
        match peek() {
            Peek::Hit(entry) => assert_eq!(entry.payload(), value),
            Peek::Miss => panic!("a miss, and an entry is there"),
            Peek::Ask => {}
        }
    }
    stage.delete(&key).await?;
    assert!(
        !matches!(peek(), Peek::Hit(_)),
        "a hit, and nothing is there"
    );
    Ok(())
}

async fn a_closed_backend_says_so_on_every_verb(stage: Stage) -> Result<()> {
    let key = stage.key("closed");
    let keys = [key.clone()];
    let can = stage.capabilities();
    stage.keep(&key, "value").await?;
    stage.close().await?;

    let peek = stage.peek(key.as_key_ref(), Timestamp::now());
    assert!(!matches!(peek, Peek::Hit(_)), "peek gave an entry");
    closed("get", stage.get(&key)).await;
    closed("get_many", stage.get_many(&keys)).await;
    closed("put", stage.put(&key, entry("new"), PutMode::Always)).await;
    let entries = vec![(key.clone(), entry("new"), PutMode::Always)];
    closed("put_many", stage.put_many(entries)).await;
    closed("contains", stage.contains(&key)).await;
    closed("delete", stage.delete(&key)).await;
    closed("delete_many", stage.delete_many(&keys)).await;
    closed("ping", stage.ping()).await;
    if can.versions {
        closed("delete_if", stage.delete_if(&key, 1)).await;
    }
    if can.leases {
        closed("get_leased", stage.get_leased(&key)).await;
        closed("get_leased_many", stage.get_leased_many(&keys)).await;
    }
    if can.touch {
        closed("touch", stage.touch(&key, None)).await;
    }
    if can.counters {
        closed("increment", stage.increment(&key, 1, Some(LIFE))).await;
    }
    if can.clear {
        closed("clear", stage.clear(stage.namespace())).await;
    }
    if can.remove_expired {
        closed("remove_expired", stage.remove_expired(1)).await;
    }
    Ok(())
}

async fn closed<T: fmt::Debug>(verb: &str, answer: impl Future<Output = Result<T>>) {
    match answer.await {
        Ok(answer) => panic!("{verb} answered {answer:?}"),
        Err(error) => assert_eq!(error.kind(), ErrorKind::Closed, "{verb}: {error}"),
    }
}
