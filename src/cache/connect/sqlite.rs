use crate::{Cache, CacheBuilder, ConnectMode, Result, Settings, Sqlite};

pub(super) async fn builder(settings: &Settings) -> Result<CacheBuilder> {
    let its = &settings.sqlite;
    let sqlite = Sqlite::builder(its.path.clone().unwrap_or_default())
        .table(&its.table)
        .migrate(its.migrate)
        .pool_size(its.pool_size)
        .busy_timeout(its.busy_timeout)
        .sweep_interval(its.sweep_interval);
    let sqlite = match settings.connect {
        ConnectMode::Eager => sqlite.connect().await,
        ConnectMode::Lazy => sqlite.connect_lazily(),
    };
    sqlite.map(Cache::builder)
}
