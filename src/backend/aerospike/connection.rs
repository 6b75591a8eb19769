//! The client, how it asks, and the generations of namespaces.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::atomic::{AtomicBool, Ordering},
    task::Poll,
    time::Duration,
};

use aerospike::{
    Bin, Bins, Client, GenerationPolicy, Record, RecordExistsAction, ResultCode, Value,
    WritePolicy, operations::Operation, policy::AdminPolicy,
};
use tokio::{
    runtime::Handle,
    sync::{Mutex, OnceCell},
    time::{sleep, timeout},
};

use super::{
    super::{
        frame::{self, Versions},
        generation::{Generation, Marker, Namespace, Namespaces},
    },
    error::{Failure, is_busy, is_refusal},
    policies::{Policies, Write},
    record::BIN,
};
use crate::{Error, ErrorKind, Key, Result};

/// How often a verb is done again because its namespace is cleared meanwhile, or others write to its key.
pub(super) const ATTEMPTS: usize = 16;

/// `max-record-size` where the server does not say.
const RECORD_SIZE: usize = 1 << 20;

/// What the server adds to a blob in one record: measured 51 bytes, and room for more.
const RECORD_OVERHEAD: usize = 64;

/// What one backend has to do with one cluster.
pub(super) struct Connection {
    pub(super) client: Client,
    /// Whether the client was given, and is somebody else's to close.
    given: bool,
    runtime: Handle,
    closed: AtomicBool,
    namespace: String,
    set: String,
    timeout: Duration,
    pub(super) policies: Policies,
    pub(super) versions: Versions,
    pub(super) namespaces: Namespaces,
    /// Held while a namespace is cleared, so that this process sees its own clearings in their order.
    clearing: Mutex<()>,
    /// The largest payload; empty until the server was asked.
    largest: OnceCell<usize>,
}

impl Connection {
    pub(super) fn new(
        client: Client,
        given: bool,
        namespace: String,
        set: String,
        timeout: Duration,
    ) -> Self {
        Self {
            client,
            given,
            runtime: Handle::current(),
            closed: AtomicBool::new(false),
            namespace,
            set,
            timeout,
            policies: Policies::new(timeout),
            versions: Versions::default(),
            namespaces: Namespaces::default(),
            clearing: Mutex::default(),
            largest: OnceCell::new(),
        }
    }

    pub(super) fn namespace(&self) -> &str {
        &self.namespace
    }

    pub(super) fn set(&self) -> &str {
        &self.set
    }

    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    pub(super) fn is_connected(&self) -> bool {
        self.client.is_connected()
    }

    /// Fails every verb of a closed backend.
    pub(super) fn open(&self, operation: &'static str) -> Result<()> {
        if self.closed.load(Ordering::Acquire) {
            let closed = Error::new(ErrorKind::Closed, "the cache was closed");
            return Err(closed.on("aerospike", operation));
        }
        Ok(())
    }

    pub(super) async fn close(&self) -> Result<()> {
        if self.closed.swap(true, Ordering::AcqRel) || self.given {
            return Ok(());
        }
        let closed = self.client.close().await;
        closed.map_err(|error| {
            let failed = Error::new(ErrorKind::Backend, "the client could not be closed");
            failed.on("aerospike", "close").caused_by(error)
        })
    }

    /// Asks any node for `what` it tells of itself.
    async fn info(&self, what: &str) -> Result<String, Failure> {
        let policy = AdminPolicy {
            timeout: self.policies.millis(),
        };
        let commands = [what];
        // The client waits a second at least for a connection.
        match timeout(self.timeout, self.client.info(&policy, &commands)).await {
            Ok(answer) => Ok(answer?.swap_remove(what).unwrap_or_default()),
            Err(_) => {
                let message = format!("no answer within {:?}", self.timeout);
                Err(Error::new(ErrorKind::Timeout, message).into())
            }
        }
    }

    pub(super) async fn ping(&self) -> Result<()> {
        self.open("ping")?;
        let answer = self.info("status").await;
        answer.map_err(|failure| self.explain("ping", failure))?;
        Ok(())
    }

    /// The largest payload, as far as it is known.
    pub(super) fn largest(&self) -> usize {
        let known = self.largest.get().copied();
        known.unwrap_or_else(|| self.largest_within(RECORD_SIZE))
    }

    /// Makes sure, once, that the cluster has the namespace, and learns how large its records may be.
    pub(super) async fn know(&self, operation: &'static str) -> Result<()> {
        self.open(operation)?;
        let known = self.largest.get_or_try_init(|| self.ask_limits()).await;
        known.map_err(|failure| self.explain(operation, failure))?;
        Ok(())
    }

    async fn ask_limits(&self) -> Result<usize, Failure> {
        let there = self.info("namespaces").await?;
        let there: Vec<&str> = there.split(';').collect();
        if !there.contains(&self.namespace.as_str()) {
            let message = format!(
                "CACHE_AEROSPIKE_NAMESPACE is {:?}, and the cluster has no namespace but {}",
                self.namespace,
                there.join(", ")
            );
            return Err(Error::new(ErrorKind::Settings, message).into());
        }
        let parameters = self.info(&format!("namespace/{}", self.namespace)).await?;
        let parameter = |name: &str| {
            let mut pairs = parameters
                .split(';')
                .filter_map(|pair| pair.split_once('='));
            pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
        };
        let no_ttls = parameter("nsup-period") == Some("0")
            && parameter("allow-ttl-without-nsup") != Some("true");
        if no_ttls {
            tracing::warn!(
                namespace = self.namespace,
                "nsup-period of the Aerospike namespace is 0, so it refuses whatever has a TTL; set it to more than 0"
            );
        }
        let size = parameter("max-record-size").and_then(|size| size.parse().ok());
        Ok(self.largest_within(size.filter(|size| *size > 0).unwrap_or(RECORD_SIZE)))
    }

    fn largest_within(&self, record: usize) -> usize {
        record.saturating_sub(RECORD_OVERHEAD + self.set.len() + frame::OVERHEAD)
    }

    /// Does `act` with the record of `key`, and asks for the generation of its namespace in the same moment. Where that
    /// turns out to be another than was known, it is done again: what was done to a record that nobody can reach does
    /// not matter.
    pub(super) async fn keyed<T, F>(
        &self,
        operation: &'static str,
        key: &Key,
        act: impl Fn(aerospike::Key, Generation) -> F,
    ) -> Result<T>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        self.know(operation).await?;
        let namespace = self.namespaces.of(key.as_key_ref());
        let done = self.in_generation(&namespace, key, act).await;
        done.map_err(|failure| self.explain(operation, failure))
    }

    async fn in_generation<T, F>(
        &self,
        namespace: &Namespace,
        key: &Key,
        act: impl Fn(aerospike::Key, Generation) -> F,
    ) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        for _ in 0..ATTEMPTS {
            let generation = self.generation(namespace).await?;
            let record = self.record(namespace.stored_key(generation, key.as_key_ref()))?;
            let marker = self.record(namespace.marker_key())?;
            let (done, found) = join(act(record, generation), self.read(&marker)).await;
            if self.confirm(namespace, generation, found?).await? {
                return done;
            }
        }
        Err(cleared_again_and_again().into())
    }

    /// The generation of `namespace` as it is known, or else as the server says.
    pub(super) async fn generation(&self, namespace: &Namespace) -> Result<Generation, Failure> {
        if let Some(known) = namespace.generation() {
            return Ok(known);
        }
        let marker = self.record(namespace.marker_key())?;
        let found = self.read(&marker).await?;
        self.settle(namespace, found).await?;
        let known = namespace.generation();
        known.ok_or_else(|| cleared_again_and_again().into())
    }

    /// Whether `used` is the generation of the marker that was found. The right one is known afterwards.
    pub(super) async fn confirm(
        &self,
        namespace: &Namespace,
        used: Generation,
        found: Option<Record>,
    ) -> Result<bool, Failure> {
        match namespace.compare(used, found.as_ref().and_then(letters)) {
            Marker::Same => Ok(true),
            Marker::Changed => Ok(false),
            Marker::Lost => {
                self.renew(namespace, found).await?;
                Ok(false)
            }
        }
    }

    async fn settle(&self, namespace: &Namespace, found: Option<Record>) -> Result<(), Failure> {
        let read = found.as_ref().and_then(letters).and_then(Generation::read);
        match read.map(|generation| namespace.learn(generation)) {
            Some(Marker::Same | Marker::Changed) => Ok(()),
            Some(Marker::Lost) | None => self.renew(namespace, found).await,
        }
    }

    /// Makes a new marker in the place of the one that was `found`, unless somebody else is faster.
    async fn renew(&self, namespace: &Namespace, found: Option<Record>) -> Result<(), Failure> {
        let key = self.record(namespace.marker_key())?;
        let fresh = Generation::random();
        let mut policy = self.policies.write(Write::ALWAYS);
        match &found {
            None => policy.record_exists_action = RecordExistsAction::CreateOnly,
            Some(lost) => {
                policy.generation_policy = GenerationPolicy::ExpectGenEqual;
                policy.generation = lost.generation;
            }
        }
        match self.write(&policy, &key, &marker(fresh)).await {
            Ok(true) => {
                namespace.begin(fresh);
                return Ok(());
            }
            Ok(false) => {}
            Err(error) if error.server_result_code() == Some(ResultCode::GenerationError) => {}
            Err(error) => return Err(error.into()),
        }
        // Whatever the winner wrote, or that it is lost again, is found out by the next attempt.
        let found = self.read(&key).await?;
        if let Some(generation) = found.as_ref().and_then(letters).and_then(Generation::read) {
            namespace.learn(generation);
        }
        Ok(())
    }

    pub(super) async fn clear(&self, name: &str) -> Result<()> {
        self.know("clear").await?;
        let namespace = self.namespaces.named(name);
        let _alone = self.clearing.lock().await;
        let fresh = Generation::random();
        let cleared = async {
            let key = self.record(namespace.marker_key())?;
            let policy = self.policies.write(Write::ALWAYS);
            self.write(&policy, &key, &marker(fresh)).await?;
            Ok::<_, Failure>(())
        };
        cleared
            .await
            .map_err(|failure| self.explain("clear", failure))?;
        namespace.begin(fresh);
        Ok(())
    }

    /// The client's name of the record under `stored`.
    pub(super) fn record(&self, stored: Vec<u8>) -> aerospike::Result<aerospike::Key> {
        aerospike::Key::new(
            self.namespace.as_str(),
            self.set.as_str(),
            Value::Blob(stored),
        )
    }

    /// The record, if it is there.
    pub(super) async fn read(&self, key: &aerospike::Key) -> aerospike::Result<Option<Record>> {
        let policy = &self.policies.read;
        found(patiently(self.timeout, || self.client.get(policy, key, Bins::All)).await)
    }

    /// Puts a bin, and says whether the condition of the policy was met.
    pub(super) async fn write(
        &self,
        policy: &WritePolicy,
        key: &aerospike::Key,
        bin: &Bin,
    ) -> aerospike::Result<bool> {
        let bins = std::slice::from_ref(bin);
        let done = patiently(self.timeout, || self.client.put(policy, key, bins)).await;
        found(done).map(|done| done.is_some())
    }

    /// Gives a record another TTL, where the condition of the policy is met.
    pub(super) async fn touch(
        &self,
        policy: &WritePolicy,
        key: &aerospike::Key,
    ) -> aerospike::Result<bool> {
        let done = patiently(self.timeout, || self.client.touch(policy, key)).await;
        found(done).map(|done| done.is_some())
    }

    /// Does several things to a record in one step, where the condition of the policy is met.
    pub(super) async fn operate(
        &self,
        policy: &WritePolicy,
        key: &aerospike::Key,
        operations: &[Operation],
    ) -> aerospike::Result<Option<Record>> {
        found(
            patiently(self.timeout, || {
                self.client.operate(policy, key, operations)
            })
            .await,
        )
    }
}

/// The client ends nothing when it is dropped, so somebody has to.
impl Drop for Connection {
    fn drop(&mut self) {
        if !self.given && !*self.closed.get_mut() {
            let client = self.client.clone();
            self.runtime.spawn(async move { client.close().await });
        }
    }
}

fn marker(generation: Generation) -> Bin {
    let letters = String::from_utf8_lossy(generation.as_bytes()).into_owned();
    Bin::new(BIN, Value::String(letters))
}

fn letters(marker: &Record) -> Option<&[u8]> {
    match marker.bins.get(BIN) {
        Some(Value::String(letters)) => Some(letters.as_bytes()),
        _ => None,
    }
}

pub(super) fn cleared_again_and_again() -> Error {
    Error::new(
        ErrorKind::Backend,
        "the key or its namespace changed at every attempt",
    )
}

/// A refusal because of what is under the key is an answer.
fn found<T>(answer: aerospike::Result<T>) -> aerospike::Result<Option<T>> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if is_refusal(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Asks again, with growing pauses, while too many others write to the same record. The server has done nothing then.
async fn patiently<T, F>(limit: Duration, ask: impl Fn() -> F) -> aerospike::Result<T>
where
    F: Future<Output = aerospike::Result<T>>,
{
    let mut pauses = Pauses::new(limit);
    loop {
        match ask().await {
            Err(error) if is_busy(&error) && pauses.next().await => {}
            answer => return answer,
        }
    }
}

/// Pauses that grow and differ between those who wait.
pub(super) struct Pauses {
    left: Duration,
    next: Duration,
}

impl Pauses {
    pub(super) fn new(limit: Duration) -> Self {
        Self {
            left: limit,
            next: Duration::from_millis(1),
        }
    }

    /// Waits, unless all the time has been waited for.
    pub(super) async fn next(&mut self) -> bool {
        if self.left.is_zero() {
            return false;
        }
        let mut random = [0; 1];
        // Without randomness all wait alike, which is no failure.
        let _ = getrandom::fill(&mut random);
        let pause = self.next.mul_f32(0.5 + f32::from(random[0]) / 256.0);
        let pause = pause.min(self.left);
        sleep(pause).await;
        self.left -= pause;
        self.next = (2 * self.next).min(Duration::from_millis(16));
        true
    }
}

/// Both results, of futures that run at the same time.
async fn join<A, B>(one: impl Future<Output = A>, two: impl Future<Output = B>) -> (A, B) {
    let (mut one, mut two) = (pin!(one), pin!(two));
    let (mut first, mut second) = (None, None);
    poll_fn(|context| {
        if first.is_none()
            && let Poll::Ready(done) = one.as_mut().poll(context)
        {
            first = Some(done);
        }
        if second.is_none()
            && let Poll::Ready(done) = two.as_mut().poll(context)
        {
            second = Some(done);
        }
        match (first.take(), second.take()) {
            (Some(first), Some(second)) => Poll::Ready((first, second)),
            (one, two) => {
                (first, second) = (one, two);
                Poll::Pending
            }
        }
    })
    .await
}
