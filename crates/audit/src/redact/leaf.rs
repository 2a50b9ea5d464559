//! The strings of a redacted record: public, hashed, or raw because this device was configured so.
//!
//! Invariant: called by the redactor alone (`pub(super)`); what is not public passes through here as a hash. Deliberately
//! absent: a way back to what was hashed.

use tresor_wire::json::encode_text;

use crate::entry::Clear;

/// What hashed strings begin with.
const HASHED: &[u8; 12] = b"hmac-sha256:";

/// A fact that every device shows.
pub(super) fn public(fact: &Clear<'_>, out: &mut Vec<u8>) {
    encode_text(fact.as_str(), out);
}

/// A word that is public by the mount's configuration, or ours.
pub(super) fn declared(text: &str, out: &mut Vec<u8>) {
    encode_text(text, out);
}

/// A secret, for a device with `log_raw`.
pub(super) fn raw(text: &str, out: &mut Vec<u8>) {
    encode_text(text, out);
}

/// A keyed hash.
pub(super) fn hashed(digest: &[u8; 32], out: &mut Vec<u8>) {
    let mut digits = [[0; 2]; 32];
    for (pair, byte) in digits.iter_mut().zip(digest) {
        *pair = [digit(byte >> 4), digit(byte & 0xf)];
    }
    out.reserve(2 + HASHED.len() + 64);
    out.push(b'"');
    out.extend_from_slice(HASHED);
    out.extend_from_slice(digits.as_flattened());
    out.push(b'"');
}

const fn digit(nibble: u8) -> u8 {
    if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 }
}

/// What stands in the place of a hashed string, without its quotes.
pub(super) fn shown(digest: &[u8; 32]) -> String {
    let mut text = Vec::new();
    hashed(digest, &mut text);
    String::from_utf8_lossy(&text).trim_matches('"').to_owned()
}
