//! JSON merge patch (RFC 7396): `null` removes, objects merge, everything else replaces.

use tresor_model::{Body, Map};

/// Applies a patch to a document.
pub(super) fn merge(target: &mut Map, patch: Map) {
    for (name, change) in patch {
        match (change, target.get_mut(&name)) {
            (Body::Null, _) => drop(target.remove(&name)),
            (Body::Map(change), Some(Body::Map(known))) => merge(known, change),
            (Body::Map(change), _) => {
                let mut fresh = Map::new();
                merge(&mut fresh, change);
                target.insert(name, fresh);
            }
            (change, _) => drop(target.insert(name, change)),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use tresor_wire::json::{JsonLimits, decode, encode_map};

    use super::*;

    /// The examples of RFC 7396, appendix A, whose target and patch are objects.
    #[test]
    fn fz_17_the_examples_of_the_standard_hold() {
        for (target, patch, expected) in [
            (r#"{"a":"b"}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
            (r#"{"a":"b"}"#, r#"{"b":"c"}"#, r#"{"a":"b","b":"c"}"#),
            (r#"{"a":"b"}"#, r#"{"a":null}"#, "{}"),
            (r#"{"a":"b","b":"c"}"#, r#"{"a":null}"#, r#"{"b":"c"}"#),
            (r#"{"a":["b"]}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
            (r#"{"a":"c"}"#, r#"{"a":["b"]}"#, r#"{"a":["b"]}"#),
            (r#"{"a":{"b":"c"}}"#, r#"{"a":{"b":"d","c":null}}"#, r#"{"a":{"b":"d"}}"#),
            (r#"{"a":[{"b":"c"}]}"#, r#"{"a":[1]}"#, r#"{"a":[1]}"#),
            (r#"{"e":null}"#, r#"{"a":1}"#, r#"{"a":1,"e":null}"#),
            ("{}", r#"{"a":{"bb":{"ccc":null}}}"#, r#"{"a":{"bb":{}}}"#),
        ] {
            let read = |text: &str| decode(text.as_bytes(), &JsonLimits::default()).unwrap();
            let mut document = read(target);
            merge(&mut document, read(patch));
            let mut out = Vec::new();
            encode_map(&document, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), expected, "{target} {patch}");
        }
    }
}
