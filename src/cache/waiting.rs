//! Who waits for whom among loaders, so that a circle is an error and not a hang.

use std::{
    collections::HashMap,
    future::Future,
    sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError},
};

tokio::task_local! {
    static PLACE: Place;
}

/// The loaders that the current task is inside of, the innermost first.
#[derive(Clone, Default)]
pub(crate) struct Place(Option<Arc<Inside>>);

struct Inside {
    /// One flight, or those of a batch.
    flights: Vec<u64>,
    outer: Place,
}

/// For every flight whose loader waits, the flights it waits for; touched only by loaders that load.
static WAITS: LazyLock<Mutex<HashMap<u64, Vec<u64>>>> = LazyLock::new(Mutex::default);

fn waits() -> MutexGuard<'static, HashMap<u64, Vec<u64>>> {
    WAITS.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Place {
    /// Where the current task is.
    pub(crate) fn current() -> Self {
        PLACE.try_with(Self::clone).unwrap_or_default()
    }

    /// Whether the current task is inside of a loader.
    pub(super) fn is_inside_any() -> bool {
        PLACE.try_with(|place| place.0.is_some()).unwrap_or(false)
    }

    /// Runs a loader as the one of `flights`.
    pub(crate) async fn lead<F: Future>(&self, flights: Vec<u64>, load: F) -> F::Output {
        let _waiting = Waiting::new(self.innermost(), &flights, &mut waits());
        let inside = Self(Some(Arc::new(Inside {
            flights,
            outer: self.clone(),
        })));
        PLACE.scope(inside, load).await
    }

    /// Notes that the current loader, if there is one, waits for `flight` while the guard lives; `None` when that would
    /// never end.
    pub(crate) fn wait_for(&self, flight: u64) -> Option<Waiting> {
        let innermost = self.innermost();
        if innermost.is_empty() {
            return Some(Waiting(Vec::new()));
        }
        let mut waits = waits();
        let mut seen = vec![flight];
        let mut next = 0;
        while let Some(&flight) = seen.get(next) {
            if self.is_inside(flight) {
                return None;
            }
            for other in waits.get(&flight).into_iter().flatten() {
                if !seen.contains(other) {
                    seen.push(*other);
                }
            }
            next += 1;
        }
        Some(Waiting::new(innermost, &[flight], &mut waits))
    }

    fn innermost(&self) -> &[u64] {
        self.0.as_ref().map_or(&[], |inside| &inside.flights)
    }

    fn is_inside(&self, flight: u64) -> bool {
        let mut place = self;
        while let Some(inside) = &place.0 {
            if inside.flights.contains(&flight) {
                return true;
            }
            place = &inside.outer;
        }
        false
    }
}

/// Some flights wait for others while this lives.
pub(crate) struct Waiting(Vec<(u64, u64)>);

impl Waiting {
    fn new(from: &[u64], to: &[u64], waits: &mut HashMap<u64, Vec<u64>>) -> Self {
        let pairs = from
            .iter()
            .flat_map(|&from| to.iter().map(move |&to| (from, to)));
        let edges: Vec<_> = pairs.collect();
        for &(from, to) in &edges {
            waits.entry(from).or_default().push(to);
        }
        Self(edges)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if self.0.is_empty() {
            return;
        }
        let mut waits = waits();
        for (from, to) in &self.0 {
            let Some(edges) = waits.get_mut(from) else {
                continue;
            };
            if let Some(index) = edges.iter().position(|edge| edge == to) {
                edges.swap_remove(index);
            }
            if edges.is_empty() {
                waits.remove(from);
            }
        }
    }
}
