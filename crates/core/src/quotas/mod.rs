//! Lease-count quotas: how many tokens and leases may be alive, altogether, in a namespace, of one mount, of one path of a
//! mount, or of the logins of one role.
//!
//! The number is a tally, and the quota is a bound that the commit checks, so it is exact however many requests come at
//! once; what is revoked and not collected yet does not count. The most specific quota counts, and no other: that of the
//! role, of the path, of the mount, of its namespace, of the nearest namespace above that hands its quota down. One that is
//! handed down is a bound for all below together. A quota *within* a mount, on a path or a role, has a tally of its own,
//! which exists as long as it does: nothing is counted by path or role where no quota asks for it.
//! Deliberately absent: counting ([`counts`](crate::tokens)), and counting what there was before a quota within a mount
//! (`leases::counting`). Quotas on rates are apart ([`rates`]): nothing is stored for what they count.

mod clients;
pub mod rates;

use std::collections::BTreeMap;

use tresor_barrier::{Changed, KeyPrefix, StorageKey, Txn};
use tresor_model::ids::{MountId, NamespaceId};
use tresor_model::{Fault, Refusal};
use tresor_record::{Part, Record};

use crate::cached::{Cached, every_record};
use crate::keys;
use crate::tokens::counts::Facets;

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

impl From<QuotaRecordV1> for QuotaRecordV2 {
    fn from(older: QuotaRecordV1) -> Self {
        let QuotaRecordV1 { name, path, mount, max_leases } = older;
        Self { name, path, inheritable: mount.is_none(), about: About::of_older(mount), max_leases }
    }
}

/// A quota as it was stored before it could be on a role or a path.
#[derive(Record)]
#[record(kind = "lease-count-quota", version = 2, previous = QuotaRecordV1)]
pub struct QuotaRecordV2 {
    name: String,
    path: String,
    about: About,
    max_leases: u64,
    inheritable: bool,
}

impl From<QuotaRecordV2> for QuotaRecord {
    fn from(older: QuotaRecordV2) -> Self {
        let QuotaRecordV2 { name, path, about, max_leases, inheritable } = older;
        let (suffix, role, number) = (String::new(), String::new(), String::new());
        Self { name, path, about, max_leases, inheritable, suffix, role, number }
    }
}

/// A quota as it is stored.
#[derive(Record, Clone, PartialEq, Eq)]
#[record(kind = "lease-count-quota", version = 3, previous = QuotaRecordV2)]
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
    /// What is left of the path below the mount, without a slash at its end; a star at its end stands for anything.
    pub suffix: String,
    /// The role whose logins it is about; empty for none.
    pub role: String,
    /// What it counts under, when it is about a path or a role; given when it is stored.
    pub number: String,
}

/// What is counted against a quota.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Counted {
    /// What falls under a quota within a mount, by its number.
    Apart(String),
    /// What one mount has.
    Mount,
    /// What a namespace has.
    In(NamespaceId),
    /// What a namespace and those below it have.
    Below(NamespaceId),
}

impl QuotaRecord {
    /// Whether it is about the same.
    pub(crate) fn is_twin_of(&self, other: &Self) -> bool {
        (&self.about, &self.suffix, &self.role) == (&other.about, &other.suffix, &other.role)
    }

    /// Whether it is about a path or a role, and not about all of a mount or namespace.
    #[must_use]
    pub fn is_within(&self) -> bool {
        !self.suffix.is_empty() || !self.role.is_empty()
    }

    /// Whether what these facets are of falls under it, if it is within the mount that made that.
    pub(crate) fn is_about(&self, facets: &Facets) -> bool {
        if !self.role.is_empty() {
            return facets.role.as_ref() == Some(&self.role);
        }
        let rest = facets.rest.trim_end_matches('/');
        begins(&self.suffix, rest) || self.suffix == rest
    }

    fn counted(&self) -> Counted {
        match &self.about {
            About::Mount(_) if self.is_within() => Counted::Apart(self.number.clone()),
            About::Mount(_) => Counted::Mount,
            About::Namespace(id) if self.inheritable => Counted::Below(id.clone()),
            About::Namespace(id) => Counted::In(id.clone()),
        }
    }
}

/// The owner of the quotas.
pub struct Quotas {
    table: Cached<Table>,
}

#[derive(PartialEq, Eq)]
struct Table {
    stored: BTreeMap<String, QuotaRecord>,
    /// The names of those that are about all of a mount or namespace.
    whole: BTreeMap<About, String>,
    /// The names of those within mounts.
    within: BTreeMap<MountId, Vec<String>>,
    /// Their numbers, with their names.
    numbers: BTreeMap<String, String>,
}

impl Table {
    fn within(&self, mount: &MountId) -> impl Iterator<Item = &QuotaRecord> {
        self.within.get(mount).into_iter().flatten().filter_map(|name| self.stored.get(name))
    }
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
        read_quotas(txn)
    }

    /// Stores a quota; there is one per namespace, mount, path and role.
    ///
    /// # Errors
    /// A refusal when another one is about the same; a failure when the store fails.
    pub(crate) fn write(&self, txn: &mut Txn, quota: &QuotaRecord) -> Result<(), Fault> {
        let known = read_quotas(txn)?;
        let same = known.values().filter(|other| other.is_twin_of(quota));
        refuse_twin(same.map(|other| other.name.as_str()), &quota.name)?;
        txn.write(&key(&quota.name)?, &quota.encode()).map_err(Fault::internal)
    }

    /// Removes a quota; removing nothing is fine.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) fn delete(&self, txn: &mut Txn, name: &str) -> Result<(), Fault> {
        txn.delete(&key(name)?).map_err(Fault::internal)
    }

    /// The most that may be alive where one more of this mount is about to be made, and what is counted. `line` are the
    /// namespaces above the mount, the root first, and its own last.
    pub(crate) fn room(
        &self,
        line: &[NamespaceId],
        mount: &MountId,
        facets: Option<&Facets>,
    ) -> Option<(u64, Counted)> {
        let table = self.table.load();
        let of = |about: &About| table.stored.get(table.whole.get(about)?);
        let of_namespace = || {
            let mut up = line.iter().rev().map(|id| of(&About::Namespace(id.clone())));
            up.next().flatten().or_else(|| up.flatten().find(|quota| quota.inheritable))
        };
        // A role before a path, a path as it is before one with a star, and of those the longest.
        let rank = |quota: &&QuotaRecord| (!quota.role.is_empty(), !quota.suffix.ends_with('*'), quota.suffix.len());
        let within = facets.and_then(|facets| table.within(mount).filter(|one| one.is_about(facets)).max_by_key(rank));
        let quota = within.or_else(|| of(&About::Mount(mount.clone()))).or_else(of_namespace)?;
        Some((quota.max_leases, quota.counted()))
    }

    /// Whether there are any within a mount.
    pub(crate) fn are_within(&self, mount: &MountId) -> bool {
        self.table.load().within.contains_key(mount)
    }

    /// The numbers of the quotas within a mount under which something falls.
    pub(crate) fn counting(&self, mount: &MountId, facets: &Facets) -> Vec<String> {
        let table = self.table.load();
        table.within(mount).filter(|quota| quota.is_about(facets)).map(|quota| quota.number.clone()).collect()
    }

    /// Whether the quota with this number is there; its end from then on conflicts with the transaction.
    pub(crate) fn is_counting(&self, txn: &mut Txn, number: &str) -> Result<bool, Fault> {
        let table = self.table.load();
        let Some(name) = table.numbers.get(number) else { return Ok(false) };
        txn.contains(&key(name)?).map_err(Fault::internal)
    }

    /// The quota with this number.
    pub(crate) fn numbered(&self, number: &str) -> Option<QuotaRecord> {
        let table = self.table.load();
        table.stored.get(table.numbers.get(number)?).cloned()
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.table.load().stored.is_empty()
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

fn read_quotas(txn: &mut Txn) -> Result<BTreeMap<String, QuotaRecord>, Fault> {
    every_record(txn, &keys::quotas(&NamespaceId::root()).map_err(Fault::internal)?)
}

fn read_table(txn: &mut Txn) -> Result<Table, Fault> {
    let stored = read_quotas(txn)?;
    let (mut whole, mut numbers) = (BTreeMap::new(), BTreeMap::new());
    let mut within = BTreeMap::<MountId, Vec<String>>::new();
    for (name, quota) in &stored {
        match &quota.about {
            About::Mount(mount) if quota.is_within() => {
                numbers.insert(quota.number.clone(), name.clone());
                within.entry(mount.clone()).or_default().push(name.clone());
            }
            about => drop(whole.insert(about.clone(), name.clone())),
        }
    }
    Ok(Table { stored, whole, within, numbers })
}

/// Whether what is left of a path begins as a suffix says that ends in a star.
fn begins(suffix: &str, rest: &str) -> bool {
    suffix.strip_suffix('*').is_some_and(|with| rest.starts_with(with))
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

    #[test]
    fn a_quota_within_a_mount_is_about_a_role_or_a_path_with_or_without_a_star() {
        let quota = |suffix: &str, role: &str| QuotaRecord {
            name: String::new(),
            path: String::new(),
            about: About::Mount(MountId::new("m")),
            max_leases: 1,
            inheritable: false,
            suffix: suffix.to_owned(),
            role: role.to_owned(),
            number: String::new(),
        };
        let made = |rest: &str, role: Option<&str>| Facets { rest: rest.to_owned(), role: role.map(str::to_owned) };
        for (suffix, role, rest, of_role, is_about) in [
            ("creds/a", "", "creds/a", None, true),
            ("creds/a", "", "creds/a/", None, true),
            ("creds/a", "", "creds/ab", None, false),
            ("creds/*", "", "creds/ab", None, true),
            ("creds/*", "", "creds", None, false),
            ("", "ci", "login", Some("ci"), true),
            ("", "ci", "login", Some("web"), false),
            ("", "ci", "login", None, false),
        ] {
            let found = quota(suffix, role).is_about(&made(rest, of_role));
            assert_eq!(found, is_about, "{suffix} {role} {rest} {of_role:?}");
        }
    }
}
