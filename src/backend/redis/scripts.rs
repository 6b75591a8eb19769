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

/// The start of the scripts on an entry, whose field is the argument of this number where it is in a hash.
macro_rules! on_entry {
    ($field:literal, $rest:expr) => {
        concat!(
            "local key, field = KEYS[1], ARGV[",
            $field,
            "]\n\
             local function remove()\n\
             if field then redis.call('HDEL', key, field) else redis.call('UNLINK', key) end\n\
             end\n\
             local function set(bytes, ttl)\n\
             if ttl == '0' then remove()\n\
             elseif field and ttl == '' then redis.call('HSETEX', key, 'FIELDS', 1, field, bytes)\n\
             elseif field then redis.call('HSETEX', key, 'PX', ttl, 'FIELDS', 1, field, bytes)\n\
             elseif ttl == '' then redis.call('SET', key, bytes)\n\
             else redis.call('SET', key, bytes, 'PX', ttl) end\n\
             end\n\
             local value = field and redis.pcall('HGET', key, field)\n\
             if type(value) ~= 'string' then value = '' end\n\
             local head = field and string.sub(value, 1, 9) or redis.call('GETRANGE', key, 0, 8)\n\
             local version = string.sub(head, 1, 8)\n\
             if head ~= '' and string.byte(head, 9) ~= 197 then version = 'counter' end\n",
            $rest
        )
    };
}

/// Raises the counter of deletions. Without room for it the counter goes, which ends as many leases.
macro_rules! raise {
    ($rest:literal) => {
        concat!(
            "local function raise(by)\n\
             if type(redis.pcall('INCRBY', KEYS[2], by)) == 'table' then redis.call('UNLINK', KEYS[2]) end\n\
             end\n",
            $rest
        )
    };
}

/// Puts bytes where the version, and the counter of deletions if one is given, are still those. A TTL of 0 has ended
/// already, an empty one never ends.
///
/// Keys: entry, counter. Arguments: version, counter, bytes, TTL, what to raise the counter by or nothing, field if any.
/// Answer: 1 or 0.
const PUT: &str = on_entry!(
    6,
    raise!(
        "if version ~= ARGV[1] then return 0 end\n\
         if ARGV[2] ~= '' and redis.call('GET', KEYS[2]) ~= ARGV[2] then return 0 end\n\
         if ARGV[5] ~= '' then raise(ARGV[5]) end\n\
         set(ARGV[3], ARGV[4])\n\
         return 1"
    )
);

/// Removes an entry of this version.
///
/// Keys: entry, counter. Arguments: version, what to raise the counter by, field if any. Answer: 1 or 0, and the
/// counter.
const DELETE: &str = on_entry!(
    3,
    raise!(
        "if version ~= ARGV[1] then return {0, false} end\n\
         raise(ARGV[2])\n\
         remove()\n\
         return {1, redis.call('GET', KEYS[2])}"
    )
);

/// Moves the end of what is there, in its header and on the server. A field is put anew for that.
///
/// Key: entry. Arguments: the end as the header has it, TTL or nothing, field if any. Answer: 1 or 0.
const TOUCH: &str = on_entry!(
    3,
    "if head == '' then return 0 end\n\
     if field then\n\
     if version ~= 'counter' then value = string.sub(value, 1, 18) .. ARGV[1] .. string.sub(value, 25) end\n\
     set(value, ARGV[2])\n\
     return 1\n\
     end\n\
     if version ~= 'counter' then redis.call('SETRANGE', key, 18, ARGV[1]) end\n\
     if ARGV[2] == '' then redis.call('PERSIST', key) else redis.call('PEXPIRE', key, ARGV[2]) end\n\
     return 1"
);

/// Gives a namespace another generation where the marker is still as it was seen; nothing stands for no marker.
///
/// Key: marker. Arguments: the marker seen, a new one. Answer: the marker that is there now.
const AGREE: &str = "local found = redis.call('GET', KEYS[1]) or ''\n\
     if found ~= ARGV[1] then return found end\n\
     redis.call('SET', KEYS[1], ARGV[2])\n\
     return ARGV[2]";

/// Removes entries, those in hashes too, and counters where it is sure that they are larder's.
///
/// Keys: whatever looks like one. Arguments: for each, 1 if a number may go; how many may go. Answer: how many went, and
/// how many of the keys are done with.
const RECLAIM: &str = "local removed, done, limit = 0, 0, tonumber(ARGV[#KEYS + 1])\n\
     for i, key in ipairs(KEYS) do\n\
     local left = limit - removed\n\
     if left == 0 then break end\n\
     done = i\n\
     local value = redis.pcall('GETRANGE', key, 0, 20)\n\
     local fields = {}\n\
     if type(value) == 'table' then\n\
     fields = redis.pcall('HRANDFIELD', key, left)\n\
     value = fields[1] and redis.call('HGET', key, fields[1])\n\
     end\n\
     if type(value) == 'string' then\n\
     local head = string.sub(value, 9, 10)\n\
     local ours = head == '\\197\\1' or head == '\\197\\2'\n\
     if not ours and ARGV[i] == '1' then ours = string.find(value, '^%-?%d+$') ~= nil end\n\
     if ours and #fields > 0 then\n\
     removed = removed + redis.call('HDEL', key, unpack(fields))\n\
     if #fields == left then done = i - 1 break end\n\
     elseif ours then removed = removed + redis.call('UNLINK', key) end\n\
     end\n\
     end\n\
     return {removed, done}";

/// Counts, and lets a counter that is new end. The sum is read as a text: a number would pass through Lua, whose numbers
/// are not exact beyond 53 bits.
///
/// Key: counter. Arguments: what to add, TTL, field if any. Answer: the sum.
const COUNT: &str = "local key, field, set, sum = KEYS[1], ARGV[3]\n\
     if field then set = redis.pcall('HSETEX', key, 'FNX', 'PX', ARGV[2], 'FIELDS', 1, field, 0)\n\
     else set = redis.pcall('SET', key, 0, 'PX', ARGV[2], 'NX') end\n\
     if type(set) == 'table' and set.err then return set end\n\
     if field then sum = redis.pcall('HINCRBY', key, field, ARGV[1])\n\
     else sum = redis.pcall('INCRBY', key, ARGV[1]) end\n\
     if type(sum) == 'table' then return sum end\n\
     if field then return redis.call('HGET', key, field) end\n\
     return redis.call('GET', key)";

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
