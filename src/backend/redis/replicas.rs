//! Reading apart: what is only shown may be read from a replica, as long as that has what it has to have.

use std::{
    slice,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::future::join_all;
use redis::{Pipeline, Value};
use tokio::time::timeout;

use super::{
    Shared,
    asking::Request,
    errors,
    link::{Link, Live},
    location::{Location, Reading},
    marks::{Changing, Marks},
    progress::{History, Role},
    reach::Reach,
    reply,
    space::{Space, Trust},
    stored::Stored,
};
use crate::{Entry, Error, ErrorKind, Key, Result, Timestamp, backend::generation::Generation};

/// A replica that has not answered for so long is not waited for, and the primary is asked.
pub(super) const PATIENCE: Duration = Duration::from_millis(100);

/// A replica that cannot answer is left alone for so long: one that lags behind, and one that is none.
const REST: Duration = Duration::from_millis(50);
const LONG_REST: Duration = Duration::from_millis(500);

/// Where replicas are, and what they may answer for.
pub(super) struct Replicas {
    place: Place,
    marks: Marks,
    /// Whether it was said that nothing can be read from them.
    is_told: AtomicBool,
}

pub(super) enum Place {
    /// One, which the user named.
    Named(Link),
    /// One that sentinels know.
    OfSentinels(Link),
    /// Those of the nodes of the cluster.
    OfCluster,
}

impl Replicas {
    pub(super) fn new(place: Place) -> Self {
        Self {
            place,
            marks: Marks::default(),
            is_told: AtomicBool::new(false),
        }
    }

    /// The replica's own connection, where there is one for all keys.
    pub(super) fn link(&self) -> Option<&Link> {
        match &self.place {
            Place::Named(link) | Place::OfSentinels(link) => Some(link),
            Place::OfCluster => None,
        }
    }

    /// A connection to a replica of the server that has a slot, where there is one at once.
    fn live(&self, reach: &Reach, slot: u16) -> Option<Arc<Live>> {
        match (&self.place, reach) {
            (Place::OfCluster, Reach::Cluster(cluster)) => cluster.replica(slot),
            _ => self.link()?.at_once(),
        }
    }

    /// Says once why everything is asked of the primary.
    fn tell(&self, why: &str) {
        if !self.is_told.swap(true, Ordering::Relaxed) {
            tracing::warn!("nothing is read from a replica of the Redis server: {why}");
        }
    }
}

impl Shared {
    /// Keeps replicas from answering for keys that are being changed.
    pub(super) fn changing<'a>(&self, keys: impl Iterator<Item = &'a Key>) -> Option<Changing<'_>> {
        let replicas = self.replicas.as_ref()?;
        Some(replicas.marks.changing(keys))
    }

    /// The same for all keys of a bucket.
    pub(super) fn changing_bucket(&self, key: &Key) -> Option<Changing<'_>> {
        let replicas = self.replicas.as_ref()?;
        Some(replicas.marks.changing_bucket(key))
    }

    pub(super) async fn get_relaxed(&self, key: &Key) -> Result<Option<Entry>> {
        let Some(replicas) = &self.replicas else {
            return self.get(key).await;
        };
        let (space, keys) = (self.spaces.of(key), slice::from_ref(key));
        let found = self.relaxed_in(replicas, &space, keys, vec![0]).await?;
        Ok(found.into_iter().next().and_then(|(_, entry)| entry))
    }

    pub(super) async fn get_many_relaxed(&self, keys: &[Key]) -> Result<Vec<Option<Entry>>> {
        let Some(replicas) = &self.replicas else {
            return self.get_many(keys).await;
        };
        let parts = self.by_space(keys.iter()).into_iter();
        let parts = parts.map(|(space, places)| async move {
            self.relaxed_in(replicas, &space, keys, places).await
        });
        let mut entries = vec![None; keys.len()];
        for part in join_all(parts).await {
            part?
                .into_iter()
                .for_each(|(place, entry)| entries[place] = entry);
        }
        self.reach.open().map(|()| entries)
    }

    /// What is at these places among the keys, all of one space. What a replica does not have is asked of the primary.
    async fn relaxed_in(
        &self,
        replicas: &Replicas,
        space: &Space,
        keys: &[Key],
        mut places: Vec<usize>,
    ) -> Result<Vec<(usize, Option<Entry>)>> {
        self.reach.open()?;
        let found = self.at_replica(replicas, space, keys, &places).await;
        let found = found.unwrap_or_default();
        places.retain(|place| !found.iter().any(|(other, _)| other == place));
        let mut all: Vec<_> = found
            .into_iter()
            .map(|(place, entry)| (place, Some(entry)))
            .collect();
        if !places.is_empty() {
            all.extend(self.at_primary(replicas, space, keys, places).await?);
        }
        Ok(all)
    }

    /// The live entries that a replica has, where it is as far as it has to be and knows the namespace as it is.
    async fn at_replica(
        &self,
        replicas: &Replicas,
        space: &Space,
        keys: &[Key],
        places: &[usize],
    ) -> Option<Vec<(usize, Entry)>> {
        let generation = space.generation().filter(|_| space.losses() == 0)?;
        let primary = self.reach.usable(space.slot())?;
        if space.trust(primary.number()) != Trust::Full {
            return None;
        }
        let least = primary.progress().least(Timestamp::now())?;
        let history = primary.progress().history()?;
        let asked = places.iter().filter_map(|&place| {
            let needed = replicas.marks.needed(&keys[place], primary.number())?;
            Some((place, needed))
        });
        let asked: Vec<_> = asked.collect();
        if asked.is_empty() {
            return None;
        }
        let replica = replicas.live(&self.reach, space.slot())?;
        if replica.is_resting(Timestamp::now()) {
            return None;
        }

        let mut pipeline = Pipeline::with_capacity(3);
        let is_strange = !replica.follows(primary.number());
        if is_strange {
            pipeline.add_command(History::question());
        }
        // How far it is comes first: what is read after it is no older.
        pipeline.add_command(Role::question());
        let stored = asked.iter();
        let stored = stored.map(|(place, _)| space.locate(generation, &keys[*place]));
        let marker = Location::Key(space.marker().to_vec());
        let stored: Vec<_> = stored.chain([marker]).collect();
        let reading = Reading::new(&stored, stored.len());
        for command in reading.pipeline.cmd_iter() {
            pipeline.add_command(command.clone());
        }
        let answers = timeout(PATIENCE, replica.ask_all(&pipeline)).await;
        let mut answers = answers.ok()?.ok()?.into_iter();

        if is_strange {
            if History::read(&answers.next()?) != Some(history) {
                // One that was without replicas for long has given its history another name.
                primary.progress().forget_history();
                replica.rest(REST);
                return None;
            }
            replica.follow(primary.number());
        }
        let role = answers.next()?;
        let offset = match Role::read(&role) {
            Some(Role::Replica(offset, true)) if offset >= least => offset,
            Some(Role::Replica(..)) => {
                replica.rest(REST);
                return None;
            }
            Some(Role::Primary(_)) => {
                match replicas.place {
                    Place::Named(_) => replicas.tell("the server that was named as one is none"),
                    // They know of others, perhaps.
                    Place::OfSentinels(_) => replica.leave(),
                    // It took over, and the nodes will say so.
                    Place::OfCluster => {}
                }
                replica.rest(LONG_REST);
                return None;
            }
            None => {
                replicas.tell("it answers nothing to ROLE, which the user may not be allowed");
                replica.rest(LONG_REST);
                return None;
            }
        };
        let mut values = reading.values(answers.collect());
        let marker = reply::bytes(values.pop()?).ok()??;
        if Generation::read(&marker) != Some(generation) {
            return None;
        }
        let now = Timestamp::now();
        let found = asked.into_iter().zip(values);
        let found = found.filter_map(|((place, needed), value)| {
            let bytes = reply::bytes(value).ok()??;
            match Stored::read(bytes).ok()? {
                Stored::Entry(entry) if offset >= needed && !entry.is_expired(now) => {
                    Some((place, entry))
                }
                _ => None,
            }
        });
        Some(found.collect())
    }

    /// What the primary has, and how far it has come when it says so.
    async fn at_primary(
        &self,
        replicas: &Replicas,
        space: &Space,
        keys: &[Key],
        places: Vec<usize>,
    ) -> Result<Vec<(usize, Option<Entry>)>> {
        let seen: Vec<_> = places
            .iter()
            .map(|&place| replicas.marks.seen(&keys[place]))
            .collect();
        let (begun, asked) = (Timestamp::now(), AtomicU64::new(0));
        let answers = self.ask(space, |generation, live| {
            asked.store(live.number(), Ordering::Relaxed);
            let mut pipeline = Pipeline::with_capacity(places.len() + 3);
            for &place in &places {
                pipeline.add_command(space.locate(generation, &keys[place]).get());
            }
            pipeline.add_command(Role::question());
            if live.progress().history().is_none() {
                pipeline.add_command(History::question());
            }
            Request::Commands(pipeline)
        });
        let mut answers = answers.await?;
        let told = answers.values.split_off(places.len());
        let number = answers.live.number();
        // A slot that was moved meanwhile is at a node that was not asked for its progress.
        if number == asked.into_inner() {
            let history = told.get(1).and_then(History::read);
            match told.first().and_then(Role::read) {
                Some(Role::Primary(offset)) => {
                    let progress = answers.live.progress();
                    progress.note(offset, begun, history);
                    for seen in &seen {
                        replicas.marks.settle(seen, number, offset);
                    }
                }
                Some(Role::Replica(..)) => {}
                None => replicas
                    .tell("its primary answers nothing to ROLE, which the user may not be allowed"),
            }
        }
        let found = places.into_iter().zip(answers.values);
        self.entries(space, answers.generation, keys, found).await
    }

    /// Sees to it that servers tell what reading from replicas needs, and that a replica answers which the user named.
    pub(super) async fn check_replicas(&self) -> Result<()> {
        let Some(replicas) = &self.replicas else {
            return Ok(());
        };
        for link in self.reach.links().await? {
            if let Ok(live) = link.live().await {
                role(&live).await?;
                break;
            }
        }
        let Place::Named(link) = &replicas.place else {
            return Ok(());
        };
        let asked = async { role(&*link.live().await?).await };
        match asked.await {
            Ok(Role::Replica(..)) => Ok(()),
            Ok(Role::Primary(_)) => {
                replicas.tell("the server of CACHE_REDIS_READ_URL is a primary");
                Ok(())
            }
            Err(error) => Err(Error::new(
                error.kind(),
                "the server of CACHE_REDIS_READ_URL cannot be used",
            )
            .caused_by(error)),
        }
    }
}

/// What a server is, which it has to tell with everything else that reading from replicas needs.
async fn role(live: &Live) -> Result<Role> {
    let answers = [
        live.ask(&Role::question()).await?,
        live.ask(&History::question()).await?,
    ];
    let refused = answers.iter().find_map(|answer| match answer {
        Value::ServerError(error) => Some(errors::refused(error)),
        _ => None,
    });
    if let Some(refused) = refused {
        return Err(Error::new(
            ErrorKind::Backend,
            "reading from a replica (CACHE_REDIS_READ_URL, CACHE_REDIS_READ_FROM_REPLICAS) needs a user that may ask \
             ROLE and INFO",
        )
        .caused_by(refused));
    }
    let role = Role::read(&answers[0]);
    role.filter(|_| History::read(&answers[1]).is_some())
        .ok_or_else(|| {
            Error::new(
                ErrorKind::Unsupported,
                "the server does not tell by ROLE and INFO how far it has come, so that nothing can be read from a \
                 replica: leave out CACHE_REDIS_READ_URL and CACHE_REDIS_READ_FROM_REPLICAS",
            )
        })
}
