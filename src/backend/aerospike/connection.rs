//! The client, how it asks, and the generations of namespaces.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use aerospike::{
    Bin, Bins, Client, ReadPolicy, Record, Value, WritePolicy, operations::Operation,
    policy::AdminPolicy,
};
use tokio::{
    runtime::Handle,
    sync::{Mutex, OnceCell, Semaphore, SemaphorePermit},
    time::timeout,
};

use super::{
    super::{
        frame::{self, Versions},
        generation::Namespaces,
    },
    error::{Failure, is_refusal},
    policies::Policies,
    waiting::patiently,
};
use crate::{Error, ErrorKind, Result};

/// `max-record-size` where the server does not say.
const RECORD_SIZE: usize = 1 << 20;

/// What the server adds to a blob in one record: measured 51 bytes, and room for more.
const RECORD_OVERHEAD: usize = 64;

/// What one backend has to do with one cluster.
pub(super) struct Connection {
    pub(super) client: Client,
    /// Whether the client was given, and is somebody else's to close.
    given: bool,
    /// Where the client's task runs, and is ended.
    runtime: Option<Handle>,
    closed: AtomicBool,
    namespace: String,
    set: String,
    timeout: Duration,
    connect_timeout: Duration,
    pub(super) policies: Policies,
    pub(super) versions: Versions,
    pub(super) namespaces: Namespaces,
    /// One permit for each connection to a node: who waits for one has a place in a queue, which the client's own pool
    /// does not have.
    gate: Semaphore,
    /// Held while a namespace is cleared, so that this process sees its own clearings in their order.
    pub(super) clearing: Mutex<()>,
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
        connect_timeout: Duration,
        max_conns: usize,
    ) -> Self {
        Self {
            gate: Semaphore::new(max_conns.clamp(2, Semaphore::MAX_PERMITS)),
            client,
            given,
            runtime: Handle::try_current().ok(),
            closed: AtomicBool::new(false),
            namespace,
            set,
            timeout,
            connect_timeout,
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

    /// Waits until so many commands have a connection.
    pub(super) async fn pass(&self, commands: u32) -> Result<SemaphorePermit<'_>, Failure> {
        if let Ok(permit) = self.gate.try_acquire_many(commands) {
            return Ok(permit);
        }
        match timeout(self.timeout, self.gate.acquire_many(commands)).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => {
                let message = format!(
                    "every connection was in use for {:?}; CACHE_AEROSPIKE_MAX_CONNS is their number",
                    self.timeout
                );
                Err(Error::new(ErrorKind::Timeout, message).into())
            }
        }
    }

    /// Asks any node for `what` it tells of itself.
    async fn info(&self, what: &str, limit: Duration) -> Result<String, Failure> {
        let policy = AdminPolicy {
            timeout: self.policies.millis(),
        };
        let commands = [what];
        // The client waits a second at least for a connection.
        match timeout(limit, self.client.info(&policy, &commands)).await {
            Ok(answer) => Ok(answer?.swap_remove(what).unwrap_or_default()),
            Err(_) => {
                let message = format!("no answer within {limit:?}");
                Err(Error::new(ErrorKind::Timeout, message).into())
            }
        }
    }

    pub(super) async fn ping(&self) -> Result<()> {
        self.open("ping")?;
        let answer = self.info("status", self.timeout).await;
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
        // The first to ask may have to make a connection.
        let limit = self.timeout.saturating_add(self.connect_timeout);
        let there = self.info("namespaces", limit).await?;
        let there: Vec<&str> = there.split(';').collect();
        if !there.contains(&self.namespace.as_str()) {
            let message = format!(
                "CACHE_AEROSPIKE_NAMESPACE is {:?}, and the cluster has no namespace but {}",
                self.namespace,
                there.join(", ")
            );
            return Err(Error::new(ErrorKind::Settings, message).into());
        }
        let parameters = self
            .info(&format!("namespace/{}", self.namespace), limit)
            .await?;
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

    /// Removes a record, and says whether there was one that meets the condition of the policy.
    pub(super) async fn delete(
        &self,
        policy: &WritePolicy,
        key: &aerospike::Key,
    ) -> aerospike::Result<bool> {
        let done = patiently(self.timeout, || self.client.delete(policy, key)).await;
        found(done).map(|done| done == Some(true))
    }

    /// Whether there is a record that meets the condition of the policy.
    pub(super) async fn exists(
        &self,
        policy: &ReadPolicy,
        key: &aerospike::Key,
    ) -> aerospike::Result<bool> {
        found(self.client.exists(policy, key).await).map(|there| there == Some(true))
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
        if let Some(runtime) = &self.runtime
            && !self.given
            && !*self.closed.get_mut()
        {
            let client = self.client.clone();
            runtime.spawn(async move { client.close().await });
        }
    }
}

/// A refusal because of what is under the key is an answer.
fn found<T>(answer: aerospike::Result<T>) -> aerospike::Result<Option<T>> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if is_refusal(&error) => Ok(None),
        Err(error) => Err(error),
    }
}
