//! Writes of many keys, in calls that the server may work on in any order.

use std::collections::HashMap;

use crate::Key;

/// The most keys in one call; the next ones have one of their own, and the whole time for it.
pub(super) const ROWS: usize = 1_000;

/// About so many bytes are sent in one call.
const BYTES: usize = 8 << 20;

/// The numbers of the keys, in calls that are not too large and have no key twice.
pub(super) fn calls(keys: &[&Key], size: impl Fn(usize) -> usize) -> Vec<Vec<usize>> {
    let mut waves: Vec<Vec<usize>> = Vec::new();
    let mut seen: HashMap<&Key, usize> = HashMap::new();
    for (number, key) in keys.iter().enumerate() {
        let wave = seen.entry(key).or_default();
        match waves.get_mut(*wave) {
            Some(numbers) => numbers.push(number),
            None => waves.push(vec![number]),
        }
        *wave += 1;
    }
    let mut calls = Vec::new();
    for wave in waves {
        let (mut call, mut bytes) = (Vec::new(), 0);
        for number in wave {
            bytes += size(number);
            if !call.is_empty() && (call.len() >= ROWS || bytes > BYTES) {
                calls.push(std::mem::take(&mut call));
                bytes = size(number);
            }
            call.push(number);
        }
        calls.push(call);
    }
    calls
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        Key::new("test", None, name)
    }

    #[test]
    fn equal_keys_are_written_one_after_the_other() {
        let (a, b) = (key("a"), key("b"));
        let keys = [&a, &b, &a, &a, &b];
        let expected: [&[usize]; 3] = [&[0, 1], &[2, 4], &[3]];
        assert_eq!(calls(&keys, |_| 1), expected);
    }

    #[test]
    fn a_call_has_a_bound_of_rows_and_of_bytes() {
        let keys: Vec<_> = (0..2_500).map(|name| key(&name.to_string())).collect();
        let keys: Vec<_> = keys.iter().collect();
        let rows: Vec<_> = calls(&keys, |_| 1).iter().map(Vec::len).collect();
        assert_eq!(rows, [1_000, 1_000, 500]);

        let large = calls(&keys[..5], |_| BYTES / 2);
        let rows: Vec<_> = large.iter().map(Vec::len).collect();
        assert_eq!(rows, [2, 2, 1]);
        assert_eq!(calls(&keys[..2], |_| 2 * BYTES).len(), 2);
        assert!(calls(&[], |_| 1).is_empty());
    }
}
