//! The verbs on many keys: one result a key, in the order of the keys.

use super::{
    Behaviour,
    stage::{IF_ABSENT, LIFE, SHARED, STORES, Stage, VERSIONS, entry},
};
use crate::{CodecId, Entry, Key, PutMode, Result, Timestamp};

pub(super) const ALL: &[Behaviour] = behaviours![
    &[STORES] =>
        get_many_answers_key_by_key
        get_many_relaxed_answers_key_by_key
        put_many_answers_key_by_key
        put_many_keeps_each_entry_as_it_is
        the_later_of_two_equal_keys_is_kept
        delete_many_answers_key_by_key
        many_keys_may_be_of_many_namespaces_and_buckets
        no_keys_are_no_work
        a_thousand_keys_are_not_too_many;
    &[STORES, SHARED] =>
        many_long_values_are_not_too_many;
    &[STORES, IF_ABSENT] =>
        put_many_if_absent_answers_key_by_key;
    &[STORES, IF_ABSENT, VERSIONS] =>
        put_many_holds_each_entry_to_its_own_mode;
];

async fn get_many_answers_key_by_key(stage: Stage) -> Result<()> {
    let keys = stage.keys(5);
    for number in [0, 2, 3] {
        stage.keep(&keys[number], number.to_string()).await?;
    }
    let asked = [3, 1, 0, 3, 4, 2, 1, 0].map(|number: usize| keys[number].clone());
    answers_key_by_key(&stage.get_many(&asked).await?);
    Ok(())
}

async fn get_many_relaxed_answers_key_by_key(stage: Stage) -> Result<()> {
    let keys = stage.keys(5);
    for number in [0, 2, 3] {
        stage.keep(&keys[number], number.to_string()).await?;
    }
    let asked = [3, 1, 0, 3, 4, 2, 1, 0].map(|number: usize| keys[number].clone());
    for _ in 0..3 {
        answers_key_by_key(&stage.get_many_relaxed(&asked).await?);
    }
    Ok(())
}

fn answers_key_by_key(read: &[Option<Entry>]) {
    let read = read.iter().map(|read| read.as_ref().map(Entry::payload));
    let read: Vec<_> = read.map(|payload| payload.map(|it| &it[..])).collect();
    let (zero, two, three) = (Some(&b"0"[..]), Some(&b"2"[..]), Some(&b"3"[..]));
    assert_eq!(read, [three, None, zero, three, None, two, None, zero]);
}

async fn put_many_answers_key_by_key(stage: Stage) -> Result<()> {
    let keys = stage.keys(3);
    let entries = keys.iter().map(|key| (key.clone(), entry("value")));
    let kept = stage.put_all(entries.collect(), PutMode::Always).await?;
    assert_eq!(kept, [true; 3]);
    for key in &keys {
        assert_eq!(stage.read(key).await?, Some("value".into()));
    }
    Ok(())
}

async fn put_many_keeps_each_entry_as_it_is(stage: Stage) -> Result<()> {
    let keys = stage.keys(2);
    let now = Timestamp::now();
    let json = Entry::new(CodecId::JSON, "1", now).with_ttl(Some(LIFE), now);
    let raw = Entry::new(CodecId::RAW, "2", now).with_ttl(Some(LIFE * 2), now);
    let entries = vec![(keys[0].clone(), json), (keys[1].clone(), raw)];
    assert_eq!(stage.put_all(entries, PutMode::Always).await?, [true, true]);
    let read = stage.get_many(&keys).await?;
    let read: Vec<_> = read
        .iter()
        .flatten()
        .map(|entry| (entry.codec(), entry.expires_at()))
        .collect();
    let expected = [
        (CodecId::JSON, Some(now + LIFE)),
        (CodecId::RAW, Some(now + LIFE * 2)),
    ];
    assert_eq!(read, expected);
    Ok(())
}

async fn the_later_of_two_equal_keys_is_kept(stage: Stage) -> Result<()> {
    let key = stage.key("twice");
    let entries = ["first", "second"].map(|value| (key.clone(), entry(value)));
    let kept = stage.put_all(entries.to_vec(), PutMode::Always).await?;
    assert_eq!(kept, [true, true]);
    assert_eq!(stage.read(&key).await?, Some("second".into()));
    Ok(())
}

async fn put_many_if_absent_answers_key_by_key(stage: Stage) -> Result<()> {
    let keys = stage.keys(3);
    stage.keep(&keys[1], "old").await?;
    let entries = [0, 1, 2, 0].map(|number: usize| (keys[number].clone(), entry("new")));
    let kept = stage.put_all(entries.to_vec(), PutMode::IfAbsent).await?;
    assert_eq!(kept, [true, false, true, false]);
    assert_eq!(stage.read(&keys[1]).await?, Some("old".into()));
    assert_eq!(stage.read(&keys[2]).await?, Some("new".into()));
    Ok(())
}

async fn delete_many_answers_key_by_key(stage: Stage) -> Result<()> {
    let keys = stage.keys(3);
    stage.keep(&keys[0], "value").await?;
    stage.keep(&keys[2], "value").await?;
    let asked = [2, 1, 0, 2].map(|number: usize| keys[number].clone());
    assert_eq!(stage.delete_many(&asked).await?, [true, false, true, false]);
    assert!(stage.get_many(&keys).await?.iter().all(Option::is_none));
    Ok(())
}

async fn put_many_holds_each_entry_to_its_own_mode(stage: Stage) -> Result<()> {
    let keys = stage.keys(5);
    for key in &keys[..4] {
        stage.keep(key, "old").await?;
    }
    let (right, wrong) = (
        stage.version(&keys[2]).await?,
        stage.version(&keys[3]).await? ^ 1,
    );
    let modes = [
        PutMode::IfAbsent,
        PutMode::Always,
        PutMode::IfVersion(right),
        PutMode::IfVersion(wrong),
        PutMode::IfAbsent,
    ];
    let entries = keys.iter().zip(modes);
    let entries = entries.map(|(key, mode)| (key.clone(), entry("new"), mode));
    let kept = stage.put_many(entries.collect()).await?;
    assert_eq!(kept, [false, true, true, false, true]);
    for (key, kept) in keys.iter().zip(kept) {
        let expected = if kept { "new" } else { "old" };
        assert_eq!(stage.read(key).await?, Some(expected.into()));
    }
    Ok(())
}

/// Servers take them apart, by tables, sets, slots or nodes; the answers are put together again in order.
async fn many_keys_may_be_of_many_namespaces_and_buckets(stage: Stage) -> Result<()> {
    let namespaces = ["", "x", "y"].map(|end| format!("{}{end}", stage.namespace()));
    let keys = (0..60).map(|number: usize| {
        let bucket = [None, Some("one"), Some("two"), Some("")][number % 4];
        Key::new(&namespaces[number % 3], bucket, number.to_string())
    });
    let keys: Vec<_> = keys.collect();
    let put = |places: std::ops::Range<usize>| {
        let entries = keys[places].iter();
        entries.map(|key| (key.clone(), entry(key.encoded().to_vec())))
    };
    let kept = stage.put_all(put(0..50).collect(), PutMode::Always).await?;
    assert_eq!(kept, [true; 50]);
    let asked: Vec<_> = keys.iter().rev().chain(&keys).cloned().collect();
    let read = stage.get_many(&asked).await?;
    assert_eq!(read.len(), asked.len());
    for (number, (key, read)) in asked.iter().zip(read).enumerate() {
        let expected = (10..110).contains(&number).then(|| key.encoded());
        assert_eq!(read.as_ref().map(|it| &it.payload()[..]), expected);
    }
    let removed = stage.delete_many(&keys).await?;
    let expected: Vec<_> = (0..60).map(|number| number < 50).collect();
    assert_eq!(removed, expected);
    Ok(())
}

/// Together they are more than some servers take or give at once, though none of them is by itself.
async fn many_long_values_are_not_too_many(stage: Stage) -> Result<()> {
    const LONG: usize = 400_000;
    let len = stage.capabilities().max_value_len.unwrap_or(LONG).min(LONG);
    let keys = stage.keys(45);
    let value = |number: usize| vec![number as u8; len];
    let entries = keys.iter().enumerate();
    let entries = entries.map(|(number, key)| (key.clone(), entry(value(number))));
    let kept = stage.put_all(entries.collect(), PutMode::Always).await?;
    assert_eq!(kept, [true; 45]);
    for (number, read) in stage.get_many(&keys).await?.into_iter().enumerate() {
        let read = read.map(|entry| entry.payload().clone());
        assert!(
            read.as_deref() == Some(&value(number)[..]),
            "the value {number}"
        );
    }
    assert_eq!(stage.delete_many(&keys).await?, [true; 45]);
    Ok(())
}

async fn no_keys_are_no_work(stage: Stage) -> Result<()> {
    assert!(stage.get_many(&[]).await?.is_empty());
    let kept = stage.put_all(Vec::new(), PutMode::Always).await?;
    assert!(kept.is_empty());
    assert!(stage.delete_many(&[]).await?.is_empty());
    Ok(())
}

/// Some servers take 25 or 100 keys at a time.
async fn a_thousand_keys_are_not_too_many(stage: Stage) -> Result<()> {
    let keys = stage.keys(1000);
    let entries = keys
        .iter()
        .map(|key| (key.clone(), entry(key.name().to_vec())));
    let kept = stage.put_all(entries.collect(), PutMode::Always).await?;
    assert_eq!(kept, vec![true; 1000]);
    let read = stage.get_many(&keys).await?;
    assert_eq!(read.len(), 1000);
    for (key, read) in keys.iter().zip(&read) {
        assert_eq!(read.as_ref().map(|it| &it.payload()[..]), Some(key.name()));
    }
    assert_eq!(stage.delete_many(&keys).await?, vec![true; 1000]);
    Ok(())
}
