//! TLS towards the servers, from files that are read before anybody connects, so that a wrong one is an error that names
//! it.

use std::{fs, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

use super::errors::settings;
use crate::{Error, Result};

const CA_FILE: &str = "CACHE_MEMCACHED_CA_FILE";
const CERT_FILE: &str = "CACHE_MEMCACHED_CLIENT_CERT_FILE";
const KEY_FILE: &str = "CACHE_MEMCACHED_CLIENT_KEY_FILE";

/// Trusts the authorities in `ca`, and shows a certificate where one is given with its key. Each is PEM, or the path of
/// a file with it.
pub(super) fn config(ca: &str, client: Option<(&str, &str)>) -> Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    for authority in certificates(ca, CA_FILE)? {
        roots
            .add(authority)
            .map_err(|error| unusable(CA_FILE, error))?;
    }
    // The provider is named, so that a program that installed none for all of its TLS does not panic.
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| settings("TLS cannot be set up").caused_by(error))?
        .with_root_certificates(roots);
    let config = match client {
        None => config.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = certificates(certificate, CERT_FILE)?;
            // What the setting holds is not shown: it could be a key that lacks its first line.
            let pem = read(key, "a file", KEY_FILE)?;
            let key = PrivateKeyDer::from_pem_slice(&pem).map_err(|_| {
                settings(format!(
                    "{KEY_FILE} has no private key in PEM, or one that needs a password"
                ))
            })?;
            config.with_client_auth_cert(chain, key).map_err(|error| {
                settings(format!(
                    "the certificate of {CERT_FILE} and the key of {KEY_FILE} do not belong together"
                ))
                .caused_by(error)
            })?
        }
    };
    Ok(Arc::new(config))
}

fn certificates(pem_or_path: &str, setting: &'static str) -> Result<Vec<CertificateDer<'static>>> {
    let pem = read(pem_or_path, pem_or_path, setting)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(settings(format!("{setting} has no certificate in PEM"))),
    }
}

fn read(pem_or_path: &str, shown: &str, setting: &'static str) -> Result<Vec<u8>> {
    if pem_or_path.contains("-----BEGIN ") {
        return Ok(pem_or_path.as_bytes().to_vec());
    }
    fs::read(pem_or_path).map_err(|error| {
        settings(format!("{setting} names {shown}, which cannot be read")).caused_by(error)
    })
}

fn unusable(setting: &'static str, error: rustls::Error) -> Error {
    settings(format!("{setting} has a certificate that cannot be used")).caused_by(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_is_taken_for_a_path_is_not_told() {
        let secret = "MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v";
        let error = read(secret, "a file", KEY_FILE).unwrap_err();
        for text in [error.to_string(), format!("{error:?}")] {
            assert!(text.contains(KEY_FILE), "{text}");
            assert!(!text.contains(secret), "{text}");
        }
    }
}
