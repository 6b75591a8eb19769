//! One value under one key.

use bytes::Bytes;

use super::{
    Behaviour,
    stage::{LIFE, LIMITED, SHARED, STORES, Stage, entry},
};
use crate::{CodecId, Entry, ErrorKind, PutMode, Result, Timestamp};

pub(super) const ALL: &[Behaviour] = behaviours![
    &[STORES] =>
        an_absent_key_reads_as_nothing
        a_value_reads_as_it_was_put
        an_empty_value_is_a_value
        an_empty_value_is_one_to_every_verb
        a_value_may_hold_every_byte
        a_value_may_be_a_mebibyte_long
        every_codec_number_is_kept
        a_put_replaces_what_was_there
        contains_tells_what_is_there
        a_relaxed_read_sees_what_this_client_did
        delete_says_whether_there_was_something
        a_deleted_key_can_be_put_again;
    &[STORES, LIMITED] =>
        a_value_of_the_greatest_length_is_kept
        a_value_over_the_limit_is_refused_and_replaces_what_was_there;
    &[STORES, SHARED] =>
        another_client_sees_every_change
        entries_outlive_the_client_that_put_them;
];

const MEBIBYTE: usize = 1 << 20;

async fn an_absent_key_reads_as_nothing(stage: Stage) -> Result<()> {
    assert!(stage.get(&stage.key("absent")).await?.is_none());
    Ok(())
}

async fn a_value_reads_as_it_was_put(stage: Stage) -> Result<()> {
    let key = stage.key("value");
    let now = Timestamp::now();
    // The times are not those of the put, as when an entry moves from one backend to another.
    let created_at = Timestamp::from_millis(now.as_millis() - 12_345);
    let expires_at = Timestamp::from_millis(now.as_millis() + 123_456);
    let entry = Entry::new(CodecId::JSON, "[1,2]", created_at).with_expires_at(Some(expires_at));
    assert!(stage.put(&key, entry, PutMode::Always).await?);

    let read = stage.get(&key).await?.expect("the entry was just put");
    assert_eq!(read.payload(), "[1,2]");
    assert_eq!(read.codec(), CodecId::JSON);
    assert_eq!(read.created_at(), created_at);
    assert_eq!(read.expires_at(), Some(expires_at));
    Ok(())
}

/// Again and again, because a replica that lags behind does not do so always.
async fn a_relaxed_read_sees_what_this_client_did(stage: Stage) -> Result<()> {
    let (key, can) = (stage.key("relaxed"), stage.capabilities());
    let read = async || {
        let found = stage.get_relaxed(&key).await?;
        Result::Ok(found.map(|entry| String::from_utf8_lossy(entry.payload()).into_owned()))
    };
    assert_eq!(read().await?, None);
    for round in 0..20 {
        let value = format!("value {round}");
        stage.keep(&key, value.clone()).await?;
        assert_eq!(read().await?.as_ref(), Some(&value));
        assert_eq!(read().await?.as_ref(), Some(&value));
        if can.versions {
            let mode = PutMode::IfVersion(stage.version(&key).await?);
            assert!(stage.put(&key, entry("compared"), mode).await?);
            assert_eq!(read().await?.as_deref(), Some("compared"));
        }
        match round % 2 {
            1 if can.clear => stage.clear(&key.namespace()).await?,
            0 if can.versions => {
                let version = stage.version(&key).await?;
                assert!(stage.delete_if(&key, version).await?);
            }
            _ => assert!(stage.delete(&key).await?),
        }
        assert_eq!(read().await?, None);
    }
    Ok(())
}

async fn an_empty_value_is_a_value(stage: Stage) -> Result<()> {
    let key = stage.key("empty");
    stage.keep(&key, "").await?;
    assert_eq!(stage.read(&key).await?, Some(Bytes::new()));
    assert!(stage.contains(&key).await?);
    Ok(())
}

async fn an_empty_value_is_one_to_every_verb(stage: Stage) -> Result<()> {
    let (keys, can) = (stage.keys(3), stage.capabilities());
    let entries = keys.iter().map(|key| (key.clone(), entry("")));
    let kept = stage.put_all(entries.collect(), PutMode::Always).await?;
    assert_eq!(kept, [true; 3]);
    let read = stage.get_many(&keys).await?.into_iter().flatten();
    let read: Vec<_> = read.map(|entry| entry.payload().clone()).collect();
    assert_eq!(read, [Bytes::new(), Bytes::new(), Bytes::new()]);
    let [first, second, third] = &keys[..] else {
        unreachable!("there are three");
    };
    if can.if_absent {
        assert!(!stage.put(first, entry("new"), PutMode::IfAbsent).await?);
    }
    if can.leases {
        let leased = stage.get_leased(first).await?;
        assert!(leased.entry.is_some());
        let mode = PutMode::IfUnchanged(leased.lease);
        assert!(stage.put(first, entry(""), mode).await?);
    }
    if can.versions {
        let mode = PutMode::IfVersion(stage.version(first).await?);
        assert!(stage.put(first, entry(""), mode).await?);
        let version = stage.version(first).await?;
        assert!(stage.delete_if(first, version).await?);
    }
    if can.touch {
        assert!(stage.touch(second, Some(LIFE)).await?);
        assert_eq!(stage.read(second).await?, Some(Bytes::new()));
    }
    assert!(stage.delete(second).await?);
    assert_eq!(
        stage.delete_many(std::slice::from_ref(third)).await?,
        [true]
    );
    Ok(())
}

async fn a_value_may_hold_every_byte(stage: Stage) -> Result<()> {
    let key = stage.key("bytes");
    let bytes: Vec<u8> = (0..=255).chain((0..=255).rev()).collect();
    stage.keep(&key, bytes.clone()).await?;
    assert_eq!(stage.read(&key).await?, Some(bytes.into()));
    Ok(())
}

async fn a_value_may_be_a_mebibyte_long(stage: Stage) -> Result<()> {
    let limit = stage.capabilities().max_value_len.unwrap_or(MEBIBYTE);
    let key = stage.key("long");
    // A period of 251 makes every lost or doubled block of a power of two visible.
    let bytes: Vec<u8> = (0..=250).cycle().take(limit.min(MEBIBYTE)).collect();
    stage.keep(&key, bytes.clone()).await?;
    let read = stage.read(&key).await?;
    assert!(
        read.as_deref() == Some(&bytes[..]),
        "{} bytes were put, and other bytes, {:?} of them, were read",
        bytes.len(),
        read.map(|read| read.len())
    );
    Ok(())
}

async fn every_codec_number_is_kept(stage: Stage) -> Result<()> {
    // All but the number of counters, which are not put.
    for id in (0..CodecId::COUNTER.as_u8())
        .step_by(2)
        .map(CodecId::from_u8)
    {
        let key = stage.key(format!("{id:?}"));
        let now = Timestamp::now();
        let entry = Entry::new(id, "payload", now).with_expires_at(entry("").expires_at());
        assert!(stage.put(&key, entry, PutMode::Always).await?);
        let read = stage.get(&key).await?;
        assert_eq!(read.map(|entry| entry.codec()), Some(id));
    }
    Ok(())
}

async fn a_put_replaces_what_was_there(stage: Stage) -> Result<()> {
    let key = stage.key("replaced");
    stage.keep(&key, "a long first value").await?;
    stage.keep(&key, "short").await?;
    assert_eq!(stage.read(&key).await?, Some("short".into()));
    stage.keep(&key, "").await?;
    assert_eq!(stage.read(&key).await?, Some(Bytes::new()));
    Ok(())
}

async fn contains_tells_what_is_there(stage: Stage) -> Result<()> {
    let key = stage.key("contained");
    assert!(!stage.contains(&key).await?);
    stage.keep(&key, "value").await?;
    assert!(stage.contains(&key).await?);
    stage.delete(&key).await?;
    assert!(!stage.contains(&key).await?);
    Ok(())
}

async fn delete_says_whether_there_was_something(stage: Stage) -> Result<()> {
    let key = stage.key("deleted");
    assert!(!stage.delete(&key).await?, "there was nothing yet");
    stage.keep(&key, "value").await?;
    assert!(stage.delete(&key).await?);
    assert_eq!(stage.read(&key).await?, None);
    assert!(!stage.delete(&key).await?, "it was deleted already");
    Ok(())
}

async fn a_deleted_key_can_be_put_again(stage: Stage) -> Result<()> {
    let key = stage.key("again");
    stage.keep(&key, "first").await?;
    stage.delete(&key).await?;
    stage.keep(&key, "second").await?;
    assert_eq!(stage.read(&key).await?, Some("second".into()));
    Ok(())
}

/// The limit is one on payloads, whatever else the server counts.
async fn a_value_of_the_greatest_length_is_kept(stage: Stage) -> Result<()> {
    let limit = stage.capabilities().max_value_len.unwrap_or_default();
    let key = stage.key("greatest");
    let bytes: Bytes = (0..=250).cycle().take(limit).collect::<Vec<u8>>().into();
    stage.keep(&key, bytes.clone()).await?;
    let read = stage.read(&key).await?;
    assert!(
        read.as_ref() == Some(&bytes),
        "{:?}",
        read.map(|read| read.len())
    );
    let kept = stage.put_all(vec![(key.clone(), entry(bytes))], PutMode::Always);
    assert_eq!(kept.await?, [true]);
    stage.delete(&key).await.map(drop)
}

/// A value that was refused is the newest all the same: the older one is no longer the truth.
async fn a_value_over_the_limit_is_refused_and_replaces_what_was_there(stage: Stage) -> Result<()> {
    let limit = stage.capabilities().max_value_len.unwrap_or_default();
    let key = stage.key("too large");
    stage.keep(&key, "old").await?;
    // Twice the limit, because a limit on whole entries lets some payloads pass that are a little over it.
    match stage
        .put(&key, entry(vec![b'x'; 2 * limit + 1]), PutMode::Always)
        .await
    {
        Ok(kept) => assert!(!kept, "it was said to be kept"),
        Err(error) => assert_eq!(error.kind(), ErrorKind::TooLarge, "{error}"),
    }
    assert_eq!(
        stage.read(&key).await?,
        None,
        "the old value is still there"
    );
    Ok(())
}

async fn another_client_sees_every_change(stage: Stage) -> Result<()> {
    let key = stage.key("shared");
    let other = stage.client(1);
    for value in ["first", "second"] {
        stage.keep(&key, value).await?;
        let read = other.get(&key).await?.map(|entry| entry.payload().clone());
        assert_eq!(read, Some(value.into()));
    }
    assert!(other.delete(&key).await?);
    assert_eq!(stage.read(&key).await?, None);
    Ok(())
}

async fn entries_outlive_the_client_that_put_them(stage: Stage) -> Result<()> {
    let key = stage.key("outliving");
    stage.keep(&key, "value").await?;
    stage.close().await?;
    assert!(stage.client(1).contains(&key).await?);
    Ok(())
}
