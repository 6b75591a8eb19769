//! Whether a server can keep a bucket in one hash, with a TTL for each field, and this user may.
//!
//! It is found out by the commands themselves, at connecting: a server looks whether it has a command, and whether the
//! user may give it, before anything else. They are given in such a way that they change nothing.

use redis::{Pipeline, ServerError, Value};

/// A key that nobody has.
const KEY: &str = "larder:probe";

/// Adds the commands that a hash takes.
pub(super) fn ask(pipeline: &mut Pipeline) {
    let field = "field";
    // Where the field is there already, and it is not.
    let set = pipeline.cmd("HSETEX").arg(KEY).arg("FXX");
    set.arg("FIELDS").arg(1).arg(field).arg("");
    pipeline.cmd("HGET").arg(KEY).arg(field);
    pipeline.cmd("HMGET").arg(KEY).arg(field);
    pipeline.cmd("HDEL").arg(KEY).arg(field);
    let ttl = pipeline.cmd("HPTTL").arg(KEY);
    ttl.arg("FIELDS").arg(1).arg(field);
    // What is no number is refused last of all.
    let add = pipeline.cmd("HINCRBY").arg(KEY).arg(field);
    add.arg("one");
}

/// Whether these are the answers of a server that can.
pub(super) fn told(answers: &[Value]) -> bool {
    !answers.is_empty()
        && answers.iter().all(|answer| match answer {
            Value::ServerError(error) => is_known(error),
            _ => true,
        })
}

/// Whether a command that was refused is there, and permitted.
fn is_known(error: &ServerError) -> bool {
    let details = error.details().unwrap_or_default();
    match error.code() {
        "ERR" => details.contains("not an integer"),
        // The key is one that the user need not be allowed.
        "NOPERM" => details.contains(" key") && !details.contains(" command"),
        // It is loading, it is a replica, the slot is elsewhere: all of that is looked at later.
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told_of(text: &str) -> bool {
        let answer = format!("-{text}\r\n");
        told(&[redis::parse_redis_value(answer.as_bytes()).unwrap()])
    }

    #[test]
    fn a_server_without_the_commands_or_a_user_without_the_right_cannot() {
        for text in [
            "ERR unknown command 'HSETEX', with args beginning with: 'larder:probe' 'FXX' ",
            "NOPERM User app has no permissions to run the 'hsetex' command",
            "NOPERM this user has no permissions to run the 'hsetex' command",
            "ERR unsupported command",
        ] {
            assert!(!told_of(text), "{text}");
        }
        assert!(!told(&[]));
        let one = "-ERR unknown command 'HPTTL'\r\n";
        let one = redis::parse_redis_value(one.as_bytes()).unwrap();
        assert!(!told(&[Value::Int(0), one]));
    }

    #[test]
    fn what_is_refused_for_another_reason_is_there() {
        for text in [
            "ERR value is not an integer or out of range",
            "NOPERM No permissions to access a key",
            "MOVED 7 10.0.0.7:7001",
            "LOADING Redis is loading the dataset in memory",
            "READONLY You can't write against a read only replica.",
            "WRONGTYPE Operation against a key holding the wrong kind of value",
            "OOM command not allowed when used memory > 'maxmemory'.",
        ] {
            assert!(told_of(text), "{text}");
        }
        assert!(told(&[Value::Int(0), Value::Nil]));
    }
}
