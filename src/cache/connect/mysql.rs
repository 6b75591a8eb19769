use crate::{Cache, CacheBuilder, ConnectMode, MySql, Result, Settings};

pub(super) async fn builder(settings: &Settings) -> Result<CacheBuilder> {
    let its = &settings.mysql;
    let url = its.url.as_ref().map_or("", |url| url.expose());
    let mut mysql = MySql::builder(url)
        .table(&its.table)
        .migrate(its.migrate)
        .pool_size(its.pool_size)
        .connect_timeout(its.connect_timeout)
        .sweep_interval(its.sweep_interval);
    if its.tls {
        mysql = mysql.tls(true);
    }
    if let Some(password) = &its.password {
        mysql = mysql.password(password.expose());
    }
    if let Some(path) = &its.ca_file {
        mysql = mysql.ca(path);
    }
    if let (Some(certificate), Some(key)) = (&its.client_cert_file, &its.client_key_file) {
        mysql = mysql.client_certificate(certificate, key);
    }
    let mysql = match settings.connect {
        ConnectMode::Eager => mysql.connect().await,
        ConnectMode::Lazy => mysql.connect_lazily(),
    };
    mysql.map(Cache::builder)
}
