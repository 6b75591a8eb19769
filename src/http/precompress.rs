//! Stored responses compressed once, and answered with in the coding that a client takes (RFC 9110 §8.4, §12.5.3).
//!
//! The handler is asked for the response as it is, and that is what is stored. Its compressed forms are entries of their
//! own under a hash of the body, so they need no invalidation: a body that changed has another hash.

mod coding;

pub use coding::Coding;
