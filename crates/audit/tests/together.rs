//! Records that come together: one write for all of them, which all of them get or none.
//!
//! Deliberately absent: what one record costs that comes alone (`broker.rs`).
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod support;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use support::{MemoryKind, device, ids, open, options, record};
use tresor_audit::AuditError;
use tresor_env::doubles::TestDoors;

const BOUND: Duration = Duration::from_secs(10);

/// Records that come together go out in one write, in the order in which they came; one that fails refuses all of them.
#[tokio::test]
async fn records_that_come_together_go_out_together() {
    let (doors, kind) = (TestDoors::new(1), MemoryKind::default());
    let broker = Arc::new(open(&doors, vec![device("one")], options(&kind)).await.unwrap());
    let all_at_once = async |round: usize| {
        let records = (0..40).map(|at| {
            let (broker, id) = (Arc::clone(&broker), format!("{round}-{at:02}"));
            async move { record(&broker, &id).await }
        });
        let before = doors.disk.steps();
        let outcomes = futures_util::future::join_all(records).await;
        (outcomes, doors.disk.steps() - before)
    };
    // Somebody finds out that there is company.
    for round in 0..3 {
        assert!(all_at_once(round).await.0.iter().all(Result::is_ok));
    }
    let (outcomes, writes) = all_at_once(3).await;
    assert!(outcomes.iter().all(Result::is_ok));
    assert_eq!(writes, 1);
    doors.disk.fail_at_step(doors.disk.steps() + 1, io::ErrorKind::StorageFull);
    let (outcomes, _) = all_at_once(4).await;
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Err(AuditError::LogUnavailable(_)))), "{outcomes:?}");
    assert!(all_at_once(5).await.0.iter().all(Result::is_ok));
    // Who comes alone finds that out with the first record, and waits for nobody.
    record(&broker, "8").await.unwrap();
    for round in 0..50 {
        let before = doors.disk.steps();
        record(&broker, &format!("9-{round:02}")).await.unwrap();
        assert_eq!(doors.disk.steps() - before, 1);
    }
    assert!(broker.flush(BOUND).await);
    let told = ids(&kind.lines("one"));
    assert!(told.is_sorted(), "{told:?}");
    assert_eq!(told.len(), 5 * 40 + 51);
}

/// The first of a group writes for all of it, also when whoever asked leaves while others may still join.
#[tokio::test]
async fn a_group_whose_first_leaves_goes_out_all_the_same() {
    let (doors, kind) = (TestDoors::new(1), MemoryKind::default());
    let broker = open(&doors, vec![device("one")], options(&kind)).await.unwrap();
    // Somebody finds out that there is company.
    let many = futures_util::future::join_all((0..80).map(|_| record(&broker, "0"))).await;
    assert!(many.iter().all(Result::is_ok));
    let mut first = Box::pin(record(&broker, "1"));
    let mut second = Box::pin(record(&broker, "2"));
    assert!(first.as_mut().now_or_never().is_none());
    assert!(second.as_mut().now_or_never().is_none());
    drop(first);
    second.await.unwrap();
    assert!(broker.flush(BOUND).await);
    assert_eq!(ids(&kind.lines("one"))[80..], ["1", "2"]);
}
