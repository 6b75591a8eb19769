//! The generations of namespaces, each in a document of its own on the server.

use std::{collections::HashMap, sync::Arc};

use super::{
    super::{
        generation::{Generation, Marker, Namespace},
        join::join,
    },
    commands::{self, Done},
    errors::Failure,
    ids::Id,
    link::{Found, Link},
};
use crate::{Error, ErrorKind, Key, Result};

/// How often a verb is done again because its namespace is cleared meanwhile, or others write to its key.
pub(super) const ATTEMPTS: usize = 16;

/// The namespaces of some keys, with the generations that they are asked by.
#[derive(Default)]
pub(super) struct Spaces(Vec<(Arc<Namespace>, Generation)>);

impl Spaces {
    pub(super) fn generation(&self, place: usize) -> Generation {
        self.0[place].1
    }

    pub(super) fn markers(&self) -> Vec<Id> {
        let namespaces = self.0.iter();
        namespaces
            .map(|(namespace, _)| Id::marker(namespace.encoded()))
            .collect()
    }

    /// The place of the key's namespace among these, and the `_id` of the key.
    pub(super) async fn place(&mut self, link: &Link, key: &Key) -> Result<(usize, Id), Failure> {
        let namespace = link.namespaces.of(key.as_key_ref());
        let known = self
            .0
            .iter()
            .position(|(known, _)| Arc::ptr_eq(known, &namespace));
        let place = match known {
            Some(place) => place,
            None => {
                let generation = link.generation(&namespace).await?;
                self.0.push((namespace, generation));
                self.0.len() - 1
            }
        };
        let (namespace, generation) = &self.0[place];
        let rest = &key.encoded()[namespace.encoded().len()..];
        Ok((place, Id::entry(namespace.encoded(), *generation, rest)))
    }

    /// For each namespace, whether it was asked by the generation of its marker. The right one is known afterwards.
    pub(super) async fn confirm(
        &self,
        link: &Link,
        found: &HashMap<Box<[u8]>, Found>,
    ) -> Result<Vec<bool>, Failure> {
        let mut current = Vec::with_capacity(self.0.len());
        for ((namespace, used), marker) in self.0.iter().zip(self.markers()) {
            let found = found.get(marker.document.as_bytes());
            let letters = found.and_then(|found| found.letters.as_deref());
            current.push(match namespace.compare(*used, letters.map(str::as_bytes)) {
                Marker::Same => true,
                Marker::Changed => false,
                Marker::Lost => {
                    link.renew(namespace, letters).await?;
                    false
                }
            });
        }
        Ok(current)
    }
}

impl Link {
    /// Does `act` with the document of `key`, and asks for the generation of its namespace in the same moment. Where that
    /// turns out to be another than was known, it is done again: what was done to a document that nobody can reach does
    /// not matter.
    pub(super) async fn keyed<T, F>(
        &self,
        operation: &'static str,
        key: &Key,
        act: impl Fn(Id) -> F,
    ) -> Result<T>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        self.know(operation).await?;
        let done = async {
            for _ in 0..ATTEMPTS {
                let mut spaces = Spaces::default();
                let (place, id) = spaces.place(self, key).await?;
                let (done, current) = self.beside(&spaces, act(id)).await?;
                if current[place] {
                    return done;
                }
            }
            Err(changed_at_every_attempt().into())
        };
        done.await
            .map_err(|failure| self.explain(operation, failure))
    }

    /// Does `act`, and asks for the markers at the same time.
    pub(super) async fn beside<T>(
        &self,
        spaces: &Spaces,
        act: impl Future<Output = T>,
    ) -> Result<(T, Vec<bool>), Failure> {
        let markers = spaces.markers();
        let markers = markers.iter().map(|marker| &*marker.document);
        let (done, found) = join(act, self.find(markers, false)).await;
        let current = spaces.confirm(self, &found?).await?;
        Ok((done, current))
    }

    /// The generation of `namespace` as it is known, or else as the server says.
    pub(super) async fn generation(&self, namespace: &Namespace) -> Result<Generation, Failure> {
        if let Some(known) = namespace.generation() {
            return Ok(known);
        }
        let letters = self.letters(namespace).await?;
        let read = letters
            .as_deref()
            .map(str::as_bytes)
            .and_then(Generation::read);
        match read.map(|generation| namespace.learn(generation)) {
            Some(Marker::Same | Marker::Changed) => {}
            Some(Marker::Lost) | None => self.renew(namespace, letters.as_deref()).await?,
        }
        let known = namespace.generation();
        known.ok_or_else(|| changed_at_every_attempt().into())
    }

    /// What the marker of `namespace` says.
    pub(super) async fn letters(&self, namespace: &Namespace) -> Result<Option<String>, Failure> {
        let marker = Id::marker(namespace.encoded());
        let found = self.find([&*marker.document], false).await?;
        Ok(found.into_values().next().and_then(|found| found.letters))
    }

    /// Makes a new marker in the place of the one that was found to say `letters`, unless somebody else is faster.
    async fn renew(&self, namespace: &Namespace, letters: Option<&str>) -> Result<(), Failure> {
        if letters.is_none() {
            // With the marker, the whole collection may have gone, and its index with it.
            self.prepare().await?;
        }
        let (id, fresh) = (Id::marker(namespace.encoded()), Generation::random());
        let anew = written(fresh);
        let statement = match letters {
            None => commands::insert_marker(&id, &anew),
            Some(before) => commands::change_marker(&id, before, &anew),
        };
        let (done, changed) = self.update(vec![statement]).await?;
        let ours = match letters {
            None => done == [Done::Inserted],
            Some(_) => changed > 0,
        };
        if ours {
            namespace.begin(fresh);
            return Ok(());
        }
        // Whatever the winner wrote, or that it is lost again, is found out by the next attempt.
        let found = self.letters(namespace).await?;
        let read = found
            .as_deref()
            .map(str::as_bytes)
            .and_then(Generation::read);
        if let Some(generation) = read {
            namespace.learn(generation);
        }
        Ok(())
    }

    pub(super) async fn clear(&self, name: &str) -> Result<()> {
        self.know("clear").await?;
        let namespace = self.namespaces.named(name);
        let _alone = self.clearing.lock().await;
        let (id, fresh) = (Id::marker(namespace.encoded()), Generation::random());
        let statement = commands::put_marker(&id, &written(fresh));
        let cleared = self.update(vec![statement]).await;
        cleared.map_err(|failure| self.explain("clear", failure))?;
        namespace.begin(fresh);
        Ok(())
    }
}

fn written(generation: Generation) -> String {
    String::from_utf8_lossy(generation.as_bytes()).into_owned()
}

pub(super) fn changed_at_every_attempt() -> Error {
    Error::new(
        ErrorKind::Backend,
        "the key or its namespace changed at every attempt",
    )
}
