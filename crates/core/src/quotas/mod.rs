//! Lease-count quotas: how many tokens and leases may be alive, altogether, in a namespace or of one mount.
//!
//! The number is a tally, and the quota is a bound that the commit checks, so it is exact however many requests come at
//! once; what is revoked and not collected yet does not count. The most specific quota counts, and no other: that of the
//! mount, of its namespace, of the nearest namespace above that hands its quota down. One that is handed down is a bound
//! for all below together.
//! Deliberately absent: quotas on paths within a mount or on roles (there is no tally of those). Quotas on rates are apart
//! ([`rates`]): nothing is stored for what they count.

mod clients;
pub mod rates;

use std::collections::BTreeMap;

use tresor_barrier::{Changed, KeyPrefix, StorageKey, Txn};
use tresor_model::ids::{MountId, NamespaceId};
use tresor_model::{Fault, Refusal};
use tresor_record::{Part, Record};

use crate::cached::{Cached, every_record};
use crate::keys;

/// What a quota is about.
#[derive(Part, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum About {
    /// A namespace; the root namespace with those below it is the whole server.
    #[part(tag = 1)]
    Namespace(NamespaceId),
    /// A mount, by identity, so that the quota follows it.
    #[part(tag = 2)]
    Mount(MountId),
}

impl About {
    fn of_older(mount: Option<MountId>) -> Self {
        mount.map_or_else(|| Self::Namespace(NamespaceId::root()), Self::Mount)
    }
}

/// A quota as it was stored before it could be about a namespace.
#[derive(Record)]
#[record(kind = "lease-count-quota", version = 1)]
pub struct QuotaRecordV1 {
    name: String,
    path: String,
    mount: Option<MountId>,
    max_leases: u64,
}

impl From<QuotaRecordV1> for QuotaRecord {
    fn from(older: QuotaRecordV1) -> Self {
        let QuotaRecordV1 { name, path, mount, max_leases } = older;
        Self { name, path, inheritable: mount.is_none(), about: About::of_older(mount), max_leases }
    }
}

/// A quota as it is stored.
#[derive(Record, Clone, PartialEq, Eq)]
#[record(kind = "lease-count-quota", version = 2, previous = QuotaRecordV1)]
pub struct QuotaRecord {
    /// Its name.
    pub name: String,
    /// Where that was when the quota was written; empty for the root namespace.
    pub path: String,
    /// What it is about.
    pub about: About,
    /// How many there may be.
    pub max_leases: u64,
    /// Whether it is handed down to the namespaces below.
    pub inheritable: bool,
}

/// What is counted against a quota.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Counted {
    /// What one mount has.
    Mount,
    /// What a namespace has.
    In(NamespaceId),
    /// What a namespace and those below it have.
    Below(NamespaceId),
}

impl QuotaRecord {
    fn counted(&self) -> Counted {
        match &self.about {
            About::Mount(_) => Counted::Mount,
            About::Namespace(id) if self.inheritable => Counted::Below(id.clone()),
            About::Namespace(id) => Counted::In(id.clone()),
        }
    }
}

/// The owner of the quotas.
pub struct Quotas {
    table: Cached<BTreeMap<String, QuotaRecord>>,
}

impl Quotas {
    /// Loads the table.
    ///
    /// # Errors
    /// When the store fails or a record is damaged.
    pub fn load(txn: &mut Txn) -> Result<Self, Fault> {
        let table = read_table(txn)?;
        Ok(Self { table: Cached::new(keys::quotas(&NamespaceId::root()).map_err(Fault::internal)?, txn, table) })
    }

    /// The quotas as a transaction sees them, by name.
    ///
    /// # Errors
    /// When the store fails.
    pub fn stored(&self, txn: &mut Txn) -> Result<BTreeMap<String, QuotaRecord>, Fault> {
        read_table(txn)
    }

    /// Stores a quota; there is one per mount or namespace.
    ///
    /// # Errors
    /// A refusal when another one is about the same; a failure when the store fails.
    pub fn write(&self, txn: &mut Txn, quota: &QuotaRecord) -> Result<(), Fault> {
        let known = read_table(txn)?;
        let same = known.values().filter(|other| other.about == quota.about);
        refuse_twin(same.map(|other| other.name.as_str()), &quota.name)?;
        txn.write(&key(&quota.name)?, &quota.encode()).map_err(Fault::internal)
    }

    /// Removes a quota; removing nothing is fine.
    ///
    /// # Errors
    /// When the store fails.
    pub fn delete(&self, txn: &mut Txn, name: &str) -> Result<(), Fault> {
        txn.delete(&key(name)?).map_err(Fault::internal)
    }

    /// The most that may be alive where one more of this mount is about to be made, and what is counted. `line` are the
    /// namespaces above the mount, the root first, and its own last.
    pub(crate) fn room(&self, line: &[NamespaceId], mount: &MountId) -> Option<(u64, Counted)> {
        let table = self.table.load();
        let of = |about: &About| table.values().find(|quota| quota.about == *about);
        let of_namespace = || {
            let mut up = line.iter().rev().map(|id| of(&About::Namespace(id.clone())));
            up.next().flatten().or_else(|| up.flatten().find(|quota| quota.inheritable))
        };
        let quota = of(&About::Mount(mount.clone())).or_else(of_namespace)?;
        Some((quota.max_leases, quota.counted()))
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.table.load().is_empty()
    }

    /// Below what it has to be told of changes.
    pub(crate) fn wants(&self) -> KeyPrefix {
        self.table.prefix().clone()
    }

    pub(crate) fn reload_if_touched(&self, changed: &Changed, txn: &mut Txn) -> Result<(), Fault> {
        self.table.reload_if_touched(changed, txn, read_table)
    }

    pub(crate) fn agrees(&self, txn: &mut Txn) -> Result<bool, Fault> {
        Ok(read_table(txn)? == *self.table.load())
    }
}

/// What is said when a quota is used up.
pub(crate) fn refusal(path: &str) -> Refusal {
    Refusal::Throttled(format!("request path {path:?}: lease count quota exceeded").into())
}

fn key(name: &str) -> Result<StorageKey, Fault> {
    named(&keys::quotas(&NamespaceId::root()).map_err(Fault::internal)?, name)
}

fn read_table(txn: &mut Txn) -> Result<BTreeMap<String, QuotaRecord>, Fault> {
    every_record(txn, &keys::quotas(&NamespaceId::root()).map_err(Fault::internal)?)
}

/// Where a quota of this name lies.
fn named(prefix: &KeyPrefix, name: &str) -> Result<StorageKey, Fault> {
    if name.contains('/') {
        return Err(Fault::invalid("the name of a quota has no slash"));
    }
    prefix.key(name).map_err(tresor_engine::view::fault)
}

/// Refuses a quota when one of another name is about the same.
fn refuse_twin<'n>(mut about_the_same: impl Iterator<Item = &'n str>, name: &str) -> Result<(), Fault> {
    match about_the_same.find(|other| *other != name) {
        Some(other) => {
            Err(Fault::invalid(format!("quota rule with similar properties exists under the name {other:?}")))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_quota_of_before_is_about_its_mount_or_the_whole_server() {
        let read = |mount| {
            let (name, path) = ("q".to_owned(), String::new());
            let older = QuotaRecordV1 { name, path, mount, max_leases: 5 };
            let read = QuotaRecord::decode(&older.encode()).unwrap();
            (read.about, read.inheritable, read.max_leases)
        };
        assert_eq!(read(None), (About::Namespace(NamespaceId::root()), true, 5));
        assert_eq!(read(Some(MountId::new("m"))), (About::Mount(MountId::new("m")), false, 5));
    }
}
