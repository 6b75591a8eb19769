//! What takes more than one command and has to be one step: small scripts in Lua, run on the server.

use std::sync::atomic::Ordering;

use redis::{Cmd, Value};

use super::link::Live;

/// Stands for what is under a key and is no entry: a counter. Entries have their own versions.
pub(super) const NO_ENTRY: u64 = u64::MAX;

/// The text that the scripts know a version by: its bytes for an entry, nothing for nothing.
pub(super) fn version_text(version: u64) -> Vec<u8> {
    match version {
        0 => Vec::new(),
        NO_ENTRY => b"counter".to_vec(),
        version => version.to_be_bytes().to_vec(),
    }
}

/// The start of the scripts that ask for a version. An entry has its version first and then the byte 197.
macro_rules! by_version {
    ($rest:literal) => {
        concat!(
            "local head = redis.call('GETRANGE', KEYS[1], 0, 8)\n",
            "local version = string.sub(head, 1, 8)\n",
            "if head ~= '' and string.byte(head, 9) ~= 197 then version = 'counter' end\n",
            $rest
        )
    };
}

/// Raises the counter of deletions. Without room for it the counter goes, which ends as many leases.
macro_rules! raise {
    ($rest:literal) => {
        concat!(
            "local function raise(by)\n",
            "if type(redis.pcall('INCRBY', KEYS[2], by)) == 'table' then redis.call('UNLINK', KEYS[2]) end\n",
            "end\n",
            $rest
        )
    };
}

/// Puts bytes where the version, and the counter of deletions if one is given, are still those. A TTL of 0 has ended
/// already, an empty one never ends.
///
/// Keys: entry, counter. Arguments: version, counter, bytes, TTL, what to raise the counter by or nothing. Answer: 1 or
/// 0.
const PUT: &str = concat!(
    raise!(""),
    by_version!(
        "if version ~= ARGV[1] then return 0 end\n\
         if ARGV[2] ~= '' and redis.call('GET', KEYS[2]) ~= ARGV[2] then return 0 end\n\
         if ARGV[5] ~= '' then raise(ARGV[5]) end\n\
         if ARGV[4] == '0' then redis.call('UNLINK', KEYS[1])\n\
         elseif ARGV[4] == '' then redis.call('SET', KEYS[1], ARGV[3])\n\
         else redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[4]) end\n\
         return 1"
    )
);

/// Removes an entry of this version.
///
/// Keys: entry, counter. Arguments: version, what to raise the counter by. Answer: 1 or 0, and the counter.
const DELETE: &str = concat!(
    raise!(""),
    by_version!(
        "if version ~= ARGV[1] then return {0, false} end\n\
         raise(ARGV[2])\n\
         redis.call('UNLINK', KEYS[1])\n\
         return {1, redis.call('GET', KEYS[2])}"
    )
);

/// Moves the end of what is there, in its header and on the server.
///
/// Key: entry. Arguments: the end as the header has it, TTL or nothing. Answer: 1 or 0.
const TOUCH: &str = by_version!(
    "if head == '' then return 0 end\n\
     if version ~= 'counter' then redis.call('SETRANGE', KEYS[1], 18, ARGV[1]) end\n\
     if ARGV[2] == '' then redis.call('PERSIST', KEYS[1]) else redis.call('PEXPIRE', KEYS[1], ARGV[2]) end\n\
     return 1"
);

/// Gives a namespace another generation where the marker is still as it was seen; nothing stands for no marker.
///
/// Key: marker. Arguments: the marker seen, a new one. Answer: the marker that is there now.
const AGREE: &str = "local found = redis.call('GET', KEYS[1]) or ''\n\
     if found ~= ARGV[1] then return found end\n\
     redis.call('SET', KEYS[1], ARGV[2])\n\
     return ARGV[2]";

/// Removes entries, and counters where it is sure that they are larder's.
///
/// Keys: whatever looks like one. Arguments: for each, 1 if a number may go. Answer: how many went.
const RECLAIM: &str = "local removed = 0\n\
     for i = 1, #KEYS do\n\
     local head = redis.pcall('GETRANGE', KEYS[i], 8, 9)\n\
     local ours = head == '\\197\\1' or head == '\\197\\2'\n\
     if not ours and ARGV[i] == '1' and type(head) == 'string' then\n\
     ours = string.find(redis.call('GETRANGE', KEYS[i], 0, 20), '^%-?%d+$') ~= nil\n\
     end\n\
     if ours then removed = removed + redis.call('UNLINK', KEYS[i]) end\n\
     end\n\
     return removed";

/// Counts, and lets a counter that is new end. The sum is read as a text: a number would pass through Lua, whose numbers
/// are not exact beyond 53 bits.
///
/// Key: counter. Arguments: what to add, TTL. Answer: the sum.
const COUNT: &str = "local set = redis.pcall('SET', KEYS[1], 0, 'PX', ARGV[2], 'NX')\n\
     if type(set) == 'table' and set.err then return set end\n\
     local sum = redis.pcall('INCRBY', KEYS[1], ARGV[1])\n\
     if type(sum) == 'table' then return sum end\n\
     return redis.call('GET', KEYS[1])";

#[derive(Debug)]
pub(super) struct Scripts {
    pub(super) put: Script,
    pub(super) delete: Script,
    pub(super) touch: Script,
    pub(super) agree: Script,
    pub(super) reclaim: Script,
    pub(super) count: Script,
}

impl Default for Scripts {
    fn default() -> Self {
        Self {
            put: Script::new(0, PUT),
            delete: Script::new(1, DELETE),
            touch: Script::new(2, TOUCH),
            agree: Script::new(3, AGREE),
            reclaim: Script::new(4, RECLAIM),
            count: Script::new(5, COUNT),
        }
    }
}

#[derive(Debug)]
pub(super) struct Script {
    code: &'static str,
    hash: String,
    /// Its bit among the scripts that a server has learnt.
    bit: u8,
}

impl Script {
    fn new(place: u8, code: &'static str) -> Self {
        Self {
            code,
            hash: redis::Script::new(code).get_hash().to_owned(),
            bit: 1 << place,
        }
    }

    /// The call, by the script's hash where the server knows it and by its text where it has to learn it: arguments
    /// follow, keys first.
    pub(super) fn call(&self, live: &Live, keys: usize) -> Cmd {
        let mut command = if live.scripts().load(Ordering::Relaxed) & self.bit != 0 {
            let mut command = redis::cmd("EVALSHA");
            command.arg(&self.hash);
            command
        } else {
            let mut command = redis::cmd("EVAL");
            command.arg(self.code);
            command
        };
        command.arg(keys);
        command
    }

    /// Takes note of the answer to a call: whether the server knows the script from now on. `false` where it forgot
    /// the script, and nothing was done.
    pub(super) fn answered(&self, live: &Live, answer: &Value) -> bool {
        let forgotten = matches!(answer, Value::ServerError(error) if error.code() == "NOSCRIPT");
        match forgotten {
            true => live.scripts().fetch_and(!self.bit, Ordering::Relaxed),
            false => live.scripts().fetch_or(self.bit, Ordering::Relaxed),
        };
        !forgotten
    }
}
