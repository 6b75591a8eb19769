//! HTTP
#[derive(Clone)]
pub(crate) enum Landing {}
