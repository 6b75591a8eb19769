//! What TLS needs from files, read before anybody connects, so that a wrong one is an error that names it; and what is
//! wrong when TLS is refused.

use std::{error::Error as StdError, fs, io};

use rustls::{
    AlertDescription, CertificateError,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

use crate::{Error, ErrorKind, Result};

/// Certificates as PEM, from PEM or from a file with it. `setting` names the variable for errors.
pub(super) fn certificates(pem_or_path: &str, setting: &str) -> Result<Vec<u8>> {
    let pem = read(pem_or_path, pem_or_path, setting)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(pem),
        _ => Err(wrong(format!("{setting} has no certificate in PEM"))),
    }
}

/// A private key as PEM, from PEM or from a file with it.
pub(super) fn private_key(pem_or_path: &str, setting: &str) -> Result<Vec<u8>> {
    // What the setting holds is not shown: it could be a key that lacks its first line.
    let pem = read(pem_or_path, "a file", setting)?;
    match PrivateKeyDer::from_pem_slice(&pem) {
        Ok(_) => Ok(pem),
        Err(_) => Err(wrong(format!(
            "{setting} has no private key in PEM, or one that needs a password"
        ))),
    }
}

fn read(pem_or_path: &str, shown: &str, setting: &str) -> Result<Vec<u8>> {
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

/// The error of TLS within one of reading or writing, if it is one.
pub(super) fn within(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

/// Why TLS was not agreed on, by the prefix of the settings.
pub(super) fn refused(settings: &str, error: &(dyn StdError + 'static)) -> Error {
    use rustls::Error as Tls;
    let Some(error) = error.downcast_ref::<Tls>() else {
        // Before the handshake the client library has but one thing to say.
        let message = format!(
            "the server does not offer TLS, or its name is none that a certificate can be for: see {settings}_URL and \
             {settings}_TLS"
        );
        return Error::new(ErrorKind::Unavailable, message);
    };
    let message = match error {
        Tls::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature,
        ) => format!(
            "the server's certificate is of an authority that this machine does not know: name its certificate by \
             {settings}_CA_FILE"
        ),
        Tls::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => format!("the server's certificate is for another host than that of {settings}_URL"),
        Tls::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        ) => "the server's certificate has expired".to_owned(),
        Tls::InvalidCertificate(_) => "the server's certificate is not valid".to_owned(),
        Tls::AlertReceived(
            AlertDescription::CertificateRequired | AlertDescription::HandshakeFailure,
        ) => format!(
            "the server wants a certificate of the client: name one by {settings}_CLIENT_CERT_FILE and \
             {settings}_CLIENT_KEY_FILE"
        ),
        Tls::AlertReceived(
            AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::DecryptError,
        ) => format!("the server does not accept the certificate of {settings}_CLIENT_CERT_FILE"),
        _ => "TLS could not be agreed on with the server".to_owned(),
    };
    Error::new(ErrorKind::Unavailable, message).caused_by(error.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_is_taken_for_a_path_is_not_told() {
        let secret = "MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v";
        let error = private_key(secret, "CACHE_POSTGRES_CLIENT_KEY_FILE").unwrap_err();
        for text in [error.to_string(), format!("{error:?}")] {
            assert!(text.contains("CACHE_POSTGRES_CLIENT_KEY_FILE"), "{text}");
            assert!(!text.contains(secret), "{text}");
        }
    }
}
