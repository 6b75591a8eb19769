use std::{convert::Infallible, error::Error, fmt};

use axum::{
    extract::{FromRequestParts, OptionalFromRequestParts},
    response::{IntoResponse, IntoResponseParts, Response, ResponseParts},
};
use http::{StatusCode, header::CACHE_CONTROL, request::Parts};

use crate::{Cache, CacheControl, CachePolicy, CacheTags};

/// Gives a handler the cache of the [`CacheLayer`](crate::CacheLayer) around it, whatever the state of the router is.
///
/// `Option<Cache>` is `None` where there is no layer. Without the layer, `State<Cache>` and `Extension<Cache>` work as
/// with any value.
impl<S: Send + Sync> FromRequestParts<S> for Cache {
    type Rejection = CacheRejection;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, CacheRejection> {
        parts
            .extensions
            .get::<Self>()
            .cloned()
            .ok_or(CacheRejection(()))
    }
}

impl<S: Send + Sync> OptionalFromRequestParts<S> for Cache {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, Infallible> {
        Ok(parts.extensions.get::<Self>().cloned())
    }
}

/// The handler asks for a [`Cache`] and there is no [`CacheLayer`](crate::CacheLayer) around it: a 500 that says so.
#[derive(Clone, Copy, Debug)]
pub struct CacheRejection(());

impl fmt::Display for CacheRejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "no `Cache` in the request's extensions; perhaps you forgot to add `CacheLayer` to the router: \
             `.layer(CacheLayer::new(cache))`",
        )
    }
}

impl Error for CacheRejection {}

impl IntoResponse for CacheRejection {
    fn into_response(self) -> Response {
        tracing::error!("{self}");
        (StatusCode::INTERNAL_SERVER_ERROR, self.to_string()).into_response()
    }
}

/// Sets `Cache-Control`: `(CacheControl::new().public().max_age(minute), Json(item))`.
impl IntoResponseParts for CacheControl {
    type Error = Infallible;

    fn into_response_parts(self, mut parts: ResponseParts) -> Result<ResponseParts, Infallible> {
        parts.headers_mut().insert(CACHE_CONTROL, self.into());
        Ok(parts)
    }
}

/// Tags the response: `(CacheTags::new(["user:7"]), Json(user))`. Tags that it has already stay.
impl IntoResponseParts for CacheTags {
    type Error = Infallible;

    fn into_response_parts(self, mut parts: ResponseParts) -> Result<ResponseParts, Infallible> {
        let tags = parts.extensions_mut().get_or_insert_default::<Self>();
        tags.extend(self.iter());
        Ok(parts)
    }
}

/// Puts the policy into the response's extensions: `(CachePolicy::new().ttl(minute), Json(item))`.
impl IntoResponseParts for CachePolicy {
    type Error = Infallible;

    fn into_response_parts(self, mut parts: ResponseParts) -> Result<ResponseParts, Infallible> {
        parts.extensions_mut().insert(self);
        Ok(parts)
    }
}

impl IntoResponse for CacheTags {
    fn into_response(self) -> Response {
        (self, ()).into_response()
    }
}

impl IntoResponse for CacheControl {
    fn into_response(self) -> Response {
        (self, ()).into_response()
    }
}
