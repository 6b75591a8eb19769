use std::{
    fs,
    path::{Path, PathBuf},
};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

/// An authority made for one server, and what it signed: pairs for the server, for one of another name, and for a client.
/// All PEM files.
#[derive(Clone, Debug)]
pub(crate) struct Certificates {
    folder: PathBuf,
}

impl Certificates {
    /// Makes them, and writes them to this folder.
    pub(crate) fn write(folder: &Path) -> Self {
        let mut authority = named("larder test authority", &[]);
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        let certificate = authority.self_signed(&key).unwrap();
        fs::write(folder.join("ca.crt"), certificate.pem()).unwrap();

        let issuer = Issuer::new(authority, key);
        let pair = |name: &str, mut leaf: CertificateParams, purpose| {
            leaf.is_ca = IsCa::ExplicitNoCa;
            leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
            leaf.extended_key_usages = vec![purpose];
            let key = KeyPair::generate().unwrap();
            let certificate = leaf.signed_by(&key, &issuer).unwrap();
            fs::write(folder.join(format!("{name}.crt")), certificate.pem()).unwrap();
            fs::write(folder.join(format!("{name}.key")), key.serialize_pem()).unwrap();
        };
        let server = named("localhost", &["localhost", "127.0.0.1"]);
        pair("server", server, ExtendedKeyUsagePurpose::ServerAuth);
        let other = named("other.example", &["other.example"]);
        pair("other", other, ExtendedKeyUsagePurpose::ServerAuth);
        let client = named("larder test client", &[]);
        pair("client", client, ExtendedKeyUsagePurpose::ClientAuth);
        Self {
            folder: folder.to_owned(),
        }
    }

    /// Has the server show the certificate of another host, or its own again, from its next start on.
    pub(crate) fn show_another(&self, another: bool) {
        let name = if another { "other" } else { "own" };
        for end in ["crt", "key"] {
            let shown = self.folder.join(format!("server.{end}"));
            let own = self.folder.join(format!("own.{end}"));
            if !own.exists() {
                fs::copy(&shown, &own).unwrap();
            }
            fs::copy(self.folder.join(format!("{name}.{end}")), shown).unwrap();
        }
    }

    /// The authority, which a client trusts.
    pub(crate) fn ca(&self) -> PathBuf {
        self.folder.join("ca.crt")
    }

    pub(crate) fn server_certificate(&self) -> PathBuf {
        self.folder.join("server.crt")
    }

    pub(crate) fn server_key(&self) -> PathBuf {
        self.folder.join("server.key")
    }

    pub(crate) fn client_certificate(&self) -> PathBuf {
        self.folder.join("client.crt")
    }

    pub(crate) fn client_key(&self) -> PathBuf {
        self.folder.join("client.key")
    }
}

fn named(name: &str, hosts: &[&str]) -> CertificateParams {
    let hosts: Vec<_> = hosts.iter().map(ToString::to_string).collect();
    let mut params = CertificateParams::new(hosts).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}
