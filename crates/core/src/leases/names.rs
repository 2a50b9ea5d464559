//! The ids of leases and tokens, and other names that lie in trees of directories: a page of them below a part of the tree.
//!
//! Deliberately absent: what the names are of (`secrets`, `tree`).

use tresor_barrier::{BarrierError, KeyPrefix, Txn};
use tresor_model::Fault;
use tresor_model::ids::NamespaceId;

use crate::keys;

/// At most `limit` ids below a directory of ids, in order, after `after`. What cannot be read is an error.
pub(super) fn ids(
    txn: &mut Txn,
    namespace: &NamespaceId,
    below: &str,
    after: Option<&str>,
    limit: usize,
) -> Result<Vec<String>, Fault> {
    let (found, is_damaged) = readable_ids(txn, namespace, below, after, limit)?;
    if is_damaged { Err(Fault::internal("a block of the directories of lease ids cannot be read")) } else { Ok(found) }
}

/// The same, leaving out what cannot be read; and whether there was any.
pub(super) fn readable_ids(
    txn: &mut Txn,
    namespace: &NamespaceId,
    below: &str,
    after: Option<&str>,
    limit: usize,
) -> Result<(Vec<String>, bool), Fault> {
    names_below(txn, keys::leases(namespace), below, after, limit)
}

/// At most `limit` names below a part of a tree of directories, whatever lies between, in order, after `after`, leaving out
/// what cannot be read; and whether there was any.
pub(super) fn names_below(
    txn: &mut Txn,
    root: Result<KeyPrefix, BarrierError>,
    below: &str,
    after: Option<&str>,
    limit: usize,
) -> Result<(Vec<String>, bool), Fault> {
    let (mut found, mut is_damaged) = (Vec::new(), false);
    let prefix = root.and_then(|at| at.below(below)).map_err(tresor_engine::view::fault)?;
    let after = after.and_then(|after| after.strip_prefix(below));
    walk(txn, (&prefix, below), after, limit, &mut found, &mut is_damaged)?;
    Ok((found, is_damaged))
}

fn walk(
    txn: &mut Txn,
    (prefix, at): (&KeyPrefix, &str),
    after: Option<&str>,
    limit: usize,
    found: &mut Vec<String>,
    is_damaged: &mut bool,
) -> Result<(), Fault> {
    let mut cursor = None;
    if let Some(after) = after {
        cursor = Some(match after.split_once('/') {
            Some((directory, rest)) => {
                let directory = format!("{directory}/");
                let deeper = prefix.below(&directory).map_err(Fault::internal)?;
                walk(txn, (&deeper, &format!("{at}{directory}")), Some(rest), limit, found, is_damaged)?;
                directory
            }
            None => after.to_owned(),
        });
    }
    while found.len() < limit {
        let page = txn.list_readable(prefix, cursor.as_deref(), limit - found.len());
        let (page, is_cut) = page.map_err(Fault::internal)?;
        *is_damaged |= is_cut;
        let Some(last) = page.last().cloned() else { return Ok(()) };
        for name in page {
            if found.len() >= limit {
                return Ok(());
            }
            if name.ends_with('/') {
                let deeper = prefix.below(&name).map_err(Fault::internal)?;
                walk(txn, (&deeper, &format!("{at}{name}")), None, limit, found, is_damaged)?;
            } else {
                found.push(format!("{at}{name}"));
            }
        }
        cursor = Some(last);
    }
    Ok(())
}
