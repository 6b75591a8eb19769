//! What axum gets and gives: the extractor, and the original path and matched route that it knows of.

mod extract;

use axum::extract::{MatchedPath, OriginalUri};
use http::{Extensions, Uri};

pub use extract::CacheRejection;

/// The URI before nested routers took their prefixes off.
pub(crate) fn original_uri(extensions: &Extensions) -> Option<&Uri> {
    extensions.get::<OriginalUri>().map(|uri| &uri.0)
}

/// Puts another URI in the place of the original one.
pub(crate) fn set_original_uri(extensions: &mut Extensions, uri: Uri) {
    extensions.insert(OriginalUri(uri));
}

/// The route as it was written, for logs: of these there are finitely many.
pub(crate) fn matched_path(extensions: &Extensions) -> Option<&str> {
    extensions.get::<MatchedPath>().map(MatchedPath::as_str)
}
