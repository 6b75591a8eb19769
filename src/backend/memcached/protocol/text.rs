//! The text protocol: its meta commands, and the one that says who asks.

use std::fmt::Write;

use bytes::{Buf, Bytes, BytesMut};

use super::{Command, Condition, LARGEST_VALUE, Malformed, Output, Reply, Status, Verb, taken};

/// No answer's first line is longer.
const LONGEST_LINE: usize = 4096;

pub(super) fn write(command: &Command, number: u32, output: &mut Output) {
    let name = match command.verb {
        Verb::Get | Verb::GetOrMake { .. } | Verb::Look => "mg",
        Verb::Set { .. } => "ms",
        Verb::Delete(_) => "md",
        Verb::Add { .. } => "ma",
    };
    let line = output.tail();
    line.extend_from_slice(name.as_bytes());
    line.extend_from_slice(b" ");
    let in_base64 = command.key.write_as_text(line);
    if let Verb::Set { value, .. } = &command.verb {
        put(line, format_args!(" {}", value.len()));
    }
    put(line, format_args!(" O{number}"));
    if in_base64 {
        line.extend_from_slice(b" b");
    }
    match &command.verb {
        Verb::Get => put(line, format_args!(" c t v")),
        Verb::GetOrMake { ttl, .. } => put(line, format_args!(" c t v N{ttl}")),
        Verb::Look => put(line, format_args!(" c t f s")),
        Verb::Set {
            condition,
            mark,
            ttl,
            ..
        } => {
            put(line, format_args!(" c T{ttl} F{mark}"));
            match condition {
                Condition::Always => {}
                Condition::Absent => put(line, format_args!(" ME")),
                Condition::Cas(cas) => put(line, format_args!(" C{cas}")),
            }
        }
        Verb::Delete(None) => {}
        Verb::Delete(Some(cas)) => put(line, format_args!(" C{cas}")),
        Verb::Add { delta, made_for } => {
            put(line, format_args!(" v D{delta}"));
            if let Some(seconds) = made_for {
                put(line, format_args!(" N{seconds} J{delta}"));
            }
        }
    }
    line.extend_from_slice(b"\r\n");
    if let Verb::Set { value, .. } = &command.verb {
        output.value(value);
        output.tail().extend_from_slice(b"\r\n");
        output.end_value();
    } else {
        output.end_line();
    }
}

fn put(line: &mut BytesMut, text: std::fmt::Arguments<'_>) {
    line.write_fmt(text)
        .expect("there is room in memory for a line");
}

/// What says who asks, which the server takes for a `set`.
pub(crate) fn authentication(user: &str, password: &str) -> Vec<u8> {
    let data = format!("{user} {password}");
    format!("set auth 0 0 {}\r\n{data}\r\n", data.len()).into_bytes()
}

/// Asks for the server's settings, and then whether it knows meta commands.
pub(crate) const HELLO: &[u8] = b"stats settings\r\nmn\r\n";

/// Takes the next answer out of `input`.
pub(crate) fn read(input: &mut BytesMut) -> Result<Option<Reply>, Malformed> {
    let searched = &input[..input.len().min(LONGEST_LINE)];
    let Some(end) = searched.iter().position(|byte| *byte == b'\n') else {
        return match input.len() < LONGEST_LINE {
            true => Ok(None),
            false => Err(Malformed),
        };
    };
    let line = input[..end].strip_suffix(b"\r").ok_or(Malformed)?;
    let (mut reply, len) = first_line(line)?;
    let Some(len) = len else {
        input.advance(end + 1);
        return Ok(Some(reply));
    };
    let whole = end + 1 + len + 2;
    if input.len() < whole {
        return Ok(None);
    }
    if input[whole - 2..whole] != *b"\r\n" {
        return Err(Malformed);
    }
    input.advance(end + 1);
    reply.size = len;
    reply.value = Some(taken(input, len));
    input.advance(2);
    Ok(Some(reply))
}

/// What a first line says, and how long the value is that follows it, if one does.
fn first_line(line: &[u8]) -> Result<(Reply, Option<usize>), Malformed> {
    let (name, rest) = match line.iter().position(|byte| *byte == b' ') {
        Some(at) => (&line[..at], &line[at + 1..]),
        None => (line, &[][..]),
    };
    let status = match name {
        b"HD" | b"VA" | b"MN" | b"STORED" | b"END" => Status::Done,
        b"EN" | b"NF" => Status::Absent,
        b"NS" | b"EX" => Status::Refused,
        b"ERROR" => Status::Unknown,
        b"CLIENT_ERROR" => return complaint(rest).map(|status| (Reply::new(status), None)),
        b"SERVER_ERROR" => return Ok((Reply::new(trouble(rest)), None)),
        b"STAT" => {
            let mut reply = Reply::new(Status::Line);
            reply.value = Some(Bytes::copy_from_slice(rest));
            return Ok((reply, None));
        }
        _ => return Err(Malformed),
    };
    let mut reply = Reply::new(status);
    let mut words = rest.split(|byte| *byte == b' ');
    let mut len = None;
    if name == b"VA" {
        let size = words.next().and_then(number).ok_or(Malformed)?;
        let size = usize::try_from(size).ok().filter(|it| *it <= LARGEST_VALUE);
        len = Some(size.ok_or(Malformed)?);
    }
    for word in words {
        let Some((flag, token)) = word.split_first() else {
            continue;
        };
        let value = || number(token).ok_or(Malformed);
        match flag {
            b'O' => reply.number = Some(u32::try_from(value()?).map_err(|_| Malformed)?),
            b'c' => reply.cas = value()?,
            b'f' => reply.mark = u32::try_from(value()?).map_err(|_| Malformed)?,
            b's' => reply.size = usize::try_from(value()?).map_err(|_| Malformed)?,
            b't' if token == b"-1" => reply.ttl = None,
            b't' => reply.ttl = Some(u32::try_from(value()?).map_err(|_| Malformed)?),
            // There are more flags than are asked for here, and there will be others.
            _ => {}
        }
    }
    Ok((reply, len))
}

/// What a server says was wrong with a command. After a command that it could not make out it may take a value for
/// further commands, so only what is known to leave both in step is an answer.
fn complaint(text: &[u8]) -> Result<Status, Malformed> {
    if text.starts_with(b"cannot increment or decrement") {
        return Ok(Status::NotANumber);
    }
    if text.starts_with(b"unauthenticated") || text.starts_with(b"authentication failure") {
        return Ok(Status::Unauthenticated);
    }
    Err(Malformed)
}

fn trouble(text: &[u8]) -> Status {
    if text.starts_with(b"object too large") {
        return Status::TooLarge;
    }
    match text.starts_with(b"out of memory") {
        true => Status::NoRoom,
        false => Status::Failed,
    }
}

/// Digits and nothing else.
pub(in super::super) fn number(text: &[u8]) -> Option<u64> {
    let digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    digits
        .then(|| std::str::from_utf8(text).ok()?.parse().ok())
        .flatten()
}

#[cfg(test)]
mod tests;
