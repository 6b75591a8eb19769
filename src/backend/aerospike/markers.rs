//! The generations of namespaces, each in a record of its own on the server.

use std::future::Future;

use aerospike::{Bin, GenerationPolicy, Record, RecordExistsAction, ResultCode, Value};

use super::{
    super::generation::{Generation, Marker, Namespace},
    connection::Connection,
    error::{Failure, is_full},
    policies::Write,
    record::BIN,
};
use crate::{Error, ErrorKind, Key, Result, backend::join::join};

/// How often a verb is done again because its namespace is cleared meanwhile, or others write to its key.
pub(super) const ATTEMPTS: usize = 16;

impl Connection {
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
            let permit = self.pass(2).await?;
            let (done, found) = join(act(record, generation), self.read(&marker)).await;
            drop(permit);
            if self.confirm(namespace, generation, found?).await? {
                return done;
            }
        }
        Err(changed_at_every_attempt().into())
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
        known.ok_or_else(|| changed_at_every_attempt().into())
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
            match self.write(&policy, &key, &marker(fresh)).await {
                // Without a marker everything is out of reach too, until there is room for one.
                Err(error) if is_full(&error) => self.delete(&policy, &key).await?,
                written => {
                    written?;
                    namespace.begin(fresh);
                    true
                }
            };
            Ok::<_, Failure>(())
        };
        cleared
            .await
            .map_err(|failure| self.explain("clear", failure))
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

pub(super) fn changed_at_every_attempt() -> Error {
    Error::new(
        ErrorKind::Backend,
        "the key or its namespace changed at every attempt",
    )
}
