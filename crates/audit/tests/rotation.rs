//! Files that a device puts aside by itself: by size, by age, and how many are kept.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod support;

use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use support::*;
use tresor_audit::{Broker, Options};
use tresor_env::disk::{Disk, Open};
use tresor_env::doubles::TestDoors;

const PATH: &str = "logs/audit.log";

async fn with_file(doors: &TestDoors, more: &[(&str, &str)]) -> Broker {
    let mut all = vec![("file_path", PATH)];
    all.extend(more);
    open(doors, vec![file_device(&all)], Options::default()).await.unwrap()
}

/// The device's files with their lines' ids, those that were put aside first.
fn files(doors: &TestDoors) -> Vec<(String, Vec<String>)> {
    let mut files: Vec<(String, Vec<String>)> = doors
        .disk
        .dump()
        .into_iter()
        .filter(|(path, _)| path.starts_with("logs"))
        .map(|(path, bytes)| {
            let lines: Vec<String> = String::from_utf8(bytes).unwrap().lines().map(str::to_owned).collect();
            (path.to_str().unwrap().to_owned(), ids(&lines))
        })
        .collect();
    files.sort_by_key(|(path, _)| (path == PATH, path.clone()));
    files
}

async fn tell(broker: &Broker, id: &str) {
    record(broker, id).await.unwrap();
    assert!(broker.flush(BOUND).await);
}

#[tokio::test]
async fn a_file_that_would_grow_too_large_is_put_aside_and_no_line_is_lost() {
    let doors = TestDoors::new(1);
    let broker = with_file(&doors, &[("rotate_bytes", "2000")]).await;
    let names: Vec<String> = (0..20).map(|number| format!("r{number:02}")).collect();
    for name in &names {
        tell(&broker, name).await;
    }
    let files = files(&doors);
    assert!(files.len() > 3, "{files:?}");
    assert_eq!(files.iter().flat_map(|(_, ids)| ids.clone()).collect::<Vec<_>>(), names);
    for (path, _) in &files {
        assert!(doors.disk.dump()[Path::new(path)].len() <= 2000, "{path}");
    }
}

#[tokio::test]
async fn only_so_many_are_kept_and_nothing_else_is_removed() {
    let doors = TestDoors::new(1);
    for other in
        ["audit.log.1", "audit.log.old", "audit.log.20260101T000000.000000000Z.gz", "other.20260101T000000.000000000Z"]
    {
        doors.disk.open(&Path::new("logs").join(other), Open::New).unwrap();
    }
    let broker = with_file(&doors, &[("rotate_bytes", "1024"), ("rotate_keep", "2")]).await;
    for number in 0..12 {
        tell(&broker, &format!("r{number:02}")).await;
    }
    let files = files(&doors);
    let aside: Vec<&String> = files.iter().map(|(path, _)| path).filter(|path| path.ends_with('Z')).collect();
    assert_eq!(files.len(), 4 + 2 + 1, "{aside:?}");
    assert_eq!(files.last().unwrap().1.last().unwrap(), "r11");
}

#[tokio::test]
async fn a_file_that_is_old_enough_is_put_aside_also_after_a_restart() {
    let doors = TestDoors::new(1);
    let day = [("rotate_duration", "24h"), ("prefix", "")];
    let broker = with_file(&doors, &day).await;
    tell(&broker, "a").await;
    doors.clock.advance(Duration::from_secs(23 * 3600));
    tell(&broker, "b").await;
    assert_eq!(files(&doors).len(), 1);
    broker.close(Duration::ZERO).await;
    drop(broker);
    // The records of these tests are of a fixed time, which is what a file says of itself.
    let began = now();
    let broker = with_file(&doors, &day).await;
    assert!(doors.doors.clock.wall().since(began) < Duration::from_secs(24 * 3600) || files(&doors).len() == 1);
    doors.clock.advance(Duration::from_secs(24 * 3600));
    tell(&broker, "c").await;
    let files = files(&doors);
    assert_eq!(files.iter().map(|(_, ids)| ids.concat()).collect::<Vec<_>>(), ["ab", "c"], "{files:?}");
}

#[tokio::test]
async fn a_file_that_cannot_be_put_aside_grows_on() {
    let doors = TestDoors::new(1);
    let broker = with_file(&doors, &[("rotate_bytes", "1024")]).await;
    tell(&broker, "a").await;
    // Everything that is opened or renamed there fails; the file is open already.
    doors.disk.fail_below("logs/audit.log.", ErrorKind::PermissionDenied);
    for number in 0..5 {
        tell(&broker, &format!("b{number}")).await;
    }
    doors.disk.heal();
    assert_eq!(broker.standing().devices[0].last_error, None);
    doors.clock.advance(Duration::from_secs(61));
    tell(&broker, "c").await;
    let told: Vec<String> = files(&doors).into_iter().flat_map(|(_, ids)| ids).collect();
    assert_eq!(told, ["a", "b0", "b1", "b2", "b3", "b4", "c"]);
}

#[tokio::test]
async fn options_that_make_no_sense_are_refused() {
    let doors = TestDoors::new(1);
    let broker = open(&doors, Vec::new(), Options::default()).await.unwrap();
    for more in [
        [("rotate_bytes", "100"), ("file_path", PATH)],
        [("rotate_bytes", "many"), ("file_path", PATH)],
        [("rotate_duration", "1s"), ("file_path", PATH)],
        [("rotate_duration", "daily"), ("file_path", PATH)],
        [("rotate_keep", "3"), ("file_path", PATH)],
        [("rotate_bytes", "4096"), ("file_path", "stdout")],
        [("rotate_bytes", "4096"), ("file_path", "discard")],
    ] {
        assert!(broker.check(&file_device(&more)).is_err(), "{more:?}");
    }
    assert!(broker.check(&file_device(&[("file_path", "DISCARD"), ("rotate_bytes", "0")])).is_ok());
}
