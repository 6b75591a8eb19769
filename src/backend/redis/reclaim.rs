//! Reclaiming the space of what was cleared: the server itself gets rid of what has a TTL, and of nothing else.

use std::{collections::VecDeque, sync::Arc};

use redis::{Pipeline, Value};

use super::{Shared, errors, reply, space::Space};
use crate::{Result, backend::generation::Generation, key::NAMESPACE_ENDS};

/// So many keys of the server one command looks at.
const STEP: usize = 1000;

/// So many such commands one call gives: other clients wait while the server carries one out.
const STEPS: usize = 64;

/// How far the search has come.
#[derive(Debug, Default)]
pub(super) struct Sweep {
    /// The namespaces still to be searched, the first of them from the cursor on.
    left: VecDeque<Arc<Space>>,
    cursor: u64,
    /// Keys that were found and not looked into yet, and whether a number under them may go.
    found: Vec<(Vec<u8>, bool)>,
}

impl Shared {
    /// Removes up to `limit` entries of generations that are over, in the namespaces that this process has to do with.
    pub(super) async fn remove_expired(&self, limit: usize) -> Result<usize> {
        self.link.open()?;
        let mut sweep = self.sweep.lock().await;
        if sweep.left.is_empty() {
            sweep.left = self.spaces.all().into();
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
            let Some(space) = sweep.left.front().cloned() else {
                break;
            };
            steps += 1;
            self.search(&space, &mut sweep).await?;
        }
        Ok(removed)
    }

    /// One step through the keys of the server.
    async fn search(&self, space: &Space, sweep: &mut Sweep) -> Result<()> {
        let live = self.link.live().await?;
        let prefix = space.prefix();
        let mut pipeline = Pipeline::new();
        let scan = pipeline.cmd("SCAN").arg(sweep.cursor);
        scan.arg("MATCH")
            .arg(pattern(&prefix))
            .arg("COUNT")
            .arg(STEP);
        // Asked after the keys: a generation that is not this one was over when it was found, and does not return.
        pipeline.cmd("GET").arg(space.marker());
        let answers = <[Value; 2]>::try_from(live.ask_all(&pipeline).await?);
        let [scanned, marker] = answers.map_err(|_| errors::unexpected())?;
        let current = reply::bytes(marker)?.as_deref().and_then(Generation::read);
        let parts = <[Value; 2]>::try_from(reply::array(scanned)?);
        let [cursor, keys] = parts.map_err(|_| errors::unexpected())?;
        for key in reply::array(keys)? {
            let Value::BulkString(key) = key else {
                continue;
            };
            match generation_of(&prefix, &key) {
                Some(generation) if Some(generation) != current => {
                    sweep.found.push((key, space.is_over(generation)));
                }
                _ => {}
            }
        }
        let cursor = reply::number(&cursor).ok_or_else(errors::unexpected)?;
        sweep.cursor = cursor.cast_unsigned();
        if sweep.cursor == 0 {
            sweep.left.pop_front();
        }
        Ok(())
    }

    /// Removes what was found, where it is larder's.
    async fn remove_found(&self, sweep: &mut Sweep, limit: usize) -> Result<usize> {
        let live = self.link.live().await?;
        let count = sweep.found.len().min(limit).min(STEP);
        let batch = &sweep.found[sweep.found.len() - count..];
        let script = &self.scripts.reclaim;
        let mut command = script.call(live.number(), count);
        batch.iter().for_each(|(key, _)| {
            command.arg(key);
        });
        batch.iter().for_each(|(_, counters_too)| {
            command.arg(u8::from(*counters_too));
        });
        let answer = live.ask(&command).await?;
        if !script.answered(live.number(), &answer) {
            return Ok(0);
        }
        let removed = reply::integer(&answer)?;
        sweep.found.truncate(sweep.found.len() - count);
        Ok(usize::try_from(removed).unwrap_or_default())
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
