//! The tags of responses: what handlers name, what clients see of it.

mod cache_tags;
mod field;

use http::Response;

pub use cache_tags::CacheTags;
pub use field::TagField;

/// The most tags of a response that is stored, and the longest one.
const MAX_TAGS: usize = 64;
const MAX_LEN: usize = 256;

/// Takes the tags out of the fields of a response; those of [`CacheTags`] are among them. Where they are passed on, all
/// of them are in the one field for that afterwards.
pub(super) fn of<R>(response: &mut Response<R>, passed: Option<TagField>) -> CacheTags {
    let mut tags = field::take(response.headers_mut());
    if let Some(more) = response.extensions().get::<CacheTags>() {
        tags.extend(more.iter());
    }
    if let Some(field) = passed {
        field.write(&tags, response.headers_mut());
    }
    tags
}

/// [`of`] for a response that is not stored.
pub(super) fn pass_on<R>(response: &mut Response<R>, passed: Option<TagField>) {
    let _ = of(response, passed);
}

/// Whether a response with these tags could be purged by each of them.
pub(super) fn are_within_limits(tags: &CacheTags) -> bool {
    tags.iter().len() <= MAX_TAGS && tags.iter().all(|tag| tag.len() <= MAX_LEN)
}
