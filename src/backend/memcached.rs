//! The backend on memcached servers.

mod address;
mod builder;
mod connecting;
mod counting;
mod deleting;
mod driver;
mod errors;
mod item_key;
mod link;
mod mark;
mod node;
mod parts;
mod protocol;
mod reading;
mod ring;
mod space;
mod stored;
mod tls;
mod verbs;
mod writing;

use std::{fmt, sync::Arc};

use node::Node;
use ring::Ring;

pub use builder::MemcachedBuilder;
#[cfg(fuzzing)]
pub use protocol::fuzzing::memcached_answers;

const NAME: &str = "memcached";

/// Keeps entries on one or several memcached servers, for every process that uses them.
///
/// One connection to each server serves everybody in the process. It is made when it is first needed and made anew when
/// it broke; in between verbs fail at once, with at most half a second from one attempt to connect to the next. It speaks
/// the meta commands of the text protocol (memcached 1.6 or later), or [the binary
/// protocol](#the-binary-protocol-and-sasl) where it is told to, with many requests under way at once; a future that is
/// dropped disturbs nobody else's answer.
///
/// # Examples
///
/// ```no_run
/// # async fn example() -> larder::Result<()> {
/// use larder::{Cache, Memcached};
///
/// let cache = Cache::new(Memcached::builder("127.0.0.1:11211").connect().await?);
/// cache.put("answer", 42).await?;
/// # Ok(())
/// # }
/// ```
///
/// # What it can do
///
/// | | |
/// |---|---|
/// | `put` always, if absent, if this version, under a lease | yes, each one atomic step on the server |
/// | `increment` | yes, one atomic step |
/// | `get`, `get_many`, `delete`, `delete_if`, `touch`, `clear`, leases | yes |
/// | `delete_prefix` | no, memcached cannot list its keys |
/// | `remove_expired` | not needed, the server does it by itself |
/// | TTL | in the entry, exact to a millisecond; of counters the server's, up to two seconds late |
///
/// # What is on the server
///
/// | Key | Holds |
/// |---|---|
/// | `namespace:GGGGGGGG:name` | An entry: 16 bytes of codec and times, then the payload. |
/// | the same, for a counter | The bare digits, as `incr` leaves them. Other programs may read and `incr` it. |
/// | the same, empty | A load that has begun, for a minute. |
/// | the same, for a value over the server's limit | 34 bytes that say how long the whole is, where its parts are and when it ends. |
/// | `namespace:GGGGGGGG#…` | A part of such a value. |
/// | `namespace:generation` | The eight letters `GGGGGGGG` that stand in the keys of all live entries; clearing replaces them. |
///
/// A key with bytes that a line of text cannot have, spaces and everything beyond ASCII among them, goes over the wire in
/// base64 and is on the server as it is. Keys of more than 250 bytes, or more than 186 in base64, are stored under the 64
/// hexadecimal digits of their BLAKE3 hash. None is ever cut.
///
/// An item stays on the server for 30 seconds after its entry has ended, so that a load that began before can tell that
/// nothing else has happened to the key. It is absent to every verb all the same.
///
/// # Large values
///
/// An item takes at most what the server's option `-I` says, a mebibyte by default, which is asked for on connecting. A value
/// over that is put into up to 16 items ([`split_large_values`](MemcachedBuilder::split_large_values)): the parts first, under
/// a random number of 128 bits that every put has anew, then the head under the key, on the put's condition. Reading it
/// takes a second round trip. All parts have to be there and as long as the head says, or it is a miss; parts of two values
/// are never mixed. What is replaced or deleted leaves its parts to the server, which removes them when their TTL ends or
/// it needs the room.
///
/// # Counters
///
/// A counter is the server's own number, and `increment` its own command, in one round trip however many processes count.
/// The server counts from 0 to 2^64 and wraps around, and this backend reads what it has as two's complement. So a
/// counter that is not negative is plain digits to every other program, a negative one is 2^64 less its amount, and both
/// go up and down in the same one step. A sum beyond `i64` is an error, and is taken back at once, by subtraction, so that
/// what others add meanwhile stays; for that moment they may see it. Other programs must not `decr` below zero, where the
/// server stops.
///
/// # Who may ask
///
/// Servers that were started with `-Y` and a file of `user:password` lines want to be told who asks
/// ([`username`](MemcachedBuilder::username), [`password`](MemcachedBuilder::password)), and so do servers with SASL (`-S`),
/// which are told it by [the binary protocol](#the-binary-protocol-and-sasl). Without TLS (`-Z`) the password and all values
/// go over the network as they are.
///
/// # The binary protocol and SASL
///
/// A server with SASL speaks the binary protocol and nothing else, and memcached knows SASL in that protocol alone. It is
/// deprecated, but there: [`binary_protocol`](MemcachedBuilder::binary_protocol) has this backend speak it, with SASL PLAIN
/// where there is a user. Everything above holds as it does without, and both kinds of process may use one server that
/// speaks both. What one command does there takes more here:
///
/// | | By meta commands | By the binary protocol |
/// |---|---|---|
/// | a lease on an absent key | one command makes the empty item | an `add` and a `get`, sent together; where somebody deletes the key between the two, the load is not kept |
/// | `contains`, `delete`, `delete_if`, and a put on a condition that has to look | looks at the item's number | reads its value |
/// | the first `increment` of a counter | one round trip | two: an `add` where `incr` found nothing |
/// | the TTL of a counter, as it is read | the server's | noted in the item; unknown of a counter that another program or a process with meta commands made |
///
///
/// # What a verb costs
///
/// Every verb is one round trip: the marker is asked for together with the key, and where somebody cleared the namespace
/// since it was asked last, the verb is done again. Two round trips take `touch`, a put of
/// [`PutMode::IfVersion`](crate::PutMode::IfVersion), one of [`PutMode::IfAbsent`](crate::PutMode::IfAbsent) on a key whose
/// entry has ended or that is being loaded, and the first lease on an entry that has ended. `touch` has to send the value
/// both ways, because the end is in it. `get_many` and the like send 500 keys at once.
///
/// # Loads that come too late
///
/// A load begins with [`get_leased`](crate::Backend::get_leased), which notes the item's *cas*, a number that the server
/// gives to every change; where nothing is under the key the server makes an empty item in the same step. Whoever puts the
/// key gives it another number, and whoever deletes it, the empty item too, takes it away; so the load is kept only if
/// neither has happened, in this process or another. A load that takes longer than the item stays is not kept: 30 seconds
/// on a key whose entry ends meanwhile, a minute on an absent one.
///
/// # When a server forgets
///
/// Memcached evicts whatever was not used for a while, at any time, and forgets everything when it is restarted.
///
/// * An entry that is gone is a miss, and an empty item that is gone a load that is not kept.
/// * **A marker that is gone is made anew, never assumed**: the namespace begins anew, and what was stored before stays
///   out of reach. The markers are read by every verb, so they are the last to be evicted.
/// * A server that has no room and evicts nothing (`-M`) refuses to put ([`ErrorKind::TooLarge`](crate::ErrorKind::TooLarge)), and
///   what a put would have replaced is removed; deleting and clearing still work.
/// * **A connection that breaks while something is being written** leaves open whether it was, or yet will be, when the
///   server comes to read what was sent. So the namespaces concerned begin anew on that server before this process reads
///   anything there again, and what comes late comes to keys that nobody asks for.
///
/// # Several servers
///
/// Each key has one server, found by consistent hashing: a ring of 64-bit numbers, on which each server has 160 points by
/// the BLAKE3 hash of its address, and the key belongs to the next one. So all processes have to name the servers in the same
/// words, in any order, and a server that is added or left out moves only the keys that come to it or were on it. That is
/// not the ring of other clients, and need not be: the keys are not theirs either. What a key leaves behind on the server
/// that it was on stays there until its TTL ends, and no invalidation reaches it; so clear the namespace when a list of
/// servers is changed back to what it was before.
///
/// **A server that is away is done without: its keys are misses, and nothing is stored in their place.** They do not move to
/// another server meanwhile, because they would have to move back, and what the first one still held would be stale by
/// then. What this process put, deleted or cleared there meanwhile is not forgotten: before it reads from that server again,
/// the namespaces concerned begin anew there. Waiting for such a server has an end
/// ([`server_timeout`](MemcachedBuilder::server_timeout)), and one that is known to be away or silent is not waited for at
/// all; the log says when it goes and when it is back. `increment` alone fails, because there is no honest answer. As with one
/// server, each process remembers its own invalidations: one that comes back to the server first may for a moment see what
/// another one has yet to invalidate, and where a process ends before the server is back, what it had to invalidate there
/// lives until its TTL ends.
///
/// When all are away, verbs fail, as with one server.
#[derive(Clone)]
pub struct Memcached(Arc<Shared>);

struct Shared {
    nodes: Vec<Arc<Node>>,
    ring: Ring,
}

impl Memcached {
    /// Sets up a backend on these servers: `host:port` or the path of a Unix socket, several with commas between. IPv6
    /// addresses are in brackets, and the port is 11211 where none is named.
    ///
    /// # Examples
    ///
    /// ```
    /// use larder::{Backend, Memcached};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> larder::Result<()> {
    /// let memcached = Memcached::builder("cache1.example,cache2.example:11212").connect_lazily()?;
    /// assert_eq!(memcached.name(), "memcached");
    /// # Ok(())
    /// # }
    /// ```
    pub fn builder(servers: impl Into<String>) -> MemcachedBuilder {
        MemcachedBuilder::new(servers.into())
    }
}

/// Shows the addresses and the states of the connections, and no password.
impl fmt::Debug for Memcached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let links = self.0.nodes.iter().map(|node| &node.link);
        f.debug_list().entries(links).finish()
    }
}
