//! The log of invalidations as a server may give it back, for a target in `fuzz/`.

use super::*;

/// Reads a log of tags and goes on with it: each byte before the first zero stands for a tag that is invalidated, what
/// follows is the log.
pub fn tag_log(bytes: &[u8]) {
    let at = bytes.iter().position(|&byte| byte == 0);
    let (noted, rest) = bytes.split_at(at.unwrap_or(0));
    let noted: Vec<_> = noted
        .iter()
        .take(2 * REMEMBERED)
        .map(|byte| byte % 8)
        .collect();
    let log = Bytes::copy_from_slice(rest.get(1..).unwrap_or_default());
    let Some(mut log) = Log::decode(&log) else {
        return;
    };
    let marker = |number: u8| Key::new("fuzz", None, [number]);
    let is_again = |log: &Log| {
        let entry = log.entry(Timestamp::from_secs(7));
        Log::read(&entry).as_ref() == Some(log)
    };
    assert!(is_again(&log));
    let first = log.seen();
    let mut states = vec![first];
    for &number in &noted {
        log.note(&[marker(number)]);
        assert!(is_again(&log), "a log that was written cannot be read");
        states.push(log.seen());
    }
    for (at, &seen) in states.iter().enumerate() {
        let since = &noted[at..];
        for number in 0..8 {
            let has_changed = log.has_changed(seen, &[marker(number)]);
            // What was forgotten counts as changed.
            let is_known = since.len() <= log.recent.len();
            assert_eq!(has_changed, !is_known || since.contains(&number));
        }
        assert!(since.len() > log.recent.len() || !log.has_changed(seen, &[]));
        // A log that fell back to an earlier state, or another one, is not trusted.
        let ahead = Seen {
            sequence: log.sequence.wrapping_add(1),
            ..seen
        };
        let foreign = Seen {
            nonce: !seen.nonce,
            ..seen
        };
        for other in [ahead, foreign] {
            assert!(log.has_changed(other, &[marker(1)]));
        }
    }
}
