//! A device with `require_delivery`: requests wait until it has their records, and only for it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::time::Duration;

use support::*;
use tresor_audit::{Admission, AuditError, Options};
use tresor_env::doubles::TestDoors;
use tresor_model::Map;

#[tokio::test]
async fn with_required_delivery_nothing_goes_on_before_the_device_has_it() {
    let (doors, kind) = (TestDoors::new(1), MemoryKind::default());
    let required = device_with("one", &[("require_delivery", "true")]);
    let gather = Duration::from_secs(1);
    let broker = open(&doors, vec![required, device("two")], Options { gather, ..options(&kind) }).await.unwrap();
    // Nobody moves the clock: whoever waited for it would wait forever.
    for id in ["a", "b"] {
        record(&broker, id).await.unwrap();
        assert_eq!(ids(&kind.lines("one")).last().map(String::as_str), Some(id), "it has it by now");
    }
    kind.device("two").lock().unwrap().fails = true;
    record(&broker, "c").await.unwrap();
    kind.device("one").lock().unwrap().fails = true;
    let passing = async {
        for _ in 0..100 {
            doors.clock.advance(Duration::from_secs(1));
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        biased;
        done = record(&broker, "d") => assert!(matches!(done.unwrap_err(), AuditError::Undelivered)),
        () = passing => panic!("it waits for ever"),
    }
    // Or nobody could disable it.
    record_with(&broker, "e", Map::new(), Admission::Reserve).await.unwrap();
    broker.disable("one/").unwrap();
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
    record(&broker, "f").await.unwrap();
    let invalid = device_with("three", &[("require_delivery", "perhaps")]);
    assert!(matches!(broker.prepare(invalid).await, Err(AuditError::InvalidOption(_))));
}
