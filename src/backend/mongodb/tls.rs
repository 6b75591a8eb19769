//! Looking at the files for TLS before the client does, which passes over what it cannot read.

use std::path::Path;

use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

use crate::{Error, ErrorKind, Result};

const CA: &str = "CACHE_MONGODB_CA_FILE";
const CLIENT: &str = "CACHE_MONGODB_CLIENT_CERT_KEY_FILE";

pub(super) fn check_authorities(path: &Path) -> Result<()> {
    check_certificates(CA, path)
}

pub(super) fn check_certificate_with_key(path: &Path) -> Result<()> {
    check_certificates(CLIENT, path)?;
    let key = PrivateKeyDer::from_pem_file(path);
    key.map(drop).map_err(|error| unusable(CLIENT, path, error))
}

fn check_certificates(setting: &str, path: &Path) -> Result<()> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    let found: Vec<CertificateDer<'static>> =
        read.map_err(|error| unusable(setting, path, error))?;
    if found.is_empty() {
        let path = path.display();
        let message = format!("{setting}: {path} has no certificate in PEM form");
        return Err(Error::new(ErrorKind::Settings, message));
    }
    Ok(())
}

fn unusable(
    setting: &str,
    path: &Path,
    error: impl std::error::Error + Send + Sync + 'static,
) -> Error {
    let message = format!("{setting}: {} cannot be used", path.display());
    Error::new(ErrorKind::Settings, message).caused_by(error)
}
