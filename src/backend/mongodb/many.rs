//! Keys in calls of as many as one may have, together with the generations of their namespaces.

use super::{
    super::{
        calls::{ROWS, calls},
        frame,
        generation::Generation,
    },
    commands::{self, Done},
    errors::Failure,
    ids::Id,
    link::{Found, Link},
    markers::{ATTEMPTS, Spaces, changed_at_every_attempt},
    stored,
};
use crate::{Key, Result, Timestamp};

use mongodb::bson::RawDocumentBuf;

/// What was found under a key, and in which generation.
pub(super) type Answer = (Option<Found>, Generation);

/// What is done about a statement that meets a document which it did not look for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Duplicates {
    /// That is an answer.
    Tell,
    /// Somebody else was there first: it is done again.
    Again,
}

impl Link {
    /// Reads what is under `keys`; without the entries themselves unless they are `whole`.
    pub(super) async fn read(
        &self,
        operation: &'static str,
        keys: &[Key],
        whole: bool,
    ) -> Result<Vec<Answer>> {
        self.know(operation).await?;
        let mut answers = Vec::with_capacity(keys.len());
        for keys in keys.chunks(ROWS) {
            let read = self.read_call(keys, whole).await;
            answers.extend(read.map_err(|failure| self.explain(operation, failure))?);
        }
        Ok(answers)
    }

    async fn read_call(&self, keys: &[Key], whole: bool) -> Result<Vec<Answer>, Failure> {
        for _ in 0..ATTEMPTS {
            let (mut spaces, mut ids) = (Spaces::default(), Vec::with_capacity(keys.len()));
            for key in keys {
                ids.push(spaces.place(self, key).await?);
            }
            let markers = spaces.markers();
            let all = markers.iter().chain(ids.iter().map(|(_, id)| id));
            let found = self.find(all.map(|id| &*id.document), whole).await?;
            let current = spaces.confirm(self, &found).await?;
            if current.iter().all(|current| *current) {
                let answers = ids.iter().map(|(place, id)| {
                    let answer = found.get(id.document.as_bytes()).cloned();
                    (answer, spaces.generation(*place))
                });
                return Ok(answers.collect());
            }
        }
        Err(changed_at_every_attempt().into())
    }

    /// Writes what `statement` says, equal keys one after the other. `None` is a refusal without asking.
    pub(super) async fn write_many(
        &self,
        operation: &'static str,
        keys: &[&Key],
        duplicates: Duplicates,
        size: impl Fn(usize) -> usize,
        statement: impl Fn(usize, &Id, Generation) -> Option<RawDocumentBuf>,
    ) -> Result<Vec<Done>> {
        self.know(operation).await?;
        let mut answers = vec![Done::Refused; keys.len()];
        for call in calls(keys, size) {
            let done = self
                .write_call(keys, call, duplicates, &statement, &mut answers)
                .await;
            done.map_err(|failure| self.explain(operation, failure))?;
        }
        Ok(answers)
    }

    /// One call, and again for the keys that it did not settle.
    async fn write_call(
        &self,
        keys: &[&Key],
        mut open: Vec<usize>,
        duplicates: Duplicates,
        statement: &impl Fn(usize, &Id, Generation) -> Option<RawDocumentBuf>,
        answers: &mut [Done],
    ) -> Result<(), Failure> {
        for _ in 0..ATTEMPTS {
            let mut spaces = Spaces::default();
            let (mut asked, mut statements) = (Vec::new(), Vec::new());
            for &number in &open {
                let (place, id) = spaces.place(self, keys[number]).await?;
                let said = statement(number, &id, spaces.generation(place));
                asked.push((number, place, said.is_some()));
                statements.extend(said);
            }
            let (done, current) = self.beside(&spaces, self.update(statements)).await?;
            // Of those that nobody can reach it does not matter what became of them.
            let is_over = current.iter().all(|current| !current);
            let mut done = match done {
                Ok((done, _)) => done.into_iter(),
                Err(_) if is_over => Vec::new().into_iter(),
                Err(failure) => return Err(failure),
            };
            open.clear();
            for (number, place, was_sent) in asked {
                let answer = if was_sent {
                    done.next()
                } else {
                    Some(Done::Refused)
                };
                match answer {
                    Some(answer) if current[place] => {
                        answers[number] = answer;
                        if answer == Done::Duplicate && duplicates == Duplicates::Again {
                            open.push(number);
                        }
                    }
                    _ => open.push(number),
                }
            }
            if open.is_empty() {
                return Ok(());
            }
        }
        Err(changed_at_every_attempt().into())
    }

    /// Puts a trace of its deletion in the place of what is under each key, and says where something live was.
    pub(super) async fn delete(&self, operation: &'static str, keys: &[&Key]) -> Result<Vec<bool>> {
        let mut answers = vec![false; keys.len()];
        let mut open: Vec<_> = (0..keys.len()).collect();
        // What a statement does not find is of the other kind, unless it has changed meanwhile.
        for live in [true, false].into_iter().cycle().take(ATTEMPTS) {
            let these: Vec<_> = open.iter().map(|number| keys[*number]).collect();
            let size = |_| frame::OVERHEAD;
            let done = self.write_many(operation, &these, Duplicates::Tell, size, |_, id, _| {
                let now = Timestamp::now();
                let trace = stored::deleted(id, self.versions.next(), now);
                Some(match live {
                    true => commands::over_live(id, trace, now),
                    false => commands::over_ended(id, trace, now),
                })
            });
            let mut left = Vec::new();
            for (number, done) in open.iter().zip(done.await?) {
                match done {
                    Done::Duplicate => left.push(*number),
                    done => answers[*number] = live && done == Done::Matched,
                }
            }
            if left.is_empty() {
                return Ok(answers);
            }
            open = left;
        }
        Err(self.explain(operation, changed_at_every_attempt()))
    }
}
