//! Headers that an operator wants in answers, by their status.
//!
//! What is said of one status counts before what is said of its class, and that before what is said of all. Deliberately
//! absent: headers that the API itself has a meaning for, which cannot be set.

use std::collections::BTreeMap;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

/// Of which answers something is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Which {
    All,
    /// By the first digit of the status.
    Class(u16),
    One(u16),
}

impl Which {
    fn parse(text: &str) -> Option<Self> {
        if text == "default" {
            return Some(Self::All);
        }
        if let Some(digit) = text.strip_suffix("xx") {
            return digit.parse().ok().filter(|digit| (1..=5).contains(digit)).map(Self::Class);
        }
        text.parse().ok().filter(|status| (100..=599).contains(status)).map(Self::One)
    }

    const fn is_of(self, status: u16) -> bool {
        match self {
            Self::All => true,
            Self::Class(digit) => status / 100 == digit,
            Self::One(one) => status == one,
        }
    }
}

/// Headers that an operator wants in answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WantedHeaders(BTreeMap<Which, Vec<(HeaderName, Vec<HeaderValue>)>>);

impl WantedHeaders {
    /// Adds a header to the answers of a status: `default`, a class such as `2xx`, or one such as `404`.
    ///
    /// # Errors
    /// What is wrong with the status, the name or a value.
    pub fn add(&mut self, status: &str, name: &str, values: &[String]) -> Result<(), &'static str> {
        let which = Which::parse(status).ok_or("must be named `default`, as a class such as `2xx`, or as a status")?;
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| "has a name that no header can have")?;
        let is_own = name.as_str().starts_with("x-vault-");
        if is_own || matches!(name.as_str(), "content-length" | "transfer-encoding" | "connection" | "content-type") {
            return Err("is a header of the server's own");
        }
        let values = values.iter().map(|value| HeaderValue::from_str(value)).collect::<Result<_, _>>();
        let values = values.map_err(|_| "has a value that no header can have")?;
        self.0.entry(which).or_default().push((name, values));
        Ok(())
    }

    /// Adds a header of the server's own to all answers; a value that no header can have is left out.
    pub fn add_own(&mut self, name: &'static str, value: &str) {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.0.entry(Which::All).or_default().push((HeaderName::from_static(name), vec![value]));
        }
    }

    /// Puts what is wanted into an answer.
    pub(crate) fn put(&self, status: StatusCode, headers: &mut HeaderMap) {
        // What is said of more comes first, and is replaced.
        let of_status = self.0.iter().filter(|(which, _)| which.is_of(status.as_u16()));
        for (name, values) in of_status.flat_map(|(_, wanted)| wanted) {
            headers.remove(name);
            for value in values {
                headers.append(name.clone(), value.clone());
            }
        }
    }
}

/// Adds headers that the node keeps to an answer, each instead of what the answer has of its name. What no header can have
/// is left out.
pub(crate) fn add(wanted: Vec<(String, String)>, headers: &mut HeaderMap) {
    let parsed = wanted.iter().filter_map(|(name, value)| {
        Some((HeaderName::from_bytes(name.as_bytes()).ok()?, HeaderValue::from_str(value).ok()?))
    });
    let parsed: Vec<(HeaderName, HeaderValue)> = parsed.collect();
    for (name, _) in &parsed {
        headers.remove(name);
    }
    for (name, value) in parsed {
        headers.append(name, value);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_said_of_one_status_counts_before_what_is_said_of_more() {
        let mut wanted = WantedHeaders::default();
        let mut add = |status: &str, name: &str, value: &str| wanted.add(status, name, &[value.to_owned()]);
        for (status, value) in [("404", "one"), ("default", "all"), ("4xx", "class")] {
            add(status, "X-Where", value).unwrap();
        }
        add("default", "X-All", "yes").unwrap();
        for (status, name, value) in [
            ("6xx", "X-A", "a"),
            ("99", "X-A", "a"),
            ("", "X-A", "a"),
            ("default", "X-Vault-Foo", "a"),
            ("default", "Content-Length", "1"),
            ("default", "a b", "a"),
            ("default", "X-A", "a\nb"),
        ] {
            assert!(add(status, name, value).is_err(), "{status} {name} {value}");
        }
        let shown = |status: u16| {
            let mut headers = HeaderMap::new();
            wanted.put(StatusCode::from_u16(status).unwrap(), &mut headers);
            assert_eq!(headers.get("x-all").unwrap(), "yes");
            headers.get("x-where").unwrap().to_str().unwrap().to_owned()
        };
        assert_eq!([shown(200), shown(403), shown(404)], ["all", "class", "one"]);
    }
}
