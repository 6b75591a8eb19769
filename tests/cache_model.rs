//! Whatever is done to a cache, it answers as a map with deadlines would.

#![cfg(all(feature = "memory", feature = "json"))]
#![allow(
    clippy::unwrap_used,
    reason = "helpers outside of test functions unwrap too"
)]

mod support_cache;

use std::{collections::HashMap, time::Duration};

use larder::{Cache, ErrorKind, Memory, MemoryPolicy, PutOptions, Ttl};
use proptest::prelude::*;
use support_cache::{Puppet, advance, millis};

const NAMES: [&str; 3] = ["a", "b", "c"];
const NAMESPACES: [&str; 2] = ["one", "two"];
const DEFAULT: u64 = 50;

/// A name in a namespace.
type At = (usize, usize);

#[derive(Clone, Debug)]
enum Step {
    Put(At, u8, Life),
    PutIfAbsent(At, u8, Life),
    PutIfUnchanged(At, u8),
    PutMany(usize, Vec<(usize, u8)>),
    Get(At),
    GetShared(At),
    GetMany(usize, Vec<usize>),
    Contains(At),
    Delete(At),
    DeleteMany(usize, Vec<usize>),
    Touch(At, Life),
    Increment(At, i64),
    Counter(At),
    Load(At, u8),
    LoadMany(usize, Vec<usize>),
    Clear(usize),
    Advance(u64),
}

#[derive(Clone, Copy, Debug)]
enum Life {
    Default,
    Never,
    For(u64),
}

impl Life {
    fn ttl(self) -> Ttl {
        match self {
            Self::Default => Ttl::Default,
            Self::Never => Ttl::Never,
            Self::For(time) => Ttl::For(millis(time)),
        }
    }
}

fn life() -> impl Strategy<Value = Life> {
    prop_oneof![
        Just(Life::Default),
        Just(Life::Never),
        (1..100_u64).prop_map(Life::For)
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let space = || 0..NAMESPACES.len();
    let name = || 0..NAMES.len();
    let names = || proptest::collection::vec(0..NAMES.len(), 0..5);
    let at = || (0..NAMESPACES.len(), 0..NAMES.len());
    prop_oneof![
        (at(), any::<u8>(), life()).prop_map(|(at, value, life)| Step::Put(at, value, life)),
        (at(), any::<u8>(), life())
            .prop_map(|(at, value, life)| Step::PutIfAbsent(at, value, life)),
        (at(), any::<u8>()).prop_map(|(at, value)| Step::PutIfUnchanged(at, value)),
        (
            space(),
            proptest::collection::vec((name(), any::<u8>()), 0..4)
        )
            .prop_map(|(space, values)| Step::PutMany(space, values)),
        at().prop_map(Step::Get),
        at().prop_map(Step::GetShared),
        (space(), names()).prop_map(|(space, names)| Step::GetMany(space, names)),
        at().prop_map(Step::Contains),
        at().prop_map(Step::Delete),
        (space(), names()).prop_map(|(space, names)| Step::DeleteMany(space, names)),
        (at(), life()).prop_map(|(at, life)| Step::Touch(at, life)),
        (at(), -3..4_i64).prop_map(|(at, delta)| Step::Increment(at, delta)),
        at().prop_map(Step::Counter),
        (at(), any::<u8>()).prop_map(|(at, value)| Step::Load(at, value)),
        (space(), names()).prop_map(|(space, names)| Step::LoadMany(space, names)),
        space().prop_map(Step::Clear),
        (0..40_u64).prop_map(Step::Advance),
    ]
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Held {
    Value(u8),
    Count(i64),
}

/// What a cache is, said as plainly as possible.
#[derive(Default)]
struct Model {
    now: u64,
    held: HashMap<At, (Held, Option<u64>)>,
}

impl Model {
    fn end(&self, life: Life) -> Option<u64> {
        match life {
            Life::Default => Some(self.now + DEFAULT),
            Life::Never => None,
            Life::For(time) => Some(self.now + time),
        }
    }

    fn live(&self, at: At) -> Option<Held> {
        let (held, end) = self.held.get(&at)?;
        end.is_none_or(|end| self.now < end).then_some(*held)
    }

    fn put(&mut self, at: At, held: Held, life: Life) {
        let end = self.end(life);
        self.held.insert(at, (held, end));
    }

    fn delete(&mut self, at: At) -> bool {
        let live = self.live(at).is_some();
        self.held.remove(&at);
        live
    }

    /// The value to read; a counter is an error.
    fn value(&self, at: At) -> Result<Option<u8>, ErrorKind> {
        match self.live(at) {
            Some(Held::Value(value)) => Ok(Some(value)),
            Some(Held::Count(_)) => Err(ErrorKind::WrongType),
            None => Ok(None),
        }
    }
}

/// Does a step to both, and compares their answers.
async fn step_both(cache: &Cache, model: &mut Model, step: Step) {
    let spaces = NAMESPACES.map(|namespace| cache.scoped(namespace));
    let kind = |error: larder::Error| error.kind();
    match step {
        Step::Put((s, n), value, life) => {
            let options = PutOptions::new().ttl(life.ttl());
            assert!(spaces[s].put_with(NAMES[n], value, options).await.unwrap());
            model.put((s, n), Held::Value(value), life);
        }
        Step::PutIfAbsent((s, n), value, life) => {
            let options = PutOptions::new().ttl(life.ttl()).if_absent();
            let kept = spaces[s].put_with(NAMES[n], value, options).await.unwrap();
            assert_eq!(kept, model.live((s, n)).is_none());
            if kept {
                model.put((s, n), Held::Value(value), life);
            }
        }
        Step::PutIfUnchanged((s, n), value) => {
            let Ok(Some(found)) = spaces[s].get_entry::<u8>(NAMES[n]).await else {
                assert!(!matches!(model.live((s, n)), Some(Held::Value(_))));
                return;
            };
            let options = PutOptions::new().if_version(found.version);
            assert!(
                spaces[s]
                    .put_with(NAMES[n], value, options.clone())
                    .await
                    .unwrap()
            );
            assert!(!spaces[s].put_with(NAMES[n], value, options).await.unwrap());
            model.put((s, n), Held::Value(value), Life::Default);
        }
        Step::PutMany(s, values) => {
            let named = values.iter().map(|(n, value)| (NAMES[*n], *value));
            let kept = spaces[s].put_many(named).await.unwrap();
            assert_eq!(kept, vec![true; values.len()]);
            for (n, value) in values {
                model.put((s, n), Held::Value(value), Life::Default);
            }
        }
        Step::Get((s, n)) => {
            let found = spaces[s].get_entry::<u8>(NAMES[n]).await.map_err(kind);
            let left = found.clone().map(|found| found.map(|found| found.ttl));
            let found = found.map(|found| found.map(|found| found.value));
            assert_eq!(found, model.value((s, n)));
            if let Ok(Some(left)) = left {
                let end = model.held[&(s, n)].1;
                assert_eq!(left, end.map(|end| millis(end - model.now)));
            }
        }
        Step::GetShared((s, n)) => {
            let found = spaces[s].get_shared::<u8>(NAMES[n]).await.map_err(kind);
            let found = found.map(|found| found.map(|found| *found));
            assert_eq!(found, model.value((s, n)));
        }
        Step::GetMany(s, names) => {
            let found = spaces[s]
                .get_many::<u8>(names.iter().map(|n| NAMES[*n]))
                .await;
            let expected: Result<Vec<_>, _> = names.iter().map(|n| model.value((s, *n))).collect();
            assert_eq!(found.map_err(kind), expected);
        }
        Step::Contains((s, n)) => {
            let found = spaces[s].contains(NAMES[n]).await.unwrap();
            assert_eq!(found, model.live((s, n)).is_some());
        }
        Step::Delete((s, n)) => {
            let deleted = spaces[s].delete(NAMES[n]).await.unwrap();
            assert_eq!(deleted, model.delete((s, n)));
        }
        Step::DeleteMany(s, names) => {
            let deleted = spaces[s].delete_many(names.iter().map(|n| NAMES[*n])).await;
            let expected: Vec<_> = names.iter().map(|n| model.delete((s, *n))).collect();
            assert_eq!(deleted.unwrap(), expected);
        }
        Step::Touch((s, n), life) => {
            let touched = spaces[s].touch(NAMES[n], life.ttl()).await.unwrap();
            let live = model.live((s, n));
            assert_eq!(touched, live.is_some());
            if let Some(held) = live {
                model.put((s, n), held, life);
            }
        }
        Step::Increment((s, n), delta) => {
            let sum = spaces[s].increment(NAMES[n], delta).await.map_err(kind);
            match model.live((s, n)) {
                Some(Held::Value(_)) => assert_eq!(sum, Err(ErrorKind::WrongType)),
                Some(Held::Count(count)) => {
                    assert_eq!(sum, Ok(count + delta));
                    let end = model.held[&(s, n)].1;
                    model.held.insert((s, n), (Held::Count(count + delta), end));
                }
                None => {
                    assert_eq!(sum, Ok(delta));
                    model.put((s, n), Held::Count(delta), Life::Default);
                }
            }
        }
        Step::Counter((s, n)) => {
            let count = spaces[s].counter(NAMES[n]).await.map_err(kind);
            let expected = match model.live((s, n)) {
                Some(Held::Value(_)) => Err(ErrorKind::WrongType),
                Some(Held::Count(count)) => Ok(Some(count)),
                None => Ok(None),
            };
            assert_eq!(count, expected);
        }
        // What a load does to a counter is no part of the model.
        Step::Load(at, _) if matches!(model.live(at), Some(Held::Count(_))) => {}
        Step::Load((s, n), value) => {
            let load = async || Ok::<_, ()>(value);
            let found = *spaces[s].get_or_load(NAMES[n], load).await.unwrap();
            let held = model.value((s, n)).unwrap();
            assert_eq!(found, held.unwrap_or(value));
            if held.is_none() {
                model.put((s, n), Held::Value(value), Life::Default);
            }
        }
        Step::LoadMany(s, mut names) => {
            names.retain(|n| !matches!(model.live((s, *n)), Some(Held::Count(_))));
            // "c" does not exist.
            let load = async |keys: Vec<&'static str>| {
                let one = |key: &str| (key != "c").then_some(key.as_bytes()[0]);
                Ok::<_, ()>(keys.into_iter().map(one).collect())
            };
            let asked = names.iter().map(|n| NAMES[*n]);
            let found = spaces[s].get_or_load_many(asked, load).await.unwrap();
            assert_eq!(found.len(), names.len());
            for (n, found) in names.into_iter().zip(found) {
                let loaded = (n != 2).then_some(NAMES[n].as_bytes()[0]);
                let held = model.value((s, n)).unwrap();
                assert_eq!(found.map(|found| *found), held.or(loaded));
                if let (None, Some(loaded)) = (held, loaded) {
                    model.put((s, n), Held::Value(loaded), Life::Default);
                }
            }
        }
        Step::Clear(s) => {
            spaces[s].clear().await.unwrap();
            model.held.retain(|(space, _), _| *space != s);
        }
        Step::Advance(time) => {
            advance(millis(time)).await;
            model.now += time;
        }
    }
}

fn follow(backend: impl larder::Backend, steps: Vec<Step>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        let cache = Cache::builder(backend)
            .default_ttl(Duration::from_millis(DEFAULT))
            .build();
        let mut model = Model::default();
        for step in steps {
            step_both(&cache, &mut model, step).await;
        }
        assert_eq!(cache.stats().flights, 0);
        assert_eq!((cache.stats().damaged, cache.stats().loads_late), (0, 0));
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_cache_in_memory_is_a_map_with_deadlines(
        steps in proptest::collection::vec(step(), 0..150),
    ) {
        follow(Memory::new(), steps);
    }

    #[test]
    fn on_the_other_engine_too(steps in proptest::collection::vec(step(), 0..150)) {
        follow(Memory::builder().policy(MemoryPolicy::TinyLfu).build(), steps);
    }

    #[test]
    fn and_where_everything_has_to_be_waited_for(
        steps in proptest::collection::vec(step(), 0..150),
    ) {
        follow(Puppet::remote(), steps);
    }
}
