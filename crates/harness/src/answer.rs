//! What came back: status, headers, bytes, and the JSON in them.

use std::fmt;

use serde_json::Value;

/// An answer of the HTTP face.
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The headers.
    pub headers: http::HeaderMap,
    /// The body as sent.
    pub bytes: Vec<u8>,
    /// The body as JSON; null when it is empty or something else.
    pub json: Value,
}

impl Answer {
    pub(crate) fn new(head: http::response::Parts, bytes: Vec<u8>) -> Self {
        let json = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        Self { status: head.status.as_u16(), headers: head.headers, bytes, json }
    }

    /// The value at a JSON pointer such as `/data/keys`; null when there is none.
    #[must_use]
    pub fn at(&self, pointer: &str) -> &Value {
        self.json.pointer(pointer).unwrap_or(&Value::Null)
    }

    /// The text at a JSON pointer.
    #[must_use]
    pub fn text_at(&self, pointer: &str) -> String {
        self.at(pointer).as_str().unwrap_or_else(|| panic!("no text at {pointer}: {self:?}")).to_owned()
    }

    /// The errors, in one text.
    #[must_use]
    pub fn errors(&self) -> String {
        let texts = self.at("/errors").as_array().cloned().unwrap_or_default();
        texts.iter().filter_map(Value::as_str).collect::<Vec<_>>().join("\n")
    }

    /// Checks the status; gives the answer back.
    #[must_use = "or say `drop`, when the status is all that matters"]
    #[track_caller]
    pub fn expect_status(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        self
    }

    /// Checks the status and that the errors contain a text.
    #[track_caller]
    pub fn expect_error(&self, status: u16, text: &str) {
        assert_eq!(self.status, status, "{self:?}");
        assert!(self.errors().contains(text), "{text:?} is not in {self:?}");
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.status, String::from_utf8_lossy(&self.bytes))
    }
}
