//! Snapshots that are taken without anybody asking: when they are due, how many are kept, and that none is there which
//! could not be restored.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failing step ends the test")]

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tresor_core::snapshots::schedule::Schedule;
use tresor_harness::{Harness, ROOT, assembly};
use tresor_snapshot::Verifier;
use tresor_storage::{Batch, MemoryStore, RawKey, Store};

const DIRECTORY: &str = "/backup";
const HOUR: Duration = Duration::from_secs(3600);

/// An initialised node that takes one each hour and keeps two.
async fn scheduled() -> Harness {
    let open_scratch = Arc::new(|_: &std::path::Path| Ok(Arc::new(MemoryStore::new()) as _));
    let schedule = Schedule { directory: DIRECTORY.into(), interval: HOUR, retain: 2, open_scratch };
    let mut settings = assembly::settings();
    settings.snapshots = Some(schedule);
    let harness = Harness::start_with(settings).await;
    harness.settle().await;
    harness
}

/// The names of the files in the directory, whatever they are.
fn names(harness: &Harness) -> Vec<String> {
    let dump = harness.doors.disk.dump();
    let below = dump.keys().filter_map(|path| path.strip_prefix(DIRECTORY).ok());
    below.map(|name| name.to_string_lossy().into_owned()).collect()
}

async fn number(harness: &Harness, name: &str) -> u64 {
    let answer = harness.read("sys/metrics?format=prometheus", ROOT).await.expect_status(200);
    let text = String::from_utf8(answer.bytes).unwrap();
    let mut samples =
        text.lines().filter_map(|line| line.strip_prefix("vault_snapshot_scheduled_")?.strip_prefix(name));
    samples.next().unwrap().rsplit_once(' ').unwrap().1.parse().unwrap()
}

fn bytes(harness: &Harness, name: &str) -> Vec<u8> {
    harness.doors.disk.dump()[&std::path::Path::new(DIRECTORY).join(name)].clone()
}

#[tokio::test]
async fn one_is_taken_when_it_is_due_and_the_oldest_goes() {
    let mut harness = scheduled().await;
    let first = names(&harness);
    assert_eq!(first.len(), 1, "{first:?}");
    let mut verifier = Verifier::new();
    verifier.take(&bytes(&harness, &first[0])).unwrap();
    assert!(verifier.finish().unwrap().amount.count > 5);
    let status = harness.read("sys/storage-status", ROOT).await.expect_status(200);
    assert_eq!(*status.at("/data/snapshot_age_seconds"), 0, "{status:?}");
    // What is not of the schedule is left alone; what a killed process left of one is not.
    let disk = &harness.doors.doors.disk;
    for left in ["mine.snap", "tresor-20200101T000000Z.snap.part", ".tresor-rehearsal/index-1.db"] {
        let path = std::path::Path::new(DIRECTORY).join(left);
        disk.create_directory(path.parent().unwrap()).unwrap();
        drop(disk.open(&path, tresor_env::disk::Open::New).unwrap());
    }

    // A restart changes nothing about when the next one is due.
    harness.advance(HOUR / 2).await;
    harness.restart().await;
    harness.unseal().await;
    harness.settle().await;
    assert_eq!(names(&harness).len(), 4, "{:?}", names(&harness));
    harness.advance(HOUR / 2 - Duration::from_secs(2)).await;
    assert_eq!(names(&harness).len(), 4, "{:?}", names(&harness));
    let status = harness.read("sys/storage-status", ROOT).await;
    assert_eq!(*status.at("/data/snapshot_age_seconds"), 3598, "{status:?}");
    harness.advance(Duration::from_secs(3)).await;
    assert_eq!(names(&harness).len(), 3, "{:?}", names(&harness));
    harness.advance(HOUR + Duration::from_secs(1)).await;
    let later = names(&harness);
    assert_eq!(later.len(), 3, "{later:?}");
    assert!(!later.contains(&first[0]) && later.contains(&"mine.snap".to_owned()), "{later:?}");

    // One of them is as good as one that somebody asked for.
    harness.prepare("POST", "sys/mounts/later", json!({ "type": "kv-v1" })).await;
    let newest = bytes(&harness, later.last().unwrap());
    let request = http::Request::builder().method("POST").uri("/v1/sys/storage/raft/snapshot");
    let request = request.header("X-Vault-Token", ROOT).body(http_body_util::Full::new(newest.into())).unwrap();
    drop(harness.send(request).await.expect_status(204));
    harness.unseal().await;
    assert!(harness.read("sys/mounts", ROOT).await.at("/data/later~1").is_null());
}

#[tokio::test]
async fn what_cannot_be_written_is_tried_again_and_leaves_nothing() {
    let harness = scheduled().await;
    harness.doors.disk.fail_below(DIRECTORY, ErrorKind::StorageFull);
    harness.advance(HOUR + Duration::from_secs(1)).await;
    assert_eq!(names(&harness).iter().filter(|name| name.ends_with(".snap")).count(), 1);
    let status = harness.read("sys/storage-status", ROOT).await;
    assert!(!status.text_at("/data/snapshot_error").is_empty(), "{status:?}");
    assert!(*status.at("/data/snapshot_age_seconds") == 3601, "{status:?}");
    assert_eq!((number(&harness, "age_seconds").await, number(&harness, "failing").await), (3601, 1));
    harness.doors.disk.heal();
    harness.advance(Duration::from_secs(61)).await;
    let there = names(&harness);
    assert_eq!((number(&harness, "age_seconds").await, number(&harness, "failing").await), (0, 0));
    assert!(there.len() == 2 && there.iter().all(|name| name.ends_with(".snap")), "{there:?}");
    assert!(harness.read("sys/storage-status", ROOT).await.at("/data/snapshot_error").is_null());
}

#[tokio::test]
async fn what_could_not_be_opened_after_a_restore_is_no_snapshot() {
    let harness = scheduled().await;
    // Everything else of a snapshot is right: checksums are over what is stored.
    let before = harness.store.dump();
    harness.prepare("POST", "cubbyhole/a", json!({ "is": "sealed" })).await;
    let is_new = |(key, _): &(RawKey, Vec<u8>)| !before.iter().any(|(known, _)| known == key);
    let key = harness.store.dump().into_iter().rfind(is_new).unwrap().0;
    let version = harness.store.snapshot().unwrap().version().next();
    harness.store.apply(Batch::new(version, [(key, Some(vec![7; 90]))].into())).unwrap();
    harness.advance(HOUR + Duration::from_secs(1)).await;
    assert_eq!(names(&harness).len(), 1, "{:?}", names(&harness));
    let status = harness.read("sys/storage-status", ROOT).await;
    assert!(status.text_at("/data/snapshot_error").contains("is not what was sealed"), "{status:?}");
}
