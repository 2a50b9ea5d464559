//! What goes with a secret id and ends in the metadata of its tokens: a JSON object in a text, pairs, or a map.

use std::collections::BTreeMap;

use tresor_model::{Body, Fault};
use tresor_wire::input::Form;
use tresor_wire::json::{JsonLimits, decode};

/// Bounds of what goes with a secret id.
const COUNT_MAX: usize = 64;
const BYTES_MAX: usize = 16 * 1024;

/// Reads it in each form that clients send.
pub(crate) fn read(sent: Option<&Body>) -> Result<BTreeMap<String, String>, Fault> {
    const PAIRS: &str = "failed to parse metadata: a JSON object of strings, or pairs name=value, expected";
    let wrong = || Fault::invalid(PAIRS);
    let pairs = match sent {
        None => BTreeMap::new(),
        Some(Body::String(text)) if text.as_str().trim_start().starts_with('{') => {
            let map = decode(text.as_str().as_bytes(), &JsonLimits::default()).map_err(|_| wrong())?;
            BTreeMap::<String, String>::read(&Body::from(map)).map_err(|_| wrong())?
        }
        Some(Body::String(text)) => {
            let pairs = text.as_str().split(',').map(str::trim).filter(|pair| !pair.is_empty());
            let pairs: Option<BTreeMap<String, String>> = pairs
                .map(|pair| pair.split_once('=').map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned())))
                .collect();
            pairs.ok_or_else(wrong)?
        }
        Some(other) => BTreeMap::<String, String>::read(other).map_err(|_| wrong())?,
    };
    let bytes: usize = pairs.iter().map(|(name, value)| name.len() + value.len()).sum();
    if pairs.len() > COUNT_MAX || bytes > BYTES_MAX {
        return Err(Fault::invalid("metadata has more than 64 entries or 16 KiB"));
    }
    Ok(pairs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_that_clients_send_is_read() {
        let expected = BTreeMap::from([("a".to_owned(), "1".to_owned()), ("b".to_owned(), "x y".to_owned())]);
        for text in [r#"{"a": "1", "b": "x y"}"#, r#" {"a": 1, "b": "x y"}"#, "a=1,b=x y", "a = 1 , b = x y,"] {
            assert_eq!(read(Some(&Body::from(text))).ok().as_ref(), Some(&expected), "{text}");
        }
        assert_eq!(read(None).ok(), Some(BTreeMap::new()));
        for text in ["x", "{", r#"{"a": {}}"#, r#"{"a": "1", "a": "2"}"#, r#"["a"]"#] {
            assert!(read(Some(&Body::from(text))).is_err(), "{text}");
        }
        assert!(read(Some(&Body::from(format!("a={}", "v".repeat(BYTES_MAX))))).is_err());
        assert!(read(Some(&Body::from(true))).is_err());
    }
}
