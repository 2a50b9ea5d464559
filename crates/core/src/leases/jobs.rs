//! Work over many leases or tokens that an operator ordered: a stored record, done page by page, wherever it is
//! interrupted. Tidying also finds what the index of ends has lost. Deliberately absent: revoking itself; a job retires, and the task of `revoke` asks the engines.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tresor_barrier::Txn;
use tresor_env::Entropy;
use tresor_model::ids::{MountAccessor, NamespaceId};
use tresor_model::{Fault, Timestamp};
use tresor_record::Record;

use super::index::SetAside;
use super::names::{ids, readable_ids};
use super::record::{JobRecord, JobWork, LeaseRecord, LeaseState, number_of};
use super::secrets::{Leases, id_key, numbered, try_again};
use super::{Doing, Progress, Readable, index, parked};
use crate::cached::every_name;
use crate::keys;
use crate::namespaces::Space;
use crate::namespaces::ids::{home, within};
use crate::tokens;
use crate::unsealed::Unsealed;

/// What was to be revoked so long ago is led to by nothing any more.
const OVERDUE: Duration = Duration::from_secs(600);

/// A lease that could not be revoked.
pub struct Irrevocable {
    /// The lease.
    pub record: LeaseRecord,
    /// Why.
    pub reason: String,
    /// The handle of its mount; empty when that is gone.
    pub mount: String,
}

impl Leases {
    /// Orders work in a namespace.
    ///
    /// # Errors
    /// A refusal when the prefix is no part of an id; a failure when the store fails.
    pub fn order(
        &self,
        txn: &mut Txn,
        space: &Space,
        work: JobWork,
        prefix: &str,
        now: Timestamp,
        entropy: &dyn Entropy,
    ) -> Result<(), Fault> {
        // Says now, and not later to nobody, that it is no name.
        let prefix = if prefix.is_empty() { String::new() } else { format!("{}/", prefix.trim_matches('/')) };
        keys::leases(&space.id).and_then(|at| at.below(&prefix)).map_err(tresor_engine::view::fault)?;
        let name = within(&space.id, tokens::fresh_name(now, entropy));
        let key = keys::jobs().and_then(|at| at.key(&name)).map_err(Fault::internal)?;
        txn.write(&key, &JobRecord { work, prefix, since: now, walked: None }.encode()).map_err(Fault::internal)
    }

    /// A page of the names directly below a directory of ids, at most `limit`, and where the next page begins.
    ///
    /// # Errors
    /// A refusal when it is no part of an id; a failure when the store fails.
    pub fn names(
        &self,
        txn: &mut Txn,
        namespace: &NamespaceId,
        directory: &str,
        after: Option<&str>,
        limit: usize,
        now: Timestamp,
    ) -> Result<(Vec<String>, Option<String>), Fault> {
        let prefix = keys::leases(namespace).and_then(|at| at.below(directory));
        let prefix = prefix.map_err(tresor_engine::view::fault)?;
        let page = txn.list(&prefix, after, limit).map_err(Fault::internal)?;
        let next = (page.len() == limit).then(|| page.last().cloned()).flatten();
        let doubt = self.tokens().doubt_of_ids(txn, namespace, now)?;
        let mut shown = Vec::new();
        for name in page {
            // What is being revoked is gone for everybody.
            let key = tokens::hash_in(&name).unwrap_or(&name);
            let may_be_gone = !name.ends_with('/') && doubt.is_about(&name, key);
            if !may_be_gone || self.is_shown(txn, namespace, &format!("{directory}{name}"), now)? {
                shown.push(name);
            }
        }
        Ok((shown, next))
    }

    fn is_shown(&self, txn: &mut Txn, namespace: &NamespaceId, id: &str, now: Timestamp) -> Result<bool, Fault> {
        if tokens::hash_in(id).is_some() {
            return Ok(self.tokens().find_lease_id(txn, namespace, id, now)?.is_some());
        }
        Ok(self.find(txn, namespace, id, now)?.is_some())
    }

    /// At most `limit` ids below a prefix.
    ///
    /// # Errors
    /// As [`Leases::names`].
    pub fn ids_below(
        &self,
        txn: &mut Txn,
        namespace: &NamespaceId,
        prefix: &str,
        limit: usize,
    ) -> Result<Vec<String>, Fault> {
        let prefix = format!("{}/", prefix.trim_matches('/'));
        ids(txn, namespace, if prefix == "/" { "" } else { &prefix }, None, limit)
    }

    /// A page of the leases of a namespace that could not be revoked, in order of their numbers, after `after`.
    ///
    /// # Errors
    /// A failure when the store fails.
    pub fn irrevocable(
        &self,
        txn: &mut Txn,
        space: &Space,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Irrevocable>, Fault> {
        let references = keys::irrevocable(&space.id).map_err(Fault::internal)?;
        let mut found = Vec::new();
        for number in txn.list(&references, after, limit).map_err(Fault::internal)? {
            let Some(record) = numbered(txn, &number)? else { continue };
            let LeaseState::Irrevocable(attempts) = &record.state else { continue };
            let table = space.mounts.table();
            let mount = table.with_id(&record.mount).map_or("", |mount| MountAccessor::as_str(&mount.record.accessor));
            found.push(Irrevocable { reason: attempts.reason.clone(), mount: mount.to_owned(), record });
        }
        Ok(found)
    }

    /// What was set aside because it cannot be read, by name, with what is wrong: of these namespaces, and where the root
    /// namespace is one, of all.
    ///
    /// # Errors
    /// A failure when the store fails.
    pub fn set_aside(
        &self,
        txn: &mut Txn,
        namespaces: &BTreeSet<NamespaceId>,
        limit: usize,
    ) -> Result<Vec<(String, SetAside)>, Fault> {
        let aside = keys::set_aside().map_err(Fault::internal)?;
        let mut found = Vec::new();
        let names = every_name(txn, &aside).map_err(Fault::internal)?;
        let has_all = namespaces.iter().any(NamespaceId::is_root);
        let is_shown = |name: &String| has_all || namespaces.contains(&home(name));
        for name in names.into_iter().filter(is_shown).take(limit) {
            let key = aside.key(&name).map_err(Fault::internal)?;
            if let Some(bytes) = txn.read(&key).map_err(Fault::internal)? {
                found.push((name, SetAside::decode(&bytes).map_err(Fault::internal)?));
            }
        }
        Ok(found)
    }
}

/// Does a page of the oldest job.
pub(super) fn step(unsealed: &Unsealed, txn: &mut Txn, doing: &mut Doing) -> Result<Progress, Fault> {
    let jobs = keys::jobs().map_err(Fault::internal)?;
    let (mut names, _) = parked::open_names(&unsealed.handles.spaces, txn, &jobs, None, 1)?;
    let Some(name) = names.pop() else { return Ok(Progress::Idle) };
    let key = jobs.key(&name).map_err(Fault::internal)?;
    let Some(bytes) = txn.read(&key).map_err(Fault::internal)? else { return Ok(Progress::Idle) };
    let mut job = JobRecord::decode(&bytes).map_err(Fault::internal)?;
    let namespace = home(&name);
    let damage = Damage { namespace: &namespace, now: unsealed.clock.now() };
    let (page, is_cut) = match job.work {
        JobWork::TidyTokens => tidy_tokens(unsealed, txn, &damage, job.walked.as_deref(), doing)?,
        JobWork::Revoke | JobWork::Force | JobWork::TidyLeases => leases(unsealed, txn, &damage, &job, doing)?,
    };
    if is_cut {
        // Nothing would mend by trying again: what can be read is done, and the operator is told.
        let what =
            format!("{:?} below `{}` met a block of names that cannot be read, and left it out", job.work, job.prefix);
        damage.report(txn, &format!("job-{name}"), what)?;
    }
    match page.last() {
        Some(last) => {
            job.walked = Some(last.clone());
            txn.write(&key, &job.encode()).map_err(Fault::internal)?;
        }
        None => {
            tracing::info!(work = ?job.work, "work over leases is done");
            txn.delete(&key).map_err(Fault::internal)?;
        }
    }
    Ok(Progress::More)
}

/// What a job met that cannot be read: it is reported among what was set aside, and keeps no job from its end.
struct Damage<'n> {
    /// The namespace that the job is about.
    namespace: &'n NamespaceId,
    now: Timestamp,
}

impl Damage<'_> {
    fn report(&self, txn: &mut Txn, name: &str, reason: String) -> Result<(), Fault> {
        let aside = keys::set_aside().map_err(Fault::internal)?;
        index::set_aside(txn, &aside, name, reason, self.now)
    }
}

/// A page of what a job walks over, and whether something was left out because it cannot be read.
type Walked = (Vec<String>, bool);

fn leases(
    unsealed: &Unsealed,
    txn: &mut Txn,
    damage: &Damage<'_>,
    job: &JobRecord,
    doing: &mut Doing,
) -> Result<Walked, Fault> {
    let all = &unsealed.handles.leases;
    if job.walked.is_none() && !job.prefix.is_empty() {
        // A prefix may be the whole id of one lease.
        end_for(all, txn, damage, job, job.prefix.trim_end_matches('/'), doing)?;
    }
    let walked = readable_ids(txn, damage.namespace, &job.prefix, job.walked.as_deref(), doing.step_max)?;
    for id in &walked.0 {
        end_for(all, txn, damage, job, id, doing)?;
    }
    Ok(walked)
}

/// Ends what an id is about, if the job is about it.
fn end_for(
    all: &Leases,
    txn: &mut Txn,
    damage: &Damage<'_>,
    job: &JobRecord,
    id: &str,
    doing: &mut Doing,
) -> Result<(), Fault> {
    let (namespace, now) = (damage.namespace, damage.now);
    let Some(hash) = tokens::hash_in(id) else { return retire_for(all, txn, damage, job, id) };
    match super::read_token(txn, hash)? {
        // Its id led to nothing any more.
        Readable::Gone => txn.leave(&id_key(namespace, id)?),
        Readable::Yes(record) if record.created <= job.since => {
            let is_over = record.is_expired(now);
            let found = all.tokens().as_stored(hash, Arc::from(record));
            if found.lease_id().as_deref() == Some(id) && (job.work != JobWork::TidyLeases || is_over) {
                all.tokens().revoke(txn, &found, now)?;
                doing.revoked += 1;
            }
        }
        Readable::Yes(_) => {}
        Readable::No(reason) => damage.report(txn, number_of(id), reason)?,
    }
    Ok(())
}

fn retire_for(all: &Leases, txn: &mut Txn, damage: &Damage<'_>, job: &JobRecord, id: &str) -> Result<(), Fault> {
    let (namespace, now) = (damage.namespace, damage.now);
    let Ok(key) = keys::lease(number_of(id)) else { return Ok(()) };
    let record = match super::readable::<LeaseRecord>(txn.read(&key))? {
        Readable::Yes(record) if record.id.as_str() == id && record.issued <= job.since => *record,
        Readable::Yes(_) | Readable::Gone => return Ok(()),
        Readable::No(reason) => return damage.report(txn, number_of(id), reason),
    };
    if job.work == JobWork::TidyLeases {
        match record.state {
            LeaseState::Live => {
                let is_over = record.expires <= now;
                if !is_over && all.tokens().keeps_leases(txn, &record.token, now)? {
                    return Ok(());
                }
            }
            // Its entry in the index is lost: it gets another.
            LeaseState::Revoking(_) if now.since(record.due) >= OVERDUE => {
                return try_again(txn, record, now);
            }
            // It was set apart before the operator said for how long.
            LeaseState::Irrevocable(_) if all.irrevocable_kept().is_some_and(|kept| now.since(record.due) >= kept) => {
                return try_again(txn, record, now);
            }
            LeaseState::Revoking(_) | LeaseState::Irrevocable(_) | LeaseState::Intended => return Ok(()),
        }
    }
    all.retire(txn, namespace, id, job.work == JobWork::Force, now)
}

/// Removes handles that lead to no token, and tokens whose time is over.
fn tidy_tokens(
    unsealed: &Unsealed,
    txn: &mut Txn,
    damage: &Damage<'_>,
    after: Option<&str>,
    doing: &mut Doing,
) -> Result<Walked, Fault> {
    let (namespace, now) = (damage.namespace, damage.now);
    let accessors = keys::accessors(namespace).map_err(Fault::internal)?;
    let walked = txn.list_readable(&accessors, after, doing.step_max).map_err(Fault::internal)?;
    for name in &walked.0 {
        let hash = tokens::hash_of(name).unwrap_or(name);
        match super::read_token(txn, hash)? {
            Readable::Gone => txn.leave(&accessors.key(name).map_err(Fault::internal)?),
            Readable::Yes(record) if record.is_expired(now) => {
                let found = unsealed.handles.tokens.as_stored(hash, Arc::from(record));
                unsealed.handles.tokens.revoke(txn, &found, now)?;
                doing.revoked += 1;
            }
            Readable::Yes(_) | Readable::No(_) => {}
        }
    }
    Ok(walked)
}
