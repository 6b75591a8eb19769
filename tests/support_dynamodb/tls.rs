use std::{io, net::SocketAddr, sync::Arc};

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    },
};

use super::super::support_servers::Certificates;

/// TLS before a server that has none, by a certificate for `localhost`, on the port that this gives.
pub(crate) async fn tls_before(server: SocketAddr, certificates: &Certificates) -> u16 {
    Tls::before(server, certificates).await.port
}

/// TLS before a server that has none, by a certificate that may change.
pub(crate) struct Tls {
    pub(crate) port: u16,
    acceptor: watch::Sender<TlsAcceptor>,
}

impl Tls {
    pub(crate) async fn before(server: SocketAddr, certificates: &Certificates) -> Self {
        let acceptor = watch::Sender::new(acceptor(certificates));
        let current = acceptor.subscribe();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, server, current.clone()));
            }
        });
        Self { port, acceptor }
    }

    /// Shows what the certificates say now. Connections that there are end.
    pub(crate) fn show(&self, certificates: &Certificates) {
        self.acceptor.send_replace(acceptor(certificates));
    }
}

fn acceptor(certificates: &Certificates) -> TlsAcceptor {
    let chain = CertificateDer::pem_file_iter(certificates.server_certificate()).unwrap();
    let chain = chain.map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_file(certificates.server_key()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

async fn carry(
    client: TcpStream,
    server: SocketAddr,
    mut current: watch::Receiver<TlsAcceptor>,
) -> io::Result<()> {
    let acceptor = current.borrow_and_update().clone();
    let carried = async {
        let mut client = acceptor.accept(client).await?;
        let mut server = TcpStream::connect(server).await?;
        copy_bidirectional(&mut client, &mut server).await
    };
    tokio::select! {
        done = carried => done.map(drop),
        Ok(()) = current.changed() => Ok(()),
    }
}
