//! What an application says of its routes: how long, under which key, and whether at all their responses are stored.

mod cache_policy;
mod check;
mod cookies;
#[cfg(fuzzing)]
pub(super) mod fuzzing;
mod layer;
mod lifetimes;
mod parts;
mod policy;
mod query;
mod routes;
mod table;

pub use cache_policy::CachePolicy;
pub(super) use lifetimes::Said;
pub(super) use parts::{KeyParts, KeyedBy, UNKEYED};
pub(super) use policy::{FromInside, Met, Policy, refusal, said};
pub use query::QueryKey;
pub use routes::{Policies, PoliciesBuilder};
