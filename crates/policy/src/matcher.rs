//! Which pattern decides: the one specificity order, and a matcher that does not look at every rule.
//!
//! Among the patterns that match, in this order: the one whose first wildcard comes later; the one that does not end
//! in `*`; the one with fewer `+` segments; the longer one; the greater one. A pattern without a wildcard therefore
//! wins over every other. `*` is a wildcard at the end only, `+` as a whole segment only.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ops::Bound;

/// A pattern, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pattern {
    text: String,
    /// Where the first wildcard is; the length when there is none.
    first_wildcard: usize,
    has_wildcard: bool,
    ends_in_glob: bool,
    plus_segments: usize,
}

impl Pattern {
    pub(crate) fn new(text: &str) -> Self {
        let ends_in_glob = text.ends_with('*');
        let body = text.strip_suffix('*').unwrap_or(text);
        let mut first_plus = None;
        let mut plus_segments = 0;
        let mut start = 0;
        for segment in body.split('/') {
            if segment == "+" {
                plus_segments += 1;
                first_plus = first_plus.or(Some(start));
            }
            start += segment.len() + 1;
        }
        let has_wildcard = ends_in_glob || plus_segments > 0;
        let first_wildcard = first_plus.unwrap_or(body.len());
        Self { text: text.to_owned(), first_wildcard, has_wildcard, ends_in_glob, plus_segments }
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// The text before a glob's star, or all of it.
    fn body(&self) -> &str {
        if self.ends_in_glob { self.text.strip_suffix('*').unwrap_or(&self.text) } else { &self.text }
    }

    /// Whether the pattern, of whatever kind, matches.
    pub(crate) fn matches(&self, path: &str) -> bool {
        if !self.has_wildcard {
            return self.text == path;
        }
        if self.is_plain_prefix() { path.starts_with(self.body()) } else { self.matches_segments(path) }
    }

    fn is_plain_prefix(&self) -> bool {
        self.ends_in_glob && self.plus_segments == 0
    }

    fn matches_segments(&self, path: &str) -> bool {
        let mut rest = path;
        let mut segments = self.body().split('/').peekable();
        while let Some(segment) = segments.next() {
            let is_last = segments.peek().is_none();
            if is_last && self.ends_in_glob && segment != "+" {
                return rest.starts_with(segment);
            }
            let (own, deeper) = rest.split_once('/').map_or((rest, None), |(own, deeper)| (own, Some(deeper)));
            if (segment == "+" && own.is_empty()) || (segment != "+" && segment != own) {
                return false;
            }
            match (is_last, deeper) {
                // `a/+*` goes on with anything after the segment.
                (true, _) if self.ends_in_glob => return true,
                (true, deeper) => return deeper.is_none(),
                (false, Some(deeper)) => rest = deeper,
                (false, None) => return false,
            }
        }
        false
    }
}

/// The more specific pattern is the greater one.
pub(crate) fn specificity(a: &Pattern, b: &Pattern) -> Ordering {
    a.has_wildcard
        .cmp(&b.has_wildcard)
        .reverse()
        .then(a.first_wildcard.cmp(&b.first_wildcard))
        .then(a.ends_in_glob.cmp(&b.ends_in_glob).reverse())
        .then(a.plus_segments.cmp(&b.plus_segments).reverse())
        .then(a.text.len().cmp(&b.text.len()))
        .then(a.text.cmp(&b.text))
}

/// Patterns with something attached.
#[derive(Clone, Debug)]
pub(crate) struct Matcher<T> {
    exact: BTreeMap<String, T>,
    /// Plain prefixes, without their star.
    prefixes: BTreeMap<String, (Pattern, T)>,
    /// Patterns with `+`, the most specific first.
    segments: Vec<(Pattern, T)>,
}

impl<T> Matcher<T> {
    pub(crate) fn new(patterns: BTreeMap<String, T>) -> Self {
        let mut matcher = Self { exact: BTreeMap::new(), prefixes: BTreeMap::new(), segments: Vec::new() };
        for (text, value) in patterns {
            let pattern = Pattern::new(&text);
            if !pattern.has_wildcard {
                matcher.exact.insert(text, value);
            } else if pattern.is_plain_prefix() {
                matcher.prefixes.insert(pattern.body().to_owned(), (pattern, value));
            } else {
                matcher.segments.push((pattern, value));
            }
        }
        matcher.segments.sort_by(|(a, _), (b, _)| specificity(b, a));
        matcher
    }

    /// What is attached to exactly this pattern.
    pub(crate) fn at(&self, text: &str) -> Option<&T> {
        let pattern = Pattern::new(text);
        if !pattern.has_wildcard {
            return self.exact.get(text);
        }
        if pattern.is_plain_prefix() {
            return self.prefixes.get(pattern.body()).map(|(_, value)| value);
        }
        self.segments.iter().find(|(known, _)| known.text == text).map(|(_, value)| value)
    }

    /// The most specific pattern that matches, and what is attached to it.
    pub(crate) fn find<'m>(&'m self, path: &str) -> Option<(&'m str, &'m T)> {
        if let Some((text, value)) = self.exact.get_key_value(path) {
            return Some((text, value));
        }
        let prefix = self.longest_prefix(path);
        let segments = self.segments.iter().find(|(pattern, _)| pattern.matches_segments(path));
        let best = match (prefix, segments) {
            (Some(prefix), Some(segments)) if specificity(&segments.0, &prefix.0).is_gt() => Some(segments),
            (Some(prefix), _) => Some(prefix),
            (None, segments) => segments,
        };
        best.map(|(pattern, value)| (pattern.text(), value))
    }

    /// The longest prefix of the path among the plain prefixes: each step goes back to what both have in common.
    fn longest_prefix(&self, path: &str) -> Option<&(Pattern, T)> {
        let mut end = path.len();
        loop {
            let head = path.get(..end)?;
            let (candidate, found) =
                self.prefixes.range::<str, _>((Bound::Unbounded, Bound::Included(head))).next_back()?;
            if path.starts_with(candidate.as_str()) {
                return Some(found);
            }
            let common = candidate.bytes().zip(head.bytes()).take_while(|(a, b)| a == b).count();
            // Never within a character: shorter is always safe.
            end = (0..=common).rev().find(|at| path.is_char_boundary(*at))?;
        }
    }

    /// Every pattern, with what is attached.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &T)> {
        let exact = self.exact.iter().map(|(text, value)| (text.as_str(), value));
        let prefixes = self.prefixes.values().map(|(pattern, value)| (pattern.text(), value));
        let segments = self.segments.iter().map(|(pattern, value)| (pattern.text(), value));
        exact.chain(prefixes).chain(segments)
    }
}
