//! Waiting for the response to another request, and sharing it.

use std::{pin::pin, sync::Arc};

use http::Response;
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout_at},
};

use super::{
    Landing,
    answer::{self, Telling},
    asked::Asked,
    body::CacheBody,
    layer::Config,
    patience::Patience,
    range::RangeField,
    sharing::{Share, Sharing},
    variants::Selector,
};
use crate::{
    Key, Timestamp,
    cache::{Follower, Phase},
};

/// What became of waiting for another request.
pub(super) enum Followed<R> {
    /// Its response answers this one too.
    Answer(Box<Response<CacheBody<R>>>),
    /// Something was stored that may answer this one, or tells which variant to wait for.
    LookAgain,
    /// This one runs by itself.
    Alone,
    /// The inner service failed: this one runs by itself when it gets a permit.
    Failed(Arc<Semaphore>),
    /// There is nothing to wait for any more.
    Over,
}

/// A request that waits for another.
pub(super) struct Following<'a> {
    pub(super) config: &'a Config,
    pub(super) asked: &'a Asked,
    pub(super) selector: Selector<'a>,
    pub(super) patience: &'a Patience,
}

impl Following<'_> {
    /// Waits for the one who leads, no longer than until the deadline, and no longer than for as long as this request
    /// would wait for the backend itself while the leader does.
    pub(super) async fn follow<R>(
        &self,
        follower: Follower<Landing>,
        key: &Key,
        deadline: Instant,
    ) -> Followed<R> {
        let flights = &self.config.cache.shared().response_flights;
        let flight = follower.id();
        // A range is taken from the whole body, which has to be there for that.
        let takes_part = self.asked.range == RangeField::None;
        let landing = land(follower, self.patience, takes_part);
        let landing = match timeout_at(deadline, landing).await {
            Ok(Some(landing)) => landing,
            Ok(None) => return Followed::Alone,
            Err(_) => {
                // Whoever asks from now on waits for somebody quicker.
                flights.end(key, flight);
                return Followed::Alone;
            }
        };
        match landing {
            None => Followed::Over,
            Some(Landing::LookAgain) => Followed::LookAgain,
            Some(Landing::Unshared) => Followed::Alone,
            Some(Landing::Failed(gate)) => Followed::Failed(gate),
            Some(Landing::Shared(sharing)) => {
                let followed = match sharing.downcast_ref() {
                    Some(sharing) => self.share(sharing).await,
                    None => Followed::Over,
                };
                if let Followed::Over = followed {
                    flights.end(key, flight);
                }
                followed
            }
        }
    }

    async fn share<R>(&self, sharing: &Sharing) -> Followed<R> {
        let (config, now) = (self.config, Timestamp::now());
        let shared = sharing.share(config, self.asked, self.selector, now).await;
        let reader = match shared {
            Share::Yes(reader) => reader,
            Share::OtherVariant => return Followed::LookAgain,
            Share::No => return Followed::Alone,
            Share::Over => return Followed::Over,
        };
        let (stored, telling) = (sharing.answer(&config.rules), Telling::collapsed());
        let body = || CacheBody::shared(reader);
        let (asked, client) = (self.asked, self.selector.headers);
        let answer = answer::with_body(config, stored, asked, client, now, telling, body);
        Followed::Answer(Box::new(answer))
    }
}

/// What the leader leaves; `None` when it has asked the backend for longer than this request would have.
async fn land(
    mut follower: Follower<Landing>,
    patience: &Patience,
    takes_part: bool,
) -> Option<Option<Landing>> {
    let is_awaited = |landing: &Landing| takes_part || !matches!(landing, Landing::Shared(_));
    loop {
        match follower.phase(is_awaited).await {
            Phase::Over(landing) => return Some(landing),
            Phase::Backend => patience.wait_for_all(pin!(follower.answered())).await?,
        }
    }
}
