//! Deleting namespaces that are sealed, without their keys: what lies in them is removed unread.
//!
//! From the commit of the record's state on nobody opens the namespace. Then a task walks over all that is stored for what is in
//! its realm and in those inside it; afterwards goes what other records say of them, and the record last, so whatever breaks off
//! is done again. Nobody can say any more what engines have handed out from there: how much it was is told, and forgotten. Names
//! in lists of work that lead into it are dropped where they are met (`leases::parked`). Deliberately absent: who may, and
//! deleting what is open (`leases::leaving`).

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tresor_barrier::{KeyPrefix, Txn};
use tresor_model::ids::{NamespaceId, RealmId};
use tresor_model::{Fault, MountId, Timestamp};

use super::record::{NamespaceRecord, NamespaceState};
use super::{NamespaceName, Space, Spaces, change, ids};
use crate::cached::every_name;
use crate::gate::Gate;
use crate::keys;
use crate::leases::{abandoned, every_below, parked};
use crate::mounts::record::MoveState;
use crate::tokens::Tokens;
use crate::unsealed::Unsealed;

/// How often it is looked whether there is something to erase.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How many names are removed in one transaction.
const STEP: usize = 256;

/// What begins to be erased.
pub struct Erasing {
    /// How many tokens and leases are forgotten.
    pub forgotten: u64,
    /// How many namespaces below it go with it.
    pub below: usize,
}

impl Spaces {
    /// Begins to delete a sealed namespace that has a seal of its own, if there is one. What is being erased already goes on.
    ///
    /// # Errors
    /// A refusal when it is open or has no seal; when there are namespaces below it and it is not forced; or while a mount is
    /// moved to or from it.
    pub fn erase(
        &self,
        txn: &mut Txn,
        parent: &Space,
        name: &NamespaceName,
        is_forced: bool,
        now: Timestamp,
    ) -> Result<Option<Erasing>, Fault> {
        let Some(record) = self.stored(txn, parent, name)? else { return Ok(None) };
        if record.id.realm().is_none() || record.seal.is_none() {
            return Err(Fault::invalid("namespace is not sealable: delete it"));
        }
        if !self.is_sealed(&record.id) {
            return Err(Fault::invalid("namespace is not sealed: delete it, or seal it first"));
        }
        let children = keys::namespaces().and_then(|at| at.below(&format!("{}/", record.id)));
        let has_children = !txn.list(&children.map_err(Fault::internal)?, None, 1).map_err(Fault::internal)?.is_empty();
        if has_children && !is_forced {
            return Err(Fault::invalid(
                "unable to delete namespace containing child namespaces: with `force` they are deleted with it",
            ));
        }
        let (realms, below) = self.going(&record);
        self.refuse_moves(txn, &realms)?;
        let mut forgotten = 0;
        for realm in &realms {
            forgotten += u64::try_from(Tokens::in_realm(txn, realm)?).unwrap_or(0);
        }
        if !record.is_erased() {
            let seal = record.seal.as_ref().map(tresor_barrier::RealmSeal::sealed_again);
            change::write(txn, &NamespaceRecord { state: NamespaceState::Erased(now), seal, ..record })?;
        }
        Ok(Some(Erasing { forgotten, below: below.len() }))
    }

    /// The realms that go with a namespace, and the namespaces below it, the deepest first.
    fn going(&self, record: &NamespaceRecord) -> (BTreeSet<RealmId>, Vec<Arc<Space>>) {
        let mut below = self.below(&record.path, None, usize::MAX, true);
        below.sort_by_key(|space| std::cmp::Reverse(space.line.len()));
        let realms = below.iter().filter_map(|space| space.id.realm()).chain(record.id.realm()).collect();
        (realms, below)
    }

    /// A mount that is on its way has a record at both ends.
    fn refuse_moves(&self, txn: &mut Txn, realms: &BTreeSet<RealmId>) -> Result<(), Fault> {
        let goes = |id: &NamespaceId| id.realm().is_some_and(|realm| realms.contains(&realm));
        for name in every_name(txn, &keys::moves().map_err(Fault::internal)?).map_err(Fault::internal)? {
            let from = self.with_id(&ids::home(&name)).filter(|from| !from.is_sealed);
            let record = match &from {
                Some(from) => from.mounts.read(txn, &MountId::new(ids::bare(&name)))?,
                None => None,
            };
            let to = record.and_then(|record| match record.moved?.state {
                MoveState::Departing(to) => Some(to),
                _ => None,
            });
            if goes(&ids::home(&name)) || to.as_ref().is_some_and(goes) {
                return Err(Fault::invalid("unable to delete a namespace while a mount is being moved to or from it"));
            }
        }
        Ok(())
    }
}

/// Erases what is to be erased, until the node does not lead any more. It holds the node only while it works.
pub(crate) async fn run(node: Weak<Unsealed>, gate: Gate) {
    while let Some(unsealed) = node.upgrade() {
        if gate.is_closed() {
            return;
        }
        for space in unsealed.handles.spaces.erased() {
            if let Err(fault) = one(&unsealed, &space).await {
                tracing::warn!(cause = ?fault, namespace = %space.path, "a sealed namespace is not deleted yet; tried again");
            }
        }
        let pause = unsealed.clock.sleep(LOOK_EVERY);
        drop(unsealed);
        tokio::select! {
            biased;
            () = gate.closed() => return,
            () = pause => {}
        }
    }
}

async fn one(unsealed: &Unsealed, space: &Space) -> Result<(), Fault> {
    let (spaces, Some(record)) = (&unsealed.handles.spaces, &space.record) else { return Ok(()) };
    let (realms, below) = spaces.going(record);
    let records = unsealed.barrier.erase_realms(&realms).await.map_err(Fault::internal)?;
    while spaces.change(|txn| forget_names(txn, &realms)).await? {}
    for inner in &below {
        if let Some(record) = &inner.record {
            spaces.change(|txn| forget_one(txn, record, &realms)).await?;
        }
    }
    let forgotten = spaces
        .change(|txn| {
            // What was counted inside counts in what is around, too; of that only what is around all of it stays.
            let around: &[NamespaceId] = record.line.split_last().map_or(&[], |(_, around)| around);
            let mut forgotten = 0;
            for realm in &realms {
                forgotten += Tokens::in_realm(txn, realm)?;
                Tokens::count_out(txn, realm, around)?;
            }
            if forgotten > 0 {
                abandoned::of_erased(txn, &spaces.outlives(&record.parent()), record, forgotten, unsealed.clock.now())?;
            }
            forget_one(txn, record, &realms)?;
            Ok(forgotten)
        })
        .await?;
    tracing::info!(namespace = %space.path, records, "a sealed namespace is deleted, and nothing is left of it");
    if forgotten > 0 {
        tracing::error!(
            namespace = %space.path,
            forgotten,
            "tokens and leases of a sealed namespace are forgotten; what engines handed out is not taken back"
        );
    }
    Ok(())
}

/// Forgets the record of a namespace, and the directory that it was.
fn forget_one(txn: &mut Txn, record: &NamespaceRecord, realms: &BTreeSet<RealmId>) -> Result<(), Fault> {
    if record.id.realm().is_some_and(|realm| realms.contains(&realm)) {
        txn.detach(&KeyPrefix::whole(&format!("{}/", record.id)).map_err(Fault::internal)?);
    }
    Spaces::forget(txn, record)
}

/// Removes some of what lists of the server say of these realms; whether there was as much as could be.
fn forget_names(txn: &mut Txn, realms: &BTreeSet<RealmId>) -> Result<bool, Fault> {
    let goes =
        |name: &str| parked::home(name.trim_end_matches('/')).realm().is_some_and(|realm| realms.contains(&realm));
    let mut budget = STEP;
    for realm in realms {
        forget_below(txn, &keys::parked(realm).map_err(Fault::internal)?, &mut budget)?;
    }
    for lists in [keys::queues(), keys::every_wake()] {
        let lists = lists.map_err(Fault::internal)?;
        for name in directories(txn, &lists)?.iter().filter(|name| goes(name)) {
            forget_below(txn, &lists.below(name).map_err(Fault::internal)?, &mut budget)?;
        }
    }
    for list in [keys::wipes(), keys::marks(), keys::take_overs(), keys::jobs()] {
        let list = list.map_err(Fault::internal)?;
        for name in every_name(txn, &list).map_err(Fault::internal)?.iter().filter(|name| goes(name)) {
            if budget > 0 {
                parked::drop_name(txn, &list.key(name).map_err(Fault::internal)?)?;
                budget -= 1;
            }
        }
    }
    Ok(budget == 0)
}

/// The directories directly below one.
fn directories(txn: &mut Txn, lists: &KeyPrefix) -> Result<Vec<String>, Fault> {
    let mut found: Vec<String> = Vec::new();
    loop {
        let page = txn.list(lists, found.last().map(String::as_str), STEP).map_err(Fault::internal)?;
        let is_last = page.len() < STEP;
        found.extend(page);
        if is_last {
            return Ok(found);
        }
    }
}

fn forget_below(txn: &mut Txn, directory: &KeyPrefix, budget: &mut usize) -> Result<(), Fault> {
    if *budget > 0 {
        every_below(txn, directory, budget, &mut |txn, name, budget| {
            *budget = budget.saturating_sub(1);
            parked::drop_name(txn, name)
        })?;
    }
    Ok(())
}
