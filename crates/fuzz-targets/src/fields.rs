//! FZ-18 and the typed inputs: the fields of a request, in every form that a field can have. Total; an error names a
//! field and no value; what was read has the promises of its form.

use std::collections::BTreeMap;
use std::time::Duration;

use tresor_model::Map;
use tresor_secret::SecretString;
use tresor_wire::input::{
    Bytes, Cidrs, CommaList, Fields, Form, Input, InputError, LowerName, Place, Seconds, SignedSeconds, StringList,
};
use tresor_wire::json::{JsonLimits, decode, encode_map};

pub(crate) const WORDS: &[&str] = &[
    "{",
    "}",
    "\"text\":",
    "\"flag\":",
    "\"count\":",
    "\"small\":",
    "\"numbers\":",
    "\"ttl\":",
    "\"signed\":",
    "\"commas\":",
    "\"list\":",
    "\"pairs\":",
    "\"cidrs\":",
    "\"name\":",
    "\"old_name\":",
    "\"map\":",
    "\"maps\":",
    "\"secret\":",
    ",",
    "null",
    "true",
    "\"1h\"",
    "3600",
    "\"3600\"",
    "-1",
    "1e9",
    "9223372036854775808",
    "\"a,b\"",
    "[\"a\",1]",
    "{\"k\":\"v\"}",
    "\"k=v\"",
    "[\"k=v\"]",
    "\"10.0.0.0/8\"",
    "\"t\"",
    "[[]]",
    "1.5",
    "\"\"",
    "[{}]",
];

#[derive(Input)]
struct Everything {
    text: Option<String>,
    flag: Option<bool>,
    #[input(default = "7")]
    count: i64,
    small: Option<u8>,
    numbers: Option<Vec<u64>>,
    #[input(default = "1h")]
    ttl: Seconds,
    signed: Option<SignedSeconds>,
    commas: Option<CommaList>,
    list: Option<StringList>,
    pairs: Option<BTreeMap<String, String>>,
    cidrs: Option<Cidrs>,
    #[input(alias = "old_name")]
    name: Option<LowerName>,
    bytes: Option<Bytes>,
    map: Option<Map>,
    maps: Option<Vec<Map>>,
    #[input(secret)]
    secret: Option<SecretString>,
}

/// A JSON body, as a struct.
pub fn fields(bytes: &[u8]) {
    let Ok(body) = decode(bytes, &JsonLimits::default()) else { return };
    let sent: Vec<String> = body.names().map(str::to_owned).collect();
    match Everything::decode(Fields { path: BTreeMap::new(), body, from_query: Vec::new() }) {
        Ok((input, unrecognized)) => {
            assert!(unrecognized.iter().all(|name| sent.contains(name) && !is_field(name)), "{unrecognized:?}");
            check(input);
        }
        Err(InputError::Missing { name }) => panic!("`{name}` is not required"),
        Err(error @ InputError::Wrong { name, .. }) => {
            assert!(is_field(name));
            assert!(error.to_string().starts_with(&format!("field `{name}` ")));
        }
    }
}

fn is_field(name: &str) -> bool {
    Everything::SPEC.iter().any(|spec| spec.place == Place::Body && (spec.name == name || spec.aliases.contains(&name)))
}

fn check(input: Everything) {
    assert!(input.ttl.0 <= Duration::from_nanos(i64::MAX.unsigned_abs()));
    if let Some(CommaList(entries)) = &input.commas {
        assert!(entries.iter().all(|entry| !entry.is_empty() && entry.trim() == entry));
        let again = CommaList::read(&entries.clone().into()).expect("a list is a list");
        assert!(again.0 == *entries, "reading a list twice changes it");
    }
    if let Some(LowerName(name)) = &input.name {
        assert_eq!(name.to_lowercase(), *name, "folding twice changes a name");
    }
    if let Some(Cidrs(ranges)) = &input.cidrs {
        let printed: Vec<String> = ranges.iter().map(ToString::to_string).collect();
        assert!(Cidrs::read(&printed.into()).is_ok_and(|again| again.0 == *ranges));
    }
    if let Some(map) = input.map {
        let mut written = Vec::new();
        encode_map(&map, &mut written);
        assert!(decode(&written, &JsonLimits::default()).is_ok());
    }
    let rest = (input.text, input.flag, input.count, input.small, input.numbers, input.signed, input.list, input.pairs);
    drop((rest, input.bytes, input.maps, input.secret));
}
