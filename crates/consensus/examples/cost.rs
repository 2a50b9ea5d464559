//! What agreement costs a node that is alone: durable batches per second through consensus and through the file store, beside
//! what the disk gives to who appends and syncs and does nothing else; in turns, on a directory of a real disk.
//!
//! `cargo run --release -p tresor-consensus --example cost -- DIRECTORY [SECONDS]`
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a tool for whoever measures")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tresor_consensus::{Consensus, Contact, Nobody, NodeId, Opening, Pace, RaftStore};
use tresor_env::Doors;
use tresor_env::disk::Open;
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
        match store.propose(batch) {
            Ok(agreement) => agreement.await.unwrap(),
            Err(batch) => {
                let store = Arc::clone(store);
                run_blocking(&*doors.workers, move || store.apply(batch)).await.unwrap().unwrap();
            }
        }
        count += 1;
    }
    f64::from(count) / begun.elapsed().as_secs_f64()
}

/// A kibibyte at the end of a file and a sync, one after the other; how many in this time.
fn raw(doors: &Doors, path: &Path, time: Duration) -> f64 {
    let file = doors.disk.open(path, Open::OrCreate).unwrap();
    let (mut end, begun, mut count) = (file.length().unwrap(), Instant::now(), 0_u32);
    while begun.elapsed() < time {
        file.write_all_at(end, &[7; 1024]).and_then(|()| file.sync()).unwrap();
        end += 1024;
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
        let time = Duration::from_secs(seconds);
        for round in 1..=5 {
            let disk = raw(&doors, &directory.join("raw"), time);
            println!("round {round}: the disk {disk:.0} appends/s");
            for (name, store) in [("file", &file), ("raft", &raft)] {
                let syncs = store.syncs();
                let rate = measure(&doors, store, time).await;
                let of_disk = 100.0 * rate / disk;
                println!(
                    "round {round}: {name} {rate:.0} batches/s, {of_disk:.0} % of that, {} syncs",
                    store.syncs() - syncs
                );
            }
        }
    });
}
