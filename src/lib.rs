//! larder
mod backend;
mod cache;
mod clock;
pub mod codec;
mod entry;
mod error;
#[expect(dead_code, reason = "the layer is what calls these rules")]
mod http;
mod key;
mod settings;
#[cfg(feature = "memory")]
pub use backend::memory::{Memory, MemoryBuilder};
pub use backend::null::Null;
pub use backend::{Backend, Capabilities, MemoryPolicy, Peek, PutMode, Usage};
pub use cache::{Cache, CacheBuilder, Cached, LoadError, PutOptions, Stats, Ttl};
pub use clock::Timestamp;
pub use codec::CodecId;
pub use entry::Entry;
pub use error::{Error, ErrorKind, Result};
pub use self::http::{CacheControl, SetCookie};
pub use key::{Key, KeyRef, KeySpace};
pub use settings::{BackendKind, CodecKind, Secret, Settings};
