//! Snapshots by a schedule: into a directory, each restored to see whether it can be, the oldest removed.
//!
//! What is due is known from the names in the directory, so a restart changes nothing. A snapshot gets its name only after it
//! was read back from the disk, restored into a store of its own and opened there to the last value: one that is there can
//! be relied on. An attempt that failed is tried again, and says so in the log and in `sys/storage-status`. Deliberately
//! absent: other places than a directory; what copies it away is the operator's.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tresor_env::tasks::run_blocking;
use tresor_env::{Doors, Timestamp};
use tresor_model::{ByteStream, Fault};
use tresor_record::Record;
use tresor_storage::{Store, StoreError};

use super::files::{self, Unfinished};
use crate::gate::Gate;
use crate::keys;
use crate::unsealed::{ClusterRecord, Unsealed};

/// How long after an attempt that failed the next one comes, at the latest.
const RETRY: Duration = Duration::from_secs(60);
/// How long at most nobody looks whether one is due: the clock may be set.
const LOOK: Duration = Duration::from_secs(600);

/// Opens a store in an empty directory; blocking.
pub type OpenScratch = dyn Fn(&Path) -> Result<Arc<dyn Store>, StoreError> + Send + Sync;

/// The operator's wish for snapshots.
#[derive(Clone)]
pub struct Schedule {
    /// Where they are kept.
    pub directory: PathBuf,
    /// How often.
    pub interval: Duration,
    /// How many are kept.
    pub retain: usize,
    /// Opens the store that each is restored into.
    pub open_scratch: Arc<OpenScratch>,
}

/// What became of the schedule since the node was unsealed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scheduled {
    /// When the last one that is there was taken, also by a process before.
    pub taken: Option<Timestamp>,
    /// Why the last attempt failed, when it did.
    pub error: Option<String>,
}

/// Shared between the task and who asks.
#[derive(Clone, Default)]
pub(super) struct Told(Arc<Mutex<Scheduled>>);

impl Told {
    pub(super) fn read(&self) -> Scheduled {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn update(&self, change: impl FnOnce(&mut Scheduled)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Starts the task, where there is a schedule.
pub(crate) fn start(unsealed: &Arc<Unsealed>, tasks: &tresor_env::Tasks) {
    if let Some(schedule) = unsealed.handles.settings.snapshots.clone() {
        tasks.spawn(run(Arc::downgrade(unsealed), unsealed.gate.clone(), schedule));
    }
}

/// Takes them as they are due. It holds the node only while it works.
async fn run(node: Weak<Unsealed>, gate: Gate, schedule: Schedule) {
    while let Some(unsealed) = node.upgrade() {
        if gate.is_closed() {
            return;
        }
        let pause = match when_due(&unsealed, &schedule).await {
            Some(wait) => wait.min(LOOK),
            None => attempt(&unsealed, &schedule).await,
        };
        let waiting = unsealed.clock.sleep(pause);
        drop(unsealed);
        tokio::select! {
            biased;
            () = waiting => {}
            () = gate.closed() => return,
        }
    }
}

/// How long until one is due; nothing when it is.
async fn when_due(unsealed: &Unsealed, schedule: &Schedule) -> Option<Duration> {
    let (disk, directory) = (Arc::clone(&unsealed.doors.disk), schedule.directory.clone());
    let listed = run_blocking(&*unsealed.doors.workers, move || files::list(&*disk, &directory)).await;
    // A directory that cannot be read is what the attempt will say.
    let listed = listed.ok()?.ok()?;
    let now = unsealed.clock.now();
    // One of a time to come was taken while the clock was wrong.
    let last = listed.into_iter().map(|(taken, _)| taken).rfind(|taken| *taken <= now)?;
    unsealed.handles.snapshots.told.update(|told| told.taken = Some(last));
    let due = last.plus(schedule.interval);
    (due > now).then(|| due.since(now))
}

/// Takes one, and says when to look again.
async fn attempt(unsealed: &Unsealed, schedule: &Schedule) -> Duration {
    let now = unsealed.clock.now();
    let name = files::name(now);
    let told = &unsealed.handles.snapshots.told;
    match take(unsealed, schedule, &name, now).await {
        Ok(()) => {
            tracing::info!(name, "a snapshot was taken by schedule, and restored to see whether it can be");
            told.update(|told| *told = Scheduled { taken: Some(Timestamp::from_seconds(now.seconds())), error: None });
            Duration::ZERO
        }
        Err(fault) => {
            let text = fault.for_operators();
            tracing::error!(name, error = text, "no snapshot was taken by schedule; it is tried again");
            told.update(|told| told.error = Some(text));
            RETRY.min(schedule.interval)
        }
    }
}

async fn take(unsealed: &Unsealed, schedule: &Schedule, name: &str, now: Timestamp) -> Result<(), Fault> {
    let doors = &unsealed.doors;
    let (disk, directory, name) = (Arc::clone(&doors.disk), schedule.directory.clone(), name.to_owned());
    let written = write(unsealed, schedule, name.clone(), now).await;
    if written.is_err() {
        // What is left after all is removed by the next attempt.
        drop(blocking(doors, move || files::abandon(&*disk, &directory, &name)).await);
    }
    written
}

async fn write(unsealed: &Unsealed, schedule: &Schedule, name: String, now: Timestamp) -> Result<(), Fault> {
    let doors = &unsealed.doors;
    let (disk, directory, retain) = (Arc::clone(&doors.disk), schedule.directory.clone(), schedule.retain);
    let mut unfinished = blocking(doors, move || Unfinished::begin(&disk, &directory, name)).await?;
    let mut stream = unsealed.handles.snapshots.take(now).await?;
    while let Some(part) = stream.part().await? {
        unfinished = blocking(doors, move || unfinished.append(&part).map(|()| unfinished)).await?;
    }
    rehearse(unsealed, schedule, read_back(doors, &unfinished)).await?;
    blocking(doors, move || unfinished.finish(retain)).await
}

/// Restores it where nobody else is, and loads there what a node loads when it is unsealed.
async fn rehearse(unsealed: &Unsealed, schedule: &Schedule, file: ByteStream) -> Result<(), Fault> {
    let doors = &unsealed.doors;
    let place = files::rehearsal(&schedule.directory);
    clear(doors, &schedule.directory).await?;
    let open = {
        let (open_scratch, place) = (Arc::clone(&schedule.open_scratch), place.clone());
        run_blocking(&*doors.workers, move || open_scratch(&place))
    };
    let scratch = open.await.map_err(Fault::internal)?.map_err(Fault::internal)?;
    let restored = unsealed.handles.snapshots.rehearse(file, scratch).await;
    let loaded = match restored {
        Ok(restored) => {
            let loaded = load(unsealed, &restored);
            restored.stop().await;
            loaded
        }
        Err(fault) => Err(fault),
    };
    clear(doors, &schedule.directory).await?;
    loaded
}

/// What was restored, as a node would load it.
fn load(unsealed: &Unsealed, restored: &tresor_barrier::Barrier) -> Result<(), Fault> {
    let mut txn = restored.begin().map_err(Fault::internal)?;
    let missing = || Fault::internal("what was restored lacks its first records");
    let at = keys::cluster().map_err(Fault::internal)?;
    let bytes = txn.read(&at).map_err(Fault::internal)?.ok_or_else(missing)?;
    let cluster = ClusterRecord::decode(&bytes).map_err(Fault::internal)?;
    if cluster.id != unsealed.cluster.id {
        return Err(Fault::internal("what was restored is another cluster"));
    }
    let handles = &unsealed.handles;
    handles.spaces.rehearse(&mut txn)?;
    handles.quotas.stored(&mut txn)?;
    handles.rates.stored(&mut txn)?;
    handles.audits.devices(&mut txn)?;
    Ok(())
}

async fn clear(doors: &Doors, directory: &Path) -> Result<(), Fault> {
    let (disk, directory) = (Arc::clone(&doors.disk), directory.to_path_buf());
    blocking(doors, move || files::clear_rehearsal(&*disk, &directory)).await
}

fn read_back(doors: &Doors, unfinished: &Unfinished) -> ByteStream {
    let (written, workers) = (Arc::new(Mutex::new(unfinished.written())), Arc::clone(&doors.workers));
    ByteStream::new(move || {
        let (written, workers) = (Arc::clone(&written), Arc::clone(&workers));
        Box::pin(async move {
            let next = move || written.lock().unwrap_or_else(PoisonError::into_inner).part();
            run_blocking(&*workers, next).await.map_err(Fault::internal)?.map_err(Fault::internal)
        })
    })
}

async fn blocking<T: Send + 'static>(
    doors: &Doors,
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T, Fault> {
    run_blocking(&*doors.workers, work).await.map_err(Fault::internal)?.map_err(Fault::internal)
}
