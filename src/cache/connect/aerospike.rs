use crate::{Aerospike, Cache, CacheBuilder, ConnectMode, Result, Settings};

pub(super) async fn builder(settings: &Settings) -> Result<CacheBuilder> {
    let its = &settings.aerospike;
    let mut aerospike = Aerospike::builder(its.hosts.as_deref().unwrap_or_default())
        .namespace(&its.namespace)
        .tls(its.tls)
        .timeout(its.timeout)
        .connect_timeout(its.connect_timeout)
        .max_conns_per_node(its.max_conns)
        .seed_only(its.seed_only);
    if let Some(set) = &its.set {
        aerospike = aerospike.set(set);
    }
    if let Some(user) = &its.user {
        aerospike = aerospike.username(user);
    }
    if let Some(password) = &its.password {
        aerospike = aerospike.password(password.expose());
    }
    if let Some(path) = &its.ca_file {
        aerospike = aerospike.ca_file(path);
    }
    if let Some(path) = &its.client_cert_file {
        aerospike = aerospike.client_certificate(path);
    }
    if let Some(path) = &its.client_key_file {
        aerospike = aerospike.client_key(path);
    }
    let aerospike = match settings.connect {
        ConnectMode::Eager => aerospike.connect().await,
        ConnectMode::Lazy => aerospike.connect_lazily().await,
    };
    aerospike.map(Cache::builder)
}
