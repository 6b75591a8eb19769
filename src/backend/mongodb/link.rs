//! The client, the collection, and what has to be there before it is used.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use mongodb::{
    Client, Collection, Database, IndexModel,
    bson::{Bson, Document, RawDocument, RawDocumentBuf, doc, rawdoc},
    options::IndexOptions,
};
use tokio::{
    sync::{Mutex, OnceCell},
    time::{sleep, timeout},
};

use super::{
    super::{frame::Versions, generation::Namespaces},
    NAME,
    builder::Options,
    commands::{self, Done},
    errors::Failure,
    gate::Gate,
    stored::Stored,
};
use crate::{Error, ErrorKind, Result};

/// Where the server finds when to remove a document, and the name of the index on it.
const INDEX: (&str, &str) = ("gone", "larder_gone");

/// `IndexOptionsConflict` and `IndexKeySpecsConflict`.
const OTHER_INDEX: [i32; 2] = [85, 86];

/// Between two attempts to reach a server while connecting.
const PAUSE: Duration = Duration::from_millis(20);

/// What closing may take: the server is told, and need not have heard it.
const GOODBYE: Duration = Duration::from_millis(500);

/// What one backend has to do with one collection.
pub(super) struct Link {
    options: Options,
    opened: OnceCell<Opened>,
    prepared: OnceCell<()>,
    closed: AtomicBool,
    gate: Gate,
    pub(super) versions: Versions,
    pub(super) namespaces: Namespaces,
    /// Held while a namespace is cleared, so that this process sees its own clearings in their order.
    pub(super) clearing: Mutex<()>,
    /// The last namespace that was looked through for what clearings have ended.
    pub(super) swept: Mutex<Option<String>>,
}

/// The client, from when it is there.
struct Opened {
    client: Client,
    collection: Collection<RawDocumentBuf>,
}

impl Opened {
    fn database(&self) -> Database {
        self.client.database(&self.collection.namespace().db)
    }
}

/// A document that was found under an `_id`.
#[derive(Clone)]
pub(super) struct Found {
    /// The letters of a marker.
    pub(super) letters: Option<String>,
    /// What an entry's document holds; `None` where it is damaged.
    pub(super) stored: Option<Stored>,
}

impl Link {
    pub(super) fn new(options: Options) -> Self {
        Self {
            gate: Gate::new(options.connections(), options.connect_timeout),
            options,
            opened: OnceCell::new(),
            prepared: OnceCell::new(),
            closed: AtomicBool::new(false),
            versions: Versions::default(),
            namespaces: Namespaces::default(),
            clearing: Mutex::default(),
            swept: Mutex::default(),
        }
    }

    pub(super) fn options(&self) -> &Options {
        &self.options
    }

    /// Fails every verb of a closed backend.
    pub(super) fn open(&self, operation: &'static str) -> Result<()> {
        if self.closed.load(Ordering::Acquire) {
            let closed = Error::new(ErrorKind::Closed, "the cache was closed");
            return Err(closed.on(NAME, operation));
        }
        Ok(())
    }

    pub(super) async fn close(&self) {
        if self.closed.swap(true, Ordering::AcqRel) || self.options.client.is_some() {
            return;
        }
        if let Some(opened) = self.opened.get() {
            let goodbye = opened.client.clone().shutdown().immediate(true);
            let _ = timeout(GOODBYE, goodbye.into_future()).await;
        }
    }

    /// The client and the collection. Asks nobody but, for a `mongodb+srv` URL, the name server.
    async fn opened(&self) -> Result<&Opened, Failure> {
        let open = || async {
            let client = match &self.options.client {
                Some(client) => client.clone(),
                None => Client::with_options(self.options.of_client().await?)?,
            };
            let database = self.options.database(client.default_database());
            let collection = client
                .database(&database)
                .collection_with_options(&self.options.collection, self.options.of_collection());
            Ok(Opened { client, collection })
        };
        self.opened.get_or_try_init(open).await
    }

    /// Opens the client where that needs nobody else.
    pub(super) async fn open_at_once(&self) -> Result<()> {
        if self.options.needs_names() {
            return Ok(());
        }
        let opened = self.opened().await;
        opened.map_err(|failure| self.explain("connect", failure))?;
        Ok(())
    }

    /// Reaches the server within `limit`, and prepares the collection.
    pub(super) async fn connect(&self, limit: Duration) -> Result<()> {
        let mut last = None;
        let reached = timeout(limit, async {
            loop {
                match self.prepared().await {
                    Err(failure) if failure.is_unreachable() => last = Some(failure),
                    answer => break answer,
                }
                sleep(PAUSE).await;
            }
        });
        let reached = reached.await;
        if let (Ok(Ok(())), Some(opened)) = (&reached, self.opened.get()) {
            // Who writes first does not have to wait for a second connection.
            let _ = timeout(limit, opened.client.warm_connection_pool()).await;
        }
        let answer = match (reached, last) {
            (Ok(answer), _) => answer,
            (Err(_), Some(failure)) => Err(failure),
            (Err(_), None) => {
                let message = "no answer within CACHE_MONGODB_CONNECT_TIMEOUT";
                Err(Error::new(ErrorKind::Timeout, message).into())
            }
        };
        answer.map_err(|failure| self.explain("connect", failure))
    }

    /// Makes sure, once, that the collection is one to keep entries in.
    pub(super) async fn know(&self, operation: &'static str) -> Result<()> {
        self.open(operation)?;
        let prepared = self.prepared().await;
        prepared.map_err(|failure| self.explain(operation, failure))
    }

    async fn prepared(&self) -> Result<(), Failure> {
        let prepared = self.prepared.get_or_try_init(|| self.prepare()).await;
        prepared.map(|&()| ())
    }

    /// Makes the index by which the server removes what has ended, or sees that it is there.
    pub(super) async fn prepare(&self) -> Result<(), Failure> {
        let opened = self.opened().await?;
        self.gate.pass(&opened.client, prepare(opened)).await
    }

    pub(super) async fn ping(&self) -> Result<()> {
        self.open("ping")?;
        let ping = async {
            self.run(rawdoc! { "ping": 1 }).await?;
            Ok::<_, Failure>(())
        };
        ping.await.map_err(|failure| self.explain("ping", failure))
    }

    async fn run(&self, command: RawDocumentBuf) -> Result<Document, Failure> {
        let opened = self.opened().await?;
        let database = opened.database();
        let run = database.run_raw_command(command).into_future();
        Ok(self.gate.pass(&opened.client, run).await?)
    }

    /// Does what statements say, and tells what became of each.
    pub(super) async fn update(
        &self,
        statements: Vec<RawDocumentBuf>,
    ) -> Result<(Vec<Done>, i64), Failure> {
        let count = statements.len();
        if count == 0 {
            return Ok((Vec::new(), 0));
        }
        self.write(("update", "updates"), statements, count).await
    }

    /// Removes documents, and says how many there were.
    pub(super) async fn remove(&self, statements: Vec<RawDocumentBuf>) -> Result<i64, Failure> {
        let count = statements.len();
        if count == 0 {
            return Ok(0);
        }
        let (_, removed) = self.write(("delete", "deletes"), statements, count).await?;
        Ok(removed)
    }

    async fn write(
        &self,
        what: (&str, &str),
        statements: Vec<RawDocumentBuf>,
        count: usize,
    ) -> Result<(Vec<Done>, i64), Failure> {
        let concern = self.options.write_concern();
        let command = commands::command(what, &self.options.collection, statements, concern);
        commands::done(&self.run(command).await?, count)
    }

    /// Changes one document, and gives what it holds then.
    pub(super) async fn find_and_modify(&self, what: RawDocumentBuf) -> Result<Stored, Failure> {
        let mut command = rawdoc! { "findAndModify": self.options.collection.as_str() };
        for (name, value) in what.iter().flatten() {
            command.append_ref(name, value);
        }
        command.append("writeConcern", self.options.write_concern().clone());
        let answer = self.run(command).await?;
        commands::acknowledged(&answer)?;
        let value = answer
            .get_document("value")
            .map_err(|_| commands::unreadable())?;
        let value = RawDocumentBuf::try_from(value).map_err(|_| commands::unreadable())?;
        Stored::read(value).ok_or_else(|| super::stored::damaged().into())
    }

    /// The documents under these ids, by the bytes of the ids; without the entries themselves unless they are `whole`.
    pub(super) async fn find(
        &self,
        ids: impl IntoIterator<Item = &RawDocument>,
        whole: bool,
    ) -> Result<HashMap<Box<[u8]>, Found>, Failure> {
        let ids: Result<Vec<_>, _> = ids.into_iter().map(Document::try_from).collect();
        let filter = commands::any_of(ids.map_err(|_| commands::unreadable())?);
        let opened = self.opened().await?;
        let mut find = opened.collection.find(filter);
        if !whole {
            find = find.projection(doc! { "e": 0, "key": 0 });
        }
        let read = async {
            let mut cursor = find.await?;
            let mut found = HashMap::new();
            while cursor.advance().await? {
                let document = cursor.current();
                let Ok(id) = document.get_document("_id") else {
                    continue;
                };
                let letters = document.get_str("m").ok().map(ToOwned::to_owned);
                let stored = Stored::read(document.to_raw_document_buf());
                found.insert(id.as_bytes().into(), Found { letters, stored });
            }
            Ok(found)
        };
        self.gate.pass(&opened.client, read).await
    }

    /// The ids of at most `limit` documents that the filter fits, in the order of the index that `sort` names; with the
    /// whole key where there is one, and the letters of markers.
    pub(super) async fn ids(
        &self,
        filter: Document,
        sort: &str,
        limit: usize,
    ) -> Result<Vec<RawDocumentBuf>, Failure> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let opened = self.opened().await?;
        let find = opened.collection.find(filter);
        let find = find.sort(doc! { sort: 1 }).limit(limit);
        let read = async {
            let mut cursor = find.projection(doc! { "_id": 1, "key": 1, "m": 1 }).await?;
            let mut ids = Vec::new();
            while cursor.advance().await? {
                ids.push(cursor.current().to_raw_document_buf());
            }
            Ok(ids)
        };
        self.gate.pass(&opened.client, read).await
    }
}

async fn prepare(opened: &Opened) -> Result<(), Failure> {
    let collection = &opened.collection;
    let name = collection.name();
    let database = opened.database();
    let mut there = database
        .list_collections()
        .filter(doc! { "name": name })
        .await?;
    while there.advance().await? {
        let of_it = Document::try_from(there.current()).map_err(|_| commands::unreadable())?;
        if let Some(trouble) = unfit(&of_it) {
            let message = format!("CACHE_MONGODB_COLLECTION is {name:?}, {trouble}");
            return Err(Error::new(ErrorKind::Settings, message).into());
        }
    }
    let removes_at_once = IndexOptions::builder()
        .name(INDEX.1.to_owned())
        .expire_after(Duration::ZERO)
        .build();
    let index = IndexModel::builder()
        .keys(doc! { INDEX.0: 1 })
        .options(removes_at_once)
        .build();
    // It does nothing where exactly this index is.
    let made = collection.create_index(index).await.map_err(Failure::from);
    match made {
        Err(failure)
            if failure
                .code()
                .is_some_and(|code| OTHER_INDEX.contains(&code)) =>
        {
            let message = format!(
                "the collection {name:?} has another index on the field \"{}\", or one called {:?}; drop it, and \
                 larder makes the one that removes what has ended ({{\"{0}\": 1}}, expireAfterSeconds: 0)",
                INDEX.0, INDEX.1
            );
            Err(Error::new(ErrorKind::Settings, message).into())
        }
        made => made.map(drop),
    }
}

/// Why nothing can be kept in a collection of this kind.
fn unfit(collection: &Document) -> Option<&'static str> {
    let option = |name| collection.get_document("options").ok()?.get(name);
    let is_capped = matches!(option("capped"), Some(Bson::Boolean(true)));
    let is_collated = option("collation").is_some();
    match collection.get_str("type") {
        Ok("view") => Some("which is a view; it has to be a collection"),
        Ok("timeseries") => Some("which is a time series; it has to be an ordinary collection"),
        _ if is_capped => Some("which is capped; nothing can be removed from it"),
        _ if is_collated => {
            Some("which has a collation, by which different keys are the same; it must have none")
        }
        _ => None,
    }
}
