use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream, ToSocketAddrs},
    sync::{mpsc, oneshot, watch},
    task::{JoinHandle, JoinSet},
    time::timeout,
};

use super::process::free_port;

/// What becomes of the connections through a [`Proxy`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Link {
    /// Everything goes through.
    Pass,
    /// Every chunk arrives so much later, in both directions.
    Delay(Duration),
    /// Connections open, and nothing comes through until this ends.
    Stall,
    /// A connection ends after so many more bytes of answers.
    CutAfter(usize),
    /// Connections are reset, and new ones as soon as they open.
    Reset,
    /// Connections end, and nobody listens any more.
    Refuse,
}

/// Stands between a client and a server, and disturbs them as it is told.
#[derive(Debug)]
pub(crate) struct Proxy {
    address: SocketAddr,
    orders: mpsc::UnboundedSender<(Link, oneshot::Sender<()>)>,
    worker: JoinHandle<()>,
}

impl Proxy {
    /// Passes everything on to this server, from a free port.
    pub(crate) async fn to(server: impl ToSocketAddrs) -> Self {
        let mut servers = tokio::net::lookup_host(server).await.unwrap();
        let server = servers.next().expect("the name has an address");
        let (address, listener) = loop {
            let address = (Ipv4Addr::LOCALHOST, free_port()).into();
            if let Ok(listener) = listen(address) {
                break (address, listener);
            }
        };
        let (orders, incoming) = mpsc::unbounded_channel();
        let worker = tokio::spawn(serve(address, listener, server, incoming));
        Self {
            address,
            orders,
            worker,
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// From when this returns it is so, for the connections there are and for new ones.
    pub(crate) async fn set(&self, link: Link) {
        let (done, is_done) = oneshot::channel();
        self.orders.send((link, done)).unwrap();
        is_done.await.expect("the proxy runs as long as this does");
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.worker.abort();
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    // The connections of before linger on the port.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(1024)
}

async fn serve(
    address: SocketAddr,
    listener: TcpListener,
    server: SocketAddr,
    mut orders: mpsc::UnboundedReceiver<(Link, oneshot::Sender<()>)>,
) {
    let mut listener = Some(listener);
    let mut connections = JoinSet::new();
    let state = watch::Sender::new(Link::Pass);
    loop {
        let accepted = async {
            match &listener {
                Some(listener) => listener.accept().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Ok((client, _)) = accepted => {
                connections.spawn(carry(client, server, state.subscribe()));
            }
            Some(_) = connections.join_next() => {}
            Some((link, done)) = orders.recv() => {
                state.send_replace(link);
                match link {
                    Link::Refuse => {
                        listener = None;
                        connections.shutdown().await;
                    }
                    Link::Reset => while connections.join_next().await.is_some() {},
                    _ => {}
                }
                if link != Link::Refuse && listener.is_none() {
                    listener = Some(listen(address).expect("the port was ours a moment ago"));
                }
                let _ = done.send(());
            }
        }
    }
}

/// One connection, to its end.
async fn carry(mut client: TcpStream, server: SocketAddr, link: watch::Receiver<Link>) {
    let both_ways = async {
        let mut server = TcpStream::connect(server).await?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        tokio::try_join!(
            pump(from_client, to_server, Direction::Request, link.clone()),
            pump(from_server, to_client, Direction::Answer, link.clone()),
        )
    };
    let mut watched = link.clone();
    tokio::select! {
        biased;
        _ = watched.wait_for(|link| *link == Link::Reset) => {}
        _ = both_ways => {}
    }
    if *link.borrow() == Link::Reset {
        drop(client.set_zero_linger());
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Request,
    Answer,
}

/// One direction of a connection, to its end.
async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    direction: Direction,
    mut link: watch::Receiver<Link>,
) -> io::Result<()> {
    let mut chunk = vec![0; 16 * 1024];
    // Since the link became what it is.
    let mut passed = 0;
    loop {
        let len = from.read(&mut chunk).await?;
        loop {
            let (now, changed) = {
                let now = link.borrow_and_update();
                (*now, now.has_changed())
            };
            if changed {
                passed = 0;
            }
            match now {
                Link::Pass => break,
                Link::Delay(by) if timeout(by, link.changed()).await.is_err() => break,
                Link::CutAfter(most) if direction == Direction::Answer && passed + len > most => {
                    to.write_all(&chunk[..most - passed]).await?;
                    return Err(io::ErrorKind::ConnectionAborted.into());
                }
                Link::CutAfter(_) => break,
                // It changed meanwhile.
                Link::Delay(_) => passed = 0,
                Link::Stall | Link::Reset | Link::Refuse => {
                    drop(link.changed().await);
                    passed = 0;
                }
            }
        }
        if len == 0 {
            return to.shutdown().await;
        }
        to.write_all(&chunk[..len]).await?;
        passed += len;
    }
}
