//! How many tokens and leases there are: counted with each that is made or ends, and bounded by quotas.
//!
//! Each counts in the whole server, in its mount, below its ancestors and, in a tenant, in its namespace and in those above
//! it; and for each quota on a role or a path that it falls under, of which its record has a list, so that it is counted
//! out of what it was counted into. The numbers are tallies, which nobody conflicts over; what is revoked and not collected yet is left out when they are
//! read. Deliberately absent: which quota counts ([`quotas`](crate::quotas)).

use std::collections::BTreeMap;

use tresor_barrier::Txn;
use tresor_model::Fault;
use tresor_model::ids::{MountId, NamespaceId, RealmId};

use super::record::TokenRecord;
use super::{LIVE, Tokens, UNBOUNDED, fault};
use crate::cached::every_name;
use crate::keys;
use crate::leases::intents::INTENDED;
use crate::namespaces::{Space, ids};
use crate::quotas::{About, Counted, QuotaRecord};

/// The label of what is alive in a namespace and below it.
const BELOW: &str = "below";
/// The label of what is alive in the root namespace itself, in the tally of all namespaces.
const OWN: &str = "own";
/// What the labels of quotas begin with in the tally of what is below a token; all others are mounts.
const QUOTA: &str = "quota/";

/// What a token or lease is counted as.
pub(crate) struct CountedAs<'c> {
    pub(crate) namespace: &'c NamespaceId,
    pub(crate) mount: &'c MountId,
    /// The quotas on a role or a path.
    pub(crate) quotas: &'c [String],
}

/// What quotas on a role or a path go by.
pub(crate) struct Facets {
    /// The path below the mount that makes it, in its canonical form.
    pub(crate) rest: String,
    /// The role of a login.
    pub(crate) role: Option<String>,
}

impl Tokens {
    /// Makes the commit refuse one more token or lease of a mount than its quota allows. What is revoked and not
    /// collected yet does not count; while the collector is at it, it may make room a step too early.
    pub(crate) fn bound(
        &self,
        txn: &mut Txn,
        namespace: &NamespaceId,
        mount: &MountId,
        facets: Option<&Facets>,
    ) -> Result<(), Fault> {
        if self.quotas.is_empty() {
            return Ok(());
        }
        let line = self.line_above(namespace);
        let Some((max, counted)) = self.quotas.room(&line, mount, facets) else { return Ok(()) };
        let (tally, label) = match &counted {
            Counted::Apart(quota) => (keys::counted_for(quota), LIVE),
            Counted::Mount => (keys::live_of(namespace, mount), LIVE),
            Counted::In(id) if id.is_root() => (keys::live(), OWN),
            Counted::In(id) => (keys::live_in(id), LIVE),
            Counted::Below(id) if id.is_root() => (keys::live(), LIVE),
            Counted::Below(id) => (keys::live_in(id), BELOW),
        };
        let refused = self.refused_of(txn, &counted, mount)?;
        let max = i64::try_from(max).unwrap_or(i64::MAX).saturating_add(refused);
        txn.count(&tally.map_err(fault)?, label, 0, &(i64::MIN..=max));
        Ok(())
    }

    /// What quotas on a role or a path go by, of what a path makes; `None` where there are none on its mount. `metadata` is
    /// what a login noted.
    pub(crate) fn facets(
        &self,
        namespace: &NamespaceId,
        mount: &MountId,
        path: &str,
        metadata: Option<&BTreeMap<String, String>>,
    ) -> Option<Facets> {
        if !self.quotas.are_within(mount) {
            return None;
        }
        let space = self.spaces.with_id(namespace)?;
        let table = space.mounts.table();
        let mount = table.with_id(mount)?;
        let rest = path.trim_matches('/').strip_prefix(mount.record.path.as_str())?;
        let engine = space.mounts.engine(mount);
        let canonical = engine.as_ref().and_then(|engine| engine.find(rest)).map(|found| found.canonical);
        let role = engine.as_ref().and_then(|engine| engine.holder_role(metadata?).map(str::to_owned));
        Some(Facets { rest: canonical.unwrap_or_else(|| rest.to_owned()), role })
    }

    /// The quotas on a role or a path that count it.
    pub(crate) fn counting(&self, mount: &MountId, facets: Option<&Facets>) -> Vec<String> {
        facets.map(|facets| self.quotas.counting(mount, facets)).unwrap_or_default()
    }

    /// Counts a token, when it ends: root tokens without an end have no lease, and no quota is about them.
    pub(super) fn count_token(&self, txn: &mut Txn, record: &TokenRecord, delta: i64) -> Result<(), Fault> {
        if record.expires.is_none() {
            return Ok(());
        }
        let what = CountedAs { namespace: &record.namespace, mount: &record.mount, quotas: &record.counted };
        self.count(txn, &what, &record.ancestors, delta)
    }

    /// Counts a token or lease of a mount, below these ancestors; when one of them is cut off meanwhile, the transaction
    /// conflicts, because it would count for the wrong ones.
    pub(crate) fn count(
        &self,
        txn: &mut Txn,
        what: &CountedAs<'_>,
        ancestors: &[String],
        delta: i64,
    ) -> Result<(), Fault> {
        let CountedAs { namespace, mount, quotas } = *what;
        txn.count(&keys::live().map_err(fault)?, LIVE, delta, &UNBOUNDED);
        txn.count(&keys::live_of(namespace, mount).map_err(fault)?, LIVE, delta, &UNBOUNDED);
        if let Some(realm) = namespace.realm() {
            txn.count(&keys::live_of_realm(&realm).map_err(fault)?, LIVE, delta, &UNBOUNDED);
        }
        if namespace.is_root() {
            txn.count(&keys::live().map_err(fault)?, OWN, delta, &UNBOUNDED);
        } else {
            txn.count(&keys::live_in(namespace).map_err(fault)?, LIVE, delta, &UNBOUNDED);
            for above in self.line_above(namespace).iter().filter(|above| !above.is_root()) {
                txn.count(&keys::live_in(above).map_err(fault)?, BELOW, delta, &UNBOUNDED);
            }
        }
        let marks = keys::marks().map_err(fault)?;
        for ancestor in ancestors {
            txn.contains(&marks.key(ancestor).map_err(fault)?).map_err(fault)?;
            txn.count(&keys::below(ancestor).map_err(fault)?, mount.as_str(), delta, &UNBOUNDED);
        }
        quotas.iter().try_for_each(|quota| self.count_for(txn, quota, ancestors, delta))
    }

    /// How many tokens and leases there are in a realm.
    pub(crate) fn in_realm(txn: &mut Txn, realm: &RealmId) -> Result<i64, Fault> {
        let tally = txn.tally(&keys::live_of_realm(realm).map_err(fault)?).map_err(fault)?;
        Ok(tally.get(LIVE).copied().unwrap_or(0))
    }

    /// Counts a whole realm out of the namespaces around it, of which this is the line: nobody could count out one by one what
    /// is erased unread.
    pub(crate) fn count_out(txn: &mut Txn, realm: &RealmId, around: &[NamespaceId]) -> Result<(), Fault> {
        let number = Self::in_realm(txn, realm)?;
        txn.count(&keys::live().map_err(fault)?, LIVE, -number, &UNBOUNDED);
        for above in around.iter().filter(|above| !above.is_root()) {
            txn.count(&keys::live_in(above).map_err(fault)?, BELOW, -number, &UNBOUNDED);
        }
        txn.forget_tally(&keys::live_of_realm(realm).map_err(fault)?);
        Ok(())
    }

    /// Counts a token or lease for a quota on a role or a path. One that is not there any more has no number; when it is
    /// removed meanwhile, the transaction conflicts.
    pub(crate) fn count_for(&self, txn: &mut Txn, quota: &str, ancestors: &[String], delta: i64) -> Result<(), Fault> {
        if self.quotas.is_counting(txn, quota)? {
            txn.count(&keys::counted_for(quota).map_err(fault)?, LIVE, delta, &UNBOUNDED);
        }
        let label = [QUOTA, quota].concat();
        for ancestor in ancestors {
            txn.count(&keys::below(ancestor).map_err(fault)?, &label, delta, &UNBOUNDED);
        }
        Ok(())
    }

    /// The namespaces above one, the root first, and itself last.
    fn line_above(&self, namespace: &NamespaceId) -> Vec<NamespaceId> {
        self.spaces.with_id(namespace).map_or_else(|| vec![namespace.clone()], |space| space.line.clone())
    }

    /// How many of what a quota counts are refused and not collected yet.
    fn refused_of(&self, txn: &mut Txn, counted: &Counted, mount: &MountId) -> Result<i64, Fault> {
        let refused = self.refused(txn)?;
        if refused.is_empty() {
            return Ok(0);
        }
        let of = |space: &Space| {
            let mounts = space.mounts.table();
            let own = refused.iter().filter(|(id, _)| mounts.with_id(&MountId::new(id.as_str())).is_some());
            own.map(|(_, number)| *number).sum::<i64>()
        };
        Ok(match counted {
            Counted::Apart(quota) => refused.get(&[QUOTA, quota].concat()).copied().unwrap_or(0),
            Counted::Mount => refused.get(mount.as_str()).copied().unwrap_or(0),
            Counted::Below(id) if id.is_root() => of_mounts(&refused),
            Counted::In(id) => self.spaces.with_id(id).map_or(0, |space| of(&space)),
            Counted::Below(id) => self.spaces.with_id(id).map_or(0, |space| {
                let below = self.spaces.below(&space.path, None, usize::MAX, true);
                of(&space) + below.iter().map(|below| of(below)).sum::<i64>()
            }),
        })
    }

    /// How much there is of what a quota counts.
    ///
    /// # Errors
    /// A failure when the store fails.
    pub fn counted(&self, txn: &mut Txn, quota: &QuotaRecord) -> Result<u64, Fault> {
        match &quota.about {
            About::Mount(mount) if quota.is_within() => {
                let tally = txn.tally(&keys::counted_for(&quota.number).map_err(fault)?).map_err(fault)?;
                let refused = self.refused_of(txn, &Counted::Apart(quota.number.clone()), mount)?;
                Ok(u64::try_from(tally.get(LIVE).copied().unwrap_or(0) - refused).unwrap_or(0))
            }
            About::Mount(mount) => match self.spaces.with_mount(mount) {
                Some((space, _)) => Ok(self.live(txn, &space.id)?.get(mount).copied().unwrap_or(0)),
                None => Ok(0),
            },
            About::Namespace(id) if id.is_root() && quota.inheritable => self.live_everywhere(txn),
            About::Namespace(id) => self.live_in(txn, id, quota.inheritable),
        }
    }

    /// How many tokens and leases there are in a namespace, with those below it (which the root namespace is not asked for) or
    /// without, those that are refused already left out.
    ///
    /// # Errors
    /// A failure when the store fails.
    pub fn live_in(&self, txn: &mut Txn, namespace: &NamespaceId, with_below: bool) -> Result<u64, Fault> {
        let tally = if namespace.is_root() { keys::live() } else { keys::live_in(namespace) };
        let tally = txn.tally(&tally.map_err(fault)?).map_err(fault)?;
        let (label, counted) = match with_below {
            false if namespace.is_root() => (OWN, Counted::In(namespace.clone())),
            true => (BELOW, Counted::Below(namespace.clone())),
            false => (LIVE, Counted::In(namespace.clone())),
        };
        let refused = self.refused_of(txn, &counted, &MountId::new(""))?;
        Ok(u64::try_from(tally.get(label).copied().unwrap_or(0) - refused).unwrap_or(0))
    }

    /// Sets right how many there are in the root namespace itself, which stores of before did not count: what its mounts have,
    /// those included that are being removed. What is made and ends meanwhile changes both numbers alike.
    pub(crate) fn count_own(&self, txn: &mut Txn) -> Result<(), Fault> {
        let root = self.spaces.root();
        let wiped = every_name(txn, &keys::wipes().map_err(fault)?).map_err(fault)?;
        let wiped = wiped.iter().filter(|name| ids::home(name).is_root()).map(|name| MountId::new(name.as_str()));
        let table = root.mounts.table();
        let mounts: Vec<MountId> = table.iter().map(|mount| mount.record.id.clone()).chain(wiped).collect();
        let mut there = 0;
        for mount in mounts {
            let tally = txn.tally(&keys::live_of(&root.id, &mount).map_err(fault)?).map_err(fault)?;
            there += tally.get(LIVE).copied().unwrap_or(0);
        }
        let counted = txn.tally(&keys::live().map_err(fault)?).map_err(fault)?.get(OWN).copied().unwrap_or(0);
        txn.count(&keys::live().map_err(fault)?, OWN, there - counted, &UNBOUNDED);
        Ok(())
    }

    /// How many tokens and leases of each mount of a namespace there are, those that are refused already left out.
    ///
    /// # Errors
    /// A failure when the store fails.
    pub fn live(&self, txn: &mut Txn, namespace: &NamespaceId) -> Result<BTreeMap<MountId, u64>, Fault> {
        let gone = self.refused(txn)?;
        let mut live = BTreeMap::new();
        for mount in self.spaces.of(namespace)?.mounts.table().iter() {
            let id = &mount.record.id;
            let tally = txn.tally(&keys::live_of(namespace, id).map_err(fault)?).map_err(fault)?;
            let counted = |label: &str| tally.get(label).copied().unwrap_or(0);
            let number = counted(LIVE) - counted(INTENDED) - gone.get(id.as_str()).copied().unwrap_or(0);
            live.insert(id.clone(), u64::try_from(number).unwrap_or(0));
        }
        Ok(live)
    }

    /// How many tokens and leases there are in all namespaces, in the same way.
    ///
    /// # Errors
    /// A failure when the store fails.
    pub fn live_everywhere(&self, txn: &mut Txn) -> Result<u64, Fault> {
        let gone = of_mounts(&self.refused(txn)?);
        let tally = txn.tally(&keys::live().map_err(fault)?).map_err(fault)?;
        Ok(u64::try_from(tally.get(LIVE).copied().unwrap_or(0) - gone).unwrap_or(0))
    }

    /// How many tokens and leases of each mount, and of each quota on a role or a path, are refused and not collected yet.
    ///
    /// # Errors
    /// A failure when the store fails.
    pub(crate) fn refused(&self, txn: &mut Txn) -> Result<tresor_barrier::Counts, Fault> {
        let mut doomed: Vec<String> = self.marks.ask(|marks| marks.topmost_doomed().map(str::to_owned).collect());
        // What is sealed is refused anyway, and how much it is nobody can say.
        doomed.retain(|hash| !self.spaces.is_sealed(&ids::home(hash)));
        let mut gone = tresor_barrier::Counts::new();
        for hash in doomed {
            for (mount, number) in txn.tally(&keys::below(&hash).map_err(fault)?).map_err(fault)? {
                *gone.entry(mount).or_default() += number;
            }
        }
        Ok(gone)
    }
}

/// How many there are in all mounts.
fn of_mounts(counts: &tresor_barrier::Counts) -> i64 {
    counts.iter().filter(|(label, _)| !label.starts_with(QUOTA)).map(|(_, number)| *number).sum()
}
