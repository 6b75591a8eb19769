//! Suggestions for names that are nearly right.

/// The candidate that takes the fewest edits to reach from `word`, and how many those are.
pub(super) fn nearest<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<(&'a str, usize)> {
    candidates
        .into_iter()
        .map(|candidate| (candidate, edits(word, candidate)))
        .min_by_key(|&(_, edits)| edits)
}

/// The insertions, removals and replacements of one character that turn `from` into `to` (Levenshtein's distance).
fn edits(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut above: Vec<usize> = (0..=to.len()).collect();
    for (row, letter) in from.chars().enumerate() {
        let mut diagonal = above[0];
        above[0] = row + 1;
        for (column, &other) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(letter != other);
            diagonal = above[column + 1];
            above[column + 1] = replaced.min(diagonal + 1).min(above[column] + 1);
        }
    }
    above[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_count_insertions_removals_and_replacements() {
        for (from, to, count) in [
            ("", "", 0),
            ("", "abc", 3),
            ("abc", "", 3),
            ("kitten", "sitting", 3),
            ("typ", "type", 1),
            ("memroy", "memory", 2),
        ] {
            assert_eq!(edits(from, to), count, "{from} to {to}");
        }
    }

    #[test]
    fn the_nearest_is_the_one_with_fewest_edits() {
        assert_eq!(nearest("nul", ["memory", "null"]), Some(("null", 1)));
        assert_eq!(nearest("nul", []), None);
    }
}
