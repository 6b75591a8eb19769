//! The rules of HTTP caching, as pure functions: header maps and `now` in, an answer out.

mod cache_control;
mod conditional;
mod date;
mod directives;
mod fields;
mod status;
mod text;

pub use cache_control::CacheControl;

#[derive(Clone)]
pub(crate) enum Landing {}
