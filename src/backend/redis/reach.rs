//! The servers that there are, one or a cluster of them, and how they are asked.

use std::sync::Arc;

use redis::{Cmd, Pipeline, Value};

use super::{
    asking::Request,
    cluster::Cluster,
    errors,
    link::{Link, Live},
    location::{Location, Reading},
};
use crate::Result;

/// So many keys are asked for by one command; other clients wait while the server carries it out.
const CHUNK: usize = 1000;

/// The way to whatever has the keys.
pub(super) enum Reach {
    Server(Link),
    Cluster(Arc<Cluster>),
}

impl Reach {
    /// A connection to the server that has a slot.
    pub(super) async fn live(&self, slot: u16) -> Result<Arc<Live>> {
        match self {
            Self::Server(link) => link.live().await,
            Self::Cluster(cluster) => cluster.live(slot).await,
        }
    }

    /// The same, if it is there and works.
    pub(super) fn usable(&self, slot: u16) -> Option<Arc<Live>> {
        match self {
            Self::Server(link) => link.usable(),
            Self::Cluster(cluster) => cluster.usable(slot),
        }
    }

    /// The answers to a request on keys of one slot, one for each key or command, and the connection to the server that
    /// has the slot now: another one where it was moved.
    pub(super) async fn send(
        &self,
        slot: u16,
        live: Arc<Live>,
        request: Request,
    ) -> Result<(Arc<Live>, Vec<Value>)> {
        match self {
            Self::Server(_) => {
                let values = match request {
                    Request::Read(locations) => read(&live, &locations).await?,
                    Request::Commands(pipeline) => live.ask_all(&pipeline).await?,
                };
                Ok((live, values))
            }
            Self::Cluster(cluster) => {
                let pipeline = match request {
                    // While a slot is moved, a command on several of its keys is refused as long as they are apart.
                    Request::Read(locations) => {
                        let mut pipeline = Pipeline::with_capacity(locations.len());
                        locations.iter().for_each(|location| {
                            pipeline.add_command(location.get());
                        });
                        pipeline
                    }
                    Request::Commands(pipeline) => pipeline,
                };
                cluster.send(slot, live, pipeline).await
            }
        }
    }

    /// The same for one command.
    pub(super) async fn send_one(
        &self,
        slot: u16,
        live: Arc<Live>,
        command: Cmd,
    ) -> Result<(Arc<Live>, Value)> {
        match self {
            Self::Server(_) => {
                let value = live.ask(&command).await?;
                Ok((live, value))
            }
            Self::Cluster(cluster) => {
                let mut pipeline = Pipeline::with_capacity(1);
                pipeline.add_command(command);
                let (live, values) = cluster.send(slot, live, pipeline).await?;
                let value = values.into_iter().next();
                value
                    .map(|value| (live, value))
                    .ok_or_else(errors::unexpected)
            }
        }
    }

    /// Whether all servers are known to keep buckets in hashes.
    pub(super) fn has_hashes(&self) -> bool {
        match self {
            Self::Server(link) => link.has_hashes(),
            Self::Cluster(cluster) => cluster.has_hashes(),
        }
    }

    /// Every server that has keys.
    pub(super) async fn links(&self) -> Result<Vec<Link>> {
        match self {
            Self::Server(link) => Ok(vec![link.clone()]),
            Self::Cluster(cluster) => cluster.links().await,
        }
    }

    /// Fails a verb that needs no connection where there will be none.
    pub(super) fn open(&self) -> Result<()> {
        match self {
            Self::Server(link) => link.open(),
            Self::Cluster(cluster) => cluster.open(),
        }
    }

    /// Gives connections back, and makes no others.
    pub(super) fn close(&self) {
        match self {
            Self::Server(link) => link.close(),
            Self::Cluster(cluster) => cluster.close(),
        }
    }
}

/// The values that one server has, by one command for a thousand of them.
async fn read(live: &Live, locations: &[Location]) -> Result<Vec<Value>> {
    let reading = Reading::new(locations, CHUNK);
    let answers = live.ask_all(&reading.pipeline).await?;
    Ok(reading.values(answers))
}
