//! Committed lists that tools compare with reality: text files with one entry a line, sorted, `#` for remarks.

use std::collections::BTreeSet;

/// The entries of a list file.
#[must_use]
pub fn entries(text: &str) -> BTreeSet<String> {
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect()
}

/// The remarks at the head of a list file, which an update keeps.
#[must_use]
pub fn head(text: &str) -> String {
    text.lines().take_while(|line| line.starts_with('#')).map(|line| format!("{line}\n")).collect()
}

/// A list file of these entries under this head.
#[must_use]
pub fn compose(head: &str, entries: &BTreeSet<String>) -> String {
    let mut text = head.to_owned();
    for entry in entries {
        text.push_str(entry);
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_survives_being_read_and_written() {
        let text = "# what it is\n# and why\na\nb\n";
        assert_eq!(compose(&head(text), &entries(text)), text);
    }

    #[test]
    fn remarks_and_blank_lines_are_no_entries() {
        assert_eq!(entries("# x\n\n b \n a\n").into_iter().collect::<Vec<_>>(), ["a", "b"]);
    }
}
