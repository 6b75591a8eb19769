//! What the tests of the handle share: a backend that does as it is told, and a loader that answers when it is let.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "each test file uses a part of it"
)]

use std::{
    collections::{HashMap, HashSet},
    convert::Infallible,
    future::Future,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use larder::{
    Backend, Cache, Capabilities, CodecId, Entry, Error, ErrorKind, Key, KeyRef, Memory, Peek,
    PutMode, Result, Timestamp, Usage,
};
use tokio::sync::watch;

/// A moment of a backend call at which it can be held up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum At {
    /// Before the backend has done anything.
    Request(&'static str),
    /// After it has done everything, on the way back.
    Answer(&'static str),
}

/// Memory behind a door: every verb can be made to fail or to wait, and is counted. Clones share everything.
#[derive(Clone)]
pub struct Puppet {
    pub memory: Memory,
    remote: bool,
    shared: bool,
    apart: bool,
    state: watch::Sender<State>,
}

#[derive(Default)]
struct State {
    failing: HashMap<&'static str, ErrorKind>,
    dead: Option<ErrorKind>,
    held: HashSet<At>,
    waiting: HashMap<At, usize>,
    calls: HashMap<&'static str, usize>,
}

impl Puppet {
    /// Answers `peek` at once, as memory does.
    pub fn local() -> Self {
        Self {
            memory: Memory::new(),
            remote: false,
            shared: false,
            apart: false,
            state: watch::Sender::default(),
        }
    }

    /// Wants to be asked and waited for, as a server does.
    pub fn remote() -> Self {
        Self {
            remote: true,
            ..Self::local()
        }
    }

    /// A server that other processes use too, so that the cache guards itself against it.
    pub fn server() -> Self {
        Self {
            shared: true,
            ..Self::remote()
        }
    }

    /// Keeps the entries of a bucket each by itself, as most servers do.
    pub fn apart(self) -> Self {
        Self {
            apart: true,
            ..self
        }
    }

    pub fn cache(&self) -> Cache {
        Cache::new(self.clone())
    }

    /// Lets a verb fail from now on.
    pub fn fail(&self, verb: &'static str, kind: ErrorKind) {
        self.state.send_modify(|state| {
            state.failing.insert(verb, kind);
        });
    }

    /// Lets every verb fail from now on.
    pub fn die(&self) {
        self.state
            .send_modify(|state| state.dead = Some(ErrorKind::Unavailable));
    }

    /// Lets everything succeed from now on.
    pub fn heal(&self) {
        self.state.send_modify(|state| {
            state.failing.clear();
            state.dead = None;
        });
    }

    /// Holds up calls at this moment until they are released.
    pub fn hold(&self, at: At) {
        self.state.send_modify(|state| {
            state.held.insert(at);
        });
    }

    pub fn release(&self, at: At) {
        self.state.send_modify(|state| {
            state.held.remove(&at);
        });
    }

    /// Waits until `count` calls were held up at this moment.
    pub async fn until_held(&self, at: At, count: usize) {
        let held = |state: &State| state.waiting.get(&at).copied().unwrap_or(0) >= count;
        within(self.state.subscribe().wait_for(held)).await.unwrap();
    }

    /// How often a verb was called.
    pub fn calls(&self, verb: &'static str) -> usize {
        self.state.borrow().calls.get(verb).copied().unwrap_or(0)
    }

    /// How many calls there were of all verbs.
    pub fn total(&self) -> usize {
        self.state.borrow().calls.values().sum()
    }

    async fn request(&self, verb: &'static str) -> Result<()> {
        self.state
            .send_modify(|state| *state.calls.entry(verb).or_default() += 1);
        self.pass(At::Request(verb)).await;
        let failure = {
            let state = self.state.borrow();
            state.dead.or(state.failing.get(verb).copied())
        };
        match failure {
            Some(kind) => Err(Error::new(kind, "told to fail").on("puppet", verb)),
            None => Ok(()),
        }
    }

    async fn answer(&self, verb: &'static str) {
        self.pass(At::Answer(verb)).await;
    }

    async fn pass(&self, at: At) {
        if !self.state.borrow().held.contains(&at) {
            return;
        }
        self.state
            .send_modify(|state| *state.waiting.entry(at).or_default() += 1);
        let mut state = self.state.subscribe();
        drop(state.wait_for(|state| !state.held.contains(&at)).await);
    }
}

macro_rules! forward {
    ($self:ident, $verb:literal, $call:expr) => {{
        $self.request($verb).await?;
        let answer = $call.await;
        $self.answer($verb).await;
        answer
    }};
}

#[async_trait]
impl Backend for Puppet {
    fn name(&self) -> &'static str {
        "puppet"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            shared: self.shared,
            field_expiry: !self.apart,
            ..self.memory.capabilities()
        }
    }

    fn peek(&self, key: KeyRef<'_>, now: Timestamp) -> Peek {
        let state = self.state.borrow();
        if self.remote || state.dead.is_some() || state.failing.contains_key("get") {
            return Peek::Ask;
        }
        self.memory.peek(key, now)
    }

    async fn get(&self, key: &Key) -> Result<Option<Entry>> {
        forward!(self, "get", self.memory.get(key))
    }

    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Entry>>> {
        forward!(self, "get_many", self.memory.get_many(keys))
    }

    async fn put(&self, key: &Key, entry: Entry, mode: PutMode) -> Result<bool> {
        forward!(self, "put", self.memory.put(key, entry, mode))
    }

    async fn put_many(&self, entries: Vec<(Key, Entry, PutMode)>) -> Result<Vec<bool>> {
        forward!(self, "put_many", self.memory.put_many(entries))
    }

    async fn contains(&self, key: &Key) -> Result<bool> {
        forward!(self, "contains", self.memory.contains(key))
    }

    async fn delete(&self, key: &Key) -> Result<bool> {
        forward!(self, "delete", self.memory.delete(key))
    }

    async fn delete_many(&self, keys: &[Key]) -> Result<Vec<bool>> {
        forward!(self, "delete_many", self.memory.delete_many(keys))
    }

    async fn delete_if(&self, key: &Key, version: u64) -> Result<bool> {
        forward!(self, "delete_if", self.memory.delete_if(key, version))
    }

    async fn touch(&self, key: &Key, ttl: Option<Duration>) -> Result<bool> {
        forward!(self, "touch", self.memory.touch(key, ttl))
    }

    async fn increment(&self, key: &Key, delta: i64, ttl: Option<Duration>) -> Result<i64> {
        forward!(self, "increment", self.memory.increment(key, delta, ttl))
    }

    async fn clear(&self, namespace: &str) -> Result<()> {
        forward!(self, "clear", self.memory.clear(namespace))
    }

    async fn clear_bucket(&self, bucket: &Key) -> Result<bool> {
        if self.apart {
            return Err(Error::unsupported("puppet", "clear_bucket"));
        }
        forward!(self, "clear_bucket", self.memory.clear_bucket(bucket))
    }

    async fn delete_prefix(&self, prefix: &Key) -> Result<usize> {
        forward!(self, "delete_prefix", self.memory.delete_prefix(prefix))
    }

    async fn remove_expired(&self, limit: usize) -> Result<usize> {
        forward!(self, "remove_expired", self.memory.remove_expired(limit))
    }

    async fn ping(&self) -> Result<()> {
        forward!(self, "ping", self.memory.ping())
    }

    async fn close(&self) -> Result<()> {
        forward!(self, "close", self.memory.close())
    }

    fn usage(&self) -> Option<Usage> {
        self.memory.usage()
    }
}

/// Puts an entry beside the cache, as another program on the same server would.
pub async fn put_raw(backend: &impl Backend, name: &str, codec: CodecId, payload: &'static [u8]) {
    let entry = Entry::new(codec, Bytes::from_static(payload), Timestamp::now());
    let key = Key::new("larder", None, name);
    assert!(backend.put(&key, entry, PutMode::Always).await.unwrap());
}

/// Something slow to load from: it counts who asks, and answers once it is opened.
#[derive(Debug, Default)]
pub struct Source {
    asked: watch::Sender<usize>,
    open: watch::Sender<bool>,
}

impl Source {
    pub fn closed() -> Self {
        Self::default()
    }

    pub fn open(&self) {
        self.open.send_replace(true);
    }

    pub fn close(&self) {
        self.open.send_replace(false);
    }

    /// How often it was asked.
    pub fn asked(&self) -> usize {
        *self.asked.borrow()
    }

    /// Waits until it was asked `times` times.
    pub async fn until_asked(&self, times: usize) {
        let mut asked = self.asked.subscribe();
        within(asked.wait_for(|asked| *asked >= times))
            .await
            .unwrap();
    }

    /// Answers with `value` once it is open.
    pub async fn give<T>(&self, value: T) -> T {
        self.asked.send_modify(|asked| *asked += 1);
        drop(self.open.subscribe().wait_for(|open| *open).await);
        value
    }

    /// The same, as a loader that cannot fail.
    pub async fn load<T>(&self, value: T) -> Result<T, Infallible> {
        Ok(self.give(value).await)
    }
}

/// How often something was done.
#[derive(Debug, Default)]
pub struct Tally(AtomicUsize);

impl Tally {
    pub fn add(&self) -> usize {
        self.0.fetch_add(1, Ordering::SeqCst) + 1
    }

    pub fn get(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

/// Lets every other task go on until all of them wait. Moves the paused clock by a millisecond.
pub async fn settle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

/// The outcome of what must not hang: the paused clock runs on when everybody waits.
pub async fn within<F: Future>(future: F) -> F::Output {
    let hour = Duration::from_secs(3600);
    tokio::time::timeout(hour, future)
        .await
        .expect("nobody waits for ever")
}

pub const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub async fn advance(by: Duration) {
    tokio::time::advance(by).await;
}
