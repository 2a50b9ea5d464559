//! `custom_metadata`: what people keep with a secret, and its bounds.

use std::collections::BTreeMap;

use tresor_model::{Body, Fault};
use tresor_wire::input::Form;

const COUNT_MAX: usize = 64;
const KEY_BYTES_MAX: usize = 128;
const VALUE_BYTES_MAX: usize = 512;

/// What is wrong with it, all at once; values are not repeated, and neither are keys that are wrong themselves.
fn complaints(custom: &BTreeMap<String, String>) -> Vec<String> {
    if custom.len() > COUNT_MAX {
        return vec![format!("payload must contain at most {COUNT_MAX} keys, provided {}", custom.len())];
    }
    let mut complaints = Vec::new();
    for (key, value) in custom {
        let (key_bytes, value_bytes) = (key.len(), value.len());
        if key_bytes == 0 || key_bytes > KEY_BYTES_MAX {
            complaints.push(format!("length of key is {key_bytes} but must be 0 < len(key) <= {KEY_BYTES_MAX}"));
        } else if !is_printable(key) {
            complaints.push("key contains unprintable characters".to_owned());
        } else if value_bytes == 0 || value_bytes > VALUE_BYTES_MAX {
            complaints.push(format!(
                "length of value for key {key:?} is {value_bytes} but must be 0 < len(value) <= {VALUE_BYTES_MAX}"
            ));
        } else if !is_printable(value) {
            complaints.push(format!("value for key {key:?} contains unprintable characters"));
        }
    }
    complaints
}

fn is_printable(text: &str) -> bool {
    text.chars().all(|letter| letter == ' ' || !(letter.is_control() || letter.is_whitespace()))
}

/// Within its bounds, or refused.
pub(super) fn checked(custom: BTreeMap<String, String>) -> Result<BTreeMap<String, String>, Fault> {
    let complaints: Vec<String> =
        complaints(&custom).iter().map(|complaint| format!("custom_metadata validation failed: {complaint}")).collect();
    if complaints.is_empty() { Ok(custom) } else { Err(Fault::invalid(complaints.join("; "))) }
}

/// Applies a merge patch: `null` removes.
pub(super) fn patched(known: &BTreeMap<String, String>, change: &Body) -> Result<BTreeMap<String, String>, Fault> {
    let changes = change.as_map().ok_or_else(|| Fault::invalid("field `custom_metadata` must be a map"))?;
    let mut custom = known.clone();
    for (name, value) in changes.iter() {
        if *value == Body::Null {
            custom.remove(name);
        } else {
            let text = String::read(value)
                .map_err(|_| Fault::invalid("custom_metadata validation failed: values must be strings"))?;
            custom.insert(name.to_owned(), text);
        }
    }
    checked(custom)
}
