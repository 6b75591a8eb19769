//! What `Cache-Control` says, on either side (RFC 9111 §5.2).

mod lexer;
mod request;
mod response;
mod targeted;

pub(crate) use request::{MaxStale, RequestDirectives};
pub(crate) use response::ResponseDirectives;
pub(crate) use targeted::{Targets, is_targeted};

#[cfg(test)]
mod tests;
