//! What a great many mounts or namespaces cost: making them, restarting, being idle, one request to one of them, one change
//! of one of them.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tresor_harness::ROOT;

use crate::load::{Load, processor_seconds};
use crate::restart;
use crate::server::{Server, never, resident_mebibytes};

/// How often somebody tries who is told to try again.
const TRIES: u32 = 100;
/// How often the cost of a change is measured.
const CHANGES: u32 = 100;
/// How many there are when a change is measured first.
const FEW: usize = 100;
/// How long nobody asks for anything.
const IDLE: Duration = Duration::from_secs(5);

/// Of what there are to be many.
#[derive(Clone, Copy)]
pub(crate) enum Many {
    Mounts,
    Namespaces,
}

impl Many {
    const fn name(self) -> &'static str {
        match self {
            Self::Mounts => "mounts",
            Self::Namespaces => "namespaces",
        }
    }

    async fn make(self, server: &Server, number: usize) {
        let (path, body, status) = match self {
            Self::Mounts => {
                (format!("sys/mounts/team-{number}/kv"), json!({ "type": "kv", "options": { "version": "2" } }), 204)
            }
            Self::Namespaces => (format!("sys/namespaces/tenant-{number}"), json!({}), 200),
        };
        // Whoever takes a path writes one record of its namespace: of very many at once a few are told to try again, and clients do.
        for _ in 0..TRIES {
            let answer = server.call("POST", &path, ROOT, body.clone()).await;
            if answer.status != 503 {
                drop(answer.expect_status(status));
                return;
            }
        }
        panic!("{path}: refused {TRIES} times");
    }

    async fn change(self, server: &Server, number: usize) {
        let (path, body, status) = match self {
            Self::Mounts => (format!("sys/mounts/team-{number}/kv/tune"), json!({ "description": "changed" }), 204),
            Self::Namespaces => {
                let metadata = json!({ "custom_metadata": { "changed": "yes" } });
                (format!("sys/namespaces/tenant-{number}"), metadata, 200)
            }
        };
        drop(server.call("POST", &path, ROOT, body).await.expect_status(status));
    }

    async fn ask(self, server: &Server, number: usize) {
        let (path, status) = match self {
            Self::Mounts => (format!("team-{number}/kv/data/none"), 404),
            Self::Namespaces => (format!("tenant-{number}/sys/mounts"), 200),
        };
        drop(server.call("GET", &path, ROOT, Value::Null).await.expect_status(status));
    }
}

/// Makes so many, restarts, and changes some; with the cost of a change when there were few.
pub(crate) async fn make_many(server: Server, share: &[u8], many: Many, count: usize) -> Server {
    let server = restart(server, share).await;
    let (before, name) = (resident_mebibytes(), many.name());
    let few = count.min(FEW);
    Load { total: few, step: few, until: never() }.measure(name, |at| many.make(&server, at)).await;
    let at_first = changing(&server, many, few).await;
    let rest = count - few;
    if rest > 0 {
        let load = Load { total: rest, step: rest.div_ceil(10), until: never() };
        load.measure(name, |at| many.make(&server, few + at)).await;
    }
    let server = restart(server, share).await;
    let kib = (resident_mebibytes() - before) * 1024.0 / count as f64;
    println!(
        "{name}: {count} of them take {kib:.1} KiB each of the process after a restart, caches of the store included"
    );
    let processor = processor_seconds();
    tokio::time::sleep(IDLE).await;
    let milliseconds = (processor_seconds() - processor) * 1e3;
    println!(
        "{name}: {count} of them take {milliseconds:.0} ms of processor in {IDLE:?} in which nobody asks anything"
    );
    let at_last = changing(&server, many, count).await;
    println!("{name}: changing one of {few} takes {at_first:?}, of {count} {at_last:?}, one after the other");
    let started = Instant::now();
    for number in 0..CHANGES {
        many.ask(&server, number as usize % count).await;
    }
    println!("{name}: a request to one of {count} takes {:?}", started.elapsed() / CHANGES);
    server
}

/// What one change takes.
async fn changing(server: &Server, many: Many, count: usize) -> Duration {
    let started = Instant::now();
    for number in 0..CHANGES {
        many.change(server, number as usize % count).await;
    }
    started.elapsed() / CHANGES
}
