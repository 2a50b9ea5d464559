//! What agreement costs a node that is alone: durable batches per second through consensus and through the file store,
//! in turns, on a directory of a real disk.
//!
//! `cargo run --release -p tresor-consensus --example cost -- DIRECTORY [SECONDS]`
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a tool for whoever measures")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tresor_consensus::{Consensus, Contact, Nobody, NodeId, Opening, Pace, RaftStore};
use tresor_env::Doors;
use tresor_env::tasks::run_blocking;
use tresor_storage::{Batch, RawKey, Store};
use tresor_storage_file::{FileMachine, FileStore, Limits, LogElsewhere, Sizes};

async fn alone(doors: &Doors, directory: &Path) -> Arc<dyn Store> {
    let machine = FileMachine::open(doors, directory, Limits::default()).unwrap();
    let machine = Arc::new(machine.start(Arc::new(LogElsewhere)).unwrap());
    let opening = Opening {
        me: NodeId(1),
        directory: directory.join("raft"),
        sizes: Sizes::default(),
        pace: Pace::default(),
        is_sealed: false,
        survivors: Vec::new(),
    };
    let node = Arc::new(Consensus::open(doors, opening, machine, Arc::new(Nobody)).await.unwrap());
    node.settled().await.unwrap();
    Arc::new(RaftStore::new(node, Contact::default()))
}

/// Batches of one value of a kibibyte, one after the other, as a committer brings them; how many in this time.
async fn measure(doors: &Doors, store: &Arc<dyn Store>, time: Duration) -> f64 {
    let mut version = store.snapshot().unwrap().version();
    let (begun, mut count) = (Instant::now(), 0_u32);
    while begun.elapsed() < time {
        version = version.next();
        let key = RawKey::new(&(u64::from(count) % 1000).to_le_bytes()).unwrap();
        let batch = Batch::new(version, [(key, Some(vec![7; 1024]))].into());
        let store = Arc::clone(store);
        run_blocking(&*doors.workers, move || store.apply(batch)).await.unwrap().unwrap();
        count += 1;
    }
    f64::from(count) / begun.elapsed().as_secs_f64()
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let directory = PathBuf::from(arguments.next().unwrap_or_else(|| "target/cost".to_owned()));
    let seconds = arguments.next().map_or(3, |text| text.parse().unwrap());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let doors = tresor_env_os::doors();
        let raft = alone(&doors, &directory.join("alone")).await;
        let file: Arc<dyn Store> =
            Arc::new(FileStore::open(&doors, &directory.join("file"), Limits::default()).unwrap());
        for round in 1..=3 {
            for (name, store) in [("file", &file), ("raft", &raft)] {
                let (syncs, time) = (store.syncs(), Duration::from_secs(seconds));
                let rate = measure(&doors, store, time).await;
                println!("round {round}: {name} {rate:.0} batches/s, {} syncs", store.syncs() - syncs);
            }
        }
    });
}
