use std::{
    process::Output,
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use super::{
    redis::{Options, Redis, redis_cli},
    tls::Certificates,
};

/// How long nodes may take to agree. They take no writes for two seconds after they began, whatever is agreed on.
const PATIENCE: Duration = Duration::from_secs(20);

/// How many of the nodes have slots.
const PRIMARIES: usize = 3;

/// A Redis Cluster of three primaries, and as many replicas where they are asked for.
#[derive(Debug)]
pub(crate) struct Cluster {
    nodes: Vec<Redis>,
    certificates: Option<(Certificates, TempDir)>,
}

impl Cluster {
    /// Three primaries.
    pub(crate) fn start() -> Option<Self> {
        Self::with(false, false, Options::default())
    }

    /// Three primaries and a replica of each.
    pub(crate) fn with_replicas() -> Option<Self> {
        Self::with(true, false, Options::default())
    }

    /// Three primaries with TLS.
    pub(crate) fn with_tls() -> Option<Self> {
        Self::with(false, true, Options::default())
    }

    /// Nodes of some kind.
    pub(crate) fn with(replicas: bool, tls: bool, options: Options) -> Option<Self> {
        let certificates = tls.then(|| {
            let folder = tempfile::tempdir().unwrap();
            (Certificates::write(folder.path()), folder)
        });
        let count = if replicas { 2 * PRIMARIES } else { PRIMARIES };
        let start = || {
            let options = options.clone().of_cluster();
            match &certificates {
                Some((certificates, _)) => options.tls_by(certificates).start(),
                None => options.start(),
            }
        };
        let nodes = (0..count).map(|_| start());
        let cluster = Self {
            nodes: nodes.collect::<Option<Vec<_>>>()?,
            certificates,
        };
        cluster.meet();
        Some(cluster)
    }

    fn meet(&self) {
        const SLOTS: usize = 16_384;
        for (number, node) in self.nodes.iter().enumerate() {
            node.cli(&["CLUSTER", "SET-CONFIG-EPOCH", &(number + 1).to_string()]);
            if number < PRIMARIES {
                let first = number * SLOTS / PRIMARIES;
                let last = (number + 1) * SLOTS / PRIMARIES - 1;
                let (first, last) = (first.to_string(), last.to_string());
                node.cli(&["CLUSTER", "ADDSLOTSRANGE", &first, &last]);
            }
            if number > 0 {
                let port = node.port().to_string();
                self.nodes[0].cli(&["CLUSTER", "MEET", "127.0.0.1", &port]);
            }
        }
        let count = self.nodes.len();
        self.wait("the nodes know each other", |node| {
            let known = format!("cluster_known_nodes:{count}");
            node.cli(&["CLUSTER", "INFO"]).contains(&known)
        });
        for (number, replica) in self.nodes.iter().enumerate().skip(PRIMARIES) {
            let id = self.nodes[number - PRIMARIES].cli(&["CLUSTER", "MYID"]);
            replica.cli(&["CLUSTER", "REPLICATE", &id]);
        }
        self.wait("the cluster is up", |node| {
            let is_up = node.cli(&["CLUSTER", "INFO"]).contains("cluster_state:ok");
            let replication = node.cli(&["INFO", "replication"]);
            is_up && !replication.contains("master_link_status:down")
        });
        if count > PRIMARIES {
            self.wait("every primary has a replica", |node| {
                let replication = node.cli(&["INFO", "replication"]);
                replication.contains("role:slave") || replication.contains("state=online")
            });
        }
    }

    /// Waits until something holds for every node that runs.
    pub(crate) fn wait(&self, what: &str, holds: impl Fn(&Redis) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        for node in self.nodes.iter().filter(|node| node.runs()) {
            while !holds(node) {
                assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
                thread::sleep(Duration::from_millis(10));
            }
        }
    }

    /// All nodes, the primaries of the beginning first.
    pub(crate) fn nodes(&self) -> &[Redis] {
        &self.nodes
    }

    /// Their addresses.
    pub(crate) fn addresses(&self) -> Vec<String> {
        let addresses = self.nodes.iter().map(|node| node.address().to_string());
        addresses.collect()
    }

    pub(crate) fn certificates(&self) -> &Certificates {
        let certificates = self.certificates.as_ref();
        &certificates.expect("it was started with tls").0
    }

    /// The node that has a slot, as the first one that runs knows.
    pub(crate) fn owner(&self, slot: u16) -> &Redis {
        let asked = self.nodes.iter().find(|node| node.runs()).unwrap();
        let table = asked.cli(&["CLUSTER", "NODES"]);
        let has_it = |line: &&str| {
            line.contains("master")
                && line.split(' ').skip(8).any(|range| {
                    let (first, last) = range.split_once('-').unwrap_or((range, range));
                    let parsed = first.parse::<u16>().ok().zip(last.parse::<u16>().ok());
                    parsed.is_some_and(|(first, last)| (first..=last).contains(&slot))
                })
        };
        let line = table.lines().find(has_it).expect("somebody has it");
        let address = line.split([' ', '@']).nth(1).unwrap();
        let port: u16 = address.rsplit_once(':').unwrap().1.parse().unwrap();
        let node = self.nodes.iter().find(|node| node.port() == port);
        node.expect("it is one of these nodes")
    }

    /// Moves slots from one node to another with what is in them, as `redis-cli` does it.
    pub(crate) fn reshard(&self, from: &Redis, to: &Redis, slots: usize) -> Output {
        let id = |node: &Redis| node.cli(&["CLUSTER", "MYID"]);
        let (from, to) = (id(from), id(to));
        let (address, slots) = (self.nodes[0].address().to_string(), slots.to_string());
        redis_cli(&[
            "--cluster",
            "reshard",
            &address,
            "--cluster-from",
            &from,
            "--cluster-to",
            &to,
            "--cluster-slots",
            &slots,
            "--cluster-yes",
        ])
    }
}
