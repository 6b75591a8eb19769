//! The verbs that delete.
//!
//! A deletion removes the item, also an empty one that stands for a load: so every lease on the key ends, whether anything
//! was under it or not.

use std::sync::Arc;

use super::{
    errors,
    node::{Node, STEP},
    protocol::{Command, Reply, Status, Verb},
    space::Space,
    stored::{self, is_live},
};
use crate::{Key, Result, Timestamp};

impl Node {
    /// Deletes keys of one namespace.
    pub(super) async fn delete_many(&self, space: &Arc<Space>, keys: &[&Key]) -> Result<Vec<bool>> {
        let mut removed = Vec::with_capacity(keys.len());
        for keys in keys.chunks(STEP) {
            let answers = self.ask(space, |generation| {
                let items = keys
                    .iter()
                    .map(|key| space.item(generation, key.as_key_ref()));
                let commands = items.flat_map(|item| {
                    let verbs = [Verb::Look, Verb::Delete(None)];
                    verbs.map(|verb| Command::new(&item, verb))
                });
                commands.collect()
            });
            let answers = answers.await?;
            let now = Timestamp::now();
            for pair in answers.replies.chunks(2) {
                removed.push(was_removed(pair, now)?);
            }
        }
        self.link.open().map(|()| removed)
    }

    pub(super) async fn delete_if(&self, key: &Key, version: u64) -> Result<bool> {
        let space = self.spaces.of(key);
        let answers = self.ask(&space, |generation| {
            let Some(cas) = stored::cas(generation, version) else {
                return Vec::new();
            };
            let item = space.item(generation, key.as_key_ref());
            let verbs = [Verb::Look, Verb::Delete(Some(cas))];
            verbs.map(|verb| Command::new(&item, verb)).to_vec()
        });
        match &answers.await?.replies[..] {
            [] => Ok(false),
            pair => was_removed(pair, Timestamp::now()),
        }
    }
}

/// Whether something live was removed, by the answers of looking and removing.
fn was_removed(pair: &[Reply], now: Timestamp) -> Result<bool> {
    let [look, removal] = pair else {
        return Err(errors::unexpected());
    };
    match removal.status {
        Status::Done => Ok(is_live(look, now)),
        Status::Absent | Status::Refused => Ok(false),
        other => Err(errors::refused(other)),
    }
}
