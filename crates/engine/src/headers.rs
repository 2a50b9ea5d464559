//! Headers that an engine is handed and may set: what its mount lets through, and nothing that it did not declare.
//!
//! An operator says by mount which (`passthrough_request_headers`, `allowed_response_headers`); without that there are none.
//! Deliberately absent: credentials and what proxies say of a client, which no request has any more when it comes here
//! (TLS-03), and patterns: a header is named.

use std::collections::BTreeMap;

/// Whether an engine has to do with headers at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeaderUse {
    /// It reads headers of requests.
    pub reads: bool,
    /// It sets headers of answers.
    pub sets: bool,
}

/// The headers of a request that an engine is handed.
#[derive(Clone, Copy, Default)]
pub struct Headers<'a> {
    sent: Option<&'a BTreeMap<String, Vec<String>>>,
    let_through: &'a [String],
}

impl<'a> Headers<'a> {
    /// None.
    pub const NONE: Self = Self { sent: None, let_through: &[] };

    /// Of those that were sent, by names in lower case, what a mount lets through to an engine that uses them so.
    #[must_use]
    pub const fn of(uses: HeaderUse, sent: &'a BTreeMap<String, Vec<String>>, let_through: &'a [String]) -> Self {
        if uses.reads { Self { sent: Some(sent), let_through } } else { Self::NONE }
    }

    /// The values of a header in the order they were sent, by its name in lower case; none when it is not let through.
    #[must_use]
    pub fn values(self, name: &str) -> &'a [String] {
        let sent = self.sent.filter(|_| names(self.let_through, name));
        sent.and_then(|sent| sent.get(name)).map_or(&[], Vec::as_slice)
    }
}

/// Of the headers that an engine sets, by names in lower case, what a mount lets out.
#[must_use]
pub fn let_out(uses: HeaderUse, set: Vec<(&'static str, String)>, allowed: &[String]) -> Vec<(String, String)> {
    let set = set.into_iter().filter(|(name, _)| uses.sets && names(allowed, name));
    set.map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Whether an operator named a header, however it was spelled.
fn names(list: &[String], name: &str) -> bool {
    list.iter().any(|listed| listed.trim().eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: HeaderUse = HeaderUse { reads: true, sets: true };

    #[test]
    fn only_what_is_named_and_declared_goes_through() {
        let sent = BTreeMap::from([("x-one".to_owned(), vec!["1".to_owned(), "2".to_owned()])]);
        let named = [" X-One".to_owned(), "x-absent".to_owned()];
        assert_eq!(Headers::of(BOTH, &sent, &named).values("x-one"), ["1", "2"]);
        assert!(Headers::of(BOTH, &sent, &named).values("x-absent").is_empty());
        assert!(Headers::of(BOTH, &sent, &["x-on*".to_owned()]).values("x-one").is_empty());
        assert!(Headers::of(BOTH, &sent, &[]).values("x-one").is_empty());
        assert!(Headers::of(HeaderUse::default(), &sent, &named).values("x-one").is_empty());
        let set = || vec![("x-one", "1".to_owned()), ("x-two", "2".to_owned())];
        assert_eq!(let_out(BOTH, set(), &named), [("x-one".to_owned(), "1".to_owned())]);
        assert!(let_out(BOTH, set(), &[]).is_empty());
        assert!(let_out(HeaderUse::default(), set(), &named).is_empty());
    }
}
