//! The smallest pair of requests that shows what a larger one does.

use http::Method;

use super::{
    ask::Ask,
    input::Place,
    judge::{Evidence, Pair},
};

/// Pairs are tried so often; what is not the smallest by then is shown as it is.
const ATTEMPTS: usize = 600;

/// Takes out of both requests what is not needed for `still` to see it.
pub(super) async fn shrink(
    mut pair: Pair,
    mut evidence: Evidence,
    mut still: impl AsyncFnMut(&Pair) -> Option<Evidence>,
) -> (Pair, Evidence) {
    let mut attempts = 0;
    'again: loop {
        for smaller in smaller(&pair) {
            attempts += 1;
            if attempts > ATTEMPTS {
                return (pair, evidence);
            }
            if let Some(seen) = still(&smaller).await {
                (pair, evidence) = (smaller, seen);
                continue 'again;
            }
        }
        return (pair, evidence);
    }
}

fn smaller(pair: &Pair) -> Vec<Pair> {
    let with = |one: Ask, other: Ask| Pair {
        one,
        other,
        together: pair.together,
    };
    let mut smaller = Vec::new();
    if pair.together {
        smaller.push(Pair {
            together: false,
            ..pair.clone()
        });
    }
    for other in pair.other.smaller() {
        smaller.push(with(pair.one.clone(), other));
    }
    for one in pair.one.smaller() {
        smaller.push(with(one, pair.other.clone()));
    }
    // What both have chooses the entry, so it goes from both or from neither.
    for given in &pair.one.given {
        if pair.other.value(given.place, &given.name).is_some() {
            let without = |ask: &Ask| {
                let mut ask = ask.clone();
                ask.given
                    .retain(|it| (it.place, &it.name) != (given.place, &given.name));
                ask
            };
            smaller.push(with(without(&pair.one), without(&pair.other)));
        }
    }
    if pair.one.method == pair.other.method && pair.one.method != Method::GET {
        let read = |ask: &Ask| {
            let mut ask = ask.clone();
            ask.method = Method::GET;
            ask.given.retain(|given| given.place != Place::Body);
            ask
        };
        smaller.push(with(read(&pair.one), read(&pair.other)));
    }
    smaller
}
