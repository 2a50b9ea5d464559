//! What is due in a sealed namespace and cannot be looked at: it leaves its index, waits, and comes back when the namespace is
//! opened.
//!
//! The indices of what ends are shared by all namespaces and hold bare names, which say whose they are; so nobody needs a key
//! to move one out of the way, to `parked/REALM/` with where it stood, and nothing that is due elsewhere waits behind it. All of
//! a realm is put back before anybody is served in it: whoever relies on the index of ends (`tokens::window`) finds it whole.
//! Deliberately absent: lists of work that is not ordered by time, which pass over the names of sealed namespaces
//! ([`open_names`]).

use tresor_barrier::{KeyPrefix, StorageKey, Txn};
use tresor_model::Fault;
use tresor_model::ids::{NamespaceId, RealmId};

use super::collect::every_below;
use crate::keys;
use crate::namespaces::{Spaces, ids};

/// The namespace of an entry of an index: it ends in it, or, when it is about something of a mount, the mount does.
pub(crate) fn home(entry: &str) -> NamespaceId {
    ids::home(entry.split_once(':').map_or(entry, |(mount, _)| mount))
}

/// Whether what an entry leads to is in a sealed namespace.
pub(super) fn is_sealed(spaces: &Spaces, entry: &str) -> bool {
    spaces.is_sealed(&home(entry))
}

/// Whether an entry is what an erased namespace left: nothing is there any more.
pub(super) fn is_erased(spaces: &Spaces, entry: &str) -> bool {
    let namespace = home(entry);
    namespace.realm().is_some() && spaces.with_id(&namespace).is_none()
}

/// Parks those of the entries of a second that lead into sealed namespaces; gives the others, and whether any was parked.
pub(super) fn park(
    spaces: &Spaces,
    txn: &mut Txn,
    bucket: &KeyPrefix,
    entries: Vec<String>,
) -> Result<(Vec<String>, bool), Fault> {
    let ends = keys::ends().map_err(Fault::internal)?;
    let (mut open, mut has_parked) = (Vec::with_capacity(entries.len()), false);
    for entry in entries {
        let namespace = home(&entry);
        let place = bucket.as_str().strip_prefix(ends.as_str());
        match namespace.realm().zip(place).filter(|_| spaces.is_sealed(&namespace)) {
            // What an erased namespace left leads nowhere.
            Some(_) if is_erased(spaces, &entry) => {
                txn.leave(&bucket.key(&entry).map_err(Fault::internal)?);
                has_parked = true;
            }
            Some((realm, place)) => {
                let parked = keys::parked(&realm).and_then(|at| at.below(place)).and_then(|at| at.key(&entry));
                txn.enter(&parked.map_err(Fault::internal)?);
                txn.leave(&bucket.key(&entry).map_err(Fault::internal)?);
                has_parked = true;
            }
            None => open.push(entry),
        }
    }
    Ok((open, has_parked))
}

/// Puts some of what is parked for a realm back where it stood; whether there was as much as could be.
pub(crate) fn put_back(txn: &mut Txn, realm: &RealmId, limit: usize) -> Result<bool, Fault> {
    let (parked, ends) = (keys::parked(realm).map_err(Fault::internal)?, keys::ends().map_err(Fault::internal)?);
    let mut budget = limit;
    let is_empty = every_below(txn, &parked, &mut budget, &mut |txn: &mut Txn, entry: &StorageKey, budget| {
        if let Some(place) = entry.as_str().strip_prefix(parked.as_str()) {
            txn.enter(&ends.key(place).map_err(Fault::internal)?);
        }
        txn.leave(entry);
        *budget = budget.saturating_sub(1);
        Ok(())
    })?;
    Ok(!is_empty)
}

/// Takes a name out of its directory, with the record that may lie there.
pub(crate) fn drop_name(txn: &mut Txn, name: &StorageKey) -> Result<(), Fault> {
    if txn.contains(name).map_err(Fault::internal)? {
        txn.delete(name).map_err(Fault::internal)?;
    } else {
        txn.leave(name);
    }
    Ok(())
}

/// The first names below a prefix that lead into no sealed namespace, at most `limit` after `after`, and whether others were
/// passed over. Names that lead into one that was erased are dropped.
pub(crate) fn open_names(
    spaces: &Spaces,
    txn: &mut Txn,
    prefix: &KeyPrefix,
    after: Option<&str>,
    limit: usize,
) -> Result<(Vec<String>, bool), Fault> {
    let (mut found, mut has_passed) = (Vec::new(), false);
    let mut after = after.map(str::to_owned);
    while found.len() < limit {
        let wanted = limit - found.len();
        let page = txn.list(prefix, after.as_deref(), wanted).map_err(Fault::internal)?;
        let is_last = page.len() < wanted;
        after = page.last().cloned();
        for name in page {
            if is_erased(spaces, &name) {
                drop_name(txn, &prefix.key(&name).map_err(Fault::internal)?)?;
            } else if is_sealed(spaces, &name) {
                has_passed = true;
            } else {
                found.push(name);
            }
        }
        if is_last {
            break;
        }
    }
    Ok((found, has_passed))
}
