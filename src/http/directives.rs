//! What `Cache-Control` says, on either side (RFC 9111 §5.2).

mod lexer;
mod request;
mod response;

pub(crate) use request::{MaxStale, RequestDirectives};
pub(crate) use response::ResponseDirectives;

#[cfg(test)]
mod tests;
