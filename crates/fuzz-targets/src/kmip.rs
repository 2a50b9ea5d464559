//! What a server of keys answers by KMIP: items as bytes, and what is read of them. Total; what is read has one spelling; the head of
//! an answer says how long it is, within the bound.

use tresor_kmip::ttlv::{Item, Value};
use tresor_kmip::{ANSWER_BYTES_MAX, HEAD_BYTES, decrypted, encrypted, length};

pub(crate) const WORDS: &[&str] = &[
    "B\0{\u{1}\0\0\0",
    "B\0z\u{1}\0\0\0",
    "B\0\u{f}\u{1}\0\0\0",
    "B\0|\u{1}\0\0\0",
    "B\0\\\u{5}\0\0\0\u{4}\0\0\0\u{1f}\0\0\0\0",
    "B\0\u{7f}\u{5}\0\0\0\u{4}\0\0\0\0\0\0\0\0",
    "\u{2}\0\0\0\u{4}",
    "\u{3}\0\0\0\u{8}",
    "\u{4}\0\0\0\u{8}",
    "\u{6}\0\0\0\u{8}\0\0\0\0\0\0\0\u{1}",
    "\u{7}\0\0\0\u{1}a\0\0\0\0\0\0\0",
    "\u{8}\0\0\0\0",
    "\u{7f}\u{7f}\u{7f}\u{7f}",
    "\0\0\0\0",
];

/// An answer.
pub fn kmip(bytes: &[u8]) {
    let head: Option<[u8; HEAD_BYTES]> = bytes.first_chunk().copied();
    if let Some(Ok(length)) = head.map(length) {
        assert!(length <= ANSWER_BYTES_MAX - HEAD_BYTES, "a length beyond the bound is believed");
    }
    let read = Item::decode(bytes);
    if let Ok(item) = &read {
        assert!(Item::decode(bytes) == read, "read again it is another one");
        if is_known(&item.value) {
            assert_eq!(item.encode().as_slice(), bytes, "one item, two spellings");
        }
        drop(format!("{item:?}"));
    }
    // Only an item is an answer, and one answer is to one question.
    let (sealed, opened) = (encrypted(bytes), decrypted(bytes));
    assert!(read.is_ok() || sealed.is_err() && opened.is_err(), "what is no item is an answer");
    assert!(sealed.is_err() || opened.is_err(), "one answer to two questions");
}

/// Whether all of it is of types that are read, and not passed over.
fn is_known(value: &Value) -> bool {
    match value {
        Value::Structure(items) => items.iter().all(|item| is_known(&item.value)),
        Value::Other(_) => false,
        _ => true,
    }
}
