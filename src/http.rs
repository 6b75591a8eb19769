//! The rules of HTTP caching, as pure functions: header maps and `now` in, an answer out.

mod cache_control;
mod conditional;
mod date;
mod directives;
mod fields;
mod freshness;
mod invalidation;
mod policy;
mod reuse;
mod status;
mod storable;
mod text;
mod vary;

pub use cache_control::CacheControl;
pub use policy::SetCookie;

#[derive(Clone)]
pub(crate) enum Landing {}
