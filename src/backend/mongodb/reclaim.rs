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

    /// What clearings have put out of reach. Jumps from one generation to the next, so that the cost does not grow with
    /// what is live.
    async fn remove_cleared(&self, limit: usize) -> Result<usize, Failure> {
        let mut removed = 0;
        let mut begin = ids::from("", i64::MIN);
        let end = ids::end();
        while removed < limit {
            let first = self.ids(between("$gte", &begin, &end)?, "_id", 1).await?;
            // What is none of larder's is not looked beyond.
            let Some((namespace, generation)) = first.first().and_then(|it| ids::place(id(it)?))
            else {
                break;
            };
            let next = ids::from(namespace, generation.saturating_add(1));
            if generation <= ids::MARKER {
                begin = next;
                continue;
            }
            let most = (limit - removed).min(ROWS);
            let range = between("$gte", &ids::from(namespace, generation), &next)?;
            let found = self.ids(range, "_id", most).await?;
            // The marker is read after what it judges: what was found then cannot be of a generation that began later.
            begin = match self.current_generation(namespace).await? {
                Some(current) if current != generation && !found.is_empty() => {
                    let statements = found.iter().filter_map(id);
                    let statements = statements.map(|id| commands::remove(id.to_owned()));
                    removed += self.remove_all(statements.collect()).await?;
                    // Again from here, for those beyond the number of one call.
                    continue;
                }
                Some(_) => next,
                // Without a marker nobody can tell, until somebody makes one.
                None => ids::after(namespace),
            };
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
