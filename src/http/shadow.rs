//! Shadow mode: what the layer would have answered, beside what the inner service does.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, response::Parts};
use http_body::Body;
use tower_service::Service;

mod report;

use super::{
    answer::Telling,
    body::CacheBody,
    body_error::BoxError,
    directives::ResponseDirectives,
    fields,
    future::Call,
    layer::Config,
    lookup::{self, Looked},
    range::RangeField,
    status::Forward,
    stored::StoredResponse,
    tags,
    telling::{self, explained},
    work::{Inside, Weighed, Work},
};
use crate::{Entry, Reason, Timestamp};

pub use report::{Difference, Shadow, ShadowReport, ShadowRoute};

impl<S, B, R> Work<S, B>
where
    S: Service<Request<B>, Response = Response<R>> + Send + 'static,
    S::Future: Send,
    S::Error: Send,
    B: Send + 'static,
    R: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    /// Answers with what the inner service says, stores as ever, and compares where the store would have answered.
    pub(super) async fn shadow(
        mut self: Box<Self>,
        shadow: Shadow,
    ) -> Result<Response<CacheBody<R>>, S::Error> {
        let config = self.config.clone();
        // Whether a handler serves ranges is its own business, and what it answers to them is left as it is.
        if self.asked.range == RangeField::Bytes {
            self.asked.range = RangeField::Other;
        }
        let now = Timestamp::now();
        let selector = self.selector();
        let looked = lookup::look(&config, &self.base, selector, now, &self.patience).await;
        let route: Arc<str> = telling::route(&config, self.request.extensions())
            .unwrap_or_default()
            .into();
        let (why, is_hit) = match self.weigh(&looked, now, false) {
            Weighed::Answer(..) => (Reason::Shadow, true),
            // What is fetched behind a client's back is fetched before its eyes here.
            Weighed::AnswerAndRevalidate(_) => (Reason::Stale, true),
            Weighed::Forward(why) => (why, false),
            Weighed::ForwardAlone => (Reason::Personal, false),
        };
        shadow.asked(&route, is_hit);
        match looked {
            Looked::Found(entry, _) if why == Reason::Shadow => {
                self.pass_shadowed(shadow, route, &entry).await
            }
            _ => {
                let (base, patience, is_head) = (&self.base, &self.patience, self.asked.is_head);
                let load = lookup::begin_forward(&config, base, patience, is_head).await;
                self.forward(why, None, None, load).await
            }
        }
    }

    /// Asks the inner service with the request as it came, and stores nothing, because something is stored.
    async fn pass_shadowed(
        mut self: Box<Self>,
        shadow: Shadow,
        route: Arc<str>,
        entry: &Entry,
    ) -> Result<Response<CacheBody<R>>, S::Error> {
        let config = self.config;
        explained(&config, Some(&route), Reason::Shadow);
        Inside::mark(self.request.extensions_mut(), &config.cache);
        let mut response = Call::new(self.inner, self.request).await?;
        tags::pass_on(&mut response, config.rules.pass_tags);
        let (mut parts, body) = response.into_parts();
        // A condition or a range may be answered in two right ways, by which there is nothing to compare.
        let is_plain = !self.asked.conditional && self.asked.range == RangeField::None;
        let compares = is_plain && shadow.takes_sample();
        let stored = lookup::response(&config, entry).filter(|_| compares);
        let difference = stored.map(|stored| difference(&config, &shadow, stored, &parts));
        let body = match (stored, difference) {
            (Some(stored), Some(None)) if !self.asked.is_head => {
                let comparison = Comparison::new(shadow, route, stored.body.clone());
                match body.is_end_stream() {
                    true => {
                        comparison.end();
                        CacheBody::pass(body, &config)
                    }
                    false => CacheBody::watched(body, &config, comparison),
                }
            }
            (_, Some(difference)) => {
                shadow.compared(&route, difference);
                CacheBody::pass(body, &config)
            }
            (_, None) => CacheBody::pass(body, &config),
        };
        let telling = Telling::forwarded(Forward::of(Reason::Shadow), Some(Reason::Shadow));
        telling.append(&config, &mut parts.headers);
        Ok(Response::from_parts(parts, body))
    }
}

/// The first difference between the heads of what is stored and of what came.
fn difference(
    config: &Config,
    shadow: &Shadow,
    stored: &StoredResponse,
    fresh: &Parts,
) -> Option<Difference> {
    if stored.head.status != fresh.status {
        return Some(Difference::Status);
    }
    let mut headers: HeaderMap = fresh.headers.clone();
    let directives = ResponseDirectives::read(&headers, &config.rules.targets);
    fields::strip_for_store(&mut headers, &directives);
    let stored = &stored.head.headers;
    let mut names: Vec<_> = stored.keys().chain(headers.keys()).collect();
    names.sort_unstable_by(|one, two| one.as_str().cmp(two.as_str()));
    names.dedup();
    let differs = |name: &&http::HeaderName| {
        !shadow.ignores(name)
            && !stored
                .get_all(*name)
                .iter()
                .eq(headers.get_all(*name).iter())
    };
    names
        .into_iter()
        .find(differs)
        .cloned()
        .map(Difference::Field)
}

/// Compares a body as it streams with the one that is stored.
pub(super) struct Comparison {
    shadow: Shadow,
    route: Arc<str>,
    expected: Bytes,
    at: usize,
}

impl Comparison {
    fn new(shadow: Shadow, route: Arc<str>, expected: Bytes) -> Self {
        Self {
            shadow,
            route,
            expected,
            at: 0,
        }
    }

    /// More of the body that came; `false` when there is nothing left to compare.
    pub(super) fn data(&mut self, data: &[u8]) -> bool {
        let end = self.at + data.len();
        let is_same = self.expected.get(self.at..end) == Some(data);
        self.at = end;
        if !is_same {
            self.shadow.compared(&self.route, Some(Difference::Body));
        }
        is_same
    }

    /// The body that came is at its end.
    pub(super) fn end(&self) {
        let difference = (self.at != self.expected.len()).then_some(Difference::Body);
        self.shadow.compared(&self.route, difference);
    }
}
