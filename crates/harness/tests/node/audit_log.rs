//! The audit log from end to end: restarts, kills, load, rotation; no record is lost, doubled or written over.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failing step ends the test"
)]

use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use crate::audit_support::{assert_paired, audited, counts, enable, lines};
use serde_json::json;
use tresor_env::disk::Disk;
use tresor_harness::{AUDIT_FILE, Harness, ROOT};

#[tokio::test]
async fn records_are_neither_lost_nor_doubled_by_restarts_and_sealing_flushes() {
    let mut harness = audited().await;
    harness.prepare("POST", "sys/mounts/kv", json!({ "type": "kv" })).await;
    for round in 0..5 {
        for number in 0..7 {
            harness.prepare("POST", &format!("kv/{round}-{number}"), json!({ "v": "1" })).await;
        }
        // No turn for the device between the last answer and the seal.
        harness.restart().await;
        assert_eq!(counts(&lines(&harness, AUDIT_FILE), &format!("kv/{round}-6")), (1, 1), "sealing flushes");
        harness.unseal().await;
    }
    let records = harness.audit_records().await;
    assert_paired(&records);
    for round in 0..5 {
        for number in 0..7 {
            assert_eq!(counts(&records, &format!("kv/{round}-{number}")), (1, 1));
        }
    }
}

#[tokio::test]
async fn a_killed_process_leaves_every_acknowledged_record_to_the_next_one() {
    let mut harness = audited().await;
    harness.prepare("POST", "sys/mounts/kv", json!({ "type": "kv" })).await;
    harness.settle().await;
    harness.doors.disk.fail_below("/audit", ErrorKind::NotFound);
    for number in 0..9 {
        harness.prepare("POST", &format!("kv/{number}"), json!({ "v": "1" })).await;
    }
    harness.kill();
    harness.doors.disk.heal();
    harness.unseal().await;
    for _ in 0..4 {
        harness.advance(Duration::from_secs(30)).await;
    }
    let records = harness.audit_records().await;
    for number in 0..9 {
        assert_eq!(counts(&records, &format!("kv/{number}")), (1, 1));
    }
}

#[tokio::test]
async fn a_request_that_outlives_its_node_writes_nothing_into_the_log_of_the_next() {
    let mut harness = audited().await;
    harness.prepare("POST", "sys/mounts/kv", json!({ "type": "kv" })).await;
    let old = std::sync::Arc::clone(&harness.node);
    harness.restart().await;
    harness.unseal().await;
    assert!(old.routes().iter().all(|route| !route.is_audited));
    for number in 0..5 {
        harness.prepare("POST", &format!("kv/{number}"), json!({ "v": "1" })).await;
    }
    harness.restart().await;
    harness.unseal().await;
    let records = harness.audit_records().await;
    assert_paired(&records);
    assert_eq!(counts(&records, "kv/4"), (1, 1));
}

#[tokio::test]
async fn devices_come_and_go_under_load_and_none_is_left_behind() {
    let harness = audited().await;
    harness.prepare("POST", "sys/mounts/kv", json!({ "type": "kv" })).await;
    let load = async {
        for number in 0..200 {
            harness.prepare("POST", &format!("kv/{number}"), json!({ "v": "1" })).await;
        }
    };
    let churn = async |name: &str| {
        for _ in 0..15 {
            enable(&harness, name, json!({ "file_path": format!("/audit/{name}.log") })).await;
            drop(harness.delete(&format!("sys/audit/{name}"), ROOT).await.expect_status(204));
        }
        enable(&harness, name, json!({ "file_path": format!("/audit/{name}.log") })).await;
    };
    tokio::join!(load, churn("b"), churn("c"), churn("d"));
    harness.advance(Duration::from_secs(10)).await;
    let records = harness.audit_records().await;
    assert_paired(&records);
    for number in 0..200 {
        assert_eq!(counts(&records, &format!("kv/{number}")), (1, 1));
    }
    let devices = harness.read("sys/audit", ROOT).await;
    let names: Vec<&String> = devices.at("/data").as_object().unwrap().keys().collect();
    assert_eq!(names, ["b/", "c/", "d/", "file/"]);
    for name in ["b", "c", "d"] {
        harness.prepare("POST", "kv/last", json!({ "v": name })).await;
        harness.settle().await;
        let last = lines(&harness, &format!("/audit/{name}.log")).pop().unwrap();
        assert_eq!(last["request"]["path"], "kv/last", "{name}");
    }
}

#[tokio::test]
async fn two_devices_of_one_file_write_no_line_over_another() {
    let harness = audited().await;
    enable(&harness, "again", json!({ "file_path": AUDIT_FILE })).await;
    harness.prepare("POST", "sys/mounts/kv", json!({ "type": "kv" })).await;
    for number in 0..50 {
        harness.prepare("POST", &format!("kv/{number}"), json!({ "v": "1" })).await;
    }
    let records = harness.audit_records().await;
    for number in 0..50 {
        assert_eq!(counts(&records, &format!("kv/{number}")), (2, 2));
    }
}

#[tokio::test]
async fn a_renamed_file_is_followed_by_a_new_one_and_no_record_falls_between() {
    let harness = audited().await;
    harness.prepare("POST", "sys/mounts/kv", json!({ "type": "kv" })).await;
    harness.prepare("POST", "kv/before", json!({ "v": "1" })).await;
    harness.settle().await;
    harness.doors.disk.rename(Path::new(AUDIT_FILE), Path::new("/audit/file.log.1")).unwrap();
    harness.node.reopen_audit_files();
    harness.prepare("POST", "kv/after", json!({ "v": "1" })).await;
    harness.settle().await;
    let (old, new) = (lines(&harness, "/audit/file.log.1"), lines(&harness, AUDIT_FILE));
    assert_eq!((counts(&old, "kv/before"), counts(&old, "kv/after")), ((1, 1), (0, 0)));
    assert_eq!((counts(&new, "kv/before"), counts(&new, "kv/after")), ((0, 0), (1, 1)));
    let mut all = old;
    all.extend(new);
    assert_paired(&all);
}

#[tokio::test]
async fn a_device_whose_file_cannot_be_opened_after_all_is_enabled_and_keeps_its_records() {
    // The disk fails between the check of the options and the commit: what is stored is what is enabled.
    let harness = Harness::start().await;
    harness.enable_audit().await;
    harness.prepare("POST", "sys/mounts/kv", json!({ "type": "kv" })).await;
    enable(&harness, "late", json!({ "file_path": "/elsewhere/late.log" })).await;
    harness.settle().await;
    harness.doors.disk.fail_below("/elsewhere", ErrorKind::PermissionDenied);
    harness.prepare("POST", "kv/a", json!({ "v": "1" })).await;
    harness.settle().await;
    assert_eq!(counts(&harness.audit_records().await, "kv/a"), (1, 1), "the others are told at once");
    harness.doors.disk.heal();
    harness.advance(Duration::from_secs(60)).await;
    assert_eq!(counts(&lines(&harness, "/elsewhere/late.log"), "kv/a"), (1, 1));
}
