use crate::{Cache, CacheBuilder, ConnectMode, Postgres, Result, Settings};

pub(super) async fn builder(settings: &Settings) -> Result<CacheBuilder> {
    let its = &settings.postgres;
    let url = its.url.as_ref().map_or("", |url| url.expose());
    let mut postgres = Postgres::builder(url)
        .table(&its.table)
        .migrate(its.migrate)
        .pool_size(its.pool_size)
        .connect_timeout(its.connect_timeout)
        .sweep_interval(its.sweep_interval);
    if its.tls {
        postgres = postgres.tls(true);
    }
    if let Some(password) = &its.password {
        postgres = postgres.password(password.expose());
    }
    if let Some(path) = &its.ca_file {
        postgres = postgres.ca(path);
    }
    if let (Some(certificate), Some(key)) = (&its.client_cert_file, &its.client_key_file) {
        postgres = postgres.client_certificate(certificate, key);
    }
    let postgres = match settings.connect {
        ConnectMode::Eager => postgres.connect().await,
        ConnectMode::Lazy => postgres.connect_lazily(),
    };
    postgres.map(Cache::builder)
}
