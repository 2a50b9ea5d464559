//! What a great many mounts cost: making them, restarting, one request to one of them, one change of one of them.

use std::time::Instant;

use futures_util::future::join_all;
use serde_json::{Value, json};
use tresor_harness::ROOT;

use crate::restart;
use crate::server::{Server, resident_mebibytes};

/// How many are made at a time.
const AT_ONCE: usize = 16;
/// How often the cost of a change is measured.
const CHANGES: u32 = 100;

/// Makes so many mounts, restarts, and changes some.
pub(crate) async fn make_many(server: Server, share: &[u8], count: usize) -> Server {
    let server = restart(server, share).await;
    let before = resident_mebibytes();
    let started = Instant::now();
    let mut made = 0;
    while made < count {
        let next: Vec<usize> = (made..count).take(AT_ONCE).collect();
        made += next.len();
        join_all(next.into_iter().map(|number| make(&server, number))).await;
        if made % (count / 5).max(1) < AT_ONCE {
            println!("mounts: {made:>8} made, {:6.0}/s", made as f64 / started.elapsed().as_secs_f64());
        }
    }
    let server = restart(server, share).await;
    let kib = (resident_mebibytes() - before) * 1024.0 / count as f64;
    println!(
        "mounts: {count} of them take {kib:.1} KiB each of the process after a restart, caches of the store included"
    );
    let started = Instant::now();
    for number in 0..CHANGES {
        let path = format!("sys/mounts/team-{}/kv/tune", number as usize % count);
        drop(server.call("POST", &path, ROOT, json!({ "description": "changed" })).await.expect_status(204));
    }
    println!("mounts: changing one of {count} takes {:?}", started.elapsed() / CHANGES);
    let started = Instant::now();
    for number in 0..CHANGES {
        let path = format!("team-{}/kv/data/none", number as usize % count);
        drop(server.call("GET", &path, ROOT, Value::Null).await.expect_status(404));
    }
    println!("mounts: a request to one of {count} takes {:?}", started.elapsed() / CHANGES);
    server
}

async fn make(server: &Server, number: usize) {
    let body = json!({ "type": "kv", "options": { "version": "2" } });
    drop(server.call("POST", &format!("sys/mounts/team-{number}/kv"), ROOT, body).await.expect_status(204));
}
