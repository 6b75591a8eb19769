use crate::{Cache, CacheBuilder, ConnectMode, MongoDb, Result, Secret, Settings};

pub(super) async fn builder(settings: &Settings) -> Result<CacheBuilder> {
    let its = &settings.mongodb;
    let url = its.url.as_ref().map_or("", Secret::expose);
    let mut mongodb = MongoDb::builder(url)
        .collection(&its.collection)
        .connect_timeout(its.connect_timeout);
    if let Some(database) = &its.database {
        mongodb = mongodb.database(database);
    }
    if let Some(username) = &its.username {
        mongodb = mongodb.username(username);
    }
    if let Some(password) = &its.password {
        mongodb = mongodb.password(password.expose());
    }
    if let Some(path) = &its.ca_file {
        mongodb = mongodb.ca_file(path);
    }
    if let Some(path) = &its.client_cert_key_file {
        mongodb = mongodb.client_cert_key_file(path);
    }
    if let Some(connections) = its.pool_size {
        mongodb = mongodb.pool_size(connections);
    }
    let mongodb = match settings.connect {
        ConnectMode::Eager => mongodb.connect().await,
        ConnectMode::Lazy => mongodb.connect_lazily().await,
    };
    mongodb.map(Cache::builder)
}
