//! What the layer asks of the handle: the tags of what a response was made of, and tags that come with the response.

use std::time::Duration;

use async_trait::async_trait;

use crate::{
    Backend, Cache, Capabilities, CodecId, Entry, ErrorKind, Key, KeyRef, Memory, Peek, PutMode,
    PutOptions, Result, TagStamp, Timestamp, Usage, cache::Load,
};

use super::Collected;

const MINUTE: Option<Duration> = Some(Duration::from_secs(60));

/// A memory that has to be asked and says that others see it too, as a server does.
struct Server(Memory);

#[async_trait]
impl Backend for Server {
    fn name(&self) -> &'static str {
        "server"
    }
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            shared: true,
            ..self.0.capabilities()
        }
    }
    fn peek(&self, _: KeyRef<'_>, _: Timestamp) -> Peek {
        Peek::Ask
    }
    async fn get(&self, key: &Key) -> Result<Option<Entry>> {
        self.0.get(key).await
    }
    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Entry>>> {
        self.0.get_many(keys).await
    }
    async fn put(&self, key: &Key, entry: Entry, mode: PutMode) -> Result<bool> {
        self.0.put(key, entry, mode).await
    }
    async fn put_many(&self, entries: Vec<(Key, Entry, PutMode)>) -> Result<Vec<bool>> {
        self.0.put_many(entries).await
    }
    async fn contains(&self, key: &Key) -> Result<bool> {
        self.0.contains(key).await
    }
    async fn delete(&self, key: &Key) -> Result<bool> {
        self.0.delete(key).await
    }
    async fn delete_many(&self, keys: &[Key]) -> Result<Vec<bool>> {
        self.0.delete_many(keys).await
    }
    async fn delete_if(&self, key: &Key, version: u64) -> Result<bool> {
        self.0.delete_if(key, version).await
    }
    async fn touch(&self, key: &Key, ttl: Option<Duration>) -> Result<bool> {
        self.0.touch(key, ttl).await
    }
    async fn increment(&self, key: &Key, delta: i64, ttl: Option<Duration>) -> Result<i64> {
        self.0.increment(key, delta, ttl).await
    }
    async fn clear(&self, namespace: &str) -> Result<()> {
        self.0.clear(namespace).await
    }
    async fn remove_expired(&self, limit: usize) -> Result<usize> {
        self.0.remove_expired(limit).await
    }
    async fn ping(&self) -> Result<()> {
        self.0.ping().await
    }
    async fn close(&self) -> Result<()> {
        self.0.close().await
    }
    fn usage(&self) -> Option<Usage> {
        self.0.usage()
    }
}

fn shared() -> (Memory, Cache) {
    let memory = Memory::new();
    (memory.clone(), Cache::new(Server(memory)))
}

fn both() -> [Cache; 2] {
    [Cache::memory(), shared().1]
}

fn tagged(tag: &str) -> PutOptions {
    PutOptions::new().tags([tag])
}

fn names(collected: &Collected) -> Option<Vec<String>> {
    let stamps = collected.stamps()?;
    let name = |stamp: &TagStamp| String::from_utf8(stamp.tag().to_vec()).unwrap();
    Some(stamps.iter().map(name).collect())
}

async fn begin(cache: &Cache) -> Load {
    let key = cache.responses().key(b"/items").to_key();
    let mut load = cache.shared().generations.begin(&key).await;
    load.see_tags(cache.see_tags().await);
    load
}

async fn stamp(cache: &Cache, load: &Load, tags: &[&str]) -> Option<Vec<TagStamp>> {
    let tags = cache.tags(tags).unwrap();
    cache.stamp_loaded(load, &tags, &[], MINUTE).await.unwrap()
}

/// Whether a response with these tags would be there.
async fn is_live(cache: &Cache, stamps: Vec<TagStamp>) -> bool {
    let key = cache.responses().key(b"/items").to_key();
    let entry = Entry::new(CodecId::RESPONSE, "", Timestamp::now());
    let entry = entry.with_tags(stamps).unwrap();
    cache
        .backend()
        .put(&key, entry, PutMode::Always)
        .await
        .unwrap();
    cache.fetch(&key).await.unwrap().is_some()
}

mod collecting {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_read_and_has_tags_is_noted() {
        for cache in both() {
            for (key, tag) in [("a", "red"), ("b", "blue"), ("c", "green"), ("d", "grey")] {
                cache.put_with(key, 1, tagged(tag)).await.unwrap();
            }
            cache.put("plain", 1).await.unwrap();
            let (handle, collected) = cache.collecting();
            handle.get::<i32>("a").await.unwrap();
            handle.get_many::<i32>(["a", "b", "plain"]).await.unwrap();
            let load = || async { Ok::<_, ()>(1) };
            handle.get_or_load("c", load).await.unwrap();
            cache.get::<i32>("d").await.unwrap();
            handle.untracked().get::<i32>("d").await.unwrap();
            assert_eq!(names(&collected).unwrap(), ["red", "blue", "green"]);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_loaded_or_put_with_tags_is_noted() {
        for cache in both() {
            let (handle, collected) = cache.collecting();
            let load = || async { Ok::<_, ()>(1) };
            let loaded = handle.get_or_load_with("a", tagged("red"), load);
            loaded.await.unwrap();
            handle.put_with("b", 1, tagged("blue")).await.unwrap();
            let values = [("c", 1)];
            handle.put_many_with(values, tagged("green")).await.unwrap();
            assert_eq!(names(&collected).unwrap(), ["red", "blue", "green"]);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_ended_is_not_noted() {
        for cache in both() {
            cache.put_with("a", 1, tagged("red")).await.unwrap();
            cache.put_with("b", 1, tagged("blue")).await.unwrap();
            cache.invalidate_tag("red").await.unwrap();
            cache.expire_tag("blue").await.unwrap();
            let (handle, collected) = cache.collecting();
            assert_eq!(handle.get::<i32>("a").await.unwrap(), None);
            assert_eq!(handle.get::<i32>("b").await.unwrap(), None);
            assert_eq!(collected.stamps(), Some(Vec::new()));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_tag_of_another_namespace_stays_one() {
        for cache in both() {
            let (handle, collected) = cache.collecting();
            let other = handle.scoped("other");
            other.put_with("a", 1, tagged("red")).await.unwrap();
            let stamps = collected.stamps().unwrap();
            assert_eq!(stamps[0].namespace(), "other");
            assert!(is_live(&cache, stamps.clone()).await);
            cache.invalidate_tag("red").await.unwrap();
            assert!(is_live(&cache, stamps.clone()).await);
            other.invalidate_tag("red").await.unwrap();
            assert!(!is_live(&cache, stamps).await);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn clearing_a_namespace_ends_what_was_made_of_its_entries() {
        for cache in both() {
            let (handle, collected) = cache.collecting();
            let other = handle.scoped("other");
            other.put_with("a", 1, tagged("red")).await.unwrap();
            other.clear().await.unwrap();
            assert!(!is_live(&cache, collected.stamps().unwrap()).await);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_follower_notes_what_its_leader_loaded_with() {
        let cache = Cache::memory();
        let (one, led) = cache.collecting();
        let (two, followed) = cache.collecting();
        let load = async || {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Ok::<_, ()>(1)
        };
        let leader = one.get_or_load_with("a", tagged("red"), load);
        let follower = two.get_or_load_with("a", tagged("red"), load);
        let (leader, follower) = tokio::join!(leader, follower);
        assert_eq!((*leader.unwrap(), *follower.unwrap()), (1, 1));
        assert_eq!(cache.stats().loads, 1);
        assert_eq!(led.stamps(), followed.stamps());
        assert_eq!(names(&led).unwrap(), ["red"]);
    }

    #[tokio::test(start_paused = true)]
    async fn tags_that_are_not_known_are_not_taken_for_none() {
        let cache = Cache::new(Memory::builder().max_bytes(0).build());
        let (handle, collected) = cache.collecting();
        let load = || async { Ok::<_, ()>(1) };
        let loaded = handle.get_or_load_with("a", tagged("red"), load);
        loaded.await.unwrap();
        assert_eq!(collected.stamps(), None);
    }
}

mod responses {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn tags_that_come_with_a_response_end_it() {
        for cache in both() {
            let load = begin(&cache).await;
            let stamps = stamp(&cache, &load, &["red", "blue"]).await.unwrap();
            assert!(is_live(&cache, stamps.clone()).await);
            cache.invalidate_tag("blue").await.unwrap();
            assert!(!is_live(&cache, stamps).await);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_soft_end_leaves_a_response_that_is_stale() {
        for cache in both() {
            let load = begin(&cache).await;
            let stamps = stamp(&cache, &load, &["red"]).await.unwrap();
            let key = load.key();
            assert!(is_live(&cache, stamps.clone()).await);
            assert!(!cache.fetch(key).await.unwrap().unwrap().is_outdated());
            cache.expire_tag("red").await.unwrap();
            assert!(cache.fetch(key).await.unwrap().unwrap().is_outdated());
            cache.invalidate_tag("red").await.unwrap();
            assert!(cache.fetch(key).await.unwrap().is_none());
            // A marker that is made anew has another hard id too.
            cache.put_with("a", 1, tagged("red")).await.unwrap();
            assert!(cache.fetch(key).await.unwrap().is_none());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_load_that_a_tag_of_its_own_overtook_gets_none() {
        for soft in [false, true] {
            for cache in both() {
                let load = begin(&cache).await;
                match soft {
                    true => cache.expire_tag("red").await.unwrap(),
                    false => cache.invalidate_tag("red").await.unwrap(),
                }
                assert!(stamp(&cache, &load, &["red"]).await.is_none());
                assert!(stamp(&cache, &load, &["blue"]).await.is_some());
                let load = begin(&cache).await;
                assert!(stamp(&cache, &load, &["red"]).await.is_some());
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_load_learns_what_another_client_invalidated() {
        let (memory, cache) = shared();
        let other = Cache::new(Server(memory));
        let load = begin(&cache).await;
        let (one, two) = (stamp(&cache, &load, &["red"]).await, begin(&other).await);
        assert!(one.is_some());
        other.invalidate_tag("red").await.unwrap();
        assert!(stamp(&cache, &load, &["red"]).await.is_none());
        assert!(stamp(&cache, &load, &["blue"]).await.is_some());
        cache.expire_tag("blue").await.unwrap();
        assert!(stamp(&other, &two, &["blue"]).await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn where_the_log_was_lost_nothing_with_tags_is_stored() {
        let (memory, cache) = shared();
        let load = begin(&cache).await;
        let log = cache.0.tags.key(b"").to_key();
        assert!(memory.delete(&log).await.unwrap());
        assert!(stamp(&cache, &load, &["red"]).await.is_none());
        assert_eq!(stamp(&cache, &load, &[]).await, Some(Vec::new()));
        begin(&cache).await;
        assert!(stamp(&cache, &load, &["red"]).await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_no_log_is_replaced_by_one() {
        let (memory, cache) = shared();
        let log = cache.0.tags.key(b"").to_key();
        for _ in 0..2 {
            let foreign = Entry::counter(7, Timestamp::now());
            let put = memory.put(&log, foreign, PutMode::Always);
            put.await.unwrap();
            let load = begin(&cache).await;
            assert!(stamp(&cache, &load, &["red"]).await.is_some());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_response_lives_as_long_as_what_it_is_made_of() {
        for cache in both() {
            let (handle, collected) = cache.collecting();
            handle.put_with("a", 1, tagged("red")).await.unwrap();
            let carried = collected.stamps().unwrap();
            let load = begin(&cache).await;
            let tags = cache.tags(&["blue"]).unwrap();
            let stamp = async || cache.stamp_loaded(&load, &tags, &carried, None).await;
            let stamps = stamp().await.unwrap().unwrap();
            assert_eq!(stamps.len(), 2);
            // The markers were made for five minutes.
            tokio::time::advance(Duration::from_secs(1_000_000)).await;
            assert!(is_live(&cache, stamps.clone()).await);
            cache.invalidate_tag("red").await.unwrap();
            assert!(!is_live(&cache, stamps).await);
            assert_eq!(stamp().await.unwrap(), None);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn more_tags_than_an_entry_can_have_are_an_error() {
        let cache = Cache::memory();
        let load = begin(&cache).await;
        let names: Vec<_> = (0..40).map(|number| number.to_string()).collect();
        let tags = cache.tags(&names).unwrap();
        let carried = (0..40).map(|number| format!("carried {number}"));
        let (handle, collected) = cache.collecting();
        let options = PutOptions::new().tags(carried);
        handle.put_with("a", 1, options).await.unwrap();
        let carried = collected.stamps().unwrap();
        let stamped = cache.stamp_loaded(&load, &tags, &carried, MINUTE).await;
        assert_eq!(stamped.unwrap_err().kind(), ErrorKind::InvalidTag);
    }
}
