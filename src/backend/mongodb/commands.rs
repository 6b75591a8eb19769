//! What is asked of the server, and what it answers.
//!
//! Writes are commands of our own, and not the client's methods: one command changes many documents and tells of each, by
//! its place among those that were inserted or refused. The client sends a command once and never again.

use mongodb::bson::{Bson, Document, RawArrayBuf, RawBsonRef, RawDocumentBuf, doc, rawdoc};

use super::{errors::Failure, ids::Id, stored};
use crate::{Error, ErrorKind, Timestamp};

/// `E11000`: a document of this `_id` is there.
const DUPLICATE_KEY: i32 = 11_000;

/// What the server says of a `$replaceWith` by something that is no document.
const NO_DOCUMENT: i32 = 40_228;

/// Under which condition on what is there a document is written.
#[derive(Clone, Copy, Debug)]
pub(super) enum Condition {
    /// Nothing, or what has ended.
    NothingLive,
    /// What is live and has this version.
    LiveVersion(u64),
    /// What has this version, live or not.
    Version(u64),
    /// No document at all.
    NoDocument,
}

impl Condition {
    fn expression(self, now: Timestamp) -> RawDocumentBuf {
        let is = |version: u64| rawdoc! { "$eq": ["$v", version.cast_signed()] };
        match self {
            Self::NothingLive => rawdoc! { "$not": [is_live(now)] },
            Self::LiveVersion(version) => rawdoc! { "$and": [is(version), is_live(now)] },
            Self::Version(version) => is(version),
            Self::NoDocument => rawdoc! { "$eq": [{ "$type": "$v" }, "missing"] },
        }
    }
}

/// The expression for what has not ended; of no document it is false.
pub(super) fn is_live(now: Timestamp) -> RawDocumentBuf {
    let now = stored::date(now).to_raw_bson();
    rawdoc! { "$gt": ["$end", now] }
}

/// Writes `document` whatever is there.
pub(super) fn put(id: &Id, document: RawDocumentBuf) -> RawDocumentBuf {
    rawdoc! { "q": by(id), "u": document, "upsert": true }
}

/// Writes `document` where the condition is met, and is refused elsewhere.
pub(super) fn put_if(
    id: &Id,
    document: RawDocumentBuf,
    condition: Condition,
    now: Timestamp,
) -> RawDocumentBuf {
    let condition = condition.expression(now);
    // The filter has the `_id` alone, so that the server itself tries again when another one inserts at the same time.
    // What is no document is an error, so the answer tells of each refusal.
    let or_else = rawdoc! { "$cond": [condition, { "$literal": document }, "refused"] };
    rawdoc! { "q": by(id), "u": [{ "$replaceWith": or_else }], "upsert": true }
}

/// Writes `document` over what is live, or where nothing is; it is a duplicate where something has ended.
pub(super) fn over_live(id: &Id, document: RawDocumentBuf, now: Timestamp) -> RawDocumentBuf {
    let filter = with(by(id), "end", "$gt", now);
    rawdoc! { "q": filter, "u": document, "upsert": true }
}

/// Writes `document` over what has ended, or where nothing is; it is a duplicate where something is live.
pub(super) fn over_ended(id: &Id, document: RawDocumentBuf, now: Timestamp) -> RawDocumentBuf {
    let filter = with(by(id), "end", "$lte", now);
    rawdoc! { "q": filter, "u": document, "upsert": true }
}

/// Gives what is live another end; nothing is written where there is none.
pub(super) fn touch(id: &Id, expires_at: Option<Timestamp>, now: Timestamp) -> RawDocumentBuf {
    let filter = with(by(id), "end", "$gt", now);
    let mut end = RawDocumentBuf::new();
    stored::append_end(&mut end, expires_at, now);
    let mut change = rawdoc! { "$set": end };
    if expires_at.is_none() {
        change.append("$unset", rawdoc! { "gone": "" });
    }
    rawdoc! { "q": filter, "u": change }
}

/// Adds to a live counter that has room for it, begins a new one where nothing is live, and changes nothing else. The
/// version tells whether it did either.
pub(super) fn count(
    id: &Id,
    delta: i64,
    version: u64,
    fresh: RawDocumentBuf,
    now: Timestamp,
) -> RawDocumentBuf {
    let room = match delta {
        0.. => rawdoc! { "$lte": ["$c", i64::MAX - delta] },
        _ => rawdoc! { "$gte": ["$c", i64::MIN - delta] },
    };
    let is_counter = rawdoc! { "$in": [{ "$type": "$c" }, ["long", "int"]] };
    let sum = rawdoc! { "c": { "$add": ["$c", delta] }, "v": version.cast_signed() };
    let stages = rawdoc! { "$switch": {
        "branches": [
            { "case": { "$not": [is_live(now)] }, "then": { "$literal": fresh } },
            { "case": { "$and": [is_counter, room] }, "then": { "$mergeObjects": ["$$ROOT", sum] } },
        ],
        "default": "$$ROOT",
    } };
    rawdoc! {
        "query": by(id),
        "update": [{ "$replaceWith": stages }],
        "upsert": true,
        "new": true,
        "fields": { "v": 1, "c": 1, "end": 1 },
    }
}

/// Inserts a marker where there is none.
pub(super) fn insert_marker(id: &Id, letters: &str) -> RawDocumentBuf {
    rawdoc! { "q": by(id), "u": { "$setOnInsert": { "m": letters } }, "upsert": true }
}

/// Changes a marker that says `before`.
pub(super) fn change_marker(id: &Id, before: &str, letters: &str) -> RawDocumentBuf {
    let mut filter = by(id);
    filter.append("m", before);
    rawdoc! { "q": filter, "u": { "$set": { "m": letters } } }
}

/// Writes a marker whatever is there.
pub(super) fn put_marker(id: &Id, letters: &str) -> RawDocumentBuf {
    let marker = rawdoc! { "_id": id.document.clone(), "m": letters };
    put(id, marker)
}

/// Removes a document that the server was to have removed by now.
pub(super) fn remove_gone(id: RawDocumentBuf, now: Timestamp) -> RawDocumentBuf {
    let filter = with(rawdoc! { "_id": id }, "gone", "$lte", now);
    rawdoc! { "q": filter, "limit": 1 }
}

/// Removes a document whatever it holds.
pub(super) fn remove(id: RawDocumentBuf) -> RawDocumentBuf {
    rawdoc! { "q": { "_id": id }, "limit": 1 }
}

/// One command of several statements.
pub(super) fn command(
    (name, statements): (&str, &str),
    collection: &str,
    all: impl IntoIterator<Item = RawDocumentBuf>,
    write_concern: &RawDocumentBuf,
) -> RawDocumentBuf {
    let mut array = RawArrayBuf::new();
    all.into_iter().for_each(|statement| array.push(statement));
    let mut command = RawDocumentBuf::new();
    command.append(name, collection);
    command.append_ref(statements, RawBsonRef::Array(&array));
    command.append("ordered", false);
    command.append_ref("writeConcern", RawBsonRef::Document(write_concern));
    command
}

/// What became of one statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Done {
    /// It found the document, or there was none for it to find.
    Matched,
    /// It inserted a document.
    Inserted,
    /// Its condition was not met.
    Refused,
    /// A document of this `_id` is there that it did not find.
    Duplicate,
}

impl Done {
    pub(super) fn is_written(self) -> bool {
        matches!(self, Self::Matched | Self::Inserted)
    }
}

/// The answer to an update of `count` statements: what became of each, and how many documents they found or inserted.
pub(super) fn done(answer: &Document, count: usize) -> Result<(Vec<Done>, i64), Failure> {
    let mut all = vec![Done::Matched; count];
    let rows = |list: &str| answer.get_array(list).into_iter().flatten();
    let number = |row: &Document| {
        row.get_i32("index")
            .ok()
            .and_then(|it| usize::try_from(it).ok())
    };
    let mut place = |row: &Document, done| {
        let place = number(row).and_then(|number| all.get_mut(number));
        place.map(|place| *place = done).ok_or_else(unreadable)
    };
    for row in rows("upserted").filter_map(Bson::as_document) {
        place(row, Done::Inserted)?;
    }
    for row in rows("writeErrors").filter_map(Bson::as_document) {
        match row.get_i32("code") {
            Ok(DUPLICATE_KEY) => place(row, Done::Duplicate)?,
            Ok(NO_DOCUMENT) => place(row, Done::Refused)?,
            Ok(code) => return Err(Failure::Server(code)),
            Err(_) => return Err(unreadable()),
        }
    }
    acknowledged(answer)?;
    let changed = match answer.get("n") {
        Some(Bson::Int32(number)) => i64::from(*number),
        Some(Bson::Int64(number)) => *number,
        _ => return Err(unreadable()),
    };
    Ok((all, changed))
}

/// Whether as many nodes have it as were to.
pub(super) fn acknowledged(answer: &Document) -> Result<(), Failure> {
    match answer.get_document("writeConcernError") {
        Err(_) => Ok(()),
        Ok(error) => Err(Failure::Unacknowledged(error.get_i32("code").unwrap_or(0))),
    }
}

pub(super) fn unreadable() -> Failure {
    let message = "the server's answer is not of the kind that the command has";
    Error::new(ErrorKind::Backend, message).into()
}

/// The filter for what is under one of these ids.
pub(super) fn any_of(ids: impl IntoIterator<Item = Document>) -> Document {
    let ids: Vec<_> = ids.into_iter().collect();
    doc! { "_id": { "$in": ids } }
}

fn by(id: &Id) -> RawDocumentBuf {
    let mut filter = RawDocumentBuf::new();
    filter.append_ref("_id", RawBsonRef::Document(&id.document));
    filter
}

fn with(mut filter: RawDocumentBuf, field: &str, operator: &str, now: Timestamp) -> RawDocumentBuf {
    let mut condition = RawDocumentBuf::new();
    condition.append_ref(operator, stored::date(now));
    filter.append(field, condition);
    filter
}
