//! Which node of a cluster has which slots, and what a node answers that has not.

use redis::{ServerError, Value};

use super::{dial::Node, errors, link::Live, reply};
use crate::{Error, ErrorKind, Result};

/// The ranges of slots, in their order, and who has them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Slots(Vec<Range>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Range {
    first: u16,
    last: u16,
    node: Node,
    replicas: Vec<Node>,
}

impl Slots {
    /// Asks a node, whose address is `node`, for all slots of its cluster.
    pub(super) async fn ask(node: &Node, live: &Live) -> Result<Self> {
        let mut command = redis::cmd("CLUSTER");
        command.arg("SLOTS");
        match live.ask(&command).await? {
            Value::ServerError(error) if error.code() == "ERR" => Err(Error::new(
                ErrorKind::Settings,
                "the server is no node of a cluster: leave out CACHE_REDIS_CLUSTER_NODES, and name it by \
                 CACHE_REDIS_URL or CACHE_REDIS_HOST",
            )),
            answer => Self::read(node, answer),
        }
    }

    fn read(asked: &Node, answer: Value) -> Result<Self> {
        let mut ranges = Vec::new();
        for range in reply::array(answer)? {
            let mut parts = reply::array(range)?.into_iter();
            let mut number = || parts.next().as_ref().map_or_else(no_number, reply::integer);
            let (first, last) = (number()?, number()?);
            let (Ok(first), Ok(last)) = (u16::try_from(first), u16::try_from(last)) else {
                return Err(errors::unexpected());
            };
            // The first node is the primary, its replicas follow.
            let Some(primary) = parts.next() else {
                continue;
            };
            let node = read_node(asked, primary)?;
            // One that cannot be made out is one that is not asked.
            let replicas = parts.filter_map(|replica| read_node(asked, replica).ok());
            let replicas = replicas.collect();
            ranges.push(Range {
                first,
                last,
                node,
                replicas,
            });
        }
        ranges.sort_unstable_by_key(|range| range.first);
        Ok(Self(ranges))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this is so of all nodes that have slots.
    pub(super) fn all(&self, is_so: impl Fn(&Node) -> bool) -> bool {
        self.0.iter().all(|range| is_so(&range.node))
    }

    pub(super) fn owner(&self, slot: u16) -> Option<&Node> {
        self.range(slot).map(|range| &range.node)
    }

    fn range(&self, slot: u16) -> Option<&Range> {
        let place = self.0.partition_point(|range| range.last < slot);
        self.0.get(place).filter(|range| range.first <= slot)
    }

    /// The replicas of the node that has a slot.
    pub(super) fn replicas(&self, slot: u16) -> &[Node] {
        self.range(slot).map_or(&[], |range| &range.replicas)
    }

    /// Every replica of a node that has a slot.
    pub(super) fn all_replicas(&self) -> impl Iterator<Item = &Node> {
        self.0.iter().flat_map(|range| &range.replicas)
    }

    /// Every node that has a slot.
    pub(super) fn nodes(&self) -> Vec<Node> {
        let mut nodes: Vec<_> = self.0.iter().map(|range| range.node.clone()).collect();
        nodes.sort_unstable();
        nodes.dedup();
        nodes
    }

    /// Takes note that one slot has another owner.
    pub(super) fn give(&mut self, slot: u16, node: Node) {
        let place = self.0.partition_point(|range| range.last < slot);
        let mut new = vec![Range {
            first: slot,
            last: slot,
            node,
            replicas: Vec::new(),
        }];
        if let Some(range) = self
            .0
            .get(place)
            .filter(|range| range.first <= slot)
            .cloned()
        {
            self.0.remove(place);
            if range.first < slot {
                new.insert(
                    0,
                    Range {
                        last: slot - 1,
                        ..range.clone()
                    },
                );
            }
            if range.last > slot {
                new.push(Range {
                    first: slot + 1,
                    ..range
                });
            }
        }
        self.0.splice(place..place, new);
    }
}

/// A node as `CLUSTER SLOTS` names it: its host and port first.
fn read_node(asked: &Node, node: Value) -> Result<Node> {
    let mut parts = reply::array(node)?.into_iter();
    let host = match parts.next() {
        Some(Value::BulkString(host)) => String::from_utf8(host).unwrap_or_default(),
        // A node that does not know its own name: the one by which it was reached will do.
        Some(Value::Nil) => String::new(),
        _ => return Err(errors::unexpected()),
    };
    let port = parts
        .next()
        .as_ref()
        .map_or_else(no_number, reply::integer)?;
    Ok(Node {
        host: match host.as_str() {
            "" | "?" => asked.host.clone(),
            _ => host,
        },
        port: u16::try_from(port).map_err(|_| errors::unexpected())?,
    })
}

fn no_number() -> Result<i64> {
    Err(errors::unexpected())
}

/// What a node says instead of carrying out a command.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Redirect {
    /// Another node has the slot.
    Moved(Node),
    /// The slot is on its way to another node, which has this key already, if anybody has it.
    Ask(Node),
    /// The slot is on its way, and the keys of the command are not all in one place.
    TryAgain,
}

impl Redirect {
    /// What `answer` says, if it says anything of this kind, to one that asked `node`.
    pub(super) fn read(answer: &Value, node: Option<&Node>) -> Option<Self> {
        let Value::ServerError(error) = answer else {
            return None;
        };
        match error.code() {
            "MOVED" => target(error, node).map(Self::Moved),
            "ASK" => target(error, node).map(Self::Ask),
            "TRYAGAIN" => Some(Self::TryAgain),
            _ => None,
        }
    }
}

/// The node in `slot host:port`. Where the host is left out it is that of the node that was asked.
fn target(error: &ServerError, asked: Option<&Node>) -> Option<Node> {
    let (_, address) = error.details()?.split_once(' ')?;
    let (host, port) = address.rsplit_once(':')?;
    let host = match (host, asked) {
        ("" | "?", Some(asked)) => asked.host.clone(),
        (host, _) => host.to_owned(),
    };
    Some(Node {
        host,
        port: port.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(port: u16) -> Node {
        Node {
            host: "10.0.0.7".to_owned(),
            port,
        }
    }

    fn text(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    fn range(first: i64, last: i64, host: Value, port: i64) -> Value {
        let primary = Value::Array(vec![host, Value::Int(port), text("id")]);
        let replica = Value::Array(vec![text("10.0.0.9"), Value::Int(1), text("id")]);
        Value::Array(vec![Value::Int(first), Value::Int(last), primary, replica])
    }

    #[test]
    fn slots_are_those_of_the_primaries() {
        let answer = Value::Array(vec![
            range(8192, 16_383, text(""), 7002),
            range(0, 8000, text("10.0.0.7"), 7001),
        ]);
        let slots = Slots::read(&node(1), answer).unwrap();
        assert_eq!(slots.owner(0), Some(&node(7001)));
        assert_eq!(slots.owner(8000), Some(&node(7001)));
        assert_eq!(slots.owner(8001), None);
        assert_eq!(slots.owner(16_383), Some(&node(7002)));
        assert_eq!(slots.nodes(), [node(7001), node(7002)]);
        let replica = Node {
            host: "10.0.0.9".to_owned(),
            port: 1,
        };
        assert_eq!(slots.replicas(8000), [replica]);
        assert!(slots.replicas(8001).is_empty());
        for answer in [Value::Okay, Value::Array(vec![Value::Okay])] {
            assert!(Slots::read(&node(1), answer).is_err());
        }
    }

    #[test]
    fn a_slot_can_be_given_to_another_node() {
        let mut slots = Slots::default();
        slots.give(7, node(1));
        assert_eq!(slots.owner(7), Some(&node(1)));
        let answer = Value::Array(vec![range(0, 9, text("10.0.0.7"), 7001)]);
        for given in 0..10 {
            let mut slots = Slots::read(&node(1), answer.clone()).unwrap();
            slots.give(given, node(2));
            for slot in 0..12 {
                let expected = match slot {
                    10.. => None,
                    slot if slot == given => Some(node(2)),
                    _ => Some(node(7001)),
                };
                assert_eq!(slots.owner(slot).cloned(), expected, "{given}: {slot}");
            }
        }
    }
}
