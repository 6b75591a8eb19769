//! How far servers have come in what a primary did, as `ROLE` and `INFO` tell.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use redis::{Cmd, Value};

use crate::Timestamp;

/// What a replica answers is no older than this.
pub(super) const BOUND: Duration = Duration::from_secs(1);

/// How often the primary is asked how far it has come, at least.
const STEP: Duration = Duration::from_millis(500);

/// What a server is, and how far it has come: in bytes of what its primary, or it as one, has done so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Primary(u64),
    /// A replica, and whether it hears from its primary.
    Replica(u64, bool),
}

impl Role {
    pub(super) fn question() -> Cmd {
        redis::cmd("ROLE")
    }

    pub(super) fn read(answer: &Value) -> Option<Self> {
        let Value::Array(parts) = answer else {
            return None;
        };
        let offset = |part: &Value| match part {
            Value::Int(offset) => u64::try_from(*offset).ok(),
            _ => None,
        };
        match &parts[..] {
            [role, at, ..] if is(role, b"master") => offset(at).map(Self::Primary),
            // One that has never heard from its primary has come to -1.
            [role, _, _, state, at] if is(role, b"slave") => {
                let hears = is(state, b"connected") && offset(at).is_some();
                Some(Self::Replica(offset(at).unwrap_or(0), hears))
            }
            _ => None,
        }
    }
}

fn is(part: &Value, word: &[u8]) -> bool {
    matches!(part, Value::BulkString(bytes) if bytes == word)
        || matches!(part, Value::SimpleString(text) if text.as_bytes() == word)
}

/// The name of what a primary does from its start or its promotion on, and its replicas after it: the offsets of two
/// servers compare only where it is the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct History(Box<str>);

impl History {
    pub(super) fn question() -> Cmd {
        let mut command = redis::cmd("INFO");
        command.arg("replication");
        command
    }

    pub(super) fn read(answer: &Value) -> Option<Self> {
        let text = match answer {
            Value::BulkString(bytes) => std::str::from_utf8(bytes).ok()?,
            Value::VerbatimString { text, .. } => text,
            _ => return None,
        };
        let id = text
            .lines()
            .find_map(|line| line.strip_prefix("master_replid:"))?
            .trim_end();
        (!id.is_empty()).then(|| Self(id.into()))
    }
}

/// How far the primary at the end of a connection has come.
#[derive(Default)]
pub(super) struct Progress(Mutex<Known>);

#[derive(Default)]
struct Known {
    history: Option<History>,
    before: Option<Note>,
    latest: Option<Note>,
    asked: Option<Timestamp>,
}

/// That a primary had come so far at that time, or further.
#[derive(Clone, Copy)]
struct Note {
    offset: u64,
    at: Timestamp,
}

impl Note {
    /// A clock that was set back says nothing.
    fn is_within(&self, time: Duration, now: Timestamp) -> bool {
        is_within(self.at, time, now)
    }
}

fn is_within(at: Timestamp, time: Duration, now: Timestamp) -> bool {
    now >= at && now.since(at) < time
}

impl Progress {
    pub(super) fn history(&self) -> Option<History> {
        self.known().history.clone()
    }

    pub(super) fn forget_history(&self) {
        self.known().history = None;
    }

    /// How far a replica has to have come, to have everything that is older than [`BOUND`]. `None` where the primary has to
    /// be asked before anybody knows, and for one caller now and then, who is to ask it.
    pub(super) fn least(&self, now: Timestamp) -> Option<u64> {
        let mut known = self.known();
        let latest = known.latest.filter(|note| note.is_within(BOUND, now))?;
        let is_asked = known.asked.is_some_and(|at| is_within(at, STEP / 2, now));
        if !latest.is_within(STEP, now) && !is_asked {
            known.asked = Some(now);
            return None;
        }
        let before = known.before.filter(|note| note.is_within(BOUND, now));
        Some(before.unwrap_or(latest).offset)
    }

    /// Takes note of an answer to a question that was asked at this time.
    pub(super) fn note(&self, offset: u64, at: Timestamp, history: Option<History>) {
        let mut known = self.known();
        known.history = history.or(known.history.take());
        if known.latest.is_none_or(|note| !note.is_within(STEP, at)) {
            known.before = known.latest.replace(Note { offset, at });
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_secs(10_000) + Duration::from_millis(millis)
    }

    #[test]
    fn servers_say_what_they_are() {
        let primary = Value::Array(vec![text("master"), Value::Int(7), Value::Array(vec![])]);
        assert_eq!(Role::read(&primary), Some(Role::Primary(7)));
        for (state, hears) in [("connected", true), ("connect", false), ("sync", false)] {
            let replica = vec![text("slave"), text("host"), Value::Int(1), text(state)];
            let replica = Value::Array([replica, vec![Value::Int(9)]].concat());
            assert_eq!(Role::read(&replica), Some(Role::Replica(9, hears)));
        }
        let never = vec![
            text("slave"),
            text("host"),
            Value::Int(1),
            text("connected"),
        ];
        let never = Value::Array([never, vec![Value::Int(-1)]].concat());
        assert_eq!(Role::read(&never), Some(Role::Replica(0, false)));
        let sentinel = Value::Array(vec![text("sentinel"), Value::Array(vec![])]);
        for other in [sentinel, Value::Nil, Value::Array(vec![])] {
            assert_eq!(Role::read(&other), None, "{other:?}");
        }
    }

    #[test]
    fn a_history_has_a_name() {
        let told = "# Replication\r\nrole:master\r\nmaster_replid:abc\r\nmaster_replid2:def\r\n";
        let history = History::read(&text(told)).unwrap();
        assert_eq!(history, History("abc".into()));
        assert_eq!(History::read(&text("master_replid:\r\n")), None);
        assert_eq!(History::read(&Value::Okay), None);
    }

    #[test]
    fn a_replica_may_be_late_by_as_much_as_is_known_and_no_more() {
        let progress = Progress::default();
        assert_eq!(progress.least(at(0)), None);
        progress.note(100, at(0), None);
        assert_eq!(progress.least(at(10)), Some(100));
        // Others came further meanwhile, which nobody has to have yet.
        progress.note(200, at(100), None);
        assert_eq!(progress.least(at(499)), Some(100));
        // One is sent to ask, and the others go on.
        assert_eq!(progress.least(at(500)), None);
        assert_eq!(progress.least(at(501)), Some(100));
        progress.note(300, at(510), None);
        assert_eq!(progress.least(at(999)), Some(100));
        assert_eq!(progress.least(at(1_000)), Some(300));
    }

    #[test]
    fn what_is_known_for_too_long_is_worth_nothing() {
        let progress = Progress::default();
        progress.note(100, at(0), None);
        assert_eq!(progress.least(at(1_000)), None);
        // Nor is what a clock tells that was set back.
        progress.note(200, at(2_000), None);
        assert_eq!(progress.least(at(1_000)), None);
    }
}
