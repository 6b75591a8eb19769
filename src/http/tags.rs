//! The tags of responses: what handlers name, what clients see of it.

mod cache_tags;
mod field;

use http::{HeaderMap, Response};

use crate::{CachePolicy, TagStamp, cache::Collected};

pub use cache_tags::CacheTags;
pub use field::TagField;
pub(super) use field::{names_tags, strip_tags};

/// Takes the tags out of the fields of a response; those of [`CacheTags`] are among them. Where they are passed on, all
/// of them are in the one field for that afterwards.
pub(super) fn of<R>(response: &mut Response<R>, passed: Option<TagField>) -> CacheTags {
    let tags = take(response);
    if let Some(field) = passed {
        field.write(&tags, response.headers_mut());
    }
    tags
}

/// [`of`] for a response that its handler made of what was collected.
pub(super) fn of_made<R>(
    response: &mut Response<R>,
    passed: Option<TagField>,
    collected: Option<&Collected>,
) -> CacheTags {
    let tags = take(response);
    if let Some(field) = passed {
        let stamps = collected.and_then(Collected::stamps).unwrap_or_default();
        field.write(&with(&tags, &stamps), response.headers_mut());
    }
    tags
}

/// Tells in the field for that, and in no other, which tags a stored response has: those that its fields name, and those
/// of its entry.
pub(super) fn pass_stored(headers: &mut HeaderMap, stamps: &[TagStamp], passed: Option<TagField>) {
    let named = field::take(headers);
    if let Some(field) = passed {
        field.write(&with(&named, stamps), headers);
    }
}

/// The tags, and the names of others.
pub(super) fn with(tags: &CacheTags, stamps: &[TagStamp]) -> CacheTags {
    let mut all = tags.clone();
    all.extend(stamps.iter().map(TagStamp::tag));
    all
}

fn take<R>(response: &mut Response<R>) -> CacheTags {
    let mut tags = field::take(response.headers_mut());
    if let Some(more) = response.extensions().get::<CacheTags>() {
        tags.extend(more.iter());
    }
    if let Some(policy) = response.extensions().get::<CachePolicy>() {
        tags.extend(&policy.tags);
    }
    tags
}

/// The tags that the fields of a request to purge name; `None` where there are no such fields.
pub(super) fn to_purge(request: &HeaderMap) -> Option<CacheTags> {
    field::is_there(request).then(|| field::read(request))
}

/// [`of`] for a response that is not stored.
pub(super) fn pass_on<R>(response: &mut Response<R>, passed: Option<TagField>) {
    let _ = of(response, passed);
}
