//! What fuzz targets reach.

use bytes::BytesMut;

use super::{Dialect, Reply};
use crate::{Timestamp, backend::generation::Generation};

/// Whatever a server sends is an answer or ends the connection, in whatever pieces it arrives, and what it says is there
/// is a value or an error.
pub fn memcached_answers(bytes: &[u8]) {
    for dialect in [Dialect::Text, Dialect::Binary] {
        examine(dialect, bytes);
    }
}

fn examine(dialect: Dialect, bytes: &[u8]) {
    let whole = answers(dialect, &mut BytesMut::from(bytes));
    let mut input = BytesMut::new();
    let mut found = Vec::new();
    let mut is_broken = false;
    for byte in bytes {
        input.extend_from_slice(&[*byte]);
        let (more, broke) = answers(dialect, &mut input);
        found.extend(more);
        if broke {
            is_broken = true;
            break;
        }
    }
    assert_eq!((found.len(), is_broken), (whole.0.len(), whole.1));
    let generation = Generation::random();
    for (one, two) in found.into_iter().zip(whole.0) {
        assert_eq!(one.status, two.status);
        assert_eq!(one.value, two.value);
        assert_eq!((one.cas, one.ttl, one.mark), (two.cas, two.ttl, two.mark));
        assert_eq!((one.size, one.number), (two.size, two.number));
        super::super::stored::examine(one, generation, Timestamp::from_millis(1_800_000_000_000));
    }
}

/// The answers in `input`, and whether there is something else behind them.
fn answers(dialect: Dialect, input: &mut BytesMut) -> (Vec<Reply>, bool) {
    let mut found = Vec::new();
    loop {
        match dialect.read(input) {
            Ok(Some(reply)) => found.push(reply),
            Ok(None) => return (found, false),
            Err(_) => return (found, true),
        }
    }
}
