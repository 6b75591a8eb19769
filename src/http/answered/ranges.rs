//! Answers to ranges, and ranges of answers.

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode, response::Parts};
use http_body::{Body, SizeHint};

use super::{Answered, is_failure};
use crate::{
    Reason,
    cache::{Leader, Load},
    http::{
        Landing,
        body::CacheBody,
        body_error::BoxError,
        commit::Commit,
        place::{Offer, Refused},
        policies::{Policy, Said},
        range::{self, ContentRange, Known, Piece, RangeField},
    },
};

/// What an answer is to the store.
pub(super) enum Kind {
    /// A whole response.
    Whole,
    /// A part, and the fields of the whole that it is of.
    Part(Box<(Piece, HeaderMap)>),
    /// This request's alone: a handler that saw ranges may go by them in other ways than HTTP has it, and they are not in
    /// the key (ours).
    OfOne(Reason),
}

impl Answered {
    /// What the answer is to the store.
    pub(super) fn kind_of(&self, parts: &Parts, body: &SizeHint) -> Kind {
        if !self.saw_range {
            return Kind::Whole;
        }
        let uri = self.whole.as_ref().map_or(&self.base, Load::key);
        // In strict mode nothing is stored that was made from what is not in the key.
        let is_strict = self.config.strict || self.policy().is_some_and(Policy::is_strict);
        match (self.asked.range, parts.status) {
            (RangeField::Bytes, StatusCode::PARTIAL_CONTENT) if is_strict => {
                Kind::OfOne(Reason::Range)
            }
            (RangeField::Bytes, StatusCode::PARTIAL_CONTENT) if self.whole.is_some() => {
                let known = self.stored().and_then(Known::of);
                let (client, received) = (&self.client, self.times.response);
                match Piece::of(client, &parts.headers, received, body, known) {
                    Ok(part) => Kind::Part(Box::new(part)),
                    Err(reason) => Kind::OfOne(reason),
                }
            }
            (RangeField::Bytes, StatusCode::PARTIAL_CONTENT) => Kind::OfOne(Reason::Partial),
            (RangeField::Bytes, StatusCode::RANGE_NOT_SATISFIABLE) => Kind::OfOne(Reason::Status),
            (RangeField::Bytes, status) if !is_failure(status) => {
                // The next such request is made one for the whole, and its answer stored.
                let now = self.times.response;
                self.config.unranged.insert(uri, false, now);
                Kind::OfOne(Reason::Range)
            }
            _ => Kind::OfOne(Reason::Range),
        }
    }

    /// Prepares for storing a part among others, or, where nothing is missing then, the whole.
    pub(super) async fn place_piece(
        &mut self,
        (piece, mut headers, said, refusal): (Piece, HeaderMap, Said, Option<Reason>),
        load: Load,
        leader: Option<Leader<Landing>>,
    ) -> Result<(Box<Commit>, Option<u64>), Refused> {
        let stale = self.stale.clone().filter(|_| piece.is_joined());
        let was_made_of = stale.as_ref().map_or(&[][..], |(entry, _)| entry.tags());
        self.write_tags(was_made_of, &mut headers);
        let whole = self
            .whole
            .take_if(|_| piece.completes(self.config.max_body));
        let (status, load) = match whole {
            Some(whole) => {
                self.base = whole.key().clone();
                self.stale = None;
                (StatusCode::OK, whole)
            }
            None => (StatusCode::PARTIAL_CONTENT, load),
        };
        let offer = Offer {
            was_made_of,
            refusal,
            ..self.offer(status, &headers, said)
        };
        offer.place_piece(piece, load, leader).await
    }

    /// What the request asks for of a whole response, which is read to its end for the store.
    pub(super) fn ranges_of<R>(
        &self,
        range: Result<ContentRange, u64>,
        parts: Parts,
        body: CacheBody<R>,
    ) -> Response<CacheBody<R>>
    where
        R: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    {
        let mut response = match range {
            Ok(range) => {
                let body = body.window(&range.span);
                range::partial_of(range, parts.headers, &self.client, body)
            }
            Err(len) => {
                self.drain_behind(body);
                range::unsatisfiable(len, &parts.headers)
            }
        };
        *response.extensions_mut() = parts.extensions;
        response
    }
}
