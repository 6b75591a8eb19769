//! The verbs, each sent to the server that has the key, and what they answer where it is away.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use async_trait::async_trait;

use super::{Memcached, NAME, Shared, errors, node::Node, reading::no_lease, space::Space};
use crate::{
    Entry, Error, ErrorKind, Key, KeyRef, Result, Timestamp,
    backend::{Backend, Capabilities, Leased, Peek, PutMode, Usage},
};

/// Keys of one namespace on one server, by their places among all that were asked for.
struct Group<'a> {
    node: &'a Node,
    space: Arc<Space>,
    places: Vec<usize>,
}

type Call<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + Send + 'a>>;

impl Shared {
    fn node(&self, key: &Key) -> &Node {
        &self.nodes[self.ring.place(key.encoded())]
    }

    /// Asks a server, and does without its answer where it is one of several and away: `otherwise` is the answer then.
    async fn ask<T>(
        &self,
        node: &Node,
        call: impl Future<Output = Result<T>>,
        otherwise: impl FnOnce() -> T,
    ) -> Result<T> {
        if self.nodes.len() == 1 {
            return call.await;
        }
        match node.within(call).await {
            Err(error) if error.is_outage() && !self.nodes.iter().all(|it| it.is_away()) => {
                Ok(otherwise())
            }
            answer => answer,
        }
    }

    /// The same, for a call after which what was there before is no longer true. Where it is not known to have happened,
    /// the namespace begins anew before it is read again.
    async fn invalidate<T>(
        &self,
        node: &Node,
        space: &Arc<Space>,
        call: impl Future<Output = Result<T>>,
        otherwise: impl FnOnce() -> T,
    ) -> Result<T> {
        if self.nodes.len() == 1 {
            return call.await;
        }
        let mut lost = false;
        let answer = self.ask(node, call, || {
            lost = true;
            otherwise()
        });
        let answer = answer.await;
        if lost || matches!(&answer, Err(error) if error.is_outage()) {
            space.lose();
        }
        answer
    }

    fn groups<'a>(&self, keys: impl Iterator<Item = &'a Key>) -> Vec<Group<'_>> {
        let mut groups: Vec<(&[u8], usize, Group<'_>)> = Vec::new();
        for (place, key) in keys.enumerate() {
            let encoded = key.as_key_ref().encoded_namespace();
            let number = self.ring.place(key.encoded());
            let known = groups
                .iter_mut()
                .find(|(space, node, _)| *space == encoded && *node == number);
            if let Some((.., group)) = known {
                group.places.push(place);
                continue;
            }
            let node = &*self.nodes[number];
            let group = Group {
                node,
                space: node.spaces.of(key),
                places: vec![place],
            };
            groups.push((encoded, number, group));
        }
        groups.into_iter().map(|(.., group)| group).collect()
    }

    /// The answers of several groups, each asked at the same time as the others, in the order of the keys.
    async fn gather<'a, T: Clone>(
        &'a self,
        groups: &'a [Group<'a>],
        count: usize,
        call: impl Fn(&'a Group<'a>) -> Call<'a, Vec<T>>,
    ) -> Result<Vec<T>> {
        let mut answers = vec![None; count];
        let calls = groups.iter().map(call).collect();
        for (group, answer) in groups.iter().zip(all(calls).await) {
            for (place, answer) in group.places.iter().zip(answer?) {
                answers[*place] = Some(answer);
            }
        }
        let answers = answers
            .into_iter()
            .map(|it| it.ok_or_else(errors::unexpected));
        self.open().and_then(|()| answers.collect())
    }

    fn open(&self) -> Result<()> {
        self.nodes.iter().try_for_each(|node| node.link.open())
    }

    /// Connects to every server, however long that takes. One that can be reached is enough, unless another one says that
    /// something is set wrong.
    pub(super) async fn meet(&self) -> Result<()> {
        let calls = self.nodes.iter().map(|node| {
            let call: Call<'_, ()> = Box::pin(node.ping());
            call
        });
        let answers = all(calls.collect()).await;
        let met = answers.iter().any(Result::is_ok);
        for (node, answer) in self.nodes.iter().zip(answers) {
            match answer {
                Err(error)
                    if met
                        && matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout) =>
                {
                    tracing::warn!(server = ?node.link, %error, "a memcached server is not there yet");
                }
                answer => answer?,
            }
        }
        Ok(())
    }

    /// Asks every server for a sign of life; an error where none answers.
    async fn ping(&self) -> Result<()> {
        let several = self.nodes.len() > 1;
        let calls = self.nodes.iter().map(|node| {
            let call = node.ping();
            let call: Call<'_, ()> = match several {
                true => Box::pin(node.within(call)),
                false => Box::pin(call),
            };
            call
        });
        let answers = all(calls.collect()).await;
        let mut errors = answers.into_iter().filter_map(Result::err);
        match errors.next() {
            Some(error) if errors.count() + 1 == self.nodes.len() => Err(error),
            _ => Ok(()),
        }
    }

    async fn clear(&self, namespace: &str) -> Result<()> {
        let calls = self.nodes.iter().map(|node| {
            let call: Call<'_, ()> = Box::pin(async move {
                let space = node.spaces.named(namespace);
                let call = node.clear(&space);
                self.invalidate(node, &space, call, || ()).await
            });
            call
        });
        let answers = all(calls.collect()).await;
        answers.into_iter().collect()
    }
}

/// The results of all calls, made at the same time.
async fn all<T>(calls: Vec<Call<'_, T>>) -> Vec<Result<T>> {
    let mut calls: Vec<_> = calls.into_iter().map(Ok).collect();
    poll_fn(|context| {
        let mut pending = false;
        for call in &mut calls {
            if let Ok(under_way) = call {
                match under_way.as_mut().poll(context) {
                    Poll::Ready(answer) => *call = Err(answer),
                    Poll::Pending => pending = true,
                }
            }
        }
        match pending {
            true => Poll::Pending,
            false => Poll::Ready(()),
        }
    })
    .await;
    calls.into_iter().filter_map(Result::err).collect()
}

/// An error with the name of the verb.
fn named<T>(answer: Result<T>, operation: &'static str) -> Result<T> {
    answer.map_err(|error| error.on(NAME, operation))
}

fn only<T>(answers: Vec<T>) -> Result<T> {
    answers.into_iter().next().ok_or_else(errors::unexpected)
}

#[async_trait]
impl Backend for Memcached {
    fn name(&self) -> &'static str {
        NAME
    }

    fn capabilities(&self) -> Capabilities {
        let longest = self.0.nodes.iter().map(|node| node.longest_entry()).min();
        Capabilities {
            stores: true,
            counters: true,
            if_absent: true,
            versions: true,
            leases: true,
            touch: true,
            clear: true,
            delete_prefix: false,
            field_expiry: false,
            // The server does it.
            remove_expired: false,
            shared: true,
            persistent: true,
            // A counter's TTL of a second lasts up to two.
            ttl_resolution: Duration::from_secs(2),
            max_value_len: longest.map(|longest| longest.saturating_sub(Entry::HEADER_LEN)),
        }
    }

    fn peek(&self, _: KeyRef<'_>, _: Timestamp) -> Peek {
        Peek::Ask
    }

    async fn get(&self, key: &Key) -> Result<Option<Entry>> {
        let node = self.0.node(key);
        named(self.0.ask(node, node.get(key), || None).await, "get")
    }

    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Entry>>> {
        let groups = self.0.groups(keys.iter());
        let answers = self.0.gather(&groups, keys.len(), |group| {
            Box::pin(async move {
                let of_group: Vec<_> = group.places.iter().map(|&place| &keys[place]).collect();
                let call = group.node.get_many(&group.space, &of_group);
                self.0
                    .ask(group.node, call, || vec![None; of_group.len()])
                    .await
            })
        });
        named(answers.await, "get_many")
    }

    async fn get_leased(&self, key: &Key) -> Result<Leased> {
        let leased = self.get_leased_many(std::slice::from_ref(key)).await;
        named(leased.and_then(only), "get_leased")
    }

    async fn get_leased_many(&self, keys: &[Key]) -> Result<Vec<Leased>> {
        let groups = self.0.groups(keys.iter());
        let answers = self.0.gather(&groups, keys.len(), |group| {
            Box::pin(async move {
                let of_group: Vec<_> = group.places.iter().map(|&place| &keys[place]).collect();
                let call = group.node.get_leased_many(&group.space, &of_group);
                let nothing = || Leased {
                    entry: None,
                    lease: no_lease(),
                };
                self.0
                    .ask(group.node, call, || vec![nothing(); of_group.len()])
                    .await
            })
        });
        named(answers.await, "get_leased_many")
    }

    async fn put(&self, key: &Key, entry: Entry, mode: PutMode) -> Result<bool> {
        let kept = self.put_many(vec![(key.clone(), entry, mode)]).await;
        named(kept.and_then(only), "put")
    }

    async fn put_many(&self, entries: Vec<(Key, Entry, PutMode)>) -> Result<Vec<bool>> {
        let groups = self.0.groups(entries.iter().map(|(key, ..)| key));
        let entries = &entries;
        let answers = self.0.gather(&groups, entries.len(), |group| {
            Box::pin(async move {
                let of_group = group.places.iter().map(|&place| {
                    let (key, entry, mode) = &entries[place];
                    (key, entry, *mode)
                });
                let of_group: Vec<_> = of_group.collect();
                let call = group.node.put_many(&group.space, &of_group);
                let otherwise = || vec![false; of_group.len()];
                let replaces = of_group.iter().any(|(.., mode)| *mode == PutMode::Always);
                match replaces {
                    true => {
                        let (node, space) = (group.node, &group.space);
                        self.0.invalidate(node, space, call, otherwise).await
                    }
                    false => self.0.ask(group.node, call, otherwise).await,
                }
            })
        });
        named(answers.await, "put_many")
    }

    async fn contains(&self, key: &Key) -> Result<bool> {
        let node = self.0.node(key);
        let answer = self.0.ask(node, node.contains(key), || false);
        named(answer.await, "contains")
    }

    async fn delete(&self, key: &Key) -> Result<bool> {
        let removed = self.delete_many(std::slice::from_ref(key)).await;
        named(removed.and_then(only), "delete")
    }

    async fn delete_many(&self, keys: &[Key]) -> Result<Vec<bool>> {
        let groups = self.0.groups(keys.iter());
        let answers = self.0.gather(&groups, keys.len(), |group| {
            Box::pin(async move {
                let of_group: Vec<_> = group.places.iter().map(|&place| &keys[place]).collect();
                let call = group.node.delete_many(&group.space, &of_group);
                let otherwise = || vec![false; of_group.len()];
                let (node, space) = (group.node, &group.space);
                self.0.invalidate(node, space, call, otherwise).await
            })
        });
        named(answers.await, "delete_many")
    }

    async fn delete_if(&self, key: &Key, version: u64) -> Result<bool> {
        let node = self.0.node(key);
        let space = node.spaces.of(key);
        let call = node.delete_if(key, version);
        let answer = self.0.invalidate(node, &space, call, || false);
        named(answer.await, "delete_if")
    }

    async fn touch(&self, key: &Key, ttl: Option<Duration>) -> Result<bool> {
        let node = self.0.node(key);
        let answer = self.0.ask(node, node.touch(key, ttl), || false);
        named(answer.await, "touch")
    }

    async fn increment(&self, key: &Key, delta: i64, ttl: Option<Duration>) -> Result<i64> {
        let node = self.0.node(key);
        let call = node.increment(key, delta, ttl);
        let answer = match self.0.nodes.len() {
            1 => call.await,
            // There is no sum to make up.
            _ => node.within(call).await,
        };
        named(answer, "increment")
    }

    async fn clear(&self, namespace: &str) -> Result<()> {
        named(self.0.clear(namespace).await, "clear")
    }

    async fn remove_expired(&self, _: usize) -> Result<usize> {
        named(self.0.open(), "remove_expired")?;
        Err(Error::unsupported(NAME, "remove_expired"))
    }

    async fn ping(&self) -> Result<()> {
        named(self.0.ping().await, "ping")
    }

    async fn close(&self) -> Result<()> {
        self.0.nodes.iter().for_each(|node| node.link.close());
        Ok(())
    }

    fn usage(&self) -> Option<Usage> {
        None
    }
}
