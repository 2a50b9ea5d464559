//! Sending what a file says, and keeping what an answer gave for later lines.

use std::collections::BTreeMap;

use regex::{Captures, Regex};
use serde_json::Value;

use super::outcome;
use crate::support::Http;

/// A client of one server, with what it was given so far.
pub(super) struct Session {
    http: Http,
    kept: BTreeMap<String, String>,
    names: Regex,
    last: Value,
}

impl Session {
    pub(super) fn new(http: Http) -> Self {
        let kept = BTreeMap::from([("root".to_owned(), "root".to_owned())]);
        Self { http, kept, names: Regex::new(r"\$\{?([a-z_0-9]+)\}?").unwrap(), last: Value::Null }
    }

    /// Sends `METHOD PATH TOKEN [HEADER:VALUE ...] [BODY]`; what came of it, as files spell it. A token is `-` (none), a name
    /// that was kept, or `=TEXT`; a tilde in a header's value is a space; a body that is no JSON begins with an apostrophe.
    pub(super) fn send(&mut self, line: &str) -> String {
        let mut parts = line.splitn(4, ' ');
        let (method, path, token) = (parts.next().unwrap(), parts.next().unwrap(), parts.next().unwrap());
        let mut rest = parts.next().unwrap_or_default();
        let mut head = format!("{method} /v1/{} HTTP/1.1\r\nHost: server\r\nConnection: close\r\n", self.filled(path));
        while !rest.is_empty() && !rest.starts_with(['{', '[', '\'', '"']) {
            let (header, after) = rest.split_once(' ').unwrap_or((rest, ""));
            let (name, value) = header.split_once(':').unwrap();
            head.push_str(&format!("{name}: {}\r\n", self.filled(value).replace('~', " ")));
            rest = after;
        }
        let token = match token.strip_prefix('=') {
            Some(text) => Some(text),
            None if token == "-" => None,
            None => Some(self.kept[token.trim_start_matches('$')].as_str()),
        };
        if let Some(token) = token {
            head.push_str(&format!("X-Vault-Token: {token}\r\n"));
        }
        let body = self.filled(rest.strip_prefix('\'').unwrap_or(rest));
        if !rest.is_empty() {
            head.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        let received = self.http.raw(format!("{head}\r\n{body}").as_bytes());
        let received = String::from_utf8_lossy(&received);
        let (head, body) = received.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer to {line}"));
        self.last = serde_json::from_str(body).unwrap_or(Value::Null);
        outcome::of(head, body, &|text| self.named(text))
    }

    /// Keeps one value of the last answer: `NAME PATH.OF.IT`.
    pub(super) fn keep(&mut self, what: &str) {
        let (name, path) = what.split_once(' ').unwrap();
        let value = self.last.pointer(&format!("/{}", path.replace('.', "/")));
        let text = value.and_then(Value::as_str).unwrap_or("null");
        self.kept.insert(name.to_owned(), text.to_owned());
    }

    /// A text with what was kept in the place of names.
    fn filled(&self, text: &str) -> String {
        let fill = |found: &Captures<'_>| self.kept.get(&found[1]).cloned().unwrap_or_else(|| found[0].to_owned());
        self.names.replace_all(text, fill).into_owned()
    }

    /// The reverse: a text with names in the place of what was kept.
    fn named(&self, text: &str) -> String {
        let mut kept: Vec<_> = self.kept.iter().filter(|(_, value)| value.len() > 8).collect();
        kept.sort_by_key(|(name, value)| (std::cmp::Reverse(value.len()), *name));
        kept.into_iter().fold(text.to_owned(), |text, (name, value)| text.replace(value, &format!("${name}")))
    }
}
