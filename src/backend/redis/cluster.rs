//! The nodes of a cluster: which of them has a slot, and how it is found again when that changes.

use std::{
    collections::BTreeMap,
    fmt,
    hash::{BuildHasher, RandomState},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::task::JoinSet;

use super::{
    dial::{Dial, Node, Way},
    errors,
    link::{Link, Live},
    slots::Slots,
};
use crate::{Error, ErrorKind, Result, Timestamp, backend::single};

/// The nodes are not asked for their slots more often than this, whatever fails meanwhile.
const PAUSE: Duration = Duration::from_millis(100);

/// A node that has not answered for so long may have been replaced by another one, which the others know.
const DOUBT: Duration = Duration::from_millis(500);

/// So many nodes are asked for the slots at once; the first answer counts.
const ASKED: usize = 5;

/// All nodes of a cluster, with one connection each.
pub(super) struct Cluster {
    seeds: Vec<Node>,
    dial: Dial,
    connect_timeout: Duration,
    /// Where the numbers of connections come from.
    numbers: Arc<AtomicU64>,
    known: Mutex<Known>,
    is_closed: AtomicBool,
    /// Whom to ask first for the slots, so that it is not always the same.
    turn: AtomicUsize,
    /// Which of several replicas is asked first: not the same in every process.
    favourite: usize,
}

#[derive(Default)]
struct Known {
    slots: Slots,
    links: BTreeMap<Node, Link>,
    replicas: BTreeMap<Node, Link>,
    refreshed: Option<Timestamp>,
}

impl Cluster {
    pub(super) fn new(
        seeds: Vec<Node>,
        dial: Dial,
        connect_timeout: Duration,
        numbers: Arc<AtomicU64>,
    ) -> Self {
        Self {
            seeds,
            dial,
            connect_timeout,
            numbers,
            known: Mutex::default(),
            is_closed: AtomicBool::new(false),
            turn: AtomicUsize::new(0),
            favourite: RandomState::new().hash_one(0) as u16 as usize,
        }
    }

    /// A connection to the node that has a slot.
    pub(super) async fn live(&self, slot: u16) -> Result<Arc<Live>> {
        self.open()?;
        let (node, link) = match self.owner(slot)? {
            Some(owner) => owner,
            None => {
                self.refresh(None).await?;
                self.owner(slot)?.ok_or_else(errors::nobody_has_the_slot)?
            }
        };
        let answer = match link.is_silent_for(DOUBT) {
            true => None,
            false => match link.live().await {
                Ok(live) => return Ok(live),
                Err(error) => Some(error),
            },
        };
        // Somebody else may have the slot by now. Where nobody says so, the node is as it is.
        let refreshed = self.refresh(Some(&node)).await;
        let now = self.owner(slot)?;
        match (answer, now) {
            (_, Some((other, link))) if other != node => link.live().await,
            (Some(error), _) => Err(error),
            (None, _) => {
                drop(refreshed);
                link.live().await
            }
        }
    }

    /// The node that has a slot, as far as is known.
    pub(super) fn owner_of(&self, slot: u16) -> Option<Node> {
        self.known().slots.owner(slot).cloned()
    }

    /// The same with the way to it.
    fn owner(&self, slot: u16) -> Result<Option<(Node, Link)>> {
        let mut known = self.known();
        let Some(node) = known.slots.owner(slot).cloned() else {
            return Ok(None);
        };
        let link = self.link(&mut known, &node)?;
        Ok(Some((node, link)))
    }

    /// The connection to the node that has a slot, if there is one that works.
    pub(super) fn usable(&self, slot: u16) -> Option<Arc<Live>> {
        let known = self.known();
        known.links.get(known.slots.owner(slot)?)?.usable()
    }

    /// A connection to a replica of the node that has a slot, where there is one at once.
    pub(super) fn replica(&self, slot: u16) -> Option<Arc<Live>> {
        self.open().ok()?;
        let mut known = self.known();
        let Known {
            slots, replicas, ..
        } = &mut *known;
        let nodes = slots.replicas(slot);
        let turns = (0..nodes.len()).map(|turn| (self.favourite + turn) % nodes.len());
        for node in turns.map(|turn| &nodes[turn]) {
            let link = match replicas.get(node) {
                Some(link) => link.clone(),
                None => {
                    let way = Way::Replica {
                        client: self.dial.client_of(node).ok()?,
                        of_cluster: true,
                    };
                    let link = Link::new(way, self.connect_timeout, self.numbers.clone());
                    replicas.insert(node.clone(), link.clone());
                    link
                }
            };
            if let Some(live) = link.at_once() {
                return Some(live);
            }
        }
        None
    }

    fn link(&self, known: &mut Known, node: &Node) -> Result<Link> {
        if let Some(link) = known.links.get(node) {
            return Ok(link.clone());
        }
        let way = Way::Server(self.dial.client_of(node)?);
        let link = Link::new(way, self.connect_timeout, self.numbers.clone());
        known.links.insert(node.clone(), link.clone());
        Ok(link)
    }

    /// The way to a node that another one named.
    pub(super) fn link_to(&self, node: &Node) -> Result<Link> {
        self.open()?;
        self.link(&mut self.known(), node)
    }

    /// Takes note that a slot is at another node, as the node says that had it.
    pub(super) fn moved(&self, slot: u16, to: Node) {
        let mut known = self.known();
        known.slots.give(slot, to);
        // Others will have been moved too.
        known.refreshed = None;
    }

    /// Takes note that the cluster is not as it was.
    pub(super) fn doubt(&self) {
        self.known().refreshed = None;
    }

    /// Asks the nodes which of them has which slots: all but the one in doubt, where there are others.
    async fn refresh(&self, doubted: Option<&Node>) -> Result<()> {
        let asked = {
            let mut known = self.known();
            let now = Timestamp::now();
            // A clock that was set back is no reason to wait.
            let recent = |then: Timestamp| now >= then && now.since(then) < PAUSE;
            if !known.slots.is_empty() && known.refreshed.is_some_and(recent) {
                return Ok(());
            }
            known.refreshed = Some(now);
            let mut nodes = known.slots.nodes();
            nodes.extend(self.seeds.iter().cloned());
            nodes.sort_unstable();
            nodes.dedup();
            if nodes.len() > 1 {
                nodes.retain(|node| Some(node) != doubted);
            }
            let turn = self.turn.fetch_add(1, Ordering::Relaxed) % nodes.len().max(1);
            nodes.rotate_left(turn);
            nodes.truncate(ASKED);
            let links = nodes.into_iter().map(|node| {
                let link = self.link(&mut known, &node)?;
                Ok((node, link))
            });
            links.collect::<Result<Vec<_>>>()?
        };
        let mut asking = JoinSet::new();
        for (node, link) in asked {
            asking.spawn(async move { Slots::ask(&node, &*link.live().await?).await });
        }
        let mut failed = None;
        while let Some(answer) = asking.join_next().await {
            match answer {
                Ok(Ok(slots)) => {
                    self.learn(slots);
                    return Ok(());
                }
                Ok(Err(error)) => failed = Some(error),
                // The runtime ends.
                Err(_) => {}
            }
        }
        self.known().refreshed = None;
        Err(failed.unwrap_or_else(|| Error::new(ErrorKind::Unavailable, "no node could be asked")))
    }

    fn learn(&self, slots: Slots) {
        let mut known = self.known();
        let nodes = slots.nodes();
        known.links.retain(|node, _| nodes.contains(node));
        let is_replica = |node: &Node| slots.all_replicas().any(|replica| replica == node);
        known.replicas.retain(|node, _| is_replica(node));
        known.slots = slots;
    }

    /// Whether all nodes that have slots are known to keep buckets in hashes.
    pub(super) fn has_hashes(&self) -> bool {
        let known = self.known();
        let has_hashes = |node: &Node| known.links.get(node).is_some_and(Link::has_hashes);
        !known.slots.is_empty() && known.slots.all(has_hashes)
    }

    /// The ways to all nodes that have slots.
    pub(super) async fn links(&self) -> Result<Vec<Link>> {
        self.open()?;
        if self.known().slots.is_empty() {
            self.refresh(None).await?;
        }
        let mut known = self.known();
        let nodes = known.slots.nodes();
        let links = nodes.iter().map(|node| self.link(&mut known, node));
        links.collect()
    }

    pub(super) fn open(&self) -> Result<()> {
        match self.is_closed.load(Ordering::Acquire) {
            true => Err(single::closed()),
            false => Ok(()),
        }
    }

    pub(super) fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
        let mut known = self.known();
        let links = std::mem::take(&mut known.links);
        let replicas = std::mem::take(&mut known.replicas);
        links
            .values()
            .chain(replicas.values())
            .for_each(Link::close);
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Shows how many nodes are known, and nothing of how to get there.
impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = self.known();
        f.debug_struct("Cluster")
            .field("links", &known.links.values().collect::<Vec<_>>())
            .field("replicas", &known.replicas.values().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}
