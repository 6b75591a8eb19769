//! Many keys in one call, together with the generations of their namespaces.

use std::sync::Arc;

use aerospike::{BatchOperation, BatchPolicy, Bins, Record};

use super::{
    super::{
        calls::{ROWS, calls},
        generation::{Generation, Namespace},
        pauses::Pauses,
    },
    connection::Connection,
    error::{Failure, is_busy, is_refusal},
    markers::{ATTEMPTS, changed_at_every_attempt},
};
use crate::{Key, Result};

/// What the server answered of one key; `None` where the condition was not met or nothing is there.
pub(super) type Answer = Option<Record>;

/// Answers so far, each with the generation that it is of.
type Answers = [Option<(Answer, Generation)>];

impl Connection {
    /// Reads the records of `keys`.
    pub(super) async fn read_many(
        &self,
        operation: &'static str,
        keys: &[Key],
    ) -> Result<Vec<(Answer, Generation)>> {
        let read = |_, record, _| {
            let policy = &self.policies.read_row;
            Some(BatchOperation::read(policy, record, Bins::All))
        };
        let keys: Vec<_> = keys.iter().collect();
        let all: Vec<_> = (0..keys.len()).collect();
        let calls = all.chunks(ROWS).map(<[usize]>::to_vec).collect();
        self.many(operation, &self.policies.read_many, &keys, calls, read)
            .await
    }

    /// Looks at the records of `keys` as `look` says.
    pub(super) async fn look_many(
        &self,
        operation: &'static str,
        keys: &[&Key],
        look: impl Fn(aerospike::Key) -> BatchOperation,
    ) -> Result<Vec<Answer>> {
        let all: Vec<_> = (0..keys.len()).collect();
        let calls = all.chunks(ROWS).map(<[usize]>::to_vec).collect();
        let look = |_, record, _| Some(look(record));
        let answers = self.many(operation, &self.policies.read_many, keys, calls, look);
        Ok(answers
            .await?
            .into_iter()
            .map(|(answer, _)| answer)
            .collect())
    }

    /// Writes what `write` says, in an order in which equal keys follow each other. `None` is a refusal without asking.
    pub(super) async fn write_many(
        &self,
        operation: &'static str,
        keys: &[&Key],
        size: impl Fn(usize) -> usize,
        write: impl Fn(usize, aerospike::Key, Generation) -> Option<BatchOperation>,
    ) -> Result<Vec<Answer>> {
        let calls = calls(keys, size);
        let policy = &self.policies.write_many;
        let answers = self.many(operation, policy, keys, calls, write).await?;
        Ok(answers.into_iter().map(|(answer, _)| answer).collect())
    }

    async fn many(
        &self,
        operation: &'static str,
        policy: &BatchPolicy,
        keys: &[&Key],
        calls: Vec<Vec<usize>>,
        ask: impl Fn(usize, aerospike::Key, Generation) -> Option<BatchOperation>,
    ) -> Result<Vec<(Answer, Generation)>> {
        self.know(operation).await?;
        let mut answers = vec![None; keys.len()];
        for call in calls {
            let done = self.call(policy, keys, call, &ask, &mut answers).await;
            done.map_err(|failure| self.explain(operation, failure))?;
        }
        let answers = answers.into_iter();
        Ok(answers
            .map(|answer| answer.expect("every key is in one of the calls, and a call answers all"))
            .collect())
    }

    /// One call, and again for the keys that it did not settle.
    async fn call(
        &self,
        policy: &BatchPolicy,
        keys: &[&Key],
        mut open: Vec<usize>,
        ask: &impl Fn(usize, aerospike::Key, Generation) -> Option<BatchOperation>,
        answers: &mut Answers,
    ) -> Result<(), Failure> {
        let mut pauses = Pauses::new(self.timeout());
        let mut attempts = 0;
        while !open.is_empty() && attempts < ATTEMPTS {
            let mut asked = Asked::default();
            for &number in &open {
                let place = self.place(&mut asked.spaces, keys[number]).await?;
                let (namespace, generation) = &asked.spaces[place];
                let stored = namespace.stored_key(*generation, keys[number].as_key_ref());
                let row = ask(number, self.record(stored)?, *generation);
                asked.places.push((number, place, row.is_some()));
                asked.rows.extend(row);
            }
            for (namespace, _) in &asked.spaces {
                let marker = self.record(namespace.marker_key())?;
                let read = BatchOperation::read(&self.policies.read_row, marker, Bins::All);
                asked.rows.push(read);
            }
            let permit = self.pass(1).await?;
            let sent = self.client.batch(policy, &mut asked.rows).await;
            drop(permit);
            let left = self.settle_rows(asked, sent, answers).await?;
            // Keys that others write to have their time; a generation that changes has its number of attempts.
            if !left.busy.is_empty() && !pauses.next().await {
                return Err(left
                    .why
                    .map_or_else(|| changed_at_every_attempt().into(), Failure::from));
            }
            attempts += usize::from(left.busy.is_empty());
            open = left.busy;
            open.extend(left.outdated);
            // Equal keys are never in one call, so the order within it is free.
            open.sort_unstable();
        }
        match open.is_empty() {
            true => Ok(()),
            false => Err(changed_at_every_attempt().into()),
        }
    }

    /// The place of the key's namespace among `spaces`, with the generation that it is asked by.
    async fn place(
        &self,
        spaces: &mut Vec<(Arc<Namespace>, Generation)>,
        key: &Key,
    ) -> Result<usize, Failure> {
        let namespace = self.namespaces.of(key.as_key_ref());
        let known = spaces
            .iter()
            .position(|(known, _)| Arc::ptr_eq(known, &namespace));
        if let Some(place) = known {
            return Ok(place);
        }
        let generation = self.generation(&namespace).await?;
        spaces.push((namespace, generation));
        Ok(spaces.len() - 1)
    }

    /// Takes the answers of one call.
    async fn settle_rows(
        &self,
        asked: Asked,
        sent: aerospike::Result<()>,
        answers: &mut Answers,
    ) -> Result<Left, Failure> {
        let mut left = Left::default();
        let mut rows = asked.rows.into_iter();
        let mut found = Vec::with_capacity(asked.places.len());
        for (number, place, was_sent) in asked.places {
            let row = if was_sent { rows.next() } else { None };
            found.push((number, place, row.map(|row| outcome(row, &sent))));
        }
        let mut current = Vec::with_capacity(asked.spaces.len());
        for ((namespace, generation), row) in asked.spaces.into_iter().zip(rows) {
            let marker = outcome(row, &sent)?;
            let same = self.confirm(&namespace, generation, marker).await?;
            current.push((same, generation));
        }
        for (number, place, outcome) in found {
            let (same, generation) = current[place];
            match outcome.transpose() {
                Ok(_) if !same => left.outdated.push(number),
                Ok(answer) => answers[number] = Some((answer.flatten(), generation)),
                Err(error) if is_busy(&error) => {
                    left.busy.push(number);
                    left.why = Some(error);
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(left)
    }
}

/// What goes into one call.
#[derive(Default)]
struct Asked {
    /// The namespaces of the keys, and the generations that they are asked by.
    spaces: Vec<(Arc<Namespace>, Generation)>,
    /// For each key its number, the place of its namespace, and whether it has a row.
    places: Vec<(usize, usize, bool)>,
    /// The rows of the keys that have one, then those of the markers.
    rows: Vec<BatchOperation>,
}

/// What one call left to be done.
#[derive(Default)]
struct Left {
    /// Keys whose namespace has another generation.
    outdated: Vec<usize>,
    /// Keys that too many others write to.
    busy: Vec<usize>,
    why: Option<aerospike::Error>,
}

/// What became of one row. A row without an answer has the failure of the call.
fn outcome(mut row: BatchOperation, sent: &aerospike::Result<()>) -> aerospike::Result<Answer> {
    if let Some(error) = row.error() {
        return if is_refusal(error) {
            Ok(None)
        } else {
            Err(error.clone())
        };
    }
    match (row.take_record(), sent) {
        (None, Err(error)) => Err(error.clone()),
        (answer, _) => Ok(answer),
    }
}
