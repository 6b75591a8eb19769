//! Requests for ranges where the whole is not stored (RFC 9111 §3.3).
//!
//! Parts are under a key of their own beside the URI's, with variants of their own. So they are never in the way of a
//! whole response or of those who wait for one, and whoever asks for the whole does not even see them. Nobody waits for
//! a part.

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use tower_service::Service;

use super::{
    answer,
    body::CacheBody,
    body_error::BoxError,
    lookup::{self, Looked},
    telling::Decision,
    work::{Weighed, Work, stale},
};
use crate::{Reason, Timestamp};

impl<S, B, R> Work<S, B>
where
    S: Service<Request<B>, Response = Response<R>> + Send + 'static,
    S::Future: Send,
    S::Error: Send,
    B: Send + 'static,
    R: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    /// Answers from stored parts, or asks the inner service for the ranges as the client did; `why` is why no whole
    /// response answers.
    pub(super) async fn run_part(
        mut self: Box<Self>,
        why: Reason,
    ) -> Result<Response<CacheBody<R>>, S::Error> {
        let config = self.config.clone();
        let parts = self.base.of_parts();
        self.whole = Some(std::mem::replace(&mut self.base, parts));
        let now = Timestamp::now();
        let (selector, patience) = (self.selector(), &self.patience);
        let (looked, load) = lookup::begin(&config, &self.base, selector, now, patience).await;
        let found = match &looked {
            Looked::Found(entry, _) => lookup::response(&config, entry),
            _ => None,
        };
        let (is_found, is_enough) = match found {
            Some(stored) => (true, answer::has_ranges(stored, self.request.headers())),
            None => (false, false),
        };
        let (why, stale) = match self.weigh(&looked, now, false) {
            Weighed::Answer(decision, telling) if is_enough => {
                self.count(decision);
                return Ok(self.answer(&looked, now, telling));
            }
            Weighed::AnswerAndRevalidate(telling) if is_enough => {
                self.count(Decision::Stale);
                self.explain(Reason::StaleWhileRevalidate);
                let response = self.answer(&looked, now, telling);
                self.revalidate_behind(looked);
                return Ok(response);
            }
            Weighed::ForwardAlone => (Reason::Personal, None),
            Weighed::Forward(why) if is_enough => (why, stale(looked)),
            _ if is_found => (Reason::OtherPart, stale(looked)),
            _ => (why, None),
        };
        if self.asked.directives.only_if_cached {
            return Ok(answer::only_if_cached(&config));
        }
        self.forward(why, stale, None, load).await
    }
}
