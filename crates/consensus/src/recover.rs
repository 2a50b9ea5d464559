//! Saying who the members are, where too few voters are left to agree on it.
//!
//! An operator names the nodes that are left, on each of them, before it is opened. All that a node's log holds counts as
//! committed then: every entry that was ever acknowledged, as far as a node that is left has it, and perhaps some that nobody
//! was answered for. The members take the place of those of before at the last entry, and the log goes up to there. So the
//! node with the longest log is elected, as ever, and who has less is given its state. The first that leads writes an entry
//! that says who the members are, for nodes that were not told. Deliberately absent: nodes that were no members, who join
//! later.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use openraft::{ChangeMembers, RaftLogReader, storage::RaftStateMachine};
use tresor_env::tasks::run_blocking;
use tresor_storage::machine::{Change, Entry};
use tresor_storage::{Machine, StoreError};

use crate::OpenError;
use crate::consensus::{Core, LOOK_AGAIN};
use crate::feed::Feed;
use crate::log_store::LogStore;
use crate::peers::{Contact, NodeId};
use crate::spelled::{read_stored_membership, stored_membership};
use crate::types::{Membership, StorageError, StoredMembership};

/// A node that is left, as an operator names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Survivor {
    /// The name by which it was a member.
    pub name: String,
    /// Host and port of its cluster port from now on.
    pub address: String,
    /// Whether it votes.
    pub is_voter: bool,
}

fn refused(what: impl Into<String>) -> OpenError {
    OpenError::Survivors(what.into())
}

fn failed(error: StorageError) -> OpenError {
    OpenError::Inconsistent(error.to_string())
}

/// Makes these the members.
pub(crate) async fn recover(
    me: NodeId,
    survivors: &[Survivor],
    log: &LogStore,
    mut feed: Feed,
) -> Result<(), OpenError> {
    let machine = Arc::clone(&feed.machine);
    let last = log.last().ok_or_else(|| refused("this node belongs to no cluster"))?;
    loop {
        let next = machine.applied().position.index;
        if next > last.index {
            break;
        }
        let entries = log.clone().limited_get_log_entries(next, last.index + 1).await.map_err(failed)?;
        if entries.is_empty() {
            return Err(OpenError::Inconsistent(format!("the log has no entry {}", next + 1)));
        }
        feed.apply(entries).await.map_err(failed)?;
    }
    let held = machine.applied();
    let before = read_stored_membership(&held.membership);
    let before = before.ok_or(OpenError::Spelling { what: "the machine's members" })?;
    let members = named(me, survivors, before.membership())?;
    let members = stored_membership(&StoredMembership::new(*before.log_id(), members));
    let entry = Entry { position: held.position, change: Change::Membership(members) };
    let taken = run_blocking(&*feed.doors.workers, move || take(&*machine, &entry)).await;
    taken.map_err(|error| OpenError::Inconsistent(error.to_string()))??;
    log.purge_void(held.position, feed.machine.begins_behind())
}

/// Gives the machine the members, durably: its own state with them takes the place of what it holds.
fn take(machine: &dyn Machine, entry: &Entry) -> Result<(), StoreError> {
    machine.apply(entry)?;
    let mut export = machine.export()?;
    let mut install = machine.install(export.state())?;
    while let Some(chunk) = export.next()? {
        install.take(chunk)?;
    }
    install.finish()
}

/// The members with these names, which keep their keys.
fn named(me: NodeId, survivors: &[Survivor], before: &Membership) -> Result<Membership, OpenError> {
    let (mut voters, mut nodes) = (BTreeSet::new(), BTreeMap::new());
    for survivor in survivors {
        let mut known = before.nodes().filter(|(_, contact)| contact.name == survivor.name);
        let (Some((id, contact)), None) = (known.next(), known.next()) else {
            return Err(refused(format!("no member was called `{}`", survivor.name)));
        };
        let contact = Contact { address: survivor.address.clone(), ..contact.clone() };
        if nodes.insert(*id, contact).is_some() {
            return Err(refused(format!("`{}` is named twice", survivor.name)));
        }
        if survivor.is_voter {
            voters.insert(*id);
        }
    }
    if !nodes.contains_key(&me) {
        return Err(refused("this node is not among them"));
    }
    if voters.is_empty() {
        return Err(refused("none of them votes"));
    }
    Ok(Membership::new(vec![voters], nodes))
}

/// Puts the members into the log, once this node leads; ends when another one does.
pub(crate) async fn tell(core: Arc<Core>) {
    loop {
        let status = core.status();
        let leader = if status.is_leader() { Some(core.wire.me) } else { status.leader };
        match leader {
            Some(leader) if leader == core.wire.me => {
                let Ok(members) = core.members_now().await else { return };
                let nodes = ChangeMembers::SetNodes(members.contacts());
                if core.raft.change_membership(nodes, true).await.is_ok() {
                    return;
                }
            }
            Some(_) => return,
            None => {}
        }
        core.wire.doors.clock.sleep(LOOK_AGAIN).await;
    }
}
