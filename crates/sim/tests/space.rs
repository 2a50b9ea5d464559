//! A disk that is nearly full: the node refuses what writes and says so, answers what reads, and is well again by itself.
#![allow(clippy::unwrap_used, reason = "a failing step ends the test")]

use std::time::Duration;

use serde_json::{Value, json};
use tresor_sim::{StoreKind, World};

async fn unsealed() -> (World, String) {
    let mut world = World::new(11, StoreKind::File);
    world.start().unwrap();
    let init = json!({ "secret_shares": 1, "secret_threshold": 1 });
    let init = world.call("POST", "sys/init", "", &init).await.unwrap();
    world.call("POST", "sys/unseal", "", &json!({ "key": init.at("/keys/0") })).await.unwrap();
    let root = init.text_at("/root_token");
    (world, root)
}

#[tokio::test]
async fn below_the_reserve_of_free_space_writes_are_refused_and_reads_are_not() {
    let (world, root) = unsealed().await;
    let write = async |value: &str| world.call("POST", "cubbyhole/a", &root, &json!({ "v": value })).await.unwrap();
    assert_eq!(write("before").await.status, 204);
    let health = async || world.call("GET", "sys/health", "", &Value::Null).await.unwrap();
    assert_eq!(health().await.at("/storage"), &Value::Null);
    world.doors.disk.set_free_bytes(100);
    world.advance(Duration::from_secs(1)).await;
    let refused = write("meanwhile").await;
    assert_eq!(refused.status, 503, "{refused:?}");
    assert!(refused.text_at("/errors/0").contains("too little free space"), "{refused:?}");
    let well = health().await;
    assert_eq!(well.status, 200, "it still answers what reads");
    assert!(well.text_at("/storage").contains("too little free space"), "{well:?}");
    let read = async || world.call("GET", "cubbyhole/a", &root, &Value::Null).await.unwrap().text_at("/data/v");
    assert_eq!(read().await, "before");
    world.doors.disk.set_free_bytes(1 << 30);
    world.advance(Duration::from_secs(1)).await;
    assert_eq!(write("after").await.status, 204);
    assert_eq!(read().await, "after");
    assert_eq!(health().await.at("/storage"), &Value::Null);
}
