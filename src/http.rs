//! The layer that makes a service a shared HTTP cache, and the rules that it goes by.
//!
//! The rules are pure functions, header maps and `now` in and an answer out; the layer looks things up, calls the inner
//! service and stores by them.

mod age;
mod answer;
mod answered;
#[cfg(feature = "axum")]
mod around;
mod asked;
mod body;
mod body_error;
mod budget;
mod cache_control;
mod commit;
mod conditional;
mod date;
mod directives;
mod fields;
mod following;
mod forward;
mod freshness;
mod future;
#[cfg(fuzzing)]
pub mod fuzzing;
mod invalidation;
mod key;
mod languages;
mod layer;
mod lookup;
mod partial;
mod patience;
mod place;
mod policies;
mod policy;
#[cfg(feature = "compression")]
mod precompress;
mod purging;
mod range;
mod reuse;
mod service;
mod shadow;
mod sharing;
mod status;
mod storable;
mod stored;
mod stream;
mod strict;
mod tags;
mod telling;
mod text;
mod trailers;
mod unsafe_methods;
mod unshared;
mod variants;
mod vary;
mod work;

use crate::cache::Landing;

#[cfg(feature = "axum")]
pub use around::{Around, AroundFuture};
pub use body::CacheBody;
pub use body_error::BodyError;
pub use cache_control::CacheControl;
pub use future::ResponseFuture;
pub use layer::CacheLayer;
pub use policies::{CachePolicy, Policies, PoliciesBuilder, QueryKey};
pub use policy::SetCookie;
#[cfg(feature = "compression")]
pub use precompress::Coding;
pub use purging::PurgeOptions;
pub use service::CacheService;
pub use shadow::{Difference, Shadow, ShadowReport, ShadowRoute};
pub use status::StatusDetail;
pub use tags::{CacheTags, TagField};
