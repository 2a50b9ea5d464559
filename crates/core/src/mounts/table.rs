//! The table of mounts as requests see it: found by path, by identity and by handle.
//!
//! A table never changes: whoever took it keeps it, and the next one shares with it what did not change. Deliberately
//! absent: storage, and how a mount comes into the table.

use std::collections::BTreeMap;
use std::sync::Arc;

use tresor_barrier::KeyPrefix;
use tresor_engine::{MountFacts, Mounted};
use tresor_model::ids::MountId;

use super::record::MountRecord;
use crate::ordered::Ordered;

/// One mount of the table.
pub struct Mount {
    /// Its stored record, as the barrier keeps it decoded: whether it still is that is asked with each write.
    pub record: Arc<MountRecord>,
    /// What engines and audit records see of it, TTLs resolved.
    pub facts: MountFacts,
    /// What is below this is its data.
    pub contents: KeyPrefix,
    /// The engine behind it.
    pub engine: Behind,
}

impl Mount {
    /// What is asked of below this mount, of what is left of the path. A slash at its end asks of a directory; to a mount
    /// that was tuned so it means nothing else.
    #[must_use]
    pub fn asked<'p>(&self, relative: &'p str, is_of_directory: bool) -> &'p str {
        let is_trimmed = self.record.tuning.trim_request_trailing_slashes && !is_of_directory;
        if is_trimmed { relative.trim_end_matches('/') } else { relative }
    }
}

/// What answers for a mount.
pub enum Behind {
    /// An engine of its own.
    Engine(Arc<dyn Mounted>),
    /// A part of the server, found by its path: those parts know the mounts, not the other way round.
    Server,
    /// Nothing: it is on its way from one namespace to another.
    Moving,
    /// Nothing: the engine could not be loaded, for this reason. It can still be disabled.
    Quarantined(String),
}

/// All mounts, by path.
#[derive(Clone)]
pub struct Table {
    by_path: Ordered<Arc<Mount>>,
    by_id: Ordered<Arc<Mount>>,
    by_accessor: Ordered<Arc<Mount>>,
    /// Records that cannot be read, by the identity of their mount, and why: nobody knows where these mounts were.
    unreadable: BTreeMap<String, String>,
}

/// A mount's record as it was found.
pub(super) enum Loaded {
    There(Arc<Mount>),
    Gone,
    Unreadable(String),
}

impl Default for Table {
    fn default() -> Self {
        Self::of(Vec::new(), BTreeMap::new())
    }
}

impl Table {
    /// These mounts.
    pub(super) fn of(mounts: Vec<Arc<Mount>>, unreadable: BTreeMap<String, String>) -> Self {
        Self {
            by_path: Ordered::of(|mount| &mount.record.path, mounts.clone()),
            by_id: Ordered::of(|mount| mount.record.id.as_str(), mounts.clone()),
            by_accessor: Ordered::of(|mount| mount.record.accessor.as_str(), mounts),
            unreadable,
        }
    }

    /// The table after some records were read again, each by the identity of its mount.
    pub(super) fn with(&self, changed: Vec<(String, Loaded)>) -> Self {
        let mut next = self.clone();
        // All that were are taken out first: one mount may have come to where another was.
        for (id, _) in &changed {
            if let Some(known) = next.by_id.get(id).cloned() {
                next.by_path.remove(&known.record.path);
                next.by_accessor.remove(known.record.accessor.as_str());
                next.by_id.remove(id);
            }
            next.unreadable.remove(id);
        }
        for (id, loaded) in changed {
            match loaded {
                Loaded::There(mount) => {
                    next.by_path.insert(Arc::clone(&mount));
                    next.by_accessor.insert(Arc::clone(&mount));
                    next.by_id.insert(mount);
                }
                Loaded::Gone => {}
                Loaded::Unreadable(reason) => drop(next.unreadable.insert(id, reason)),
            }
        }
        next
    }

    /// The mount that a path leads to, and what is left of the path below it.
    #[must_use]
    pub fn find<'p>(&self, path: &'p str) -> Option<(&Arc<Mount>, &'p str)> {
        let ends = path.match_indices('/').map(|(at, _)| at + 1);
        let mut found = None;
        for end in ends {
            let (head, rest) = path.split_at_checked(end)?;
            if let Some(mount) = self.by_path.get(head) {
                found = Some((mount, rest));
            }
        }
        // `secret` without its slash still means the mount `secret/`.
        found.or_else(|| self.by_path.get(&format!("{path}/")).map(|mount| (mount, "")))
    }

    /// The mount at exactly this path, ending in a slash.
    #[must_use]
    pub fn at(&self, path: &str) -> Option<&Arc<Mount>> {
        self.by_path.get(path)
    }

    /// The mount with this identity.
    #[must_use]
    pub fn with_id(&self, id: &MountId) -> Option<&Arc<Mount>> {
        self.by_id.get(id.as_str())
    }

    /// The mount with this handle.
    #[must_use]
    pub fn with_accessor(&self, accessor: &str) -> Option<&Arc<Mount>> {
        self.by_accessor.get(accessor)
    }

    /// The path of a mount that lies at, above or below a path that ends in a slash.
    pub(super) fn overlap(&self, path: &str) -> Option<&str> {
        let heads = path.match_indices('/').filter_map(|(at, _)| path.get(..=at));
        let above = heads.filter_map(|head| self.at(head)).next();
        let below = || self.by_path.from(path).next().filter(|mount| mount.record.path.starts_with(path));
        above.or_else(below).map(|mount| mount.record.path.as_str())
    }

    /// All mounts in order of path.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Mount>> {
        self.by_path.iter()
    }

    /// The mounts whose records cannot be read, and why.
    #[must_use]
    pub const fn unreadable(&self) -> &BTreeMap<String, String> {
        &self.unreadable
    }
}
