//! larder
mod backend; mod clock; mod key; mod entry; pub mod codec; mod error;
pub use backend::{Backend, Capabilities, Peek, PutMode, Usage};
pub use clock::Timestamp;
pub use codec::CodecId;
pub use entry::Entry;
pub use error::{Error, ErrorKind, Result};
pub use key::{Key, KeyRef, KeySpace};
