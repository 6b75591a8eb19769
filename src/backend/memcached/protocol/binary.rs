//! The binary protocol, for servers that speak no other: those with SASL (`-S`).
//!
//! Every message is a header of 24 bytes and a body of extras, key and value, whose lengths are in the header. An answer
//! bears the number that its command had, so each is held against the command that it is for.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::{Command, Condition, LARGEST_VALUE, Malformed, Output, Reply, Status, Verb, taken};

/// The first byte of what a client says, and of what a server does.
const REQUEST: u8 = 0x80;
const RESPONSE: u8 = 0x81;

const GET: u8 = 0x00;
const SET: u8 = 0x01;
const ADD: u8 = 0x02;
const DELETE: u8 = 0x04;
const INCREMENT: u8 = 0x05;
const NOOP: u8 = 0x0a;
const STAT: u8 = 0x10;
/// Is answered only where it was not done.
const ADD_QUIETLY: u8 = 0x12;
const LIST_MECHANISMS: u8 = 0x20;
const AUTHENTICATE: u8 = 0x21;

/// The mechanism by which a user and a password are sent as they are (RFC 4616).
pub(crate) const PLAIN: &[u8] = b"PLAIN";

const HEADER_LEN: usize = 24;

/// A server takes everything above thirty days for a point in time, and this one is in 1970. Nothing below zero is: there
/// is no sign, and it would be a time that never comes.
const ENDED: u32 = 30 * 24 * 60 * 60 + 1;

/// As the time for which a counter is made: it is not made.
const NOT_MADE: u32 = u32::MAX;

/// What a message says beside its value.
struct Message<'a> {
    opcode: u8,
    cas: u64,
    extras: &'a [u8],
    key: &'a [u8],
}

impl<'a> Message<'a> {
    fn new(opcode: u8, key: &'a [u8]) -> Self {
        Self {
            opcode,
            cas: 0,
            extras: &[],
            key,
        }
    }

    /// Writes everything but the value, which is of this length and comes next.
    fn write(&self, number: u32, value_len: usize, into: &mut BytesMut) {
        let body = self.extras.len() + self.key.len() + value_len;
        into.put_slice(&[REQUEST, self.opcode]);
        into.put_u16(u16::try_from(self.key.len()).expect("keys have at most 250 bytes"));
        into.put_u8(u8::try_from(self.extras.len()).expect("extras are a few numbers"));
        into.put_bytes(0, 3);
        into.put_u32(u32::try_from(body).expect("longer values were refused"));
        into.put_u32(number);
        into.put_u64(self.cas);
        into.put_slice(self.extras);
        into.put_slice(self.key);
    }
}

pub(super) fn write(command: &Command, number: u32, output: &mut Output) {
    let key = command.key.as_bytes();
    match &command.verb {
        Verb::Get | Verb::Look => Message::new(GET, key).write(number, 0, output.tail()),
        Verb::GetOrMake { ttl, mark } => {
            // Whether it was made or had been there: the answer that counts is that of looking.
            let extras = item_extras(*mark, *ttl);
            let make = Message {
                extras: &extras,
                ..Message::new(ADD_QUIETLY, key)
            };
            make.write(number, 0, output.tail());
            Message::new(GET, key).write(number, 0, output.tail());
        }
        Verb::Set {
            condition,
            value,
            mark,
            ttl,
        } => {
            let extras = item_extras(*mark, *ttl);
            let (opcode, cas) = match condition {
                Condition::Always => (SET, 0),
                Condition::Absent => (ADD, 0),
                Condition::Cas(cas) => (SET, *cas),
            };
            let set = Message {
                opcode,
                cas,
                extras: &extras,
                key,
            };
            set.write(number, value.len(), output.tail());
            output.value(value);
            return output.end_value();
        }
        Verb::Delete(cas) => {
            let delete = Message {
                cas: cas.unwrap_or_default(),
                ..Message::new(DELETE, key)
            };
            delete.write(number, 0, output.tail());
        }
        Verb::Add { delta, .. } => {
            // One that the server makes would bear no mark, and nothing else tells when it ends.
            let mut extras = [0; 20];
            extras[..8].copy_from_slice(&delta.to_be_bytes());
            extras[16..].copy_from_slice(&NOT_MADE.to_be_bytes());
            let add = Message {
                extras: &extras,
                ..Message::new(INCREMENT, key)
            };
            add.write(number, 0, output.tail());
        }
    }
    output.end_line();
}

/// What is said of an item that is put.
fn item_extras(mark: u32, ttl: i32) -> [u8; 8] {
    let ttl = u32::try_from(ttl).unwrap_or(ENDED);
    let extras = u64::from(mark) << 32 | u64::from(ttl);
    extras.to_be_bytes()
}

/// Asks by which mechanisms the server wants to be told who asks, and says it by the plainest one.
pub(crate) fn authentication(user: &str, password: &str) -> Vec<u8> {
    let mut said = BytesMut::new();
    Message::new(LIST_MECHANISMS, &[]).write(0, 0, &mut said);
    let identity = format!("\0{user}\0{password}");
    Message::new(AUTHENTICATE, PLAIN).write(0, identity.len(), &mut said);
    said.put_slice(identity.as_bytes());
    said.into()
}

/// Asks for the server's settings, and then for a sign of life.
pub(crate) fn hello() -> Vec<u8> {
    let mut said = BytesMut::new();
    Message::new(STAT, b"settings").write(0, 0, &mut said);
    Message::new(NOOP, &[]).write(0, 0, &mut said);
    said.into()
}

/// What the header of an answer says.
struct Header {
    opcode: u8,
    status: u16,
    number: u32,
    cas: u64,
    extras: usize,
    key: usize,
    body: usize,
}

impl Header {
    /// `None` where it has not come as a whole.
    fn read(input: &[u8]) -> Result<Option<Self>, Malformed> {
        // What is no server of this protocol is not waited for.
        if input.first().is_some_and(|first| *first != RESPONSE) {
            return Err(Malformed);
        }
        let Some(mut rest) = input.get(1..HEADER_LEN) else {
            return Ok(None);
        };
        let opcode = rest.get_u8();
        let (key, extras, _) = (rest.get_u16(), rest.get_u8(), rest.get_u8());
        let (status, body) = (rest.get_u16(), rest.get_u32());
        let header = Self {
            opcode,
            status,
            number: rest.get_u32(),
            cas: rest.get_u64(),
            extras: extras.into(),
            key: key.into(),
            body: usize::try_from(body).map_err(|_| Malformed)?,
        };
        let longest = header.extras + header.key + LARGEST_VALUE;
        match (header.extras + header.key..=longest).contains(&header.body) {
            true => Ok(Some(header)),
            false => Err(Malformed),
        }
    }
}

/// Takes the next answer out of `input`.
pub(crate) fn read(input: &mut BytesMut) -> Result<Option<Reply>, Malformed> {
    loop {
        let Some(header) = Header::read(input)? else {
            return Ok(None);
        };
        if input.len() < HEADER_LEN + header.body {
            return Ok(None);
        }
        input.advance(HEADER_LEN);
        match header.opcode {
            ADD_QUIETLY => input.advance(header.body),
            _ => return answer(&header, input).map(Some),
        }
    }
}

/// The answer whose body is the next in `input`.
fn answer(header: &Header, input: &mut BytesMut) -> Result<Reply, Malformed> {
    let mut reply = Reply::new(status(header.status));
    reply.number = Some(header.number);
    reply.cas = header.cas;
    let value_len = header.body - header.extras - header.key;
    if reply.status != Status::Done {
        // The server's own words.
        input.advance(header.body);
        return Ok(reply);
    }
    match header.opcode {
        GET if (header.extras, header.key) == (4, 0) => {
            reply.mark = input.get_u32();
            reply.size = value_len;
            reply.value = Some(taken(input, value_len));
        }
        INCREMENT if header.body == 8 => {
            reply.value = Some(input.get_u64().to_string().into());
        }
        // They end with one that has no name.
        STAT if header.extras == 0 => {
            let name = input.split_to(header.key);
            let value = input.split_to(value_len);
            if !name.is_empty() {
                reply.status = Status::Line;
                reply.value = Some(Bytes::from([&name, &b" "[..], &value].concat()));
            }
        }
        LIST_MECHANISMS if header.body == value_len => reply.value = Some(taken(input, value_len)),
        GET | INCREMENT | STAT | LIST_MECHANISMS => return Err(Malformed),
        _ => input.advance(header.body),
    }
    Ok(reply)
}

fn status(code: u16) -> Status {
    match code {
        0x00 => Status::Done,
        0x01 => Status::Absent,
        // There is one already, there is another one, or it is not there to be replaced.
        0x02 | 0x05 => Status::Refused,
        0x03 => Status::TooLarge,
        0x06 => Status::NotANumber,
        // No more than the plainest mechanism is ever begun, so there is nothing to go on with (0x21).
        0x20 | 0x21 => Status::Unauthenticated,
        0x81 => Status::Unknown,
        0x82 => Status::NoRoom,
        _ => Status::Failed,
    }
}

#[cfg(test)]
mod tests;
