//! The rules of HTTP caching, as pure functions: header maps and `now` in, an answer out.

mod date;
mod status;
mod text;


#[derive(Clone)]
pub(crate) enum Landing {}
