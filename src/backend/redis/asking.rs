//! How every verb asks: under the generation that is known, and for the generation's marker in the same round trip.

use redis::{Cmd, Pipeline, Value};

use super::{Shared, errors, link::Live, reply, scripts::Script, space::Space};
use crate::{
    Error, ErrorKind, Key, Result,
    backend::generation::{Generation, Marker},
};

/// So often a verb is done again because the namespace changed meanwhile.
const ROUNDS: usize = 16;

pub(super) enum Request {
    /// `MGET` of keys, to which the marker is added as the last.
    Read(Cmd),
    /// Commands, to which `GET` of the marker is added as the last.
    Commands(Pipeline),
}

/// What the server answered under the generation that is still the namespace's.
pub(super) struct Answers {
    pub(super) generation: Generation,
    /// The connection that they came by.
    pub(super) connection: u64,
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
            let live = self.link.live().await?;
            let generation = self.generation(space, &live).await?;
            let mut values = match make(generation, &live) {
                Request::Read(mut command) => {
                    command.arg(space.marker());
                    reply::array(live.ask(&command).await?)?
                }
                Request::Commands(mut pipeline) => {
                    pipeline.cmd("GET").arg(space.marker());
                    live.ask_all(&pipeline).await?
                }
            };
            let marker = values.pop().map(reply::bytes).transpose()?.flatten();
            match space.compare(generation, marker.as_deref()) {
                Marker::Same => {
                    return Ok(Answers {
                        generation,
                        connection: live.number(),
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

    /// Calls a script on a key; `add` adds what comes after the key. Again by its text where the server forgot it.
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
                let mut command = script.call(live.number(), keys);
                command.arg(space.stored_key(generation, key.as_key_ref()));
                add(&mut command);
                let mut pipeline = Pipeline::new();
                pipeline.add_command(command);
                Request::Commands(pipeline)
            });
            let answers = answers.await?;
            let answer = answers.values.first().ok_or_else(errors::unexpected)?;
            if script.answered(answers.connection, answer) {
                return Ok(answers);
            }
        }
    }

    /// The generation, asked for where this process does not know it.
    pub(super) async fn generation(&self, space: &Space, live: &Live) -> Result<Generation> {
        if let (Some(known), 0) = (space.generation(), space.losses()) {
            return Ok(known);
        }
        let _changing = space.changing().await;
        let losses = space.losses();
        if losses > 0 {
            let new = Generation::random();
            let mut command = redis::cmd("SET");
            command.arg(space.marker()).arg(new.as_bytes());
            reply::was_set(&live.ask(&command).await?)?;
            space.begin(new);
            space.renewed(losses);
        }
        match space.generation() {
            Some(known) => Ok(known),
            None => self.agree(space, live, b"").await,
        }
    }

    /// Makes a generation where the marker is as it was `seen`, or learns the one that somebody else made meanwhile.
    /// Only with the right to change the generation.
    async fn agree(&self, space: &Space, live: &Live, seen: &[u8]) -> Result<Generation> {
        let mut seen = seen.to_vec();
        for _ in 0..ROUNDS {
            let new = Generation::random();
            let script = &self.scripts.agree;
            let mut command = script.call(live.number(), 1);
            command.arg(space.marker()).arg(&seen).arg(new.as_bytes());
            let answer = live.ask(&command).await?;
            if !script.answered(live.number(), &answer) {
                continue;
            }
            let marker = reply::bytes(answer)?.unwrap_or_default();
            match Generation::read(&marker) {
                Some(found) if space.learn(found) != Marker::Lost => return Ok(found),
                // One that is over, or nothing that a marker could be.
                _ => seen = marker.to_vec(),
            }
        }
        Err(restless())
    }

    /// Gives the namespace another generation, whatever it has.
    pub(super) async fn clear(&self, space: &Space) -> Result<()> {
        let live = self.link.live().await?;
        let _changing = space.changing().await;
        let (losses, new) = (space.losses(), Generation::random());
        let mut command = redis::cmd("SET");
        command.arg(space.marker()).arg(new.as_bytes());
        if reply::was_set(&live.ask(&command).await?).is_ok() {
            space.begin(new);
            space.renewed(losses);
            return Ok(());
        }
        // A server without room for eight bytes can still remove the marker; without one, everything is out of reach.
        let mut command = redis::cmd("UNLINK");
        command.arg(space.marker());
        reply::integer(&live.ask(&command).await?).map(drop)
    }
}

fn restless() -> Error {
    Error::new(
        ErrorKind::Backend,
        "the namespace is cleared faster than it can be used",
    )
}
