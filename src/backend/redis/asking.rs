//! How every verb asks: under the generation that is known, and for the generation's marker in the same round trip.

use std::sync::Arc;

use futures_util::future::join_all;
use redis::{Cmd, Pipeline, Value};

use super::{
    Shared, errors,
    link::Live,
    location::Location,
    reply,
    scripts::Script,
    space::{Space, Trust},
};
use crate::{
    Error, ErrorKind, Key, Result,
    backend::generation::{Generation, Marker},
};

/// So often a verb is done again because the namespace changed meanwhile.
const ROUNDS: usize = 16;

pub(super) enum Request {
    /// The values of entries and other keys, to which the marker is added as the last.
    Read(Vec<Location>),
    /// Commands, to which `GET` of the marker is added as the last.
    Commands(Pipeline),
}

/// What the server answered under the generation that is still the namespace's.
pub(super) struct Answers {
    pub(super) generation: Generation,
    /// The connection that they came by.
    pub(super) live: Arc<Live>,
    /// One for each key read, or for each command.
    pub(super) values: Vec<Value>,
}

impl Answers {
    pub(super) fn only(self) -> Result<Value> {
        self.values
            .into_iter()
            .next()
            .ok_or_else(errors::unexpected)
    }
}

impl Shared {
    /// Asks by the request that `make` makes for a generation, as often as it takes to be told that this is still the
    /// generation. What was answered under another one is thrown away, and what was done there is out of reach.
    pub(super) async fn ask(
        &self,
        space: &Space,
        make: impl Fn(Generation, &Live) -> Request,
    ) -> Result<Answers> {
        for _ in 0..ROUNDS {
            let live = self.trusted(space).await?;
            let generation = self.generation(space, &live).await?;
            let mut request = make(generation, &live);
            match &mut request {
                Request::Read(locations) => {
                    locations.push(Location::Key(space.marker().to_vec()));
                }
                Request::Commands(pipeline) => {
                    pipeline.cmd("GET").arg(space.marker());
                }
            }
            let asked = live.number();
            let (live, mut values) = self.reach.send(space.slot(), live, request).await?;
            if live.number() != asked {
                // The slot was moved to another node meanwhile, which may not know of what was deleted.
                self.audit(space, &live).await?;
                if space.losses() > 0 {
                    continue;
                }
            }
            let marker = values.pop().map(reply::bytes).transpose()?.flatten();
            match space.compare(generation, marker.as_deref()) {
                Marker::Same => {
                    return Ok(Answers {
                        generation,
                        live,
                        values,
                    });
                }
                Marker::Changed => {}
                Marker::Lost => {
                    let seen = marker.as_deref().unwrap_or_default();
                    let _changing = space.changing().await;
                    if space.generation() == Some(generation) {
                        self.agree(space, &live, seen).await?;
                    }
                }
            }
        }
        Err(restless())
    }

    /// Calls a script on an entry; `add` adds what comes after its key and before its field. Again by its text where the
    /// server forgot it.
    pub(super) async fn call(
        &self,
        script: &Script,
        key: &Key,
        keys: usize,
        add: impl Fn(&mut Cmd),
    ) -> Result<Answers> {
        let space = self.spaces.of(key);
        loop {
            let answers = self.ask(&space, |generation, live| {
                let mut command = script.call(live, keys);
                let location = space.locate(generation, key);
                command.arg(location.key());
                add(&mut command);
                location.field().map(|field| command.arg(field));
                let mut pipeline = Pipeline::new();
                pipeline.add_command(command);
                Request::Commands(pipeline)
            });
            let answers = answers.await?;
            let answer = answers.values.first().ok_or_else(errors::unexpected)?;
            if script.answered(&answers.live, answer) {
                return Ok(answers);
            }
        }
    }

    /// A connection to the server of a space, which knows of the last deletion there or is known to have lost it.
    async fn trusted(&self, space: &Space) -> Result<Arc<Live>> {
        let live = self.reach.live(space.slot()).await?;
        self.audit(space, &live).await?;
        Ok(live)
    }

    /// Asks whether the server still knows of the last deletion that it acknowledged, where this connection was not asked
    /// before.
    async fn audit(&self, space: &Space, live: &Arc<Live>) -> Result<()> {
        let mut live = live.clone();
        for _ in 0..ROUNDS {
            let Trust::After(deletion) = space.trust(live.number()) else {
                return Ok(());
            };
            let mut command = redis::cmd("GET");
            command.arg(&deletion.counter);
            let value;
            (live, value) = self.reach.send_one(space.slot(), live, command).await?;
            let value = match value {
                Value::BulkString(_) | Value::Nil => reply::number(&value),
                Value::ServerError(error) => return Err(errors::refused(&error)),
                _ => return Err(errors::unexpected()),
            };
            space.judge(live.number(), &deletion, value);
        }
        Ok(())
    }

    /// The generation, asked for where this process does not know it, and made anew where it keeps buckets in another
    /// way than the server can.
    ///
    /// So all who use a server agree on the way, and nothing that was put in one way is there for those who look in the
    /// other.
    async fn generation(&self, space: &Space, live: &Arc<Live>) -> Result<Generation> {
        let fits = |known: &Generation| known.has_hashes() == live.has_hashes();
        let known = space.generation().filter(fits);
        if let (Some(known), 0) = (known, space.losses()) {
            return Ok(known);
        }
        let _changing = space.changing().await;
        let losses = space.losses();
        if losses > 0 {
            let new = Generation::random_with(live.has_hashes());
            self.set_marker(space, live.clone(), new).await?;
            space.begin(new);
            space.renewed(losses);
        }
        match space.generation() {
            Some(known) if fits(&known) => Ok(known),
            Some(other) => self.agree(space, live, other.as_bytes()).await,
            None => self.agree(space, live, b"").await,
        }
    }

    async fn set_marker(&self, space: &Space, live: Arc<Live>, new: Generation) -> Result<bool> {
        let mut command = redis::cmd("SET");
        command.arg(space.marker()).arg(new.as_bytes());
        let (_, answer) = self.reach.send_one(space.slot(), live, command).await?;
        reply::was_set(&answer)
    }

    /// Makes a generation where the marker is as it was `seen`, or learns the one that somebody else made meanwhile.
    /// Only with the right to change the generation.
    async fn agree(&self, space: &Space, live: &Arc<Live>, seen: &[u8]) -> Result<Generation> {
        let (mut live, mut seen) = (live.clone(), seen.to_vec());
        for _ in 0..ROUNDS {
            let new = Generation::random_with(live.has_hashes());
            let script = &self.scripts.agree;
            let mut command = script.call(&live, 1);
            command.arg(space.marker()).arg(&seen).arg(new.as_bytes());
            let answer;
            (live, answer) = self.reach.send_one(space.slot(), live, command).await?;
            if !script.answered(&live, &answer) {
                continue;
            }
            let marker = reply::bytes(answer)?.unwrap_or_default();
            match Generation::read(&marker) {
                Some(found) if space.learn(found) != Marker::Lost => {
                    if found.has_hashes() == live.has_hashes() {
                        return Ok(found);
                    }
                    tracing::info!(
                        hashes = live.has_hashes(),
                        "the Redis server keeps buckets in another way than before: the namespace begins anew"
                    );
                }
                // One that is over, or nothing that a marker could be.
                _ => {}
            }
            seen = marker.to_vec();
        }
        Err(restless())
    }

    /// Gives the namespace another generation, whatever it has: all its shards, also where one of them fails.
    pub(super) async fn clear(&self, spaces: &[Arc<Space>]) -> Result<()> {
        let cleared = spaces.iter().map(|space| self.clear_in(space));
        join_all(cleared).await.into_iter().collect()
    }

    async fn clear_in(&self, space: &Space) -> Result<()> {
        let live = self.reach.live(space.slot()).await?;
        let _changing = space.changing().await;
        let new = Generation::random_with(live.has_hashes());
        let losses = space.losses();
        match self.set_marker(space, live.clone(), new).await {
            Ok(_) => {
                space.begin(new);
                space.renewed(losses);
                Ok(())
            }
            // A server without room for eight bytes can still remove the marker; without one, everything is out of reach.
            Err(error) if error.kind() == ErrorKind::TooLarge => {
                let mut command = redis::cmd("UNLINK");
                command.arg(space.marker());
                let (_, answer) = self.reach.send_one(space.slot(), live, command).await?;
                reply::integer(&answer).map(drop)
            }
            Err(error) => Err(error),
        }
    }
}

fn restless() -> Error {
    Error::new(
        ErrorKind::Backend,
        "the namespace is cleared faster than it can be used",
    )
}
