#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "axum")]
mod axum;
mod backend;
mod cache;
mod clock;
pub mod codec;
mod entry;
mod error;
mod http;
mod key;
mod settings;
#[cfg(feature = "testing")]
pub mod testing;

#[cfg(feature = "axum")]
pub use self::{
    axum::CacheRejection,
    http::{Around, AroundFuture},
};
pub use self::{
    backend::{Backend, Capabilities, MemoryPolicy, Null, Peek, PutMode, Usage},
    cache::{Cache, CacheBuilder, Cached, LoadError, PutOptions, Stats, Ttl},
    clock::Timestamp,
    codec::CodecId,
    entry::Entry,
    error::{Error, ErrorKind, Result},
    http::{CacheBody, CacheControl, CacheLayer, CacheService, ResponseFuture, SetCookie},
    key::{Key, KeyRef, KeySpace},
    settings::{BackendKind, CodecKind, Secret, Settings},
};
#[cfg(feature = "memory")]
pub use backend::{Memory, MemoryBuilder};
