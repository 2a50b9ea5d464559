//! Leases in the making: an intent is committed before anything is done outside the server.
//!
//! It is the lease's record in a state of its own. Nobody sees it, and it is in no listing; but its token and its mount have
//! it, and it is counted as what it is to become, so that what ends those ends it too, and no flood passes a quota. It is
//! *settled*, and then a lease like any other, or given up, and then its recipe takes back what may have been made. What
//! nobody settles or gives up (a crash, another leader) falls due a little after the act's deadline, and not as soon as another
//! node leads: the one before may not have heard of that, or stand still, and go on until its deadline, and nothing that a node
//! can know of itself says that its last request has reached the target. To take back at once would be in vain just then, and
//! leave what comes true late to the second time alone, which is there for a target that is late itself. A node without
//! others has it taken back once more than that, as soon as it serves ([`interrupted`](super::interrupted)). Where nobody knows the
//! end of the act, what it asked for may still come true: then it is taken back twice. Deliberately absent: the act.

use std::time::Duration;

use tresor_barrier::Txn;
use tresor_engine::{LeaseClaim, Left, MountFacts};
use tresor_model::ids::LeaseId;
use tresor_model::{Fault, LeaseTerms, Refusal, Timestamp};

use super::record::{Attempts, LeaseRecord, LeaseState};
use super::secrets::{Leases, Means, begin, count_as, forget, id_key, move_to, read, write};
use super::{index, tree};
use crate::observations;
use crate::tokens::FoundToken;

/// The longest that an act may take.
pub(crate) const ACT_DEADLINE: Duration = Duration::from_secs(60);
/// How long after that an intent falls due that nobody settled or gave up.
const MARGIN: Duration = Duration::from_secs(30);
/// How long a target may take over what it was asked for in vain.
const DOUBT: Duration = Duration::from_secs(300);

/// The label of leases in the making in a mount's tally; they are counted with those that live, too.
pub(crate) const INTENDED: &str = "intended";

/// When something that is planned now falls due if nobody comes back to it.
pub(crate) fn falls_due(now: Timestamp) -> Timestamp {
    index::rounded(now.plus(ACT_DEADLINE + MARGIN))
}

impl Leases {
    /// Stores that something is about to be made, and how it is taken back.
    pub(crate) fn intend(
        &self,
        means: Means<'_>,
        facts: &MountFacts,
        path: &str,
        owner: &FoundToken,
        claim: LeaseClaim,
        target: &str,
    ) -> Result<LeaseId, Fault> {
        let Means { txn, now, entropy, .. } = means;
        let due = falls_due(now);
        let fresh = self.fresh(facts, path, owner, claim, now, entropy);
        let record = LeaseRecord { state: LeaseState::Intended, due, expires: due, target: target.to_owned(), ..fresh };
        // Says now, and not when it is made, that the path is no part of an id.
        id_key(&facts.namespace, record.id.as_str())?;
        self.enter(txn, &record, facts, owner)?;
        count_as(INTENDED, txn, &record, 1)?;
        Ok(record.id)
    }

    /// It is made: from the commit on it is a lease.
    ///
    /// # Errors
    /// A refusal when it was given up meanwhile, or its token is not alive any more.
    pub(crate) fn settle(
        &self,
        txn: &mut Txn,
        facts: &MountFacts,
        owner: &FoundToken,
        id: &LeaseId,
        now: Timestamp,
    ) -> Result<LeaseTerms, Fault> {
        let record = read(txn, id.as_str())?.filter(|record| record.state == LeaseState::Intended);
        let mut record = record.ok_or_else(|| Fault::Refusal(Refusal::Denied))?;
        self.tokens().rely_on(txn, owner)?;
        let mut token_ends = owner.record.expires;
        if !record.token.is_empty() {
            let stored = self.tokens().find_hash(txn, &record.token, now)?.ok_or_else(Fault::denied)?;
            // It may have been renewed meanwhile.
            token_ends = if owner.is_batch() { token_ends } else { stored.record.expires };
        }
        if token_ends.is_some_and(|end| end <= now) {
            return Err(Fault::denied());
        }
        let due = record.due;
        let ttl = begin(&mut record, facts, owner, token_ends, now);
        let expires = std::mem::replace(&mut record.due, due);
        move_to(txn, &mut record, expires)?;
        record.state = LeaseState::Live;
        // There may be more quotas by now, and who counts what there is for them saw no intent.
        for quota in self.counting(facts, record.path()) {
            if !record.counted.contains(&quota) {
                self.tokens().count_for(txn, &quota, &owner.line(), 1)?;
                record.counted.push(quota);
            }
        }
        txn.enter(&id_key(&record.home(), record.id.as_str())?);
        count_as(INTENDED, txn, &record, -1)?;
        tree::count(txn, &record.home(), record.id.as_str(), 1)?;
        write(txn, &record)?;
        observations::of_lease(txn, self.spaces(), "lease/create", &record);
        Ok(LeaseTerms { id: Some(record.id), duration: ttl, renewable: record.renewable })
    }

    /// It is not to be: what the act left behind is taken back soon after the commit.
    pub(crate) fn give_up(&self, txn: &mut Txn, id: &LeaseId, left: Left, now: Timestamp) -> Result<(), Fault> {
        let Some(mut record) = read(txn, id.as_str())? else { return Ok(()) };
        match record.state {
            LeaseState::Intended => self.give_intent_up(txn, &mut record, now)?,
            // It was retired meanwhile, by who could not know the act's end.
            LeaseState::Revoking(_) if left != Left::Doubt && record.again.is_some() => {
                record.again = None;
                return if left == Left::Nothing { forget(txn, &record) } else { write(txn, &record) };
            }
            LeaseState::Live | LeaseState::Revoking(_) | LeaseState::Irrevocable(_) => return Ok(()),
        }
        if left == Left::Nothing {
            return forget(txn, &record);
        }
        if left == Left::Something {
            record.again = None;
        }
        record.state = LeaseState::Revoking(Attempts::default());
        move_to(txn, &mut record, Timestamp::from_seconds(now.seconds()))?;
        write(txn, &record)
    }

    /// Counts an intent out of what is alive, and into what is being revoked. From then on it is found by its id, by whoever
    /// orders that it is forgotten.
    pub(super) fn give_intent_up(&self, txn: &mut Txn, record: &mut LeaseRecord, now: Timestamp) -> Result<(), Fault> {
        self.leave_life(txn, record)?;
        count_as(INTENDED, txn, record, -1)?;
        txn.enter(&id_key(&record.home(), record.id.as_str())?);
        record.again = Some(index::rounded(now.plus(DOUBT)));
        Ok(())
    }
}
