//! One server, and how every verb asks it: under the generation that is known, and for the generation's marker in the
//! same round trip.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::time::timeout;

use super::{
    errors,
    item_key::ItemKey,
    link::{Link, Live},
    parts::PARTS,
    protocol::{Command, Condition, Reply, Status, Verb},
    space::{Space, Spaces},
    stored::Stored,
};
use crate::{
    Result,
    backend::generation::{Generation, Marker},
};

/// So often a verb is done again because the namespace, or the key, changed meanwhile.
pub(super) const ROUNDS: usize = 16;

/// So many keys are asked for at once; other clients wait while the server sees to it.
pub(super) const STEP: usize = 500;

/// The largest item of a server that was not asked.
const ITEM_SIZE: usize = 1 << 20;

/// What a server adds to a value: the longest key, and what it notes of the item.
pub(super) const ITEM_OVERHEAD: usize = 320;

#[derive(Debug)]
pub(super) struct Node {
    pub(super) link: Link,
    pub(super) spaces: Spaces,
    /// How long others wait for it before they do without.
    patience: Duration,
    /// Whether what is too long for one item is put into several.
    splits: bool,
    is_away: AtomicBool,
}

/// What the server answered under the generation that is still the namespace's.
pub(super) struct Answers {
    pub(super) generation: Generation,
    /// The connection that they came by.
    pub(super) live: Arc<Live>,
    /// One for each command.
    pub(super) replies: Vec<Reply>,
}

impl Answers {
    pub(super) fn only(self) -> Result<Reply> {
        let mut replies = self.replies.into_iter();
        replies.next().ok_or_else(errors::unexpected)
    }
}

impl Node {
    pub(super) fn new(link: Link, patience: Duration, splits: bool) -> Self {
        Self {
            link,
            spaces: Spaces::default(),
            patience,
            splits,
            is_away: AtomicBool::new(false),
        }
    }

    /// The longest value of an item, as far as is known.
    pub(super) fn longest(&self) -> usize {
        let item = self.link.item_size().unwrap_or(ITEM_SIZE);
        item.saturating_sub(ITEM_OVERHEAD)
    }

    /// The longest entry, in however many items.
    pub(super) fn longest_entry(&self) -> usize {
        match self.splits {
            true => self.longest() * PARTS,
            false => self.longest(),
        }
    }

    /// Asks by the commands that `make` makes for a generation, as often as it takes to be told that this is still the
    /// generation. What was answered under another one is thrown away, and what was done there is out of reach.
    pub(super) async fn ask(
        &self,
        space: &Arc<Space>,
        make: impl Fn(Generation) -> Vec<Command>,
    ) -> Result<Answers> {
        for _ in 0..ROUNDS {
            let live = self.link.live().await?;
            let generation = self.generation(space, &live).await?;
            let mut commands = make(generation);
            commands.push(Command::new(space.marker(), Verb::Get));
            let mut replies = live.ask(&commands, Some(space)).await?;
            let marker = replies.pop().ok_or_else(errors::unexpected)?;
            let marker = Stored::of(marker)?;
            match space.compare(generation, marker.as_ref().map(|it| &it.bytes()[..])) {
                Marker::Same => {
                    return Ok(Answers {
                        generation,
                        live,
                        replies,
                    });
                }
                Marker::Changed => {}
                Marker::Lost => {
                    let _changing = space.changing().await;
                    if space.generation() == Some(generation) {
                        self.agree(space, &live, marker.map(|it| it.cas)).await?;
                    }
                }
            }
        }
        Err(errors::restless())
    }

    /// The generation, asked for where this process does not know it.
    async fn generation(&self, space: &Arc<Space>, live: &Live) -> Result<Generation> {
        if let (Some(known), 0) = (space.generation(), space.losses()) {
            return Ok(known);
        }
        let _changing = space.changing().await;
        self.renew(space, live).await?;
        match space.generation() {
            Some(known) => Ok(known),
            None => self.agree(space, live, None).await,
        }
    }

    /// Begins anew where it is unknown what the server holds. Only with the right to change the generation.
    async fn renew(&self, space: &Arc<Space>, live: &Live) -> Result<()> {
        match space.losses() {
            0 => Ok(()),
            losses => self.replace(space, live, losses).await,
        }
    }

    /// Gives the namespace another generation, whatever it has, and that is for all losses so far.
    async fn replace(&self, space: &Arc<Space>, live: &Live, losses: u64) -> Result<()> {
        let new = Generation::random();
        let set = marker(space.marker(), new, Condition::Always);
        let replies = live.ask(&[set], Some(space)).await?;
        match replies.first().map(|reply| reply.status) {
            Some(Status::Done) => space.begin(new),
            // A server without room for eight bytes can still remove the marker; without one, everything is out of reach.
            Some(Status::NoRoom) => {
                let delete = Command::new(space.marker(), Verb::Delete(None));
                live.ask(&[delete], Some(space)).await?;
            }
            Some(other) => return Err(errors::refused(other)),
            None => return Err(errors::unexpected()),
        }
        space.renewed(losses);
        Ok(())
    }

    /// Makes a generation where the marker is as it was `seen`, or learns the one that somebody else made meanwhile.
    /// Only with the right to change the generation.
    async fn agree(
        &self,
        space: &Arc<Space>,
        live: &Live,
        mut seen: Option<u64>,
    ) -> Result<Generation> {
        for _ in 0..ROUNDS {
            let condition = seen.map_or(Condition::Absent, Condition::Cas);
            let commands = [
                marker(space.marker(), Generation::random(), condition),
                Command::new(space.marker(), Verb::Get),
            ];
            let mut replies = live.ask(&commands, Some(space)).await?;
            let found = replies.pop().ok_or_else(errors::unexpected)?;
            let Some(found) = Stored::of(found)? else {
                if replies.iter().any(|reply| reply.status == Status::NoRoom) {
                    return Err(errors::no_room());
                }
                seen = None;
                continue;
            };
            match Generation::read(found.bytes()) {
                Some(generation) if space.learn(generation) != Marker::Lost => {
                    return Ok(generation);
                }
                // One that is over, or nothing that a marker could be.
                _ => seen = Some(found.cas),
            }
        }
        Err(errors::restless())
    }

    /// Ends everything in the namespace on this server.
    pub(super) async fn clear(&self, space: &Arc<Space>) -> Result<()> {
        let live = self.link.live().await?;
        let _changing = space.changing().await;
        self.replace(space, &live, space.losses()).await
    }

    pub(super) async fn ping(&self) -> Result<()> {
        let key = ItemKey::new(b"larder:ping".to_vec());
        let look = Command::new(&key, Verb::Look);
        let live = self.link.live().await?;
        let replies = live.ask(&[look], None).await?;
        match replies.first().map(|reply| reply.status) {
            Some(Status::Done | Status::Absent) => Ok(()),
            Some(other) => Err(errors::refused(other)),
            None => Err(errors::unexpected()),
        }
    }

    /// The answer of one server among several, for which nobody waits longer than others do without it, and not at all
    /// where it is known to be silent.
    pub(super) async fn within<T>(&self, call: impl Future<Output = Result<T>>) -> Result<T> {
        let answer = match self.link.is_silent() {
            true => Err(errors::silent()),
            false => {
                let answer = timeout(self.patience, call).await;
                answer.unwrap_or_else(|_| Err(errors::silent()))
            }
        };
        match &answer {
            Err(error) if error.is_outage() => {
                if !self.is_away.swap(true, Ordering::Relaxed) {
                    tracing::warn!(server = ?self.link, %error, "a memcached server is away: its keys are misses");
                }
            }
            _ => {
                if self.is_away.swap(false, Ordering::Relaxed) {
                    tracing::info!(server = ?self.link, "a memcached server is back");
                }
            }
        }
        answer
    }

    /// Whether the last that was heard of it is that it cannot be reached.
    pub(super) fn is_away(&self) -> bool {
        self.is_away.load(Ordering::Relaxed)
    }
}

fn marker(key: &ItemKey, generation: Generation, condition: Condition) -> Command {
    Command::new(
        key,
        Verb::Set {
            condition,
            value: Bytes::copy_from_slice(generation.as_bytes()),
            mark: 0,
            ttl: 0,
        },
    )
}
