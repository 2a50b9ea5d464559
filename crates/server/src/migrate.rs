//! `operator migrate`: what one storage holds becomes what another one holds, while no server uses either.
//!
//! Sealed values are copied as they are, so no key is needed. The destination takes everything over at once, at the end: a
//! copy that broke off has changed nothing there, and is begun anew. Then it is read back and compared. Deliberately absent:
//! whatever lies beside the data (local audit logs, keys of nodes, configurations).

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tresor_env::Doors;
use tresor_env::tasks::{FINISH_BOUND, run_blocking};
use tresor_storage::state::Reading;
use tresor_storage::{Batch, RawKey, Store, StoreError, Stored, Version, pieces};

use crate::cluster::{NodeError, NodeOpening, Nodes, advertised};
use crate::config::{self, LogFormat, MigrationConfig, Storage};
use crate::logging;
use crate::run::environment;
use crate::storage::{self, Opened, Others};

/// What a migration is asked for.
#[derive(Clone, Debug, Default)]
pub struct Migration {
    /// The file that names both storages.
    pub config: PathBuf,
    /// Let go of what a migration of before left, and copy nothing.
    pub reset: bool,
    /// A key to begin at, which means nothing here.
    pub start: Option<String>,
    /// Least severe messages that are logged.
    pub log_level: Option<String>,
}

/// Every so many bytes the log is told how far it is.
const TOLD_EVERY: u64 = 64 << 20;

/// Copies; 0 when that is done, 1 when it was not asked as it should be, 2 when it failed.
pub fn migrate(wanted: &Migration, output: &mut dyn Write, errors: &mut dyn Write) -> i32 {
    let mut fail = |code: i32, error: &str| {
        // Nobody to tell when the stream is gone.
        drop(writeln!(errors, "Error: {error}"));
        code
    };
    let level = wanted.log_level.as_deref().unwrap_or("info");
    let Some(level) = config::checked_level(level) else {
        return fail(1, "-log-level is one of trace, debug, info, warn, error");
    };
    let config = match config::load_migration(&wanted.config, &environment) {
        Ok(config) => config,
        Err(error) => return fail(1, &error.to_string()),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(2, &format!("the runtime cannot be started: {error}")),
    };
    let log = logging::start(&level, LogFormat::Standard, None);
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    if wanted.start.is_some() {
        tracing::warn!("-start has no effect: all is copied, or nothing");
    }
    let done = if wanted.reset { Ok(()) } else { runtime.block_on(copy(config)) };
    runtime.shutdown_timeout(FINISH_BOUND);
    log.finish();
    let text = match done {
        Ok(()) if wanted.reset => "Success! Migration lock reset (if it was set).",
        Ok(()) => "Success! All of the keys have been migrated.",
        Err(error) => return fail(2, &format!("Error migrating: {error}")),
    };
    drop(writeln!(output, "{text}"));
    0
}

/// Refuses directories of which one lies in the other, by whatever names: what is written to one would be written into what the
/// other is.
fn apart(source: &Storage, destination: &Storage) -> Result<(), String> {
    let (Some(from), Some(to)) = (source.path(), destination.path()) else { return Ok(()) };
    let (real_from, real_to) = (real(from)?, real(to)?);
    if real_from.starts_with(&real_to) || real_to.starts_with(&real_from) {
        return Err(format!(
            "`storage_destination` {} and `storage_source` {} are the same directory, or one lies in the other",
            to.display(),
            from.display()
        ));
    }
    Ok(())
}

/// A path without links, as far as it is there.
fn real(path: &Path) -> Result<PathBuf, String> {
    let described = |error: std::io::Error| format!("{}: {error}", path.display());
    let whole = std::path::absolute(path).map_err(described)?;
    let there = whole.ancestors().find(|ancestor| ancestor.exists()).unwrap_or(&whole);
    let found = std::fs::canonicalize(there).map_err(described)?;
    // What is not there yet has no links, and may be spelled with a way back.
    let rest = whole.strip_prefix(there).unwrap_or(Path::new("")).components();
    Ok(rest.fold(found, |mut found, part| {
        match part {
            std::path::Component::ParentDir => drop(found.pop()),
            part => found.push(part),
        }
        found
    }))
}

async fn copy(config: MigrationConfig) -> Result<(), String> {
    let doors = tresor_env_os::doors();
    apart(&config.source, &config.destination)?;
    let own = |name: &'static str| move |error: String| format!("`{name}`: {error}");
    if let Storage::File(directory) | Storage::Raft { directory, .. } = &config.source
        && !directory.path.is_dir()
    {
        return Err(format!("`storage_source`: there is no directory {}", directory.path.display()));
    }
    let source = open(&config.source, None, &doors).await.map_err(own("storage_source"))?;
    let address = config.cluster_address.as_deref();
    let destination = match open(&config.destination, address, &doors).await {
        Ok(destination) => destination,
        Err(error) => {
            source.close().await;
            return Err(own("storage_destination")(error));
        }
    };
    let (from, to) = (Arc::clone(&source.store), Arc::clone(&destination.store));
    let copied = run_blocking(&*doors.workers, move || take_over(&*from, &*to)).await;
    destination.close().await;
    source.close().await;
    copied.map_err(|panicked| panicked.to_string())?
}

/// Opens a storage as a server would, with its lock, and reachable by nobody.
async fn open(storage: &Storage, address: Option<&str>, doors: &Doors) -> Result<Opened, String> {
    let Storage::Raft { directory, node_id } = storage else {
        return Opened::plain(storage, doors).await;
    };
    let machine = storage::machine(directory, doors)?;
    let opening = NodeOpening {
        directory: directory.path.clone(),
        name: node_id.clone(),
        listen: None,
        address: address.map(advertised).transpose().map_err(|error| format!("cluster_addr: {error}"))?,
        api_address: String::new(),
    };
    let nodes = Nodes::open(doors, opening, machine).await.map_err(|error| match error {
        NodeError::NotAlone => {
            "the node has others beside it: remove them first (`operator raft remove-peer`), or take a \
                                snapshot of the cluster and restore it"
                .to_owned()
        }
        other => storage::describe(other),
    })?;
    Ok(Opened { store: Arc::new(nodes.store()), others: Others::Agreeing(nodes) })
}

fn take_over(from: &dyn Store, to: &dyn Store) -> Result<(), String> {
    let described = storage::describe::<StoreError>;
    if !Summed::of(to, &mut |_| Ok(())).map_err(described)?.is_empty() {
        return Err("`storage_destination` is not empty: nothing was written to it".to_owned());
    }
    // A node of a cluster belongs to none before its first batch.
    let before = to.snapshot().map_err(described)?.version();
    if before == Version(0) {
        to.apply(Batch::new(before.next(), std::collections::BTreeMap::new())).map_err(described)?;
    }
    let mut install = to.restore().map_err(described)?;
    let copied = Summed::of(from, &mut |chunk| install.take(chunk)).map_err(described)?;
    if copied.is_empty() {
        return Err("`storage_source` is empty: nothing was written to the destination".to_owned());
    }
    tracing::info!(values = copied.count, bytes = copied.bytes, "everything was sent: the destination takes it over");
    install.finish().map_err(described)?;
    let there = Summed::of(to, &mut |_| Ok(())).map_err(described)?;
    if there != copied {
        return Err(
            "what the destination holds is not what the source holds: use neither before it is known why".to_owned()
        );
    }
    tracing::info!(values = there.count, "what was copied was read back, and is the same");
    Ok(())
}

/// What a store holds, in a few numbers.
#[derive(Debug, PartialEq, Eq)]
struct Summed {
    count: u64,
    bytes: u64,
    sum: u64,
}

impl Summed {
    /// Reads everything, and hands it on as it is read.
    fn of(store: &dyn Store, hand_on: &mut dyn FnMut(Vec<u8>) -> Result<(), StoreError>) -> Result<Self, StoreError> {
        let (mut export, mut reading) = (store.export()?, Reading::new(None));
        let (mut found, mut hasher, mut told) = (Self { count: 0, bytes: 0, sum: 0 }, DefaultHasher::new(), 0);
        while let Some(chunk) = export.next()? {
            reading
                .take(&chunk, |key, stored| {
                    found.see(&key, &stored, &mut hasher);
                    Ok::<(), tresor_storage::state::Wrong>(())
                })
                .map_err(|wrong| wrong.for_store("what was read"))?;
            hand_on(chunk)?;
            if found.bytes >= told + TOLD_EVERY {
                told = found.bytes;
                tracing::info!(values = found.count, bytes = found.bytes, "reading");
            }
        }
        found.sum = hasher.finish();
        Ok(found)
    }

    fn see(&mut self, key: &RawKey, stored: &Stored, hasher: &mut DefaultHasher) {
        // What a state left that was never taken over is none of it.
        if key.as_bytes().starts_with(pieces::PREFIX) {
            return;
        }
        self.count += 1;
        self.bytes += stored.bytes.len() as u64;
        (key.as_bytes(), stored.version.0, &stored.bytes).hash(hasher);
    }

    const fn is_empty(&self) -> bool {
        self.count == 0
    }
}
