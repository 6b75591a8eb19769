//! What is said to a server, and what it answers, whatever the dialect.

pub(crate) mod binary;
#[cfg(fuzzing)]
pub(crate) mod fuzzing;
pub(crate) mod text;

use bytes::{Buf, Bytes, BytesMut};

use super::item_key::ItemKey;

/// One thing to do to one item.
#[derive(Clone, Debug)]
pub(super) struct Command {
    pub(super) key: ItemKey,
    pub(super) verb: Verb,
}

#[derive(Clone, Debug)]
pub(super) enum Verb {
    /// Reads the item.
    Get,
    /// Reads the item, and makes an empty one with this TTL where there is none; it bears the mark where the dialect does
    /// not tell TTLs.
    GetOrMake { ttl: i32, mark: u32 },
    /// Reads what is known of the item beside its value, and the value too where the dialect knows no other way.
    Look,
    /// Puts an item.
    Set {
        condition: Condition,
        value: Bytes,
        mark: u32,
        ttl: i32,
    },
    /// Removes the item, if it is still this one.
    Delete(Option<u64>),
    /// Adds to the number that the item is; the sum wraps around. Where there is none, it becomes `delta` with this TTL,
    /// if one is given and the dialect tells TTLs; otherwise it stays absent.
    Add { delta: u64, made_for: Option<i32> },
}

/// When an item is put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    Always,
    /// Where there is none.
    Absent,
    /// Where it is still this one.
    Cas(u64),
}

impl Command {
    pub(super) fn new(key: &ItemKey, verb: Verb) -> Self {
        Self {
            key: key.clone(),
            verb,
        }
    }

    /// Whether it changes something.
    pub(super) fn writes(&self) -> bool {
        !matches!(self.verb, Verb::Get | Verb::Look)
    }
}

/// What became of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    /// It was done, or found.
    Done,
    /// There is no item.
    Absent,
    /// There is an item, and the condition does not hold.
    Refused,
    /// The item is no number.
    NotANumber,
    /// The value is over the server's limit.
    TooLarge,
    /// The server has no memory left for it.
    NoRoom,
    /// The server wants to know who asks.
    Unauthenticated,
    /// The server does not know the command.
    Unknown,
    /// The server could not do it.
    Failed,
    /// A line of several, with a name and what is said of it in [`Reply::value`].
    Line,
}

/// An answer to one command.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(super) status: Status,
    /// The value of an item, or its new number.
    pub(super) value: Option<Bytes>,
    /// What tells this state of the item from every other; 0 where it was not said.
    pub(super) cas: u64,
    /// The seconds that the item has left; `None` where it has no end, or the dialect does not tell.
    pub(super) ttl: Option<u32>,
    /// The number that was put with the item.
    pub(super) mark: u32,
    /// The length of the value.
    pub(super) size: usize,
    /// The number of the command that this is the answer to, where the server said it.
    pub(super) number: Option<u32>,
}

impl Reply {
    pub(super) fn new(status: Status) -> Self {
        Self {
            status,
            value: None,
            cas: 0,
            ttl: None,
            mark: 0,
            size: 0,
            number: None,
        }
    }
}

/// What was read is no answer of a server, and where the next one begins is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// How a server is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// The meta commands of the text protocol.
    Text,
    /// The binary protocol. It tells no TTLs, and knows of no item without reading its value.
    Binary,
}

impl Dialect {
    /// Writes a command, whose answer will bear this number.
    pub(super) fn write(self, command: &Command, number: u32, output: &mut Output) {
        match self {
            Self::Text => text::write(command, number, output),
            Self::Binary => binary::write(command, number, output),
        }
    }

    /// Takes the next answer out of `input`; `None` where it has not come as a whole.
    pub(super) fn read(self, input: &mut BytesMut) -> Result<Option<Reply>, Malformed> {
        match self {
            Self::Text => text::read(input),
            Self::Binary => binary::read(input),
        }
    }
}

/// The largest value that a server can be told to keep, by its own rules.
const LARGEST_VALUE: usize = 1 << 30;

/// Values that are shorter are copied out of the buffer that they were read into, which they would keep as a whole.
const COPIED: usize = 4096;

/// Takes a value of this length out of what was read.
fn taken(input: &mut BytesMut, len: usize) -> Bytes {
    if len < COPIED {
        let value = Bytes::copy_from_slice(&input[..len]);
        input.advance(len);
        return value;
    }
    input.split_to(len).freeze()
}

/// Values from this length on are sent from where they are.
const LARGE: usize = 4096;

/// Bytes to be sent, in pieces.
#[derive(Debug)]
pub(super) struct Output {
    pieces: Vec<Bytes>,
    tail: BytesMut,
    by_records: bool,
}

impl Output {
    /// `by_records` where each piece is to be a TLS record of its own, or several.
    ///
    /// A server that has read a value from the network waits for more to come, and does not see what it has decrypted
    /// already (memcached 1.6.18). So nothing may follow a value in its last record.
    pub(super) fn new(by_records: bool) -> Self {
        Self {
            pieces: Vec::new(),
            tail: BytesMut::new(),
            by_records,
        }
    }

    /// Ends a value.
    fn end_value(&mut self) {
        if self.by_records && !self.tail.is_empty() {
            self.pieces.push(self.tail.split().freeze());
        }
    }

    /// Ends a command that has no value. A record has to fit into what a server reads at once, with what is left there of
    /// the one before.
    fn end_line(&mut self) {
        if self.by_records && self.tail.len() > LARGE {
            self.pieces.push(self.tail.split().freeze());
        }
    }

    /// Where short things are written.
    pub(super) fn tail(&mut self) -> &mut BytesMut {
        &mut self.tail
    }

    pub(super) fn value(&mut self, value: &Bytes) {
        if value.len() < LARGE {
            self.tail.extend_from_slice(value);
        } else {
            let before = self.tail.split().freeze();
            self.pieces.extend([before, value.clone()]);
        }
    }

    pub(super) fn into_pieces(mut self) -> Vec<Bytes> {
        if !self.tail.is_empty() {
            self.pieces.push(self.tail.freeze());
        }
        self.pieces
    }
}
