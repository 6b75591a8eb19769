//! The clients, and the requests that verbs are made of.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use aws_sdk_dynamodb::{
    Client,
    types::{
        AttributeValue, KeysAndAttributes, Put, PutRequest, ReturnValue, TransactWriteItem,
        WriteRequest,
    },
};
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::{
    sync::{Mutex, Semaphore, SemaphorePermit},
    time::timeout,
};

use super::{
    error::Failure,
    item::{self, Condition, Item},
    stored::SHARES,
};
use crate::{
    Error, ErrorKind, Result,
    backend::{frame::Versions, generation::Namespaces, pauses::Pauses},
};

/// The most keys that are read in one request, and the most items that are written in one.
const READS: usize = 100;
const WRITES: usize = 25;

/// About so many bytes are written in one request.
const BYTES: usize = 2 << 20;

/// So many requests of one verb are under way at the same time.
pub(super) const SIDE_BY_SIDE: usize = 8;

/// One client, by what it is used for: they share credentials and connections, and differ in times and retries.
#[derive(Clone)]
pub(super) struct Clients {
    /// Asks again where that harms nobody.
    pub(super) reading: Client,
    /// Asks once.
    pub(super) writing: Client,
    /// Asks about the table, which takes longer.
    pub(super) asking: Client,
}

/// What one backend has to do with one table.
pub(super) struct Connection {
    /// None once it was closed: the connections end with the clients.
    clients: RwLock<Option<Clients>>,
    pub(super) table: String,
    /// Whether a table that is not there is made.
    pub(super) create: bool,
    timeout: Duration,
    /// One permit for each connection.
    gate: Semaphore,
    /// Whether the table was found to be there and as it has to be.
    pub(super) is_ready: AtomicBool,
    /// Held while the table is looked at.
    pub(super) preparing: Mutex<()>,
    pub(super) versions: Versions,
    /// The namespaces by the share of their keys: each share has a generation of its own.
    pub(super) namespaces: [Namespaces; SHARES],
    /// Held while a namespace is cleared, so that this process sees its own clearings in their order.
    pub(super) clearing: Mutex<()>,
    /// Held while generations are looked for or made anew, so that one of many verbs does it for all.
    pub(super) learning: Mutex<()>,
}

/// An update, and the values that it and its condition name.
pub(super) struct Update {
    pub(super) text: &'static str,
    pub(super) values: Vec<(&'static str, AttributeValue)>,
    pub(super) condition: Condition,
}

impl Connection {
    pub(super) fn new(
        clients: Clients,
        table: String,
        create: bool,
        timeout: Duration,
        max_conns: usize,
    ) -> Self {
        Self {
            clients: RwLock::new(Some(clients)),
            table,
            create,
            timeout,
            gate: Semaphore::new(max_conns.clamp(1, Semaphore::MAX_PERMITS)),
            is_ready: AtomicBool::new(false),
            preparing: Mutex::default(),
            versions: Versions::default(),
            namespaces: Default::default(),
            clearing: Mutex::default(),
            learning: Mutex::default(),
        }
    }

    /// The clients, unless this was closed.
    pub(super) fn clients(&self) -> Result<Clients> {
        let clients = self.clients.read().unwrap_or_else(PoisonError::into_inner);
        let closed = || Error::new(ErrorKind::Closed, "the cache was closed");
        clients.clone().ok_or_else(closed)
    }

    pub(super) fn close(&self) {
        let mut clients = self.clients.write().unwrap_or_else(PoisonError::into_inner);
        *clients = None;
    }

    /// The table has to be looked at again before it is used.
    pub(super) fn forget_table(&self) {
        self.is_ready.store(false, Ordering::Release);
    }

    /// Waits until a request may have a connection.
    async fn pass(&self) -> Result<SemaphorePermit<'_>> {
        if let Ok(permit) = self.gate.try_acquire() {
            return Ok(permit);
        }
        match timeout(self.timeout, self.gate.acquire()).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => {
                let message = format!(
                    "every connection was in use for {:?}; CACHE_DYNAMODB_MAX_CONNS is their number",
                    self.timeout
                );
                Err(Error::new(ErrorKind::Timeout, message))
            }
        }
    }

    /// One item.
    pub(super) async fn get(&self, key: Vec<u8>) -> Result<Option<Item>, Failure> {
        let client = self.clients()?.reading;
        let _permit = self.pass().await?;
        let get = client.get_item().table_name(&self.table);
        let get = get.set_key(Some(item::keyed(key))).consistent_read(true);
        Ok(get.send().await?.item)
    }

    /// Many items, by their keys; only what shows that they are there, where that is all that is asked for.
    pub(super) async fn get_all(
        &self,
        keys: impl IntoIterator<Item = Vec<u8>>,
        signs: bool,
    ) -> Result<HashMap<Vec<u8>, Item>, Failure> {
        // No key may be in a request twice.
        let keys: HashSet<_> = keys.into_iter().collect();
        let keys: Vec<_> = keys.into_iter().collect();
        let requests: Vec<_> = keys.chunks(READS).map(<[_]>::to_vec).collect();
        let requests = stream::iter(requests).map(|keys| self.get_some(keys, signs));
        let answers = requests.buffer_unordered(SIDE_BY_SIDE);
        let items = answers.try_fold(HashMap::new(), async |mut all, some| {
            all.extend(some);
            Ok(all)
        });
        items.await
    }

    async fn get_some(
        &self,
        keys: Vec<Vec<u8>>,
        signs: bool,
    ) -> Result<Vec<(Vec<u8>, Item)>, Failure> {
        let client = self.clients()?.reading;
        let keys: Vec<_> = keys.into_iter().map(item::keyed).collect();
        let asked = KeysAndAttributes::builder()
            .set_keys(Some(keys))
            .set_projection_expression(signs.then(|| item::SIGNS.to_owned()))
            .consistent_read(true)
            .build()
            .map_err(unbuilt)?;
        let mut open = HashMap::from([(self.table.clone(), asked)]);
        let mut found = Vec::new();
        let mut pauses = Pauses::new(self.timeout);
        loop {
            let permit = self.pass().await?;
            let get = client.batch_get_item().set_request_items(Some(open));
            let answer = get.send().await?;
            drop(permit);
            let items = answer.responses.into_iter().flatten();
            for mut item in items.flat_map(|(_, items)| items) {
                found.extend(item::key_of(&mut item).map(|key| (key, item)));
            }
            open = answer.unprocessed_keys.unwrap_or_default();
            if open.is_empty() {
                return Ok(found);
            }
            if !pauses.next().await {
                return Err(unprocessed().into());
            }
        }
    }

    /// Puts an item in the place of whatever is there, if a condition is met, and says whether it did.
    pub(super) async fn put(
        &self,
        item: Item,
        condition: Option<Condition>,
    ) -> Result<bool, Failure> {
        let client = self.clients()?.writing;
        let _permit = self.pass().await?;
        let mut put = client.put_item().table_name(&self.table);
        put = put.set_item(Some(item));
        if let Some(condition) = condition {
            put = put
                .condition_expression(condition.text)
                .set_expression_attribute_values(values(condition.values));
        }
        answered(put.send().await.map_err(Failure::from)).map(|done| done.is_some())
    }

    /// Puts an item in the place of whatever is there, and gives what that was.
    pub(super) async fn replace(&self, item: Item) -> Result<Option<Item>, Failure> {
        let client = self.clients()?.writing;
        let _permit = self.pass().await?;
        let put = client.put_item().table_name(&self.table);
        let put = put.set_item(Some(item)).return_values(ReturnValue::AllOld);
        Ok(put.send().await?.attributes)
    }

    /// Changes attributes of an item if a condition is met, and gives them.
    pub(super) async fn update(
        &self,
        key: Vec<u8>,
        update: Update,
    ) -> Result<Option<Item>, Failure> {
        let client = self.clients()?.writing;
        let _permit = self.pass().await?;
        let mut named = update.values;
        named.extend(update.condition.values);
        let done = client
            .update_item()
            .table_name(&self.table)
            .set_key(Some(item::keyed(key)))
            .update_expression(update.text)
            .condition_expression(update.condition.text)
            .set_expression_attribute_values(values(named))
            .return_values(ReturnValue::UpdatedNew)
            .send()
            .await;
        let done = answered(done.map_err(Failure::from))?;
        Ok(done.map(|done| done.attributes.unwrap_or_default()))
    }

    /// Puts items in the places of whatever is there. No two of them have one key.
    pub(super) async fn put_all(&self, items: Vec<(Item, usize)>) -> Result<(), Failure> {
        let requests = stream::iter(requests(items)).map(|items| self.put_some(items));
        let answers = requests.buffer_unordered(SIDE_BY_SIDE);
        answers.try_collect::<()>().await
    }

    async fn put_some(&self, items: Vec<Item>) -> Result<(), Failure> {
        let client = self.clients()?.writing;
        let mut writes = Vec::with_capacity(items.len());
        for item in items {
            let put = PutRequest::builder().set_item(Some(item));
            let put = put.build().map_err(unbuilt)?;
            writes.push(WriteRequest::builder().put_request(put).build());
        }
        let mut open = HashMap::from([(self.table.clone(), writes)]);
        let mut pauses = Pauses::new(self.timeout);
        loop {
            let permit = self.pass().await?;
            let write = client.batch_write_item().set_request_items(Some(open));
            let answer = write.send().await?;
            drop(permit);
            open = answer.unprocessed_items.unwrap_or_default();
            if open.is_empty() {
                return Ok(());
            }
            if !pauses.next().await {
                return Err(unprocessed().into());
            }
        }
    }

    /// Puts a few items in the places of whatever is there, all of them in one moment.
    pub(super) async fn put_together(&self, items: &[Item]) -> Result<(), Failure> {
        let client = self.clients()?.writing;
        let mut puts = Vec::with_capacity(items.len());
        for item in items {
            let put = Put::builder().table_name(&self.table);
            let put = put.set_item(Some(item.clone()));
            let put = put.build().map_err(unbuilt)?;
            puts.push(TransactWriteItem::builder().put(put).build());
        }
        let mut pauses = Pauses::new(self.timeout);
        loop {
            let permit = self.pass().await?;
            let write = client.transact_write_items();
            let done = write.set_transact_items(Some(puts.clone())).send().await;
            drop(permit);
            match done.map_err(Failure::from) {
                Err(Failure::Conflict(_)) if pauses.next().await => {}
                done => return done.map(drop),
            }
        }
    }

    /// Asks for an item that is never there.
    pub(super) async fn ask(&self) -> Result<(), Failure> {
        let client = self.clients()?.reading;
        let get = client.get_item().table_name(&self.table);
        get.set_key(Some(item::keyed(b"/ping".to_vec())))
            .send()
            .await?;
        Ok(())
    }
}

/// The items, each with about its size, in requests that the service takes.
fn requests(items: Vec<(Item, usize)>) -> Vec<Vec<Item>> {
    let mut requests = vec![Vec::new()];
    let mut bytes = 0;
    for (item, size) in items {
        bytes += size;
        let last = requests.last().map_or(0, Vec::len);
        if last > 0 && (last >= WRITES || bytes > BYTES) {
            requests.push(Vec::new());
            bytes = size;
        }
        requests.last_mut().expect("there is one").push(item);
    }
    requests.retain(|request| !request.is_empty());
    requests
}

fn values(values: Vec<(&'static str, AttributeValue)>) -> Option<HashMap<String, AttributeValue>> {
    let values = values.into_iter();
    let values: HashMap<_, _> = values
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
    // An empty one is an error to the service.
    (!values.is_empty()).then_some(values)
}

/// A refusal because of what is under the key is an answer.
fn answered<T>(answer: Result<T, Failure>) -> Result<Option<T>, Failure> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(Failure::Refused) => Ok(None),
        Err(failure) => Err(failure),
    }
}

fn unprocessed() -> Error {
    let message = "the service throttles: it left a part of many keys undone at every attempt";
    Error::new(ErrorKind::Unavailable, message)
}

pub(super) fn unbuilt(error: aws_sdk_dynamodb::error::BuildError) -> Error {
    Error::new(ErrorKind::Backend, "the request could not be made").caused_by(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(count: usize, size: usize) -> Vec<usize> {
        let items = (0..count).map(|_| (Item::new(), size));
        requests(items.collect()).iter().map(Vec::len).collect()
    }

    #[test]
    fn a_request_has_a_bound_of_items_and_of_bytes() {
        assert_eq!(sizes(60, 1), [25, 25, 10]);
        assert_eq!(sizes(5, BYTES / 2), [2, 2, 1]);
        assert_eq!(sizes(2, 2 * BYTES), [1, 1]);
        assert!(sizes(0, 1).is_empty());
    }
}
