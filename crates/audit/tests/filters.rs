//! Which records a device is told of: filters, the device that takes the rest, fields that are left out, and XML.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod support;

use std::time::Duration;

use support::*;
use tresor_audit::{AuditError, Broker, DeviceConfig, Options};
use tresor_env::doubles::TestDoors;

const KV: (&str, &str) = ("filter", "mount_type == \"kv\"");
const REST: (&str, &str) = ("fallback", "true");

async fn enable(broker: &Broker, config: DeviceConfig) {
    let prepared = broker.prepare(config).await.unwrap();
    broker.enable(prepared).unwrap();
}

fn told(kind: &MemoryKind, name: &str) -> Vec<String> {
    ids(&kind.lines(name))
}

#[tokio::test]
async fn a_filter_lets_through_what_it_says_and_the_fallback_takes_the_rest() {
    let (doors, kind) = (TestDoors::new(1), MemoryKind::default());
    let devices = vec![device_with("kv", &[KV]), device_with("sys", &[("filter", "path contains nowhere")])];
    let broker = open(&doors, devices, options(&kind)).await.unwrap();
    for (id, mount) in [("a", "kv"), ("b", "pki"), ("c", "kv")] {
        record_to(&broker, id, mount).await.unwrap();
    }
    record_both(&broker, "d").await.unwrap();
    assert!(broker.flush(BOUND).await);
    assert_eq!(told(&kind, "kv"), ["a", "c"]);
    assert!(kind.lines("sys").is_empty());
    assert_eq!(kind.device("sys").lock().unwrap().deliveries, 0, "nothing is handed over that is nothing");
    assert_eq!(broker.standing().missed, 2, "b, and what is said of d at once");
    enable(&broker, device_with("rest", &[REST])).await;
    for (id, mount) in [("e", "kv"), ("f", "pki")] {
        record_to(&broker, id, mount).await.unwrap();
    }
    record_both(&broker, "g").await.unwrap();
    assert!(broker.flush(BOUND).await);
    assert_eq!((told(&kind, "kv"), told(&kind, "rest")), (vec_of(&["a", "c", "e"]), vec_of(&["f", "g", "g"])));
    assert_eq!(broker.standing().missed, 2);
    // A device without a filter takes everything: nothing is left.
    enable(&broker, device("all")).await;
    record_to(&broker, "h", "pki").await.unwrap();
    assert!(broker.flush(BOUND).await);
    assert_eq!((told(&kind, "all"), told(&kind, "rest")), (vec_of(&["h"]), vec_of(&["f", "g", "g"])));
}

fn vec_of(ids: &[&str]) -> Vec<String> {
    ids.iter().map(|id| (*id).to_owned()).collect()
}

/// Devices come and go while the fallback stands still: what each of them was not told of is the fallback's.
#[tokio::test]
async fn no_record_falls_between_devices_that_come_and_go() {
    let (doors, kind) = (TestDoors::new(1), MemoryKind::default());
    let broker = open(&doors, vec![device_with("rest", &[REST])], options(&kind)).await.unwrap();
    kind.device("rest").lock().unwrap().fails = true;
    for round in 0..6 {
        record_to(&broker, &format!("before-{round}"), "kv").await.unwrap();
        // One that does not take what it is told when it is disabled leaves that to the fallback, too.
        kind.device("kv").lock().unwrap().fails = round % 2 == 1;
        enable(&broker, device_with("kv", &[KV, ("skip_test", "true")])).await;
        record_to(&broker, &format!("while-{round}"), "kv").await.unwrap();
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
        broker.disable("kv/").unwrap();
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
    }
    kind.device("rest").lock().unwrap().fails = false;
    doors.clock.advance(Duration::from_secs(60));
    assert!(broker.flush(BOUND).await);
    let (kv, rest) = (told(&kind, "kv"), told(&kind, "rest"));
    for round in 0..6 {
        assert!(rest.contains(&format!("before-{round}")), "{rest:?}");
        let of_kv = format!("while-{round}");
        assert_eq!(kv.contains(&of_kv), round % 2 == 0, "{kv:?}");
        assert_eq!(rest.contains(&of_kv), round % 2 == 1, "{rest:?}");
    }
}

/// After a restart nobody remembers since when a device was told: the fallback takes too much rather than too little.
#[tokio::test]
async fn a_fallback_that_was_behind_misses_nothing_after_a_restart() {
    let (doors, kind) = (TestDoors::new(1), MemoryKind::default());
    let both = || vec![device_with("rest", &[REST]), device_with("kv", &[KV])];
    let broker = open(&doors, vec![device_with("rest", &[REST])], options(&kind)).await.unwrap();
    kind.device("rest").lock().unwrap().fails = true;
    record_to(&broker, "a", "kv").await.unwrap();
    enable(&broker, device_with("kv", &[KV])).await;
    record_to(&broker, "b", "kv").await.unwrap();
    record_to(&broker, "c", "pki").await.unwrap();
    tokio::join!(broker.close(Duration::from_secs(2)), async { doors.clock.advance(Duration::from_secs(5)) });
    drop(broker);
    kind.device("rest").lock().unwrap().fails = false;
    let broker = open(&doors, both(), options(&kind)).await.unwrap();
    record_to(&broker, "d", "kv").await.unwrap();
    assert!(broker.flush(BOUND).await);
    let rest = told(&kind, "rest");
    assert!(rest.contains(&"a".to_owned()) && rest.contains(&"c".to_owned()), "{rest:?}");
    assert!(!rest.contains(&"d".to_owned()), "{rest:?}");
    assert_eq!(told(&kind, "kv").last().unwrap(), "d");
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_by_name() {
    let doors = TestDoors::new(1);
    let broker = open(&doors, Vec::new(), Options::default()).await.unwrap();
    for (options, said) in [
        (("filter", "mount = kv"), "`filter` is no expression: at character 7: `=` is no operator; `==` is"),
        (("fallback", "maybe"), "`fallback` must be true or false"),
        (("exclude", "{}"), "`exclude` must be a JSON list"),
        (("exclude", r#"[{"fields":["request"]}]"#), "`fields` of `exclude` must be JSON pointers"),
        (("format", "xml"), "unknown `format`; use `json` or `jsonx`"),
        (("filters", "x"), "unknown option `filters`"),
        (("uri", "x"), "unknown option `uri`"),
    ] {
        let config = file_device(&[("file_path", "a.log"), options]);
        let refused = broker.check(&config).unwrap_err().to_string();
        assert!(refused.starts_with(said), "{options:?}: {refused}");
        assert_eq!(broker.prepare(config).await.err().unwrap().to_string(), refused);
    }
    let both = file_device(&[("file_path", "a.log"), REST, KV]);
    assert!(
        matches!(broker.check(&both), Err(AuditError::InvalidOption(text)) if text.contains("cannot have a `filter`"))
    );
}

#[tokio::test]
async fn fields_are_left_out_of_one_device_and_xml_says_the_same() {
    let (doors, kind) = (TestDoors::new(1), MemoryKind::default());
    let exclude =
        r#"[{"condition":"\"/request/mount_type\" == kv","fields":["/request/data","/request/remote_address"]}]"#;
    let devices = vec![
        device("whole"),
        device_with("part", &[("exclude", exclude), ("prefix", "@cee: ")]),
        device_with("xml", &[("format", "jsonx"), ("exclude", exclude)]),
        device_with("raw", &[("format", "jsonx"), ("log_raw", "true")]),
    ];
    let broker = open(&doors, devices, options(&kind)).await.unwrap();
    record_to(&broker, "a", "kv").await.unwrap();
    record_to(&broker, "b", "pki").await.unwrap();
    assert!(broker.flush(BOUND).await);
    let (whole, part) = (kind.lines("whole"), kind.lines("part"));
    let parsed = |line: &str| -> serde_json::Value { serde_json::from_str(line).unwrap() };
    // Devices have their own keys, so what is hashed differs.
    let without = |line: &str, names: &[&str]| {
        let mut line = parsed(line);
        let request = line["request"].as_object_mut().unwrap();
        names.iter().for_each(|name| assert!(request.remove(*name).is_some(), "{name}"));
        line
    };
    let shown = |at: usize| part[at].strip_prefix("@cee: ").unwrap();
    let excluded = ["client_token", "data", "remote_address"];
    assert_eq!(without(shown(0), &["client_token"]), without(&whole[0], &excluded));
    assert_eq!(without(shown(1), &excluded[..2]), without(&whole[1], &excluded[..2]));
    let xml = kind.lines("xml");
    assert_eq!(xml.len(), 2);
    assert!(xml[0].starts_with("<json:object name=\"auth\">") && xml[0].ends_with("</json:string>\n"), "{}", xml[0]);
    assert!(!xml[0].contains("name=\"data\"") && xml[1].contains("<json:object name=\"data\">"), "{xml:?}");
    let shown = kind.lines("raw").concat();
    assert!(shown.contains("<json:string name=\"password\">canary-password</json:string>"), "{shown}");
    for (name, lines) in [("whole", whole), ("part", part), ("xml", xml)] {
        assert!(!lines.concat().contains("canary"), "{name}");
    }
}
