//! Where replicas are, and how they are greeted.

use std::sync::{Arc, atomic::AtomicU64};

use redis::IntoConnectionInfo;

use super::{
    super::{
        dial::{Sentinels, Way},
        errors::not_a_url,
        link::Link,
        replicas::Place,
    },
    RedisBuilder, SENTINEL_PORT, Servers, read_nodes, settings,
};
use crate::{Error, Result};

impl RedisBuilder {
    /// Where replicas are that answer in place of the primary, if any do.
    pub(super) fn replicas(&self, numbers: &Arc<AtomicU64>) -> Result<Option<Place>> {
        let link = |way| Link::new(way, self.connect_timeout, numbers.clone());
        match (&self.servers, &self.read_url) {
            (Servers::One, None) if self.reads_from_replicas => Err(settings(
                "CACHE_REDIS_READ_FROM_REPLICAS is for a cluster and for sentinels: the replica of a single server is \
                 named by CACHE_REDIS_READ_URL",
            )),
            (Servers::One, None) => Ok(None),
            (Servers::One, Some(url)) => {
                let client = self
                    .of_replica(url)
                    .and_then(|replica| replica.dial()?.client());
                let client = client.map_err(|error| {
                    let message = "CACHE_REDIS_READ_URL names no server that can be used";
                    Error::new(error.kind(), message).caused_by(error)
                });
                let (client, of_cluster) = (client?, false);
                Ok(Some(Place::Named(link(Way::Replica {
                    client,
                    of_cluster,
                }))))
            }
            (_, Some(_)) => Err(settings(
                "CACHE_REDIS_READ_URL is for a single server: of a cluster and behind sentinels, replicas are asked by \
                 CACHE_REDIS_READ_FROM_REPLICAS=true",
            )),
            _ if !self.reads_from_replicas => Ok(None),
            (Servers::Cluster(_), None) => Ok(Some(Place::OfCluster)),
            (Servers::Sentinels(nodes, name), None) => {
                let sentinels = self.sentinels(nodes, name, true)?;
                Ok(Some(Place::OfSentinels(link(Way::Sentinels(sentinels)))))
            }
        }
    }

    /// The same for the replica at `url`.
    fn of_replica(&self, url: &str) -> Result<Self> {
        let own = self.url.as_str().into_connection_info();
        let own = self.user(own.map_err(|_| not_a_url())?.redis_settings())?;
        let info = url.into_connection_info().map_err(|_| not_a_url())?;
        let info = info.redis_settings();
        let database = u32::try_from(own.db()).unwrap_or_default();
        if info.db() != 0 && info.db() != own.db() {
            return Err(settings(
                "the database of CACHE_REDIS_READ_URL is not that of the server: leave it out",
            ));
        }
        let has_own_user = info.username().is_some() || info.password().is_some();
        let of = |name: Option<&str>| name.filter(|_| !has_own_user).map(ToOwned::to_owned);
        let by_tls = ["rediss:", "valkeys:"]
            .iter()
            .any(|scheme| url.starts_with(scheme));
        let mut replica = Self::new(url.to_owned()).database(database);
        replica.username = of(own.username());
        replica.password = of(own.password());
        if by_tls {
            replica.ca = self.ca.clone();
            replica.client_certificate = self.client_certificate.clone();
        }
        Ok(replica)
    }

    pub(super) fn sentinels(
        &self,
        nodes: &[String],
        name: &str,
        of_replicas: bool,
    ) -> Result<Sentinels> {
        if name.is_empty() {
            return Err(settings(
                "sentinels are asked for a primary by its name: CACHE_REDIS_SENTINEL_MASTER is empty",
            ));
        }
        Ok(Sentinels {
            nodes: read_nodes(nodes, SENTINEL_PORT, "CACHE_REDIS_SENTINELS")?,
            name: name.to_owned(),
            username: self.sentinel_username.clone(),
            password: self.sentinel_password.clone(),
            dial: self.dial()?,
            of_replicas,
        })
    }
}
