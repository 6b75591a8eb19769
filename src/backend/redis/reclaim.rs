//! Reclaiming the space of what was cleared: the server itself gets rid of what has a TTL, and of nothing else.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use redis::{Pipeline, Value};

use super::{
    Shared,
    asking::Request,
    errors,
    link::Link,
    reply,
    space::{Space, Whole},
};
use crate::{Result, backend::generation::Generation, key::NAMESPACE_ENDS};

/// So many keys of the server one command looks at.
const STEP: usize = 1000;

/// So many such commands one call gives: other clients wait while the server carries one out.
const STEPS: usize = 64;

/// How far the search has come.
#[derive(Default)]
pub(super) struct Sweep {
    /// The namespaces still to be searched on each server, the first of them from the cursor on.
    left: VecDeque<(Link, Arc<Whole>)>,
    cursor: u64,
    /// Keys that were found and not looked into yet, and whether a number under them may go. Those of one space are next
    /// to each other.
    found: Vec<(Arc<Space>, Vec<u8>, bool)>,
}

/// The keys of one space that a step found.
type Found = (Arc<Space>, Vec<Vec<u8>>);

impl Shared {
    /// Removes up to `limit` entries of generations that are over, in the namespaces that this process has to do with.
    pub(super) async fn remove_expired(&self, limit: usize) -> Result<usize> {
        self.reach.open()?;
        let mut sweep = self.sweep.lock().await;
        if sweep.left.is_empty() {
            for link in self.reach.links().await? {
                let namespaces = self.spaces.all().into_iter();
                let namespaces = namespaces.map(|whole| (link.clone(), whole));
                sweep.left.extend(namespaces);
            }
        }
        let (mut removed, mut steps) = (0, 0);
        while removed < limit {
            if !sweep.found.is_empty() {
                removed += self.remove_found(&mut sweep, limit - removed).await?;
                continue;
            }
            if steps == STEPS {
                break;
            }
            let Some((link, whole)) = sweep.left.front().cloned() else {
                break;
            };
            steps += 1;
            match self.search(&link, &whole, &mut sweep).await {
                Ok(()) => {}
                Err(error) => {
                    // Its server may be gone for good; the next call begins with the next one.
                    sweep.left.pop_front();
                    sweep.cursor = 0;
                    return Err(error);
                }
            }
        }
        Ok(removed)
    }

    /// One step through the keys of a server.
    async fn search(&self, link: &Link, whole: &Whole, sweep: &mut Sweep) -> Result<()> {
        let live = link.live().await?;
        let mut scan = redis::cmd("SCAN");
        scan.arg(sweep.cursor)
            .arg("MATCH")
            .arg(pattern(&whole.beginning()))
            .arg("COUNT")
            .arg(STEP);
        let parts = <[Value; 2]>::try_from(reply::array(live.ask(&scan).await?)?);
        let [cursor, keys] = parts.map_err(|_| errors::unexpected())?;
        let mut found: BTreeMap<Vec<u8>, Found> = BTreeMap::new();
        for key in reply::array(keys)? {
            let Value::BulkString(key) = key else {
                continue;
            };
            if let Some(space) = whole.shard(&key) {
                let (_, keys) = found
                    .entry(space.marker().to_vec())
                    .or_insert_with(|| (space.clone(), Vec::new()));
                keys.push(key);
            }
        }
        if !found.is_empty() {
            // Asked after the keys: a generation that is not this one was over when they were found, and does not return.
            let mut pipeline = Pipeline::with_capacity(found.len());
            for marker in found.keys() {
                pipeline.cmd("GET").arg(marker);
            }
            let markers = live.ask_all(&pipeline).await?;
            for ((_, (space, keys)), marker) in found.into_iter().zip(markers) {
                let Ok(marker) = reply::bytes(marker) else {
                    // The shard was moved to another node, where its keys are found too.
                    continue;
                };
                let current = marker.as_deref().and_then(Generation::read);
                for key in keys {
                    match generation_of(space.head(), &key) {
                        Some(generation) if Some(generation) != current => {
                            let is_over = space.is_over(generation);
                            sweep.found.push((space.clone(), key, is_over));
                        }
                        _ => {}
                    }
                }
            }
        }
        let cursor = reply::number(&cursor).ok_or_else(errors::unexpected)?;
        sweep.cursor = cursor.cast_unsigned();
        if sweep.cursor == 0 {
            sweep.left.pop_front();
        }
        Ok(())
    }

    /// Removes what was found, where it is larder's: keys of one space at a time.
    async fn remove_found(&self, sweep: &mut Sweep, limit: usize) -> Result<usize> {
        let Some((space, ..)) = sweep.found.last() else {
            return Ok(0);
        };
        let space = space.clone();
        let of_space = sweep.found.iter().rev();
        let of_space = of_space.take_while(|(other, ..)| Arc::ptr_eq(other, &space));
        let count = of_space.count().min(limit).min(STEP);
        let batch = &sweep.found[sweep.found.len() - count..];
        let live = self.reach.live(space.slot()).await?;
        let script = &self.scripts.reclaim;
        let mut command = script.call(&live, count);
        // The last one first, because what is not done with stays at the end.
        batch.iter().rev().for_each(|(_, key, _)| {
            command.arg(key);
        });
        batch.iter().rev().for_each(|(.., counters_too)| {
            command.arg(u8::from(*counters_too));
        });
        command.arg(limit.min(STEP));
        let mut pipeline = Pipeline::with_capacity(1);
        pipeline.add_command(command);
        let sending = self
            .reach
            .send(space.slot(), live, Request::Commands(pipeline));
        let (live, answers) = sending.await?;
        let answer = answers.first().ok_or_else(errors::unexpected)?;
        if !script.answered(&live, answer) {
            return Ok(0);
        }
        let answer = answers.into_iter().next().ok_or_else(errors::unexpected)?;
        let [removed, done] = match &reply::array(answer)?[..] {
            [removed, done] => [reply::integer(removed)?, reply::integer(done)?],
            _ => return Err(errors::unexpected()),
        };
        let number = |answer| usize::try_from(answer).unwrap_or_default();
        let left = sweep.found.len().saturating_sub(number(done).min(count));
        sweep.found.truncate(left);
        Ok(number(removed))
    }
}

/// The generation of the entry that a key with this prefix would be of, if it is of one.
fn generation_of(prefix: &[u8], key: &[u8]) -> Option<Generation> {
    let rest = key.strip_prefix(prefix)?;
    let (letters, rest) = rest.split_at_checked(Generation::LEN)?;
    let ends = rest
        .first()
        .is_some_and(|byte| NAMESPACE_ENDS.contains(byte));
    Generation::read(letters).filter(|_| ends)
}

/// A pattern for the keys that begin with `prefix`, of which every byte stands for itself.
fn pattern(prefix: &[u8]) -> Vec<u8> {
    let mut pattern = Vec::with_capacity(prefix.len() + 1);
    for &byte in prefix {
        if b"*?[]\\".contains(&byte) {
            pattern.push(b'\\');
        }
        pattern.push(byte);
    }
    pattern.push(b'*');
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_keys_of_the_form_of_entries_have_a_generation() {
        let of = |key: &str| generation_of(b"shop:", key.as_bytes()).is_some();
        for entry in [
            "shop:abcdEF-_:name",
            "shop:abcdEF-_/bucket:name",
            "shop:abcdEF-_@http:",
        ] {
            assert!(of(entry), "{entry}");
        }
        for other in [
            "shop:generation",
            "shop:i604",
            "shop:abcdEF-_",
            "shop:abcdEF-_x:name",
            "shop:abc:name",
            "shops:abcdEF-_:name",
            "sho",
        ] {
            assert!(!of(other), "{other}");
        }
    }

    #[test]
    fn a_pattern_stands_for_its_prefix_and_no_other() {
        assert_eq!(pattern(b"a*[b]?\\:"), b"a\\*\\[b\\]\\?\\\\:*");
    }
}
