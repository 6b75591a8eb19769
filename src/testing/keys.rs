//! Keys of all kinds, and that no two of them meet.

use super::{
    Behaviour,
    stage::{LIFE, STORES, Stage, entry},
};
use crate::{Key, KeySpace, PutMode, Result, key::KeyHead};

pub(super) const ALL: &[Behaviour] = behaviours![
    &[STORES] =>
        every_byte_is_a_name_of_its_own
        a_name_of_every_byte_is_one_to_every_verb
        deleting_one_name_leaves_those_that_look_alike
        an_empty_name_is_a_name
        names_that_look_alike_do_not_meet
        names_that_are_patterns_match_nothing_else
        long_names_that_differ_in_one_byte_do_not_meet
        namespaces_and_buckets_do_not_meet
        values_and_stored_responses_do_not_meet;
];

/// Puts another value under each of the keys and then finds each of them where it was put.
async fn keep_apart(stage: &Stage, keys: Vec<Key>) -> Result<()> {
    let value = |number: usize| format!("value {number}");
    let entries = keys.iter().enumerate();
    let entries = entries.map(|(number, key)| (key.clone(), entry(value(number))));
    let kept = stage.put_all(entries.collect(), PutMode::Always).await?;
    assert_eq!(kept, vec![true; keys.len()]);

    let read = stage.get_many(&keys).await?;
    assert_eq!(read.len(), keys.len());
    for (number, (key, read)) in keys.iter().zip(read).enumerate() {
        let read = read.map(|entry| entry.payload().clone());
        let encoded = key.encoded().escape_ascii();
        assert_eq!(read, Some(value(number).into()), "get_many of {encoded}");
        let read = stage.read(key).await?;
        assert_eq!(read, Some(value(number).into()), "get of {encoded}");
    }
    Ok(())
}

async fn every_byte_is_a_name_of_its_own(stage: Stage) -> Result<()> {
    let names = (0..=255).map(|byte: u8| stage.key([byte]));
    keep_apart(&stage, names.collect()).await
}

async fn a_name_of_every_byte_is_one_to_every_verb(stage: Stage) -> Result<()> {
    let name: Vec<u8> = (0..=255).collect();
    let can = stage.capabilities();
    for bucket in [None, Some("bucket: \u{e9}\u{0}\r\n%")] {
        let key = Key::new(stage.namespace(), bucket, &name);
        stage.keep(&key, "value").await?;
        assert!(stage.contains(&key).await?);
        if can.touch {
            assert!(stage.touch(&key, Some(LIFE)).await?);
        }
        if can.if_absent {
            assert!(!stage.put(&key, entry("new"), PutMode::IfAbsent).await?);
        }
        if can.versions {
            let mode = PutMode::IfVersion(stage.version(&key).await?);
            assert!(stage.put(&key, entry("new"), mode).await?);
            let version = stage.version(&key).await?;
            assert!(stage.delete_if(&key, version).await?);
        }
        if can.leases {
            let mode = PutMode::IfUnchanged(stage.get_leased(&key).await?.lease);
            assert!(stage.put(&key, entry("loaded"), mode).await?);
        }
        stage.delete(&key).await?;
        if can.counters {
            assert_eq!(stage.increment(&key, 7, Some(LIFE)).await?, 7);
            assert_eq!(stage.delete_many(&[key]).await?, [true]);
        }
    }
    Ok(())
}

async fn deleting_one_name_leaves_those_that_look_alike(stage: Stage) -> Result<()> {
    let names: [&[u8]; 8] = [b"a", b"A", b"a ", b"a\0", b"a\0b", b"a:", b"\xe9", b"e"];
    let keys = names.map(|name| stage.key(name));
    for (number, key) in keys.iter().enumerate() {
        for key in &keys {
            stage.keep(key, "value").await?;
        }
        match number % 2 {
            0 => assert!(stage.delete(key).await?),
            _ => assert_eq!(stage.delete_many(std::slice::from_ref(key)).await?, [true]),
        }
        for other in &keys {
            let encoded = other.encoded().escape_ascii();
            assert_eq!(stage.contains(other).await?, other != key, "{encoded}");
        }
    }
    Ok(())
}

async fn an_empty_name_is_a_name(stage: Stage) -> Result<()> {
    let bucket = |bucket| Key::new(stage.namespace(), Some(bucket), "");
    keep_apart(&stage, vec![stage.key(""), bucket(""), bucket("bucket")]).await
}

async fn names_that_look_alike_do_not_meet(stage: Stage) -> Result<()> {
    let names: [&[u8]; 31] = [
        b"a",
        b"A",
        b"a ",
        b" a",
        b"a\0",
        b"\0a",
        b"a\n",
        b"a\r\n",
        b"a\t",
        b"a:",
        b"a/",
        b"a@",
        b"a%",
        b"a%3A",
        b"a%3a",
        b"a%253A",
        b"a*",
        b"a?",
        b"[a]",
        b"{a}",
        b"{a}b",
        b"'a'",
        b"\"a\"",
        b"a;",
        b"$a",
        b"\xff\xfe",
        b"\xef\xbf\xbd",
        b"\xc3\xa9",
        b"e\xcc\x81",
        b"\xc3\x89",
        b"\xe9",
    ];
    let names = names.iter().map(|name| stage.key(name));
    keep_apart(&stage, names.collect()).await
}

/// `*`, `%` and their like are patterns in the languages of several servers.
async fn names_that_are_patterns_match_nothing_else(stage: Stage) -> Result<()> {
    let plain = [stage.key("plain"), stage.key("p")];
    for key in &plain {
        stage.keep(key, "value").await?;
    }
    for pattern in ["*", "?", "%", "_", "p*", "p%", "[a-z]", ".*", "^p", "plai_"] {
        let pattern = stage.key(pattern);
        assert_eq!(stage.read(&pattern).await?, None);
        assert!(!stage.delete(&pattern).await?);
    }
    for key in &plain {
        assert!(stage.contains(key).await?);
    }
    Ok(())
}

async fn long_names_that_differ_in_one_byte_do_not_meet(stage: Stage) -> Result<()> {
    let name = |byte: &str, at: usize| {
        let mut name = "n".repeat(4096);
        name.replace_range(at..=at, byte);
        stage.key(name)
    };
    let keys = vec![
        name("a", 0),
        name("b", 0),
        name("a", 2048),
        name("b", 2048),
        name("a", 4095),
        name("b", 4095),
    ];
    keep_apart(&stage, keys).await
}

async fn namespaces_and_buckets_do_not_meet(stage: Stage) -> Result<()> {
    let base = stage.namespace();
    let spaces = [
        (format!("{base}a:b"), None, "c"),
        (format!("{base}a"), None, "b:c"),
        (format!("{base}a"), Some("b"), "c"),
        (format!("{base}a/b"), None, "c"),
        (format!("{base}a"), None, "/b:c"),
        (format!("{base}a"), Some(""), "b:c"),
        (format!("{base}a%3Ab"), None, "c"),
        (format!("{base}a@http"), None, "c"),
        (format!("{base}A"), None, "b:c"),
        (format!("{base}a"), Some("b:c"), ""),
        (format!("{base}a"), Some("b"), ":c"),
    ];
    let keys = spaces
        .iter()
        .map(|(namespace, bucket, name)| Key::new(namespace, *bucket, name));
    keep_apart(&stage, keys.collect()).await
}

async fn values_and_stored_responses_do_not_meet(stage: Stage) -> Result<()> {
    let key = |space, bucket| {
        KeyHead::new(stage.namespace(), space, bucket)
            .key(b"name")
            .to_key()
    };
    let keys = vec![
        key(KeySpace::Value, None),
        key(KeySpace::Value, Some("http")),
        key(KeySpace::Response, None),
        key(KeySpace::Response, Some("http")),
        key(KeySpace::Value, Some("tag")),
        key(KeySpace::Tag, None),
        KeyHead::new(stage.namespace(), KeySpace::Tag, None)
            .key(b"")
            .to_key(),
    ];
    keep_apart(&stage, keys).await
}
