//! How many leases there are by the path that handed them out: a mount's path and what follows it, a role say.
//!
//! The number of a path is counted in the transaction in which a lease begins or ends, and its name stands in a directory
//! while it is not zero. So showing them looks at no lease, memory holds none of them, and a path costs a little beside the
//! directory of ids that it has anyway. What a path is follows from the id alone: a mount that moves, or is gone, changes
//! nothing. Invariant: a number is that of the ids below its path that stand for a token or a lease in use, at every commit
//! ([`Leases::numbers_agree`]). Deliberately absent: numbers of whole branches, which each lease would have to be counted in;
//! a mount has its own (`tokens::counts`).

use std::collections::BTreeMap;
use std::sync::Arc;

use tresor_barrier::{StorageKey, Txn};
use tresor_model::Fault;
use tresor_model::ids::{MountId, NamespaceId};

use super::names::names_below;
use super::record::LeaseState;
use super::secrets::{Leases, LeasesLeft, read};
use crate::keys;
use crate::mounts::Mount;
use crate::namespaces::Space;
use crate::tokens;

/// How much of a path is told apart: what is deeper counts for its first so many parts.
const PARTS_MAX: usize = 8;
/// How many ids are looked at in one step of a recount.
const PAGE: usize = 1_000;

/// A page of the tree.
pub struct Tree {
    /// The mounts in order of their paths.
    pub mounts: Vec<Branch>,
    /// The last path that is in it, when there may be more.
    pub next: Option<String>,
    /// Whether something was left out because it cannot be read.
    pub is_cut: bool,
}

/// A mount, and what it has handed out by path.
pub struct Branch {
    /// The mount that is at the paths; `None` where none is any more.
    pub mount: Option<Arc<Mount>>,
    /// How many of its tokens and leases are in use.
    pub live: u64,
    /// How many more are over and still counted below.
    pub collecting: u64,
    /// How many leases are being revoked.
    pub revoking: u64,
    /// How many could not be.
    pub irrevocable: u64,
    /// Paths, and how many there are of each.
    pub paths: Vec<(String, u64)>,
}

/// The path that an id counts for.
fn path_of(id: &str) -> &str {
    let path = id.rsplit_once('/').map_or("", |(path, _)| path);
    path.match_indices('/').nth(PARTS_MAX - 1).map_or(path, |(at, _)| path.get(..at).unwrap_or(path))
}

/// Counts a lease that begins or ends.
pub(crate) fn count(txn: &mut Txn, namespace: &NamespaceId, id: &str, delta: i64) -> Result<(), Fault> {
    txn.count_listed(&key(namespace, path_of(id))?, delta);
    Ok(())
}

fn key(namespace: &NamespaceId, path: &str) -> Result<StorageKey, Fault> {
    keys::lease_paths(namespace).and_then(|at| at.key(path)).map_err(tresor_engine::view::fault)
}

impl Leases {
    /// At most `limit` paths of a namespace that begin with `prefix`, in order, after `after`.
    ///
    /// # Errors
    /// A refusal when the prefix is no part of an id; a failure when the store fails.
    pub fn tree(
        &self,
        txn: &mut Txn,
        space: &Space,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Tree, Fault> {
        let prefix = prefix.trim_matches('/');
        let mut paths = Vec::new();
        if !prefix.is_empty() && after.is_none() {
            paths.push(prefix.to_owned());
        }
        let below = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        let at = keys::lease_paths(&space.id);
        let (found, is_cut) = names_below(txn, at, &below, after, limit)?;
        let next = (found.len() == limit).then(|| found.last().cloned()).flatten();
        paths.extend(found);
        let (table, refused) = (space.mounts.table(), self.tokens().refused(txn)?);
        let mut mounts: Vec<Branch> = Vec::new();
        for path in paths {
            let number = txn.listed(&key(&space.id, &path)?).map_err(Fault::internal)?;
            if number == 0 {
                continue;
            }
            let mount = table.find(&path).map(|(mount, _)| mount);
            let is_same = mounts.last().is_some_and(|last| last.id() == mount.map(|mount| &mount.record.id));
            if !is_same {
                let collecting = mount.and_then(|mount| refused.get(mount.record.id.as_str()));
                mounts.push(branch(txn, space, mount, collecting.copied().unwrap_or(0))?);
            }
            mounts.last_mut().into_iter().for_each(|branch| branch.paths.push((path.clone(), number)));
        }
        Ok(Tree { mounts, next, is_cut })
    }

    /// Whether the numbers of every namespace are those of its leases, one by one: for who checks that they are counted. Of a
    /// sealed one nobody can say.
    pub(crate) fn numbers_agree(&self, txn: &mut Txn, spaces: &[Arc<Space>]) -> Result<bool, Fault> {
        for space in spaces.iter().filter(|space| !space.is_sealed) {
            if self.counted(txn, &space.id)? != self.recounted(txn, &space.id)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn counted(&self, txn: &mut Txn, namespace: &NamespaceId) -> Result<BTreeMap<String, u64>, Fault> {
        let (paths, _) = names_below(txn, keys::lease_paths(namespace), "", None, usize::MAX)?;
        let number = |path: String| {
            let number = txn.listed(&key(namespace, &path)?).map_err(Fault::internal)?;
            Ok::<_, Fault>((path, number))
        };
        paths.into_iter().map(number).collect()
    }

    fn recounted(&self, txn: &mut Txn, namespace: &NamespaceId) -> Result<BTreeMap<String, u64>, Fault> {
        let (mut numbers, mut after): (BTreeMap<String, u64>, Option<String>) = (BTreeMap::new(), None);
        loop {
            let (page, _) = names_below(txn, keys::leases(namespace), "", after.as_deref(), PAGE)?;
            let Some(last) = page.last().cloned() else { return Ok(numbers) };
            for id in page {
                let is_in_use = tokens::hash_in(&id).is_some()
                    || read(txn, &id)?.is_some_and(|record| record.state == LeaseState::Live);
                if is_in_use {
                    *numbers.entry(path_of(&id).to_owned()).or_default() += 1;
                }
            }
            after = Some(last);
        }
    }
}

impl Branch {
    fn id(&self) -> Option<&MountId> {
        self.mount.as_ref().map(|mount| &mount.record.id)
    }
}

fn branch(txn: &mut Txn, space: &Space, mount: Option<&Arc<Mount>>, collecting: i64) -> Result<Branch, Fault> {
    let left = mount.map(|mount| LeasesLeft::of(txn, &space.id, &mount.record.id)).transpose()?;
    let collecting = u64::try_from(collecting).unwrap_or(0);
    let stored = left.as_ref().map_or(0, |left| left.live.saturating_sub(left.intended));
    let live = stored.saturating_sub(collecting);
    let [revoking, irrevocable] = left.map_or([0, 0], |left| [left.revoking, left.irrevocable]);
    Ok(Branch { mount: mount.cloned(), live, collecting, revoking, irrevocable, paths: Vec::new() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_counts_for_the_path_before_its_number_as_far_as_it_is_told_apart() {
        for (id, path) in [
            ("database/creds/app/n1", "database/creds/app"),
            ("auth/token/create/n1", "auth/token/create"),
            ("a/b/c/d/e/f/g/n1", "a/b/c/d/e/f/g"),
            ("a/b/c/d/e/f/g/h/n1", "a/b/c/d/e/f/g/h"),
            ("a/b/c/d/e/f/g/h/i/j/n1", "a/b/c/d/e/f/g/h"),
        ] {
            assert_eq!(path_of(id), path);
        }
    }
}
