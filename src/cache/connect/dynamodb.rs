use crate::{Cache, CacheBuilder, ConnectMode, DynamoDb, Result, Settings};

pub(super) async fn builder(settings: &Settings) -> Result<CacheBuilder> {
    let its = &settings.dynamodb;
    let mut dynamodb = DynamoDb::builder(&its.table)
        .create(its.create)
        .timeout(its.timeout)
        .connect_timeout(its.connect_timeout)
        .max_conns(its.max_conns);
    if let Some(region) = &its.region {
        dynamodb = dynamodb.region(region);
    }
    if let Some(endpoint) = &its.endpoint {
        dynamodb = dynamodb.endpoint(endpoint);
    }
    if let (Some(id), Some(secret)) = (&its.access_key_id, &its.secret_access_key) {
        dynamodb = dynamodb.credentials(id, secret.expose());
    }
    if let Some(token) = &its.session_token {
        dynamodb = dynamodb.session_token(token.expose());
    }
    if let Some(path) = &its.ca_file {
        dynamodb = dynamodb.ca_file(path);
    }
    let dynamodb = match settings.connect {
        ConnectMode::Eager => dynamodb.connect().await,
        ConnectMode::Lazy => dynamodb.connect_lazily().await,
    };
    dynamodb.map(Cache::builder)
}
