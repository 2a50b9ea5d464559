//! What somebody meant who mistyped a word: the nearest of some, when it is near.

/// The nearest of these words, when no more than a third of its letters are wrong.
pub(crate) fn nearest<'w>(word: &str, known: impl IntoIterator<Item = &'w str>) -> Option<&'w str> {
    let near = known.into_iter().map(|other| (distance(word, other), other)).min()?;
    (near.0 > 0 && near.0 <= (near.1.chars().count() / 3).max(1)).then_some(near.1)
}

/// How many letters differ, are missing, too many, or stand in each other's place.
fn distance(one: &str, other: &str) -> usize {
    let (one, other): (Vec<char>, Vec<char>) = (one.chars().collect(), other.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (line, letter) in one.iter().enumerate() {
        let mut next = vec![line + 1];
        for (column, with) in other.iter().enumerate() {
            let at = |row: &[usize], column: usize| row.get(column).copied().unwrap_or(usize::MAX - 1);
            let mut least = at(&row, column) + usize::from(letter != with);
            least = least.min(at(&row, column + 1) + 1).min(at(&next, column) + 1);
            let crossed =
                column > 0 && line > 0 && one.get(line - 1) == Some(with) && other.get(column - 1) == Some(letter);
            if crossed {
                least = least.min(at(&before, column - 1) + 1);
            }
            next.push(least);
        }
        before = std::mem::replace(&mut row, next);
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_near_is_found_and_what_is_not_is_not() {
        let words = ["status", "secrets", "seal", "format", "kv"];
        for (typed, meant) in [
            ("formta", Some("format")),
            ("sattus", Some("status")),
            ("formta", Some("format")),
            ("xyz", None),
            ("k", Some("kv")),
        ] {
            assert_eq!(nearest(typed, words), meant, "{typed}");
        }
        assert_eq!(nearest("seal", ["seal"]), None, "it is no mistake");
        assert_eq!((distance("ca", "abc"), distance("", "ab"), distance("xy", "yx")), (3, 2, 1));
    }
}
