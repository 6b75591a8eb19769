//! The client of the SDK: where it finds the service, who it is, and how long it waits.

use std::{fs, path::Path, time::Duration};

use aws_config::{
    BehaviorVersion, Region, SdkConfig, environment::EnvironmentVariableRegionProvider,
    meta::region::RegionProviderChain,
};
use aws_sdk_dynamodb::{
    Client,
    config::{Credentials, SharedHttpClient, StalledStreamProtectionConfig, retry, timeout},
};
use aws_smithy_http_client::{
    Builder,
    tls::{Provider, TlsContext, TrustStore, rustls_provider::CryptoMode},
};
use rustls::pki_types::{CertificateDer, pem::PemObject};

use super::{builder::wrong, connection::Clients};
use crate::{Error, ErrorKind, Result};

/// Connections that lie idle are closed before a load balancer between does so.
const IDLE: Duration = Duration::from_secs(50);

/// Before a read is tried once more, at most.
const PAUSE: Duration = Duration::from_millis(20);

/// Where a service is that has no region, which requests are signed for all the same.
const ANY_REGION: &str = "us-east-1";

/// What is said of the service and of who asks it.
pub(super) struct Place<'a> {
    pub(super) region: Option<&'a str>,
    pub(super) endpoint: Option<&'a str>,
    pub(super) credentials: Option<Credentials>,
    pub(super) ca: Option<&'a Path>,
    pub(super) connect_timeout: Duration,
}

/// A client of the service there.
pub(super) async fn client(place: Place<'_>) -> Result<Client> {
    let http = http_client(place.ca)?;
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .http_client(http)
        .timeout_config(
            timeout::TimeoutConfig::builder()
                .connect_timeout(place.connect_timeout)
                .build(),
        );
    let named = place.region.map(|name| Region::new(name.to_owned()));
    if named.is_some() || place.endpoint.is_some() {
        // The machine's own metadata service, which the SDK would ask for a region, takes seconds where there is none.
        loader = loader.region(
            RegionProviderChain::first_try(named)
                .or_else(EnvironmentVariableRegionProvider::new())
                .or_else(Region::new(ANY_REGION)),
        );
    }
    if let Some(credentials) = place.credentials {
        loader = loader.credentials_provider(credentials);
    }
    if let Some(endpoint) = place.endpoint {
        loader = loader.endpoint_url(endpoint);
    }
    let loaded: SdkConfig = loader.load().await;
    if loaded.region().is_none() {
        return Err(wrong(
            "no region is known: set CACHE_DYNAMODB_REGION, AWS_REGION or CACHE_DYNAMODB_ENDPOINT",
        ));
    }
    Ok(Client::new(&loaded))
}

/// The same client for each of what it is used for, with times and retries that fit.
pub(super) fn clients(client: &Client, limit: Duration, connect: Duration) -> Clients {
    let with = |limit: Duration, retries: retry::RetryConfig| {
        let times = timeout::TimeoutConfig::builder()
            .connect_timeout(connect)
            .operation_timeout(limit)
            .build();
        let config = client.config().to_builder();
        let config = config
            .timeout_config(times)
            .retry_config(retries)
            // It is about bodies of minutes.
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
        Client::from_conf(config.build())
    };
    let once_more = retry::RetryConfig::standard()
        .with_max_attempts(2)
        .with_initial_backoff(PAUSE)
        .with_max_backoff(PAUSE);
    Clients {
        reading: with(limit, once_more.clone()),
        // Whether what failed was done is not known, and a counter would be counted twice.
        writing: with(limit, retry::RetryConfig::disabled()),
        asking: with(connect.max(limit), once_more),
    }
}

/// HTTP with TLS by rustls and ring, whatever the program uses otherwise.
fn http_client(ca: Option<&Path>) -> Result<SharedHttpClient> {
    let mut trust = TrustStore::default();
    if let Some(path) = ca {
        trust = TrustStore::empty().with_pem_certificate(certificates(path)?);
    }
    let context = TlsContext::builder().with_trust_store(trust).build();
    let context = context.map_err(|error| wrong("TLS cannot be set up").caused_by(error))?;
    Ok(Builder::new()
        .pool_idle_timeout(IDLE)
        .tls_provider(Provider::rustls(CryptoMode::Ring))
        .tls_context(context)
        .build_https())
}

/// The bytes of the file, in which there is a certificate: the SDK panics at one that it cannot read.
fn certificates(path: &Path) -> Result<Vec<u8>> {
    let unusable = || format!("CACHE_DYNAMODB_CA_FILE: {} cannot be used", path.display());
    let bytes = fs::read(path).map_err(|error| wrong(unusable()).caused_by(error))?;
    let found = CertificateDer::pem_slice_iter(&bytes).collect::<Result<Vec<_>, _>>();
    match found {
        Err(error) => Err(wrong(unusable()).caused_by(error)),
        Ok(found) if found.is_empty() => Err(wrong(format!(
            "CACHE_DYNAMODB_CA_FILE: {} has no certificate in PEM form",
            path.display()
        ))),
        Ok(found) => {
            let mut roots = rustls::RootCertStore::empty();
            for authority in found {
                roots.add(authority).map_err(|error| {
                    Error::new(ErrorKind::Settings, unusable()).caused_by(error)
                })?;
            }
            Ok(bytes)
        }
    }
}
