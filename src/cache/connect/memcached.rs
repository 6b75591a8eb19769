use crate::{
    Cache, CacheBuilder, ConnectMode, Memcached, MemcachedBuilder, MemcachedSettings, Result,
    Settings,
};

pub(super) async fn builder(settings: &Settings) -> Result<CacheBuilder> {
    let memcached = client(&settings.memcached);
    let memcached = match settings.connect {
        ConnectMode::Eager => memcached.connect().await,
        ConnectMode::Lazy => memcached.connect_lazily(),
    };
    memcached.map(Cache::builder)
}

fn client(settings: &MemcachedSettings) -> MemcachedBuilder {
    let mut builder = Memcached::builder(&settings.servers)
        .binary_protocol(settings.binary_protocol)
        .tls(settings.tls)
        .server_timeout(settings.server_timeout)
        .split_large_values(settings.split_large_values)
        .connect_timeout(settings.connect_timeout);
    if let Some(name) = &settings.username {
        builder = builder.username(name);
    }
    if let Some(password) = &settings.password {
        builder = builder.password(password.expose());
    }
    if let Some(path) = &settings.ca_file {
        builder = builder.ca(path);
    }
    if let (Some(certificate), Some(key)) = (&settings.client_cert_file, &settings.client_key_file)
    {
        builder = builder.client_certificate(certificate, key);
    }
    builder
}
