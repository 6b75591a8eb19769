//! The codecs of values: what each keeps, what none believes, and what a change from one to another does.

#![cfg(all(
    feature = "memory",
    any(feature = "json", feature = "msgpack", feature = "postcard")
))]
#![allow(
    clippy::unwrap_used,
    reason = "helpers outside of test functions unwrap too"
)]

mod support_cache;

use std::{
    collections::BTreeMap,
    fmt, io,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use larder::{
    Backend, Cache, CodecId, CodecKind, ErrorKind, Key, Memory, PutOptions, Result, Settings,
    codec::{self, Codec},
};
use proptest::prelude::*;
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{DeserializeOwned, SeqAccess, Visitor},
};
use support_cache::{Puppet, put_raw};

const ALL: [CodecKind; 3] = [CodecKind::Json, CodecKind::MsgPack, CodecKind::Postcard];

fn is_on(kind: CodecKind) -> bool {
    match kind {
        CodecKind::Json => cfg!(feature = "json"),
        CodecKind::MsgPack => cfg!(feature = "msgpack"),
        CodecKind::Postcard => cfg!(feature = "postcard"),
        _ => unreachable!("a codec that these tests do not know"),
    }
}

/// The codecs of this build.
fn codecs() -> impl Iterator<Item = CodecKind> {
    ALL.into_iter().filter(|kind| is_on(*kind))
}

fn pairs() -> impl Iterator<Item = (CodecKind, CodecKind)> {
    codecs()
        .flat_map(|old| codecs().map(move |new| (old, new)))
        .filter(|(old, new)| old != new)
}

fn id(kind: CodecKind) -> CodecId {
    match kind {
        CodecKind::Json => CodecId::JSON,
        CodecKind::MsgPack => CodecId::MSGPACK,
        _ => CodecId::POSTCARD,
    }
}

fn cache(backend: &(impl Backend + Clone), kind: CodecKind) -> Cache {
    Cache::builder(backend.clone()).codec(kind).build()
}

/// Memory that answers at once, and memory that wants to be asked.
fn both() -> [Puppet; 2] {
    [Puppet::local(), Puppet::remote()]
}

fn encode<T: Serialize + DeserializeOwned>(kind: CodecKind, value: &T) -> Result<Bytes> {
    match kind {
        #[cfg(feature = "json")]
        CodecKind::Json => codec::Json.encode(value),
        #[cfg(feature = "msgpack")]
        CodecKind::MsgPack => codec::MsgPack.encode(value),
        #[cfg(feature = "postcard")]
        CodecKind::Postcard => codec::Postcard.encode(value),
        _ => unreachable!("{kind:?} is off"),
    }
}

fn decode<T: Serialize + DeserializeOwned>(kind: CodecKind, bytes: &[u8]) -> Result<T> {
    let bytes = &Bytes::copy_from_slice(bytes);
    match kind {
        #[cfg(feature = "json")]
        CodecKind::Json => codec::Json.decode(bytes),
        #[cfg(feature = "msgpack")]
        CodecKind::MsgPack => codec::MsgPack.decode(bytes),
        #[cfg(feature = "postcard")]
        CodecKind::Postcard => codec::Postcard.decode(bytes),
        _ => unreachable!("{kind:?} is off"),
    }
}

/// What is logged from information upwards.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// One of everything that serde tells apart.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Everything {
    flag: bool,
    small: (i8, i16, i32, i64),
    natural: (u8, u16, u32, u64),
    wide: (i128, u128),
    real: (f32, f64),
    letter: char,
    text: String,
    blob: Blob,
    perhaps: Option<u32>,
    nothing: (),
    unit: Unit,
    wrapped: Wrapped,
    pair: Pair,
    array: [u16; 3],
    list: Vec<Choice>,
    names: BTreeMap<String, Vec<u8>>,
    numbers: BTreeMap<u32, Option<Choice>>,
    boxed: Option<Box<Everything>>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Unit;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Wrapped(i64);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Pair(String, Option<bool>);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Choice {
    Unit,
    Newtype(u64),
    Tuple(String, i8),
    Struct {
        left: char,
        right: Option<Box<Choice>>,
    },
}

/// Bytes as serde has them, which `Vec<u8>` is not.
#[derive(Clone, Debug, PartialEq)]
struct Blob(Vec<u8>);

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl<'de> Visitor<'de> for Bytes {
            type Value = Blob;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }
            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Blob, E> {
                Ok(Blob(bytes.to_vec()))
            }
            // JSON has no bytes, and writes a list.
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Blob, A::Error> {
                let mut bytes = Vec::new();
                while let Some(byte) = list.next_element()? {
                    bytes.push(byte);
                }
                Ok(Blob(bytes))
            }
        }
        deserializer.deserialize_bytes(Bytes)
    }
}

fn choices() -> Vec<Choice> {
    let inner = Choice::Struct {
        left: 'x',
        right: None,
    };
    vec![
        Choice::Unit,
        Choice::Newtype(u64::MAX),
        Choice::Tuple("a".into(), -1),
        Choice::Struct {
            left: 'ß',
            right: Some(Box::new(inner)),
        },
    ]
}

fn everything() -> Everything {
    let mut one = Everything {
        flag: true,
        small: (i8::MIN, i16::MIN, i32::MIN, i64::MIN),
        natural: (u8::MAX, u16::MAX, u32::MAX, u64::MAX),
        wide: (i128::MIN, u128::MAX),
        real: (f32::MIN_POSITIVE, f64::MAX),
        letter: '\u{10FFFF}',
        text: "a \"text\"\0\n of 21 bytes, é".into(),
        blob: Blob((0..=255).collect()),
        perhaps: Some(7),
        nothing: (),
        unit: Unit,
        wrapped: Wrapped(-1),
        pair: Pair(String::new(), None),
        array: [1, 2, 300],
        list: choices(),
        names: BTreeMap::from([("a".into(), vec![1, 2]), (String::new(), vec![])]),
        numbers: BTreeMap::from([(0, None), (9, Some(Choice::Unit))]),
        boxed: None,
    };
    one.boxed = Some(Box::new(one.clone()));
    one
}

mod round_trips {
    use super::*;

    async fn comes_back<T>(value: T)
    where
        T: Clone + fmt::Debug + PartialEq + Serialize + DeserializeOwned + Send + Sync + 'static,
    {
        for kind in codecs() {
            for puppet in both() {
                let cache = cache(&puppet, kind);
                assert!(cache.put("key", value.clone()).await.unwrap());
                let found = cache.get::<T>("key").await.unwrap();
                assert_eq!(found.as_ref(), Some(&value), "{kind:?}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn everything_that_serde_tells_apart_comes_back_as_it_was() {
        comes_back(everything()).await;
    }

    #[tokio::test(start_paused = true)]
    async fn values_that_are_no_structures_come_back_too() {
        comes_back(()).await;
        comes_back(Unit).await;
        comes_back(false).await;
        comes_back(i64::MIN).await;
        comes_back(u128::MAX).await;
        comes_back(1.5_f32).await;
        comes_back('\0').await;
        comes_back(String::new()).await;
        comes_back(Blob(vec![0xFF; 300])).await;
        comes_back(None::<u8>).await;
        comes_back(Some(0_u8)).await;
        comes_back(Vec::<Unit>::new()).await;
        comes_back(vec![(); 65_000]).await;
        comes_back((0..70_000).collect::<Vec<u32>>()).await;
        comes_back(choices()).await;
        comes_back(BTreeMap::from([((), ())]).into_iter().collect::<Vec<_>>()).await;
    }

    #[tokio::test(start_paused = true)]
    async fn an_entry_carries_the_number_of_its_codec() {
        for kind in codecs() {
            let memory = Memory::new();
            cache(&memory, kind).put("key", 7).await.unwrap();
            let key = Key::new("larder", None, "key");
            let entry = memory.get(&key).await.unwrap().unwrap();
            assert_eq!(entry.codec(), id(kind));
            assert_eq!(format!("{:?}", entry.codec()), kind.name());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_shared_value_is_decoded_once() {
        for kind in codecs() {
            let memory = Memory::new();
            let payload = encode(kind, &vec![1, 2]).unwrap();
            put_raw(&memory, "key", id(kind), Box::leak(payload.to_vec().into())).await;
            let cache = cache(&memory, kind);
            let one = cache.get_shared::<Vec<i32>>("key").await.unwrap().unwrap();
            let two = cache.get_shared::<Vec<i32>>("key").await.unwrap().unwrap();
            assert!(Arc::ptr_eq(&one, &two));
        }
    }

    #[test]
    fn what_nests_as_deep_as_json_can_nests_in_all() {
        #[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
        struct Node {
            next: Option<Box<Node>>,
        }
        let mut node = Node::default();
        for _ in 1..127 {
            node = Node {
                next: Some(Box::new(node)),
            };
        }
        for kind in codecs() {
            let bytes = encode(kind, &node).unwrap();
            assert_eq!(decode::<Node>(kind, &bytes).unwrap(), node, "{kind:?}");
        }
    }

    fn any_choice() -> impl Strategy<Value = Choice> {
        let leaf = prop_oneof![
            Just(Choice::Unit),
            any::<u64>().prop_map(Choice::Newtype),
            any::<(String, i8)>().prop_map(|(text, number)| Choice::Tuple(text, number)),
        ];
        leaf.prop_recursive(4, 8, 1, |inner| {
            (any::<char>(), proptest::option::of(inner)).prop_map(|(left, right)| Choice::Struct {
                left,
                right: right.map(Box::new),
            })
        })
    }

    prop_compose! {
        fn any_everything()(
            (flag, small, natural, wide) in any::<(
                bool, (i8, i16, i32, i64), (u8, u16, u32, u64), (i128, u128),
            )>(),
            // JSON writes what is not finite as null.
            real in (
                proptest::num::f32::NORMAL | proptest::num::f32::SUBNORMAL | proptest::num::f32::ZERO,
                proptest::num::f64::NORMAL | proptest::num::f64::SUBNORMAL | proptest::num::f64::ZERO,
            ),
            (letter, text, blob, perhaps) in any::<(char, String, Vec<u8>, Option<u32>)>(),
            (wrapped, pair, array) in any::<(i64, (String, Option<bool>), [u16; 3])>(),
            list in proptest::collection::vec(any_choice(), 0..5),
            names in any::<BTreeMap<String, Vec<u8>>>(),
            numbers in proptest::collection::btree_map(
                any::<u32>(), proptest::option::of(any_choice()), 0..5,
            ),
        ) -> Everything {
            Everything {
                flag, small, natural, wide, real, letter, text, perhaps, array, list, names, numbers,
                blob: Blob(blob),
                nothing: (),
                unit: Unit,
                wrapped: Wrapped(wrapped),
                pair: Pair(pair.0, pair.1),
                boxed: None,
            }
        }
    }

    proptest! {
        #[test]
        fn whatever_is_written_is_read(value in any_everything()) {
            for kind in codecs() {
                let bytes = encode(kind, &value).unwrap();
                prop_assert_eq!(&decode::<Everything>(kind, &bytes).unwrap(), &value);
            }
        }

        #[test]
        fn binary_codecs_keep_every_bit_of_a_fraction(fractions in any::<(u32, u64)>()) {
            for kind in codecs().filter(|kind| *kind != CodecKind::Json) {
                let (single, double) = fractions;
                let value = (f32::from_bits(single), f64::from_bits(double));
                let bytes = encode(kind, &value).unwrap();
                let (single, double) = decode::<(f32, f64)>(kind, &bytes).unwrap();
                prop_assert_eq!((single.to_bits(), double.to_bits()), fractions);
            }
        }
    }
}

mod sizes {
    use super::*;

    #[test]
    fn the_same_value_takes_less_than_in_json_and_least_in_postcard() {
        let sizes: Vec<usize> = codecs()
            .map(|kind| encode(kind, &everything()).unwrap().len())
            .collect();
        assert!(sizes.is_sorted_by(|more, less| more > less), "{sizes:?}");
    }
}

mod change_of_codec {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_value_of_another_codec_is_a_miss_for_every_reader_and_no_damage() {
        for (old, new) in pairs() {
            for puppet in both() {
                cache(&puppet, old).put("key", 7).await.unwrap();
                let cache = cache(&puppet, new);
                assert_eq!(cache.get::<i32>("key").await.unwrap(), None);
                assert_eq!(cache.get_shared::<i32>("key").await.unwrap(), None);
                assert_eq!(cache.get_entry::<i32>("key").await.unwrap(), None);
                assert_eq!(cache.get_many::<i32>(["key"]).await.unwrap(), [None]);
                let stats = cache.stats();
                assert_eq!((stats.misses, stats.hits), (4, 0));
                assert_eq!((stats.damaged, stats.errors), (0, 0));
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_of_the_callers_own_and_of_codecs_unknown_are_misses_too() {
        for kind in codecs() {
            for other in [CodecId::RAW, CodecId::from_u8(99)] {
                let puppet = Puppet::remote();
                put_raw(&puppet, "key", other, b"7").await;
                let cache = cache(&puppet, kind);
                assert_eq!(cache.get::<i32>("key").await.unwrap(), None);
                let load = || async { Ok::<_, ()>(8) };
                assert_eq!(*cache.get_or_load("key", load).await.unwrap(), 8);
                assert_eq!(cache.get::<i32>("key").await.unwrap(), Some(8));
                assert_eq!(cache.stats().damaged, 0);
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_is_warned_of_it_as_of_damage() {
        for kind in codecs() {
            for (made_by, lines) in [(CodecId::from_u8(99), 0), (id(kind), 1)] {
                let log = Log::default();
                let writer = log.clone();
                let subscriber = tracing_subscriber::fmt()
                    .with_writer(move || writer.clone())
                    .finish();
                let _listening = tracing::subscriber::set_default(subscriber);
                let puppet = Puppet::local();
                put_raw(&puppet, "key", made_by, b"\xC1").await;
                let found = cache(&puppet, kind).get::<String>("key").await;
                assert_eq!(found.unwrap(), None);
                assert_eq!(log.text().lines().count(), lines, "{}", log.text());
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_put_replaces_it() {
        for (old, new) in pairs() {
            for puppet in both() {
                cache(&puppet, old).put("key", 7).await.unwrap();
                let cache = cache(&puppet, new);
                assert!(cache.put("key", 8).await.unwrap());
                assert_eq!(cache.get::<i32>("key").await.unwrap(), Some(8));
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_load_replaces_it() {
        for (old, new) in pairs() {
            for puppet in both() {
                cache(&puppet, old).put("one", 1).await.unwrap();
                cache(&puppet, old).put("many", 1).await.unwrap();
                let cache = cache(&puppet, new);
                let one = cache.get_or_load("one", || async { Ok::<_, ()>(2) });
                assert_eq!(*one.await.unwrap(), 2);
                let load = |missing: Vec<&'static str>| async move {
                    Ok::<_, ()>(missing.into_iter().map(|_| Some(2)).collect())
                };
                let many = cache.get_or_load_many(["many"], load).await.unwrap();
                assert_eq!(many, [Some(Arc::new(2))]);
                let found = cache.get_many::<i32>(["one", "many"]).await.unwrap();
                assert_eq!(found, [Some(2), Some(2)]);
                let stats = cache.stats();
                assert_eq!((stats.loads, stats.damaged, stats.errors), (2, 0, 0));
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn until_then_it_is_there_for_what_does_not_read_it() {
        for (old, new) in pairs() {
            let memory = Memory::new();
            cache(&memory, old).put("lock", "mine").await.unwrap();
            let cache = cache(&memory, new);
            assert!(cache.contains("lock").await.unwrap());
            let absent = PutOptions::new().if_absent();
            assert!(!cache.put_with("lock", "yours", absent).await.unwrap());
            let counted = cache.increment("lock", 1).await;
            assert_eq!(counted.unwrap_err().kind(), ErrorKind::WrongType);
            assert!(cache.delete("lock").await.unwrap());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn counters_are_of_no_codec() {
        for (old, new) in pairs() {
            let memory = Memory::new();
            cache(&memory, old).increment("visits", 2).await.unwrap();
            let cache = cache(&memory, new);
            assert_eq!(cache.increment("visits", 1).await.unwrap(), 3);
            let read = cache.get::<i64>("visits").await;
            assert_eq!(read.unwrap_err().kind(), ErrorKind::WrongType);
        }
    }
}

mod choice {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_setting_chooses_the_codec() {
        for kind in codecs() {
            let settings = Settings::from_pairs([("CACHE_CODEC", kind.name())]).unwrap();
            assert_eq!(settings.codec, kind);
            let cache = Cache::from_settings(&settings).await.unwrap();
            assert!(cache.put("key", everything()).await.unwrap());
            assert_eq!(cache.get("key").await.unwrap(), Some(everything()));
        }
    }

    #[test]
    fn the_default_is_the_first_there_is() {
        let first = codecs().next().unwrap();
        assert_eq!(CodecKind::default(), first);
        assert_eq!(Settings::default().codec, first);
        let unset = Settings::from_pairs([("CACHE_CODEC", "")]).unwrap();
        assert_eq!(unset.codec, first);
    }

    #[tokio::test(start_paused = true)]
    async fn a_codec_that_is_off_names_its_feature() {
        for kind in ALL.into_iter().filter(|kind| !is_on(*kind)) {
            let feature = format!("needs the feature \"{}\" of larder", kind.name());
            let refused = Settings::from_pairs([("CACHE_CODEC", kind.name())]).unwrap_err();
            assert!(refused.to_string().contains(&feature), "{refused}");

            let cache = Cache::builder(Memory::new()).codec(kind).build();
            let refused = cache.put("key", 7).await.unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::Unsupported);
            assert!(refused.to_string().contains(&feature), "{refused}");
            assert_eq!(cache.get::<i32>("key").await.unwrap(), None);
            let loaded = cache.get_or_load("key", || async { Ok::<_, ()>(7) });
            assert_eq!(*loaded.await.unwrap(), 7);
        }
    }
}

mod damage {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn damaged_bytes_are_counted_misses_that_a_load_replaces() {
        for kind in codecs() {
            let whole = encode(kind, &everything()).unwrap().to_vec();
            let cut = &whole[..whole.len() - 1];
            let longer = [&whole[..], &[0]].concat();
            let longer_by_a_text = [&whole[..], b"\xA1"].concat();
            for bytes in [&[], cut, &longer, &longer_by_a_text, b"\xC1"] {
                for puppet in both() {
                    put_raw(&puppet, "key", id(kind), Box::leak(bytes.into())).await;
                    let cache = cache(&puppet, kind);
                    assert_eq!(cache.get::<Everything>("key").await.unwrap(), None);
                    assert_eq!(cache.get_shared::<Everything>("key").await.unwrap(), None);
                    let stats = cache.stats();
                    assert_eq!((stats.damaged, stats.misses, stats.errors), (2, 2, 0));
                    let load = || async { Ok::<_, ()>(everything()) };
                    assert_eq!(*cache.get_or_load("key", load).await.unwrap(), everything());
                    assert_eq!(cache.get("key").await.unwrap(), Some(everything()));
                }
            }
        }
    }

    #[test]
    fn every_part_of_a_value_and_everything_longer_is_refused() {
        for kind in codecs() {
            let whole = encode(kind, &everything()).unwrap();
            for end in 0..whole.len() {
                let cut = decode::<Everything>(kind, &whole[..end]);
                assert_eq!(cut.unwrap_err().kind(), ErrorKind::Decode, "{kind:?} {end}");
            }
            for next in (0..=u8::MAX).filter(|next| !next.is_ascii_whitespace()) {
                let longer = [&whole[..], &[next]].concat();
                let longer = decode::<Everything>(kind, &longer);
                assert_eq!(
                    longer.unwrap_err().kind(),
                    ErrorKind::Decode,
                    "{kind:?} {next}"
                );
            }
        }
    }

    #[test]
    fn no_message_shows_what_is_stored() {
        for kind in codecs() {
            let bytes = encode(
                kind,
                &(String::from("s3cret"), Choice::Tuple("s3cret".into(), 1)),
            )
            .unwrap();
            let errors = [
                decode::<(u8, Choice)>(kind, &bytes).err(),
                decode::<(String, Wrapped)>(kind, &bytes).err(),
                decode::<Choice>(kind, &bytes).err(),
                decode::<BTreeMap<u8, u8>>(kind, &bytes).err(),
                decode::<String>(kind, &bytes).err(),
            ];
            assert!(errors.iter().any(Option::is_some));
            for error in errors.into_iter().flatten() {
                assert!(
                    !format!("{error} {error:?}").contains("s3cret"),
                    "{error:?}"
                );
            }
        }
    }
}

#[cfg(any(feature = "json", feature = "msgpack"))]
mod drift {
    use super::*;

    #[derive(Serialize, Deserialize)]
    struct Before {
        name: String,
        gone: Vec<Choice>,
        id: u32,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct After {
        id: u64,
        #[serde(default)]
        new: Option<String>,
        name: String,
    }

    #[tokio::test(start_paused = true)]
    async fn fields_with_names_may_come_go_and_move() {
        for kind in codecs().filter(|kind| *kind != CodecKind::Postcard) {
            let cache = cache(&Memory::new(), kind);
            let before = Before {
                name: "Ada".into(),
                gone: choices(),
                id: 7,
            };
            cache.put("user", before).await.unwrap();
            let after = After {
                id: 7,
                new: None,
                name: "Ada".into(),
            };
            assert_eq!(cache.get("user").await.unwrap(), Some(after));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn values_that_say_what_they_are_can_be_read_as_anything() {
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        #[serde(untagged)]
        enum Id {
            Number(u64),
            Name(String),
        }
        for kind in codecs().filter(|kind| *kind != CodecKind::Postcard) {
            let cache = cache(&Memory::new(), kind);
            cache
                .put_many([("a", Id::Number(7)), ("b", Id::Name("x".into()))])
                .await
                .unwrap();
            assert_eq!(cache.get("a").await.unwrap(), Some(Id::Number(7)));
            assert_eq!(cache.get("b").await.unwrap(), Some(Id::Name("x".into())));
        }
    }
}

mod hostile_bytes {
    use super::*;

    #[derive(Debug, Serialize, Deserialize)]
    struct Tree(Vec<Tree>);

    #[derive(Debug, Serialize, Deserialize)]
    struct Chain(Option<Box<Chain>>);

    #[derive(Debug, Serialize, Deserialize)]
    struct Node {
        #[serde(default)]
        next: Option<Box<Node>>,
    }

    #[derive(Debug, Serialize, Deserialize)]
    enum Negation {
        False,
        Not(Box<Negation>),
        Both(Box<Negation>, Box<Negation>),
        Of { inner: Box<Negation> },
    }

    /// A list that believes the length it is told, and keeps nothing else.
    #[derive(Debug, Serialize)]
    struct Believer(usize);

    impl<'de> Deserialize<'de> for Believer {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct List;
            impl<'de> Visitor<'de> for List {
                type Value = Believer;
                fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str("a list")
                }
                fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Believer, A::Error> {
                    let told = list.size_hint().unwrap_or(0);
                    assert!(told < 100_000, "told of {told} elements");
                    while list.next_element::<Believer>()?.is_some() {}
                    Ok(Believer(told))
                }
            }
            deserializer.deserialize_seq(List)
        }
    }

    /// Decodes as everything that can nest, on a thread with the stack of a worker of tokio.
    fn refused_by_all_that_nest(kind: CodecKind, bytes: Vec<u8>) {
        let read = move || {
            for error in [
                decode::<Tree>(kind, &bytes).err(),
                decode::<Chain>(kind, &bytes).err(),
                decode::<Node>(kind, &bytes).err(),
                decode::<Negation>(kind, &bytes).err(),
            ] {
                assert_eq!(error.unwrap().kind(), ErrorKind::Decode);
            }
        };
        let worker = std::thread::Builder::new().stack_size(2 << 20);
        worker.spawn(read).unwrap().join().unwrap();
    }

    #[cfg(feature = "msgpack")]
    #[test]
    fn msgpack_that_nests_without_end_is_refused() {
        let levels: [&[u8]; 8] = [
            b"\x91",
            b"\xDD\0\0\0\x01",
            b"\x81\xA4next",
            b"\x81\xA5other",
            b"\x81\xA3Not",
            b"\x81\xA4Both\x92",
            b"\x81\xA2Of\x81\xA5inner",
            b"\x81\xA2Of\x91",
        ];
        for level in levels {
            refused_by_all_that_nest(CodecKind::MsgPack, level.repeat(200_000));
        }
        // An option is its content, so this one asks for its content without end.
        decode::<Chain>(CodecKind::MsgPack, b"\x01").unwrap_err();
    }

    #[cfg(feature = "postcard")]
    #[test]
    fn postcard_that_nests_without_end_is_refused() {
        for level in [b"\x01", b"\x02", b"\x03"] {
            refused_by_all_that_nest(CodecKind::Postcard, level.repeat(1_000_000));
        }
    }

    #[cfg(feature = "msgpack")]
    #[test]
    fn msgpack_that_promises_more_than_it_has_is_refused() {
        let promises: [&[u8]; 6] = [
            b"\xDD\xFF\xFF\xFF\xFF",
            b"\xDC\xFF\xFF",
            b"\xDF\xFF\xFF\xFF\xFF",
            b"\xDB\xFF\xFF\xFF\xFF",
            b"\xC6\xFF\xFF\xFF\xFF",
            b"\xC9\xFF\xFF\xFF\xFF\x01",
        ];
        for bytes in promises {
            decode::<Vec<u64>>(CodecKind::MsgPack, bytes).unwrap_err();
            decode::<Vec<()>>(CodecKind::MsgPack, bytes).unwrap_err();
            decode::<String>(CodecKind::MsgPack, bytes).unwrap_err();
            decode::<Blob>(CodecKind::MsgPack, bytes).unwrap_err();
            decode::<BTreeMap<u8, u8>>(CodecKind::MsgPack, bytes).unwrap_err();
            decode::<Believer>(CodecKind::MsgPack, &bytes.repeat(200)).unwrap_err();
        }
    }

    #[cfg(feature = "postcard")]
    #[test]
    fn postcard_that_promises_more_than_it_has_is_refused() {
        let most = b"\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x01";
        decode::<Vec<u64>>(CodecKind::Postcard, most).unwrap_err();
        decode::<String>(CodecKind::Postcard, most).unwrap_err();
        decode::<Blob>(CodecKind::Postcard, most).unwrap_err();
        decode::<BTreeMap<u8, u8>>(CodecKind::Postcard, most).unwrap_err();
        decode::<Believer>(CodecKind::Postcard, &most.repeat(200)).unwrap_err();
        // Elements that take no bytes, so that there is always another.
        decode::<Vec<()>>(CodecKind::Postcard, most).unwrap_err();
        decode::<Vec<Unit>>(CodecKind::Postcard, most).unwrap_err();
        decode::<BTreeMap<(), ()>>(CodecKind::Postcard, most).unwrap_err();
        let many = [&b"\x64"[..], &b"\x80\x80\x04".repeat(100)].concat();
        decode::<Vec<Vec<()>>>(CodecKind::Postcard, &many).unwrap_err();
    }

    /// Reads `bytes` as many types; what is read is written and read again.
    fn is_a_value_or_a_refusal(kind: CodecKind, bytes: &[u8]) {
        fn read<T: Serialize + DeserializeOwned>(kind: CodecKind, bytes: &[u8]) {
            match decode::<T>(kind, bytes) {
                Ok(value) => {
                    let again = encode(kind, &value).unwrap();
                    let again = encode(kind, &decode::<T>(kind, &again).unwrap()).unwrap();
                    assert_eq!(again, encode(kind, &value).unwrap());
                }
                Err(error) => assert_eq!(error.kind(), ErrorKind::Decode),
            }
        }
        read::<Everything>(kind, bytes);
        read::<Tree>(kind, bytes);
        read::<Node>(kind, bytes);
        read::<Negation>(kind, bytes);
        read::<Vec<Choice>>(kind, bytes);
        read::<(String, Option<f64>, char, u128)>(kind, bytes);
        read::<BTreeMap<String, Vec<Unit>>>(kind, bytes);
    }

    proptest! {
        #[test]
        fn noise_is_a_value_or_a_refusal(bytes in any::<Vec<u8>>()) {
            for kind in codecs() {
                is_a_value_or_a_refusal(kind, &bytes);
            }
        }

        #[test]
        fn a_value_with_changed_bytes_is_a_value_or_a_refusal(
            changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        ) {
            for kind in codecs() {
                let mut bytes = encode(kind, &everything()).unwrap().to_vec();
                for (at, byte) in &changes {
                    let at = at.index(bytes.len());
                    bytes[at] = *byte;
                }
                is_a_value_or_a_refusal(kind, &bytes);
            }
        }
    }
}
