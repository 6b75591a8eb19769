//! memcached: its meta protocol over plain connections, each for one call at a time.

use std::{cell::RefCell, net::SocketAddr, rc::Rc, sync::Arc};

use bytes::Bytes;
use larder::Memcached as Larder;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{
    simplest::{Simplest, side_by_side},
    support_servers::Memcached,
};

pub(crate) async fn run() {
    let Some(server) = Memcached::start() else {
        return;
    };
    let raw = Plain {
        address: server.address(),
        idle: Rc::default(),
    };
    let connected = Larder::builder(server.server()).connect().await;
    side_by_side("memcached", raw, Arc::new(connected.expect("it runs"))).await;
}

#[derive(Clone)]
struct Plain {
    address: SocketAddr,
    idle: Rc<RefCell<Vec<TcpStream>>>,
}

impl Plain {
    /// What the server answers, to its last byte: that which `end` finds.
    async fn ask(&self, request: &[u8], end: impl Fn(&[u8]) -> bool) -> Vec<u8> {
        let idle = self.idle.borrow_mut().pop();
        let mut stream = match idle {
            Some(stream) => stream,
            None => {
                let stream = TcpStream::connect(self.address).await.expect("it runs");
                stream.set_nodelay(true).expect("it is a connection");
                stream
            }
        };
        stream.write_all(request).await.expect("it runs");
        let mut answer = Vec::with_capacity(2_048);
        while !end(&answer) {
            let len = stream.read_buf(&mut answer).await.expect("it runs");
            assert!(len > 0, "it runs");
        }
        self.idle.borrow_mut().push(stream);
        answer
    }
}

impl Simplest for Plain {
    const NAME: &'static str = "meta protocol";

    async fn get(&self, name: String) -> usize {
        // `VA <length>\r\n<value>\r\n`
        let whole = |answer: &[u8]| {
            let head = answer.windows(2).position(|end| end == b"\r\n")?;
            let len = std::str::from_utf8(&answer[3..head]).ok()?.trim();
            let len: usize = len.parse().ok()?;
            (answer.len() >= head + len + 4).then_some(len)
        };
        let request = format!("mg {name} v\r\n");
        let answer = self.ask(request.as_bytes(), |it| whole(it).is_some()).await;
        whole(&answer).expect("it has an end")
    }

    async fn put(&self, name: String, value: Bytes) {
        let mut request = format!("ms {name} {} T3600\r\n", value.len()).into_bytes();
        request.extend_from_slice(&value);
        request.extend_from_slice(b"\r\n");
        let answer = self.ask(&request, |it| it.ends_with(b"\r\n")).await;
        assert_eq!(answer, b"HD\r\n");
    }

    async fn get_many(&self, names: Vec<String>) -> usize {
        let mut request: String = names
            .iter()
            .map(|name| format!("mg {name} v q\r\n"))
            .collect();
        request += "mn\r\n";
        let answer = self.ask(request.as_bytes(), |it| it.ends_with(b"MN\r\n"));
        let answer = answer.await;
        answer.windows(3).filter(|head| head == b"VA ").count()
    }
}
