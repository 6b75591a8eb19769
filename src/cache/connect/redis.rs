use crate::{
    Cache, CacheBuilder, ConnectMode, Redis, RedisBuilder, RedisSettings, Result, Settings,
};

pub(super) async fn builder(settings: &Settings) -> Result<CacheBuilder> {
    let redis = client(&settings.redis);
    let redis = match settings.connect {
        ConnectMode::Eager => redis.connect().await,
        ConnectMode::Lazy => redis.connect_lazily(),
    };
    redis.map(Cache::builder)
}

fn client(settings: &RedisSettings) -> RedisBuilder {
    let mut builder = match &settings.url {
        _ if !settings.cluster_nodes.is_empty() => {
            Redis::cluster(&settings.cluster_nodes).tls(settings.tls)
        }
        _ if !settings.sentinels.is_empty() => {
            let name = settings.sentinel_master.as_deref().unwrap_or_default();
            Redis::sentinels(&settings.sentinels, name)
                .database(settings.database)
                .tls(settings.tls)
        }
        Some(url) => Redis::builder(url.expose()),
        None => Redis::builder("redis://127.0.0.1")
            .host(&settings.host)
            .port(settings.port)
            .database(settings.database)
            .tls(settings.tls),
    };
    if let Some(name) = &settings.sentinel_username {
        builder = builder.sentinel_username(name);
    }
    if let Some(password) = &settings.sentinel_password {
        builder = builder.sentinel_password(password.expose());
    }
    if let Some(path) = &settings.socket {
        builder = builder.socket(path);
    }
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
    if let Some(url) = &settings.read_url {
        builder = builder.read_url(url.expose());
    }
    builder
        .read_from_replicas(settings.read_from_replicas)
        .connect_timeout(settings.connect_timeout)
}
