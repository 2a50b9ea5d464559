//! A log that is opened before all of its devices are known, as on a node of a cluster that was just started.
#![allow(clippy::unwrap_used, reason = "a failing step ends the test")]

mod support;

use support::{BOUND, MemoryKind, device, ids, open, options, record};
use tresor_env::doubles::TestDoors;

#[tokio::test]
async fn records_wait_for_a_device_that_is_not_known_yet_and_for_none_that_is_gone() {
    let (doors, kind) = (TestDoors::new(1), MemoryKind::default());
    for name in ["one", "two"] {
        kind.device(name).lock().unwrap().fails = true;
    }
    let broker = open(&doors, vec![device("one"), device("two")], options(&kind)).await.unwrap();
    record(&broker, "a").await.unwrap();
    drop(broker);
    kind.device("one").lock().unwrap().fails = false;
    let mut behind = options(&kind);
    behind.log.keeps_unknown = true;
    let broker = open(&doors, Vec::new(), behind).await.unwrap();
    assert!(broker.standing().log.backlog_bytes > 0);
    broker.follow(vec![device("one")]).unwrap();
    broker.knows_all();
    assert!(broker.flush(BOUND).await);
    assert_eq!(ids(&kind.lines("one")), ["a"]);
    assert_eq!(broker.standing().log.backlog_bytes, 0, "what waited for the other one is gone");
}
