//! TLS towards the cluster.

use std::{path::Path, sync::Arc};

use aerospike::TlsPolicy;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

use crate::{Error, ErrorKind, Result};

/// Trusts the authorities in `ca`, and shows a certificate of its own where one is given with its key.
pub(super) fn policy(ca: &Path, certificate: Option<(&Path, &Path)>) -> Result<TlsPolicy> {
    let mut roots = RootCertStore::empty();
    for authority in certificates("CACHE_AEROSPIKE_CA_FILE", ca)? {
        roots
            .add(authority)
            .map_err(|error| unusable("CACHE_AEROSPIKE_CA_FILE", ca, error))?;
    }
    // The provider is named, so that a program that installed none for all of its TLS does not panic.
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::new(ErrorKind::Settings, "TLS cannot be set up").caused_by(error))?
        .with_root_certificates(roots);
    let config = match certificate {
        None => config.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = certificates("CACHE_AEROSPIKE_CLIENT_CERT_FILE", certificate)?;
            let secret = PrivateKeyDer::from_pem_file(key)
                .map_err(|error| unusable("CACHE_AEROSPIKE_CLIENT_KEY_FILE", key, error))?;
            config
                .with_client_auth_cert(chain, secret)
                .map_err(|error| unusable("CACHE_AEROSPIKE_CLIENT_CERT_FILE", certificate, error))?
        }
    };
    Ok(TlsPolicy::new(config))
}

fn certificates(setting: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    let found: Vec<_> = read.map_err(|error| unusable(setting, path, error))?;
    if found.is_empty() {
        let message = format!(
            "{setting}: {} has no certificate in PEM form",
            path.display()
        );
        return Err(Error::new(ErrorKind::Settings, message));
    }
    Ok(found)
}

fn unusable(
    setting: &str,
    path: &Path,
    error: impl std::error::Error + Send + Sync + 'static,
) -> Error {
    let message = format!("{setting}: {} cannot be used", path.display());
    Error::new(ErrorKind::Settings, message).caused_by(error)
}
