//! What fuzz targets need of the codec of entries, which is nobody else's business (feature `fuzz`).

use crate::codec;
use crate::entry::{Admission, Head, RequestEntry, ResponseEntry};
use crate::expression::{Expression, Found, OF_A_REQUEST, Subject};

/// Decodes these bytes as a record of the local log and, when they are one, writes it again.
#[must_use]
pub fn recode(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut entries = codec::decode(bytes)?.into_iter();
    let first = entries.next()?;
    let head = Head::new(&first.auth, &first.request);
    let asked = |time, error| RequestEntry { time, head: &head, error, admission: Admission::Ordinary };
    let (request, answered) = match (&first.response, entries.next()) {
        (None, None) => return Some(codec::encode_request(&asked(first.time, first.error.clone())).to_vec()),
        (None, Some(second)) => (Some(asked(first.time, first.error.clone()).hold()), second),
        (Some(_), _) => (None, first),
    };
    let (time, response, error) = (answered.time, answered.response.as_ref()?, answered.error.clone());
    Some(codec::encode_response(ResponseEntry { time, head, request, response, error }).to_vec())
}

/// The bytes of an answer's entry, to start from.
#[must_use]
pub fn encode(entry: ResponseEntry<'_>) -> Vec<u8> {
    codec::encode_response(entry).to_vec()
}

/// What a filter (or with `of_lines` a condition) is printed as, and what it says of what is empty; nothing when the text is
/// none.
#[must_use]
pub fn expression(text: &str, of_lines: bool) -> Option<(String, bool)> {
    let subject = if of_lines { Subject::Lines } else { OF_A_REQUEST };
    let parsed = Expression::parse(text, subject).ok()?;
    Some((parsed.to_string(), parsed.holds(&|_| Found::NOTHING)))
}

/// What expressions are made of.
pub const EXPRESSION_WORDS: &[&str] = crate::expression::WORDS;
/// The longest expression, in bytes.
pub const EXPRESSION_BYTES_MAX: usize = crate::expression::BYTES_MAX;
