//! What TLS needs from files, read before anybody connects, so that a wrong one is an error that names it.

use std::fs;

use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

use crate::{Error, ErrorKind, Result};

/// Sees to it that rustls has its cryptography. A program that chose one keeps it; without any, connecting would panic.
pub(super) fn provide() {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // It fails where somebody else was quicker, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
}

/// Certificates as PEM, from PEM or from a file with it. `setting` names the variable for errors.
pub(super) fn certificates(pem_or_path: &str, setting: &'static str) -> Result<Vec<u8>> {
    let pem = read(pem_or_path, pem_or_path, setting)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(pem),
        _ => Err(wrong(format!("{setting} has no certificate in PEM"))),
    }
}

/// A private key as PEM, from PEM or from a file with it.
pub(super) fn private_key(pem_or_path: &str, setting: &'static str) -> Result<Vec<u8>> {
    // What the setting holds is not shown: it could be a key that lacks its first line.
    let pem = read(pem_or_path, "a file", setting)?;
    match PrivateKeyDer::from_pem_slice(&pem) {
        Ok(_) => Ok(pem),
        Err(_) => Err(wrong(format!(
            "{setting} has no private key in PEM, or one that needs a password"
        ))),
    }
}

fn read(pem_or_path: &str, shown: &str, setting: &'static str) -> Result<Vec<u8>> {
    if pem_or_path.contains("-----BEGIN ") {
        return Ok(pem_or_path.as_bytes().to_vec());
    }
    fs::read(pem_or_path).map_err(|error| {
        wrong(format!("{setting} names {shown}, which cannot be read")).caused_by(error)
    })
}

fn wrong(message: String) -> Error {
    Error::new(ErrorKind::Settings, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_is_taken_for_a_path_is_not_told() {
        let secret = "MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v";
        let error = private_key(secret, "CACHE_REDIS_CLIENT_KEY_FILE").unwrap_err();
        for text in [error.to_string(), format!("{error:?}")] {
            assert!(text.contains("CACHE_REDIS_CLIENT_KEY_FILE"), "{text}");
            assert!(!text.contains(secret), "{text}");
        }
    }
}
