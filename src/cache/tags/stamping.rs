//! Giving entries their tags: reading the markers, making those that are absent, and letting them outlive what has them.

use std::{sync::Arc, time::Duration};

use super::{
    super::{Cache, Load},
    markers::{Ids, Standing, read_ids},
};
use crate::{Entry, Error, ErrorKind, Key, PutMode, Result, TagStamp, Timestamp};

/// What a marker lives longer than twice the entry that it is made for.
const MARGIN: Duration = Duration::from_secs(60);

/// The markers of the tags that a value is to have; most have none.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tags(Option<Arc<[Key]>>);

impl Tags {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    pub(crate) fn markers(&self) -> &[Key] {
        self.0.as_deref().unwrap_or_default()
    }

    /// The markers, to keep.
    pub(crate) fn shared(&self) -> Option<Arc<[Key]>> {
        self.0.clone()
    }
}

/// What is known of the tags of a value that is given on.
#[derive(Clone, Debug, Default)]
pub(crate) enum Stamped {
    /// There are none.
    #[default]
    Plain,
    /// The tags, with the ids that their markers had before the value was made.
    With(Arc<[TagStamp]>),
    /// There are some, and their markers could not be read.
    Unknown,
}

impl Stamped {
    pub(crate) fn of(entry: &Entry) -> Self {
        entry.tags_shared().map_or(Self::Plain, Self::With)
    }

    /// The entry with these tags; `None` where they are not known.
    pub(crate) fn put_on(&self, entry: Entry) -> Option<Entry> {
        match self {
            Self::Plain => Some(entry),
            Self::With(stamps) => entry.with_tags(stamps.clone()).ok(),
            Self::Unknown => None,
        }
    }
}

/// The markers, each once.
fn distinct(mut markers: Vec<Key>, most: usize) -> Result<Vec<Key>> {
    markers.sort_unstable();
    markers.dedup();
    if markers.len() > most {
        let message = "an entry has at most 64 tags, and in a bucket 63";
        return Err(Error::new(ErrorKind::InvalidTag, message));
    }
    Ok(markers)
}

impl Cache {
    /// The markers of a value's tags, each once, and that of its bucket where it needs one.
    pub(crate) fn tags(&self, names: &[impl AsRef<[u8]>]) -> Result<Tags> {
        let own = self.own_marker()?;
        let markers = names.iter().map(|name| self.marker(name.as_ref()));
        let mut markers = distinct(markers.collect::<Result<Vec<_>>>()?, self.most_tags())?;
        markers.extend(own);
        Ok(Tags((!markers.is_empty()).then(|| markers.into())))
    }

    /// The markers of a response's tags, with those of what is there already, whose ids will be looked up anew.
    pub(crate) fn tags_and(&self, names: &[impl AsRef<[u8]>], others: &[TagStamp]) -> Result<Tags> {
        if names.is_empty() && others.is_empty() {
            return Ok(Tags::default());
        }
        let markers = names.iter().map(|name| self.marker(name.as_ref()));
        let others = others.iter().map(|stamp| Ok(stamp.marker().clone()));
        let markers = markers.chain(others).collect::<Result<Vec<_>>>()?;
        let markers = distinct(markers, Entry::MAX_TAGS)?;
        Ok(Tags(Some(markers.into())))
    }

    /// The tags with the ids of their markers, for entries that live for `ttl` and are made from what is looked up
    /// after this. `None` where the backend has no room for the markers.
    pub(crate) async fn stamp(
        &self,
        tags: &Tags,
        ttl: Option<Duration>,
    ) -> Result<Option<Stamped>> {
        let markers = tags.markers();
        if markers.is_empty() {
            return Ok(Some(Stamped::Plain));
        }
        let found = self.fetch_raw_many(markers).await?;
        let mut ids: Vec<_> = found.iter().map(|it| read_ids(it.as_ref()?)).collect();
        let live = markers.iter().zip(found).filter_map(|(key, marker)| {
            let marker = marker.filter(|marker| read_ids(marker).is_some())?;
            Some((key, marker))
        });
        self.let_outlive(live, ttl).await?;
        let mode = match self.capabilities().if_absent {
            true => PutMode::IfAbsent,
            false => PutMode::Always,
        };
        self.make_absent(markers, &mut ids, ttl, mode).await?;
        if ids.iter().any(Option::is_none) {
            // Somebody else was quicker, or something is there that is no marker.
            let found = self.fetch_raw_many(markers).await?;
            for (ids, marker) in ids.iter_mut().zip(found) {
                *ids = ids.or_else(|| read_ids(marker.as_ref()?));
            }
            let mode = PutMode::Always;
            self.make_absent(markers, &mut ids, ttl, mode).await?;
        }
        let stamps = markers.iter().zip(ids);
        let stamps = stamps.map(|(marker, ids)| Some(TagStamp::of(marker.clone(), ids?)));
        let stamps: Option<Vec<_>> = stamps.collect();
        Ok(stamps.map(|stamps| Stamped::With(stamps.into())))
    }

    /// Makes the markers whose ids are not known.
    async fn make_absent(
        &self,
        markers: &[Key],
        ids: &mut [Option<[u8; 16]>],
        ttl: Option<Duration>,
        mode: PutMode,
    ) -> Result<()> {
        let now = Timestamp::now();
        let absent = (0..ids.len()).filter(|&place| ids[place].is_none());
        let made: Vec<_> = absent.map(|place| (place, Ids::random())).collect();
        if made.is_empty() {
            return Ok(());
        }
        let ttl = self.marker_ttl(ttl);
        let entries = made.iter().map(|(place, ids)| {
            let entry = ids.entry(now).with_ttl(ttl, now);
            (markers[*place].clone(), entry, mode)
        });
        let kept = self.backend().put_many(entries.collect()).await;
        for ((place, made), kept) in made.into_iter().zip(self.observe(kept)?) {
            ids[place] = kept.then(|| made.bytes());
        }
        Ok(())
    }

    /// Lets markers live for as long as what is made with them, `ttl`, and longer, so that this is seldom needed.
    async fn let_outlive<'a>(
        &self,
        markers: impl Iterator<Item = (&'a Key, Entry)>,
        ttl: Option<Duration>,
    ) -> Result<()> {
        let now = Timestamp::now();
        let lasting = self.marker_ttl(ttl);
        let is_short = |marker: &Entry| {
            let left = marker.remaining(now);
            left.is_some_and(|left| ttl.is_none_or(|ttl| left < ttl))
        };
        let short = markers.filter(|(_, marker)| is_short(marker));
        let longer = short.map(|(key, marker)| {
            let mode = PutMode::IfVersion(marker.version());
            (key.clone(), marker.with_ttl(lasting, now), mode)
        });
        let longer: Vec<_> = longer.collect();
        if longer.is_empty() {
            return Ok(());
        }
        // Where somebody has changed the marker meanwhile, an entry may end before its time, and no later.
        self.observe(self.backend().put_many(longer).await)
            .map(drop)
    }

    /// How long the marker of an entry lives: for ever where its life could not be extended.
    fn marker_ttl(&self, ttl: Option<Duration>) -> Option<Duration> {
        let ttl = ttl.filter(|_| self.capabilities().versions)?;
        ttl.checked_mul(2)?.checked_add(MARGIN)
    }

    /// Lets the markers of an entry live for `ttl` from now.
    pub(in crate::cache) async fn let_markers_outlive(
        &self,
        entry: &Entry,
        ttl: Option<Duration>,
    ) -> Result<()> {
        let keys: Vec<_> = entry.tags().iter().map(|it| it.marker().clone()).collect();
        if keys.is_empty() {
            return Ok(());
        }
        let found = self.fetch_raw_many(&keys).await?;
        let found = keys.iter().zip(found);
        let live = found.filter_map(|(key, marker)| Some((key, marker?)));
        self.let_outlive(live, ttl).await
    }

    /// The tags of something that was loaded and will live for `ttl`: those that are known only now that it is there,
    /// and those of what it was made of. `None` where one of them was invalidated since the load began, or may have
    /// been; what was loaded is not to be stored then.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidTag`] where there are more than 64 of both; the backend's.
    pub(crate) async fn stamp_loaded(
        &self,
        load: &Load,
        tags: &Tags,
        carried: &[TagStamp],
        ttl: Option<Duration>,
    ) -> Result<Option<Vec<TagStamp>>> {
        // First the ids and then the logs: what is invalidated after the logs were read ends these ids.
        let Some(stamped) = self.stamp(tags, ttl).await? else {
            return Ok(None);
        };
        let mut stamps = match &stamped {
            Stamped::With(stamps) => stamps.to_vec(),
            Stamped::Plain | Stamped::Unknown => Vec::new(),
        };
        if !stamps.is_empty() {
            let Some(seen) = load.tags_seen() else {
                return Ok(None);
            };
            let markers = tags.markers();
            if load.have_tags_changed(markers) || self.have_others_changed(seen, markers).await {
                return Ok(None);
            }
        }
        if !self.let_carried_outlive(carried, ttl).await? {
            return Ok(None);
        }
        let carried = carried.iter().filter(|stamp| !stamps.contains(stamp));
        let carried: Vec<_> = carried.cloned().collect();
        stamps.extend(carried);
        if stamps.len() > Entry::MAX_TAGS {
            let message = "a response has at most 64 tags, with those of what it is made of";
            return Err(Error::new(ErrorKind::InvalidTag, message));
        }
        Ok(Some(stamps))
    }

    /// Lets the markers of what something was made of live as long as it does; `false` where that has ended already.
    async fn let_carried_outlive(
        &self,
        carried: &[TagStamp],
        ttl: Option<Duration>,
    ) -> Result<bool> {
        if carried.is_empty() {
            return Ok(true);
        }
        let keys: Vec<_> = carried.iter().map(|stamp| stamp.marker().clone()).collect();
        let found = self.fetch_raw_many(&keys).await?;
        let is_live = |(stamp, marker): (&TagStamp, &Option<Entry>)| {
            Standing::of(stamp, marker.as_ref()) == Standing::Live
        };
        if !carried.iter().zip(&found).all(is_live) {
            return Ok(false);
        }
        let live = keys.iter().zip(found.into_iter().flatten());
        self.let_outlive(live, ttl).await?;
        Ok(true)
    }

    /// Notes for the response under way that it is made of something with these tags.
    pub(in crate::cache) fn collect_stamps(&self, stamped: &Stamped) {
        let Some(collected) = &self.1 else {
            return;
        };
        match stamped {
            Stamped::Plain => {}
            Stamped::With(stamps) => collected.note(stamps),
            Stamped::Unknown => collected.lose(),
        }
    }
}
