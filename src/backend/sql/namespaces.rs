//! The generations of namespaces, each in a row of its own.
//!
//! Every statement looks the generation up itself, so none is done under one that is over. What this process remembers of
//! generations only serves to find out that a database went back in time.

use std::sync::Arc;

use bytes::Bytes;

use super::{
    driver::{Argument, Column, Statement},
    errors::Failure,
    keys,
    shared::Sql,
};
use crate::{
    Error, ErrorKind, Key,
    backend::generation::{Generation, Marker, Namespace},
};

/// How often something is done again because the namespace had no generation.
pub(super) const ROUNDS: usize = 8;

/// The number that a generation is in a row: its letters, of which the first bit is 0.
pub(super) fn number(generation: Generation) -> i64 {
    generation.as_u64().cast_signed()
}

/// The name that a namespace has in its row.
pub(super) fn name(namespace: &Namespace) -> Argument {
    Argument::Bytes(keys::stored(namespace.encoded()))
}

pub(super) fn restless() -> Failure {
    let message = "the namespace had no generation at any attempt";
    Error::new(ErrorKind::Backend, message).into()
}

/// Where the count of sweeps begins: not where an earlier one did, by which leases were given.
fn first_sweep() -> i64 {
    number(Generation::random()) >> 8
}

/// Keys of one namespace among others: their places, and what they are stored under.
pub(super) struct Group {
    pub(super) namespace: Arc<Namespace>,
    pub(super) places: Vec<usize>,
    pub(super) ids: Vec<Bytes>,
}

impl Sql {
    /// The keys, namespace by namespace.
    pub(super) fn groups<'a>(&self, keys: impl Iterator<Item = &'a Key>) -> Vec<Group> {
        let mut groups: Vec<Group> = Vec::new();
        for (place, key) in keys.enumerate() {
            let encoded = key.as_key_ref().encoded_namespace();
            let id = keys::stored(key.encoded());
            // Nearly always there is one namespace.
            let known = groups
                .iter_mut()
                .find(|group| group.namespace.encoded() == encoded);
            match known {
                Some(group) => {
                    group.places.push(place);
                    group.ids.push(id);
                }
                None => groups.push(Group {
                    namespace: self.namespaces.of(key.as_key_ref()),
                    places: vec![place],
                    ids: vec![id],
                }),
            }
        }
        groups
    }

    /// Gives the namespace a generation, where it has none.
    pub(super) async fn begin(&self, namespace: &Namespace) -> Result<(), Failure> {
        let fresh = Argument::Int(number(Generation::random()));
        let begin = Statement::write(self.statements.begin(), vec![name(namespace), fresh]);
        // Who emptied one table may have emptied all of them.
        let count = Statement::write(
            self.statements.begin_sweeps(),
            vec![Argument::Int(first_sweep())],
        );
        self.run(&[begin.repeatable(), count.repeatable()]).await?;
        Ok(())
    }

    /// Learns the generation of a namespace that this process does not know, so that it knows it again when it is over.
    pub(super) async fn know(&self, namespace: &Namespace) -> Result<(), Failure> {
        for _ in 0..ROUNDS {
            if namespace.generation().is_some() {
                return Ok(());
            }
            let ask = Statement::read(
                self.statements.generation(),
                vec![name(namespace)],
                &[Column::Int],
            );
            let rows = self.run_one(ask).await?.rows;
            match rows.first().and_then(|row| row.int(0)) {
                Some(found) => {
                    self.learn(namespace, None, found).await?;
                }
                None => self.begin(namespace).await?,
            }
        }
        Err(restless())
    }

    /// Takes note of the generation that a statement found, to a caller that knew `before` when it asked. `false` where
    /// that generation is over, and the namespace has another one now.
    pub(super) async fn learn(
        &self,
        namespace: &Namespace,
        before: Option<Generation>,
        found: i64,
    ) -> Result<bool, Failure> {
        let letters = found.to_be_bytes();
        let told = match (before, Generation::read(&letters)) {
            (Some(before), Some(_)) => namespace.compare(before, Some(&letters)),
            (None, Some(generation)) => namespace.learn(generation),
            (_, None) => Marker::Lost,
        };
        if told != Marker::Lost {
            return Ok(true);
        }
        tracing::warn!(
            "the database went back to a cleared generation of a namespace, which begins anew"
        );
        let fresh = Generation::random();
        let arguments = vec![
            Argument::Int(number(fresh)),
            name(namespace),
            Argument::Int(found),
        ];
        let renew = Statement::write(self.statements.renew(), arguments);
        if self.run_one(renew).await?.affected > 0 {
            namespace.begin(fresh);
        }
        Ok(false)
    }

    /// Puts another generation in the place of whatever the namespace has: nothing of before is found under it.
    pub(super) async fn clear(&self, namespace: &str) -> Result<(), Failure> {
        let namespace = self.namespaces.named(namespace);
        let _clearing = self.clearing.lock().await;
        self.know(&namespace).await?;
        let fresh = Generation::random();
        let arguments = vec![name(&namespace), Argument::Int(number(fresh))];
        let clear = Statement::write(self.statements.clear(), arguments);
        self.run_one(clear.repeatable()).await?;
        namespace.begin(fresh);
        Ok(())
    }
}
