//! Many keys in few requests, together with the generations of their shares.

use std::collections::HashMap;

use super::{
    connection::Connection,
    error::{Failure, changed_at_every_attempt},
    item::{Found, Item},
    markers::{ATTEMPTS, Share},
    stored,
};
use crate::{
    Key,
    backend::{generation::Generation, join::join},
};

/// What was found of a key, and the generation that it is of.
pub(super) type Answer = (Option<Found>, Generation);

/// The shares of some keys, and for each key its number, the place of its share, and what it is stored under.
struct Plan {
    shares: Vec<(Share, Generation)>,
    places: Vec<(usize, usize, Vec<u8>)>,
}

impl Plan {
    fn markers(&self) -> impl Iterator<Item = Vec<u8>> + '_ {
        self.shares.iter().map(|(share, _)| share.marker())
    }
}

impl Connection {
    /// Reads the items of `keys`; only what shows that they are there, where that is all that is asked for.
    pub(super) async fn read(&self, keys: &[&Key], signs: bool) -> Result<Vec<Answer>, Failure> {
        self.know().await?;
        let mut answers: Vec<Option<Answer>> = keys.iter().map(|_| None).collect();
        let mut open: Vec<_> = (0..keys.len()).collect();
        for _ in 0..ATTEMPTS {
            if open.is_empty() {
                let answers = answers.into_iter().flatten();
                return Ok(answers.collect());
            }
            let plan = self.plan(keys, &open).await?;
            let stored = plan.places.iter().map(|(.., stored)| stored.clone());
            let items = self.get_all(plan.markers().chain(stored), signs).await?;
            let current = self.confirm_all(&plan, &items).await?;
            open.clear();
            for (number, place, stored) in plan.places {
                match current[place] {
                    Some(generation) => {
                        let found = items.get(&stored).cloned().map(Found::new);
                        answers[number] = Some((found, generation));
                    }
                    None => open.push(number),
                }
            }
        }
        Err(changed_at_every_attempt())
    }

    /// Puts an item for each of `keys`, which all differ, in the place of whatever is there. `item` makes it from the
    /// key's number and what it is stored under, and says about how large it is.
    pub(super) async fn write(
        &self,
        keys: &[&Key],
        item: impl Fn(usize, Vec<u8>) -> (Item, usize),
    ) -> Result<(), Failure> {
        self.know().await?;
        let mut open: Vec<_> = (0..keys.len()).collect();
        for _ in 0..ATTEMPTS {
            if open.is_empty() {
                return Ok(());
            }
            let plan = self.plan(keys, &open).await?;
            let items = plan.places.iter();
            let items = items.map(|(number, _, stored)| item(*number, stored.clone()));
            let (done, markers) = join(
                self.put_all(items.collect()),
                self.get_all(plan.markers(), true),
            )
            .await;
            let current = self.confirm_all(&plan, &markers?).await?;
            done?;
            open.clear();
            let places = plan.places.into_iter();
            open.extend(
                places
                    .filter(|(_, place, _)| current[*place].is_none())
                    .map(|(number, ..)| number),
            );
        }
        Err(changed_at_every_attempt())
    }

    async fn plan(&self, keys: &[&Key], open: &[usize]) -> Result<Plan, Failure> {
        let mut shares: Vec<(Share, Generation)> = Vec::new();
        let mut places = Vec::with_capacity(open.len());
        for &number in open {
            let key = keys[number];
            let share = self.share(key);
            let known = shares.iter().position(|(known, _)| known.is(&share));
            let place = match known {
                Some(place) => place,
                None => {
                    let generation = self.generation(&share, key).await?;
                    shares.push((share, generation));
                    shares.len() - 1
                }
            };
            let (share, generation) = &shares[place];
            let stored = stored::key(&share.namespace, *generation, key.as_key_ref());
            places.push((number, place, stored));
        }
        Ok(Plan { shares, places })
    }

    /// The generation of each share, where it is still the one that was asked by.
    async fn confirm_all(
        &self,
        plan: &Plan,
        items: &HashMap<Vec<u8>, Item>,
    ) -> Result<Vec<Option<Generation>>, Failure> {
        let mut current = Vec::with_capacity(plan.shares.len());
        for (share, generation) in &plan.shares {
            let marker = items.get(&share.marker());
            let same = self.confirm(share, *generation, marker).await?;
            current.push(same.then_some(*generation));
        }
        Ok(current)
    }
}

/// The numbers of the keys in waves that have no key twice, equal keys one after the other.
pub(super) fn waves<'a>(keys: impl IntoIterator<Item = &'a Key>) -> Vec<Vec<usize>> {
    let mut waves: Vec<Vec<usize>> = Vec::new();
    let mut seen: HashMap<&Key, usize> = HashMap::new();
    for (number, key) in keys.into_iter().enumerate() {
        let wave = seen.entry(key).or_default();
        match waves.get_mut(*wave) {
            Some(numbers) => numbers.push(number),
            None => waves.push(vec![number]),
        }
        *wave += 1;
    }
    waves
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_keys_are_written_one_after_the_other() {
        let (a, b) = (Key::new("test", None, "a"), Key::new("test", None, "b"));
        let expected: [&[usize]; 3] = [&[0, 1], &[2, 4], &[3]];
        assert_eq!(waves([&a, &b, &a, &a, &b]), expected);
        assert!(waves([]).is_empty());
    }
}
