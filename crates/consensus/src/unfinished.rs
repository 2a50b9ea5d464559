//! Ends a change of the members that was begun and left half done.
//!
//! A change of voters has two steps, with two sets of voters in between that both have to agree; who began it asks for the
//! second one, and may be dead by then, or have stopped to wait. The leader ends it towards the later set. Deliberately absent:
//! going back, and what the other node of the change is remembered for (that is the core's).

use std::collections::BTreeSet;
use std::sync::Arc;

use openraft::ChangeMembers;

use crate::consensus::Core;

/// Looks again and again, until the node stops.
pub(crate) async fn run(core: Arc<Core>) {
    let (clock, pace) = (&core.wire.doors.clock, &core.wire.pace);
    let mut known = None;
    while !core.has_stopped() {
        clock.sleep(pace.election).await;
        let (at, is_half_done, term) = {
            let metrics = core.raft.server_metrics();
            let metrics = metrics.borrow();
            let members = &metrics.membership_config;
            (*members.log_id(), members.membership().get_joint_config().len() > 1, metrics.vote.leader_id.term)
        };
        if !is_half_done || !core.leads() {
            known = None;
            continue;
        }
        let now = core.wire.now();
        let since = known.filter(|(seen, _)| *seen == at).map_or(now, |(_, since)| since);
        known = Some((at, since));
        let is_of_another = at.is_some_and(|at| at.leader_id.term < term);
        // Who began it here ends it, unless it took too long.
        if is_of_another || now.saturating_sub(since) > pace.proposal {
            let ending = core.raft.change_membership(ChangeMembers::AddVoterIds(BTreeSet::new()), true);
            tokio::select! {
                biased;
                // What cannot be done now is tried again.
                ended = ending => drop(ended),
                () = clock.sleep(pace.proposal) => {}
            }
        }
    }
}
