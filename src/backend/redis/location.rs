//! Where an entry is on the server, and the commands that differ by that.

use redis::{Cmd, Pipeline, Value};

/// Where an entry is on the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Location {
    /// Under a key of its own.
    Key(Vec<u8>),
    /// In a field of the hash that its bucket is.
    Field { hash: Vec<u8>, field: Vec<u8> },
}

impl Location {
    /// The key of the server, which others may share.
    pub(super) fn key(&self) -> &[u8] {
        match self {
            Self::Key(key) | Self::Field { hash: key, .. } => key,
        }
    }

    /// The field, which comes last among the arguments of a script.
    pub(super) fn field(&self) -> Option<&[u8]> {
        match self {
            Self::Key(_) => None,
            Self::Field { field, .. } => Some(field),
        }
    }

    pub(super) fn get(&self) -> Cmd {
        self.command("GET", "HGET")
    }

    pub(super) fn remove(&self) -> Cmd {
        self.command("UNLINK", "HDEL")
    }

    /// Puts bytes that live for so many milliseconds, or for ever.
    pub(super) fn set(&self, bytes: &[u8], ttl: Option<u64>, if_absent: bool) -> Cmd {
        let len = self.key().len() + self.field().map_or(0, <[u8]>::len) + bytes.len();
        // The rest is short.
        let mut command = Cmd::with_capacity(9, len + 48);
        match self {
            Self::Key(key) => command.arg("SET").arg(key).arg(bytes),
            Self::Field { hash, .. } => command.arg("HSETEX").arg(hash),
        };
        if let (Self::Field { .. }, true) = (self, if_absent) {
            command.arg("FNX");
        }
        if let Some(ttl) = ttl {
            command.arg("PX").arg(ttl);
        }
        match self {
            Self::Key(_) if if_absent => command.arg("NX"),
            Self::Key(_) => &mut command,
            Self::Field { field, .. } => command.arg("FIELDS").arg(1).arg(field).arg(bytes),
        };
        command
    }

    pub(super) fn add(&self, delta: i64) -> Cmd {
        let mut command = self.command("INCRBY", "HINCRBY");
        command.arg(delta);
        command
    }

    /// Asks for the time that is left, in milliseconds.
    pub(super) fn ttl(&self) -> Cmd {
        match self {
            Self::Key(_) => self.command("PTTL", ""),
            Self::Field { hash, field } => {
                let mut command = redis::cmd("HPTTL");
                command.arg(hash).arg("FIELDS").arg(1).arg(field);
                command
            }
        }
    }

    fn command(&self, of_key: &str, of_field: &str) -> Cmd {
        let mut command = redis::cmd(match self {
            Self::Key(_) => of_key,
            Self::Field { .. } => of_field,
        });
        command.arg(self.key());
        self.field().map(|field| command.arg(field));
        command
    }

    /// Whether one command can ask for both.
    fn is_beside(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Key(_), Self::Key(_)) => true,
            (Self::Field { hash, .. }, Self::Field { hash: other, .. }) => hash == other,
            _ => false,
        }
    }
}

/// Asks for the values of several, by one command for those that are next to each other, and no more than `most`.
pub(super) struct Reading {
    pub(super) pipeline: Pipeline,
    counts: Vec<usize>,
}

impl Reading {
    pub(super) fn new(locations: &[Location], most: usize) -> Self {
        let mut reading = Self {
            pipeline: Pipeline::new(),
            counts: Vec::new(),
        };
        let mut rest = locations;
        while let Some(first) = rest.first() {
            let run = rest.iter().take(most);
            let run = run.take_while(|other| first.is_beside(other)).count();
            let (run, later) = rest.split_at(run);
            let len = run.iter().map(|it| it.field().unwrap_or(it.key()).len());
            let len = len.sum::<usize>() + first.key().len() + "HMGET".len();
            let mut command = Cmd::with_capacity(run.len() + 2, len);
            match first {
                Location::Key(_) => command.arg("MGET"),
                Location::Field { hash, .. } => command.arg("HMGET").arg(hash),
            };
            run.iter().for_each(|location| {
                command.arg(location.field().unwrap_or(location.key()));
            });
            reading.pipeline.add_command(command);
            reading.counts.push(run.len());
            rest = later;
        }
        reading
    }

    /// The values, in the order of the locations: where a command was refused, that is what each of its own has.
    pub(super) fn values(self, answers: Vec<Value>) -> Vec<Value> {
        let mut values = Vec::with_capacity(self.counts.iter().sum());
        for (answer, count) in answers.into_iter().zip(self.counts) {
            match answer {
                Value::Array(found) => values.extend(found),
                other => values.extend(std::iter::repeat_n(other, count)),
            }
        }
        values
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Location {
        Location::Key(name.into())
    }

    fn field(hash: &str, field: &str) -> Location {
        Location::Field {
            hash: hash.into(),
            field: field.into(),
        }
    }

    fn text(command: &Cmd) -> String {
        let parts = command.args_iter().map(|part| match part {
            redis::Arg::Simple(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            _ => String::from("?"),
        });
        parts.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_field_has_commands_of_its_own() {
        let (key, field) = (key("k"), field("h", "f"));
        let both = |command: &dyn Fn(&Location) -> Cmd| [&key, &field].map(|it| text(&command(it)));
        assert_eq!(both(&Location::get), ["GET k", "HGET h f"]);
        assert_eq!(both(&Location::remove), ["UNLINK k", "HDEL h f"]);
        assert_eq!(both(&Location::ttl), ["PTTL k", "HPTTL h FIELDS 1 f"]);
        assert_eq!(both(&|it| it.add(-7)), ["INCRBY k -7", "HINCRBY h f -7"]);
        assert_eq!(
            both(&|it| it.set(b"v", None, false)),
            ["SET k v", "HSETEX h FIELDS 1 f v"]
        );
        assert_eq!(
            both(&|it| it.set(b"v", Some(9), true)),
            ["SET k v PX 9 NX", "HSETEX h FNX PX 9 FIELDS 1 f v"]
        );
    }

    #[test]
    fn what_is_next_to_each_other_is_asked_for_together() {
        let locations = [
            key("a"),
            key("b"),
            field("h", "1"),
            field("h", "2"),
            field("h", "3"),
            field("i", "1"),
            key("c"),
        ];
        let reading = Reading::new(&locations, 2);
        let commands: Vec<_> = reading.pipeline.cmd_iter().map(text).collect();
        let expected = [
            "MGET a b",
            "HMGET h 1 2",
            "HMGET h 3",
            "HMGET i 1",
            "MGET c",
        ];
        assert_eq!(commands, expected);
        let number = |number| Value::Int(number);
        let answers = vec![
            Value::Array(vec![number(0), number(1)]),
            Value::Array(vec![number(2), number(3)]),
            number(4),
            Value::Array(vec![number(5)]),
            Value::Array(vec![number(6)]),
        ];
        let expected: Vec<_> = (0..7).map(number).collect();
        assert_eq!(reading.values(answers), expected);
    }
}
