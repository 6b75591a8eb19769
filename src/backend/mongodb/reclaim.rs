//! Giving back the space of what has ended, and removing what begins with a prefix.

use mongodb::bson::{DateTime, Document, RawDocument, RawDocumentBuf, doc};

use super::{
    super::{calls::ROWS, generation::Generation},
    commands,
    errors::Failure,
    ids,
    link::Link,
    stored,
};
use crate::{Key, Result, Timestamp};

impl Link {
    pub(super) async fn remove_expired(&self, limit: usize) -> Result<usize> {
        self.know("remove_expired").await?;
        let removed = async {
            let gone = self.remove_gone(limit).await?;
            let cleared = self.remove_cleared(limit - gone.min(limit)).await?;
            Ok(gone + cleared)
        };
        removed
            .await
            .map_err(|failure: Failure| self.explain("remove_expired", failure))
    }

    /// What the server has not come to yet: it looks once a minute.
    async fn remove_gone(&self, limit: usize) -> Result<usize, Failure> {
        let mut removed = 0;
        while removed < limit {
            let now = Timestamp::now();
            let until = stored::date(now).as_datetime().unwrap_or(DateTime::MIN);
            let most = (limit - removed).min(ROWS);
            let found = self
                .ids(doc! { "gone": { "$lte": until } }, "gone", most)
                .await?;
            let statements = found.iter().filter_map(id);
            let statements = statements.map(|id| commands::remove_gone(id.to_owned(), now));
            removed += self.remove_all(statements.collect()).await?;
            if found.len() < most {
                break;
            }
        }
        Ok(removed)
    }

    /// What clearings have put out of reach, of one namespace after the other, beginning where the last call stopped. The
    /// cost does not grow with what is live.
    async fn remove_cleared(&self, limit: usize) -> Result<usize, Failure> {
        if limit == 0 {
            return Ok(0);
        }
        let mut done = self.swept.lock().await;
        let begun = done.clone();
        let (mut removed, mut again) = (0, begun.is_none());
        let end = ids::end();
        loop {
            let next = match &*done {
                Some(namespace) => ids::after(namespace),
                None => ids::from("", i64::MIN),
            };
            let first = self.ids(between("$gte", &next, &end)?, "_id", 1).await?;
            let first = first.first().and_then(|found| {
                let (namespace, generation) = ids::place(id(found)?)?;
                Some((namespace, (generation == ids::MARKER).then_some(found)?))
            });
            // What is none of larder's is not looked beyond.
            let Some((namespace, marker)) = first else {
                *done = None;
                if again {
                    return Ok(removed);
                }
                again = true;
                continue;
            };
            if again && begun.as_deref().is_some_and(|begun| namespace > begun) {
                return Ok(removed);
            }
            let current = marker.get_str("m").ok();
            if let Some(current) = current.and_then(|it| Generation::read(it.as_bytes())) {
                removed += self.sweep(namespace, current, limit - removed).await?;
            }
            if removed >= limit {
                return Ok(removed);
            }
            *done = Some(namespace.to_owned());
        }
    }

    /// Removes what is of other generations of a namespace than the current one.
    async fn sweep(
        &self,
        namespace: &str,
        current: Generation,
        limit: usize,
    ) -> Result<usize, Failure> {
        let (mut removed, mut current) = (0, ids::number(current));
        while removed < limit {
            let most = (limit - removed).min(ROWS);
            let before = between(
                "$gte",
                &ids::from(namespace, ids::MARKER + 1),
                &ids::from(namespace, current),
            )?;
            let after = between(
                "$gte",
                &ids::from(namespace, current.saturating_add(1)),
                &ids::after(namespace),
            )?;
            let others = doc! { "$or": [before, after] };
            let found = self.ids(others, "_id", most).await?;
            if found.is_empty() {
                break;
            }
            // The marker is read after what it judges: what was found then cannot be of a generation that begins later.
            let Some(now) = self.current_generation(namespace).await? else {
                break;
            };
            let over = found.iter().filter_map(id);
            let over = over.filter(|id| ids::place(id).is_some_and(|(_, of)| of != now));
            let statements = over.map(|id| commands::remove(id.to_owned()));
            removed += self.remove_all(statements.collect()).await?;
            if found.len() < most {
                break;
            }
            current = now;
        }
        Ok(removed)
    }

    /// The generation by the marker of a namespace that this process may not have to do with.
    async fn current_generation(&self, namespace: &str) -> Result<Option<i64>, Failure> {
        let marker = ids::from(namespace, ids::MARKER);
        let found = self.find([&*marker], false).await?;
        let letters = found.into_values().next().and_then(|found| found.letters);
        let generation = letters.and_then(|letters| Generation::read(letters.as_bytes()));
        Ok(generation.map(ids::number))
    }

    async fn remove_all(&self, statements: Vec<RawDocumentBuf>) -> Result<usize, Failure> {
        let removed = self.remove(statements).await?;
        Ok(usize::try_from(removed).unwrap_or(0))
    }

    pub(super) async fn delete_prefix(&self, prefix: &Key) -> Result<usize> {
        self.know("delete_prefix").await?;
        let mut deleted = 0;
        let namespace = self.namespaces.of(prefix.as_key_ref());
        let begins = &prefix.encoded()[namespace.encoded().len()..];
        let generation = self.generation(&namespace).await;
        let generation = generation.map_err(|failure| self.explain("delete_prefix", failure))?;
        for (begin, end) in ids::beginning_with(namespace.encoded(), generation, begins) {
            let mut range = Some(between("$gte", &begin, &end));
            while let Some(filter) = range {
                let found = self.live_ids(filter).await;
                let found = found.map_err(|failure| self.explain("delete_prefix", failure))?;
                let keys = found.iter().filter_map(|found| {
                    let rest = ids::key(id(found)?, found.get_binary("key").ok())?;
                    // Of what was cut the range alone does not tell.
                    let begins = rest.starts_with(begins);
                    begins.then(|| Key::from_encoded(&[namespace.encoded(), &rest].concat()))?
                });
                let keys: Vec<_> = keys.collect();
                let were_live = self
                    .delete("delete_prefix", &keys.iter().collect::<Vec<_>>())
                    .await?;
                deleted += were_live.iter().filter(|live| **live).count();
                let last = found.last().and_then(id).filter(|_| found.len() == ROWS);
                range = last.map(|last| between("$gt", last, &end));
            }
        }
        Ok(deleted)
    }

    async fn live_ids(
        &self,
        range: Result<Document, Failure>,
    ) -> Result<Vec<RawDocumentBuf>, Failure> {
        let now = stored::date(Timestamp::now())
            .as_datetime()
            .unwrap_or(DateTime::MIN);
        let mut filter = range?;
        filter.insert("end", doc! { "$gt": now });
        self.ids(filter, "_id", ROWS).await
    }
}

/// The filter for the ids from one on, or after it, up to but without another.
fn between(from: &str, begin: &RawDocument, end: &RawDocument) -> Result<Document, Failure> {
    let read = |id| Document::try_from(id).map_err(|_| commands::unreadable());
    Ok(doc! { "_id": { from: read(begin)?, "$lt": read(end)? } })
}

fn id(found: &RawDocumentBuf) -> Option<&RawDocument> {
    found.get_document("_id").ok()
}
