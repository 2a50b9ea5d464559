//! Leases of what engines handed out: issuing, showing, renewing, revoking.
//!
//! A lease belongs to a token and never outlives it. Its record holds the recipe for taking it back, so nothing that an
//! operator changes later (a role, a configuration) stands in the way. Ending one has two steps: it is *retired*, from
//! when on nobody sees it, and its engine is asked, by a task of its own (`revoke`), until it is done. Deliberately
//! absent: leases in the making (`intents`).

use std::sync::Arc;
use std::time::Duration;

use tresor_barrier::{KeyPrefix, PointKey, StorageKey, Txn};
use tresor_engine::{Caller, Cx, Headers, Held, LeaseClaim, Leased, MountFacts, View, Ways};
use tresor_env::{Doors, Entropy, Workers};
use tresor_model::ids::{LeaseId, MountId, NamespaceId};
use tresor_model::{Fault, LeaseTerms, Operation, Timestamp};
use tresor_record::Record;
use tresor_wire::duration::print_go;

use super::at_once::Turns;
use super::hurry::Hurry;
use super::intents::INTENDED;
use super::names::readable_ids;
use super::outage::Outage;
use super::record::{Attempts, LeaseRecord, LeaseState, number_of};
use super::renewing::Renewals;
use super::targets::Targets;
use super::{index, retried, tree};
use crate::besides::BESIDES;
use crate::keys;
use crate::mounts::TakingBack;
use crate::mounts::record::{StoredClass, WipeRecord};
use crate::namespaces::{Spaces, ids};
use crate::observations;
use crate::tokens::counts::CountedAs;
use crate::tokens::terms::{Life, Limits, decide};
use crate::tokens::{self, FoundToken, Tokens, UNBOUNDED};

/// The label of what is being revoked in a mount's tally.
pub(crate) const REVOKING: &str = "revoking";
/// The label of what could not be revoked.
const IRREVOCABLE: &str = "irrevocable";

/// The leases of an unsealed node.
pub struct Leases {
    spaces: Arc<Spaces>,
    tokens: Arc<Tokens>,
    targets: Targets,
    renewals: Renewals,
    irrevocable_kept: Option<Duration>,
    hurry: Arc<Hurry>,
    outage: Outage,
    pub(super) turns: Turns,
}

/// What asking an engine takes.
pub struct Means<'a> {
    /// The transaction.
    pub txn: &'a mut Txn,
    /// The time.
    pub now: Timestamp,
    /// Unpredictable bytes.
    pub entropy: &'a dyn Entropy,
    /// Where slow work runs.
    pub workers: &'a dyn Workers,
    /// The ways to others.
    pub ways: Ways<'a>,
}

impl<'a> Means<'a> {
    /// By these doors.
    pub(crate) fn by(txn: &'a mut Txn, now: Timestamp, doors: &'a Doors) -> Self {
        Self { txn, now, entropy: &*doors.entropy, workers: &*doors.workers, ways: Ways::of(doors) }
    }
}

/// How far the leases of a removed mount are.
pub(crate) enum Retired {
    /// Some more were retired.
    Some,
    /// All are retired, and some are not revoked yet.
    Waits,
    /// None is left.
    All,
}

/// How much of what a mount handed out is not taken back.
pub struct LeasesLeft {
    /// In use, or in the making.
    pub live: u64,
    /// In the making.
    pub intended: u64,
    /// Over, and being revoked.
    pub revoking: u64,
    /// Could not be revoked.
    pub irrevocable: u64,
}

impl LeasesLeft {
    pub(crate) fn of(txn: &mut Txn, namespace: &NamespaceId, mount: &MountId) -> Result<Self, Fault> {
        let tally = txn.tally(&keys::live_of(namespace, mount).map_err(Fault::internal)?).map_err(Fault::internal)?;
        let count = |label: &str| u64::try_from(tally.get(label).copied().unwrap_or(0)).unwrap_or(0);
        Ok(Self {
            live: count(tokens::LIVE),
            intended: count(INTENDED),
            revoking: count(REVOKING),
            irrevocable: count(IRREVOCABLE),
        })
    }

    /// Whether everything is taken back.
    const fn is_nothing(&self) -> bool {
        matches!(self, Self { live: 0, revoking: 0, irrevocable: 0, .. })
    }
}

impl Leases {
    pub(crate) fn new(spaces: Arc<Spaces>, tokens: Arc<Tokens>, irrevocable_kept: Option<Duration>) -> Self {
        Self {
            spaces,
            tokens,
            targets: Targets::default(),
            renewals: Renewals::default(),
            irrevocable_kept,
            hurry: Arc::default(),
            outage: Outage::default(),
            turns: Turns::default(),
        }
    }

    /// How long after a lease was set apart it is forgotten.
    pub(super) const fn irrevocable_kept(&self) -> Option<Duration> {
        self.irrevocable_kept
    }

    /// Where the mounts are.
    pub(super) fn spaces(&self) -> &Spaces {
        &self.spaces
    }

    /// Whom engines ask outside the server.
    pub(crate) const fn targets(&self) -> &Targets {
        &self.targets
    }

    /// Between who waits for the background, and that.
    pub(super) const fn hurry(&self) -> &Arc<Hurry> {
        &self.hurry
    }

    /// Whether storage is reached, as those see it who do what is due.
    pub(crate) const fn outage(&self) -> &Outage {
        &self.outage
    }

    /// Makes a lease of what an engine handed out.
    pub(crate) fn issue(
        &self,
        means: Means<'_>,
        facts: &MountFacts,
        path: &str,
        owner: &FoundToken,
        claim: LeaseClaim,
    ) -> Result<LeaseTerms, Fault> {
        let Means { txn, now, entropy, .. } = means;
        let mut record = self.fresh(facts, path, owner, claim, now, entropy);
        let ttl = begin(&mut record, facts, owner, owner.record.expires, now);
        txn.enter(&id_key(&facts.namespace, record.id.as_str())?);
        self.enter(txn, &record, facts, owner)?;
        tree::count(txn, &facts.namespace, record.id.as_str(), 1)?;
        observations::of_lease(txn, &self.spaces, "lease/create", &record);
        Ok(LeaseTerms { id: Some(record.id), duration: ttl, renewable: record.renewable })
    }

    /// A lease that nothing is stored of yet.
    pub(super) fn fresh(
        &self,
        facts: &MountFacts,
        path: &str,
        owner: &FoundToken,
        claim: LeaseClaim,
        now: Timestamp,
        entropy: &dyn Entropy,
    ) -> LeaseRecord {
        let number = ids::within(&facts.namespace, tokens::fresh_name(now, entropy));
        LeaseRecord {
            id: LeaseId::new(format!("{}/{number}", path.trim_matches('/'))),
            mount: facts.id.clone(),
            token: owner.lease_owner().to_owned(),
            kind: claim.kind.to_owned(),
            recipe: claim.recipe,
            issued: now,
            expires: now,
            granted: Duration::ZERO,
            due: now,
            renewed: None,
            renewal_ttl: claim.ttl,
            max_ttl: claim.max_ttl,
            renewable: claim.renewable,
            state: LeaseState::Live,
            target: String::new(),
            again: None,
            counted: self.counting(facts, path),
        }
    }

    /// Stores a new lease with its place among those of its token and in the index, and counts it.
    pub(super) fn enter(
        &self,
        txn: &mut Txn,
        record: &LeaseRecord,
        facts: &MountFacts,
        owner: &FoundToken,
    ) -> Result<(), Fault> {
        write(txn, record)?;
        if let Some(owned) = owned_key(record)? {
            txn.enter(&owned);
        }
        index::enter(txn, &ends()?, record.due, record.number())?;
        let facets = self.tokens.facets(&facts.namespace, &facts.id, record.path(), None);
        self.tokens.bound(txn, &facts.namespace, &facts.id, facets.as_ref())?;
        let what = CountedAs { namespace: &facts.namespace, mount: &facts.id, quotas: &record.counted };
        self.tokens.count(txn, &what, &owner.line(), 1)
    }

    /// The quotas on paths that count what a path of a mount hands out.
    pub(super) fn counting(&self, facts: &MountFacts, path: &str) -> Vec<String> {
        let facets = self.tokens.facets(&facts.namespace, &facts.id, path.trim_matches('/'), None);
        self.tokens.counting(&facts.id, facets.as_ref())
    }

    /// A lease of a namespace that is in use, or cannot be revoked; `None` for every other id.
    ///
    /// # Errors
    /// A failure when the store fails.
    pub fn find(
        &self,
        txn: &mut Txn,
        namespace: &NamespaceId,
        id: &str,
        now: Timestamp,
    ) -> Result<Option<LeaseRecord>, Fault> {
        let Some(record) = read_in(txn, namespace, id)? else { return Ok(None) };
        let is_shown = match record.state {
            LeaseState::Live => self.is_alive(txn, &record, now)?,
            LeaseState::Revoking(_) | LeaseState::Intended => false,
            LeaseState::Irrevocable(_) => true,
        };
        Ok(is_shown.then_some(record))
    }

    fn is_alive(&self, txn: &mut Txn, record: &LeaseRecord, now: Timestamp) -> Result<bool, Fault> {
        Ok(record.expires > now
            && self.spaces.has_mount(&record.home(), &record.mount)
            && self.tokens.keeps_leases(txn, &record.token, now)?)
    }

    /// What takes back what a mount handed out.
    fn taking_back(&self, txn: &mut Txn, record: &LeaseRecord) -> Result<Option<TakingBack>, Fault> {
        let Some(space) = self.spaces.with_id(&record.home()) else { return Ok(None) };
        space.mounts.taking_back(txn, &record.mount)
    }

    /// Renews a lease of a namespace that is in use, and says what kept it from being as long as was wished for. An end that
    /// does not move is not written, and nobody outside is asked; a target is asked within its own room.
    ///
    /// # Errors
    /// A refusal when it is over or cannot be renewed, by itself or by its engine.
    pub async fn renew(
        &self,
        means: Means<'_>,
        namespace: &NamespaceId,
        id: &str,
        wish: Option<Duration>,
    ) -> Result<(LeaseTerms, Vec<String>), Fault> {
        let now = means.now;
        let not_found = || Fault::invalid("lease not found");
        let mut record = read_in(means.txn, namespace, id)?.ok_or_else(not_found)?;
        if record.state != LeaseState::Live {
            return Err(not_found());
        }
        if record.expires <= now {
            return Err(Fault::invalid("lease expired"));
        }
        let end = match record.token.as_str() {
            "" => None,
            owner => self.tokens.find_hash(means.txn, owner, now)?.ok_or_else(not_found)?.record.expires,
        };
        if !record.renewable {
            return Err(Fault::invalid("lease is not renewable"));
        }
        let found = self.taking_back(means.txn, &record)?;
        let TakingBack { facts, contents, engine } = found.ok_or_else(not_found)?;
        let wish = wish.or(Some(record.renewal_ttl)).filter(|wish| !wish.is_zero());
        let Life { ttl, latest, warnings } = lease_life(&facts, wish, record.max_ttl, record.issued, end, now);
        if ttl.is_zero() {
            // A renewal must not be what ends the lease (TOK-02).
            return Err(Fault::invalid("past the max TTL, cannot renew"));
        }
        let moved = index::moved(Some(record.expires), now, ttl, latest);
        let Means { txn, entropy, workers, ways, .. } = means;
        let renewal = self.renewals.of(record.number());
        let (mut _turn, mut _permit, mut asks) = (None, None, None);
        if let Some(end) = moved {
            _turn = Some(renewal.turn().await?);
            // A shorter life is asked for on purpose.
            if !renewal.has_told(end) || end < record.expires {
                // Until the end that is kept, and not only for what is promised: the next renewal may find that it will do.
                asks = Some(end.since(now));
                if !record.target.is_empty() {
                    _permit = Some(self.targets.permit(&facts, &record.target, &**ways.clock).await?);
                }
            }
        }
        let view = View::of_mount(&mut *txn, contents, &facts, &BESIDES);
        let cx = own_context(view, &facts, now, entropy, workers, ways);
        engine.renew(cx, leased(&record), asks).await?;
        if let Some(end) = moved {
            renewal.tell(end);
            move_to(txn, &mut record, end)?;
            record.expires = end;
            record.granted = ttl;
            record.renewed = Some(now);
            write(txn, &record)?;
            observations::of_lease(txn, &self.spaces, "lease/renew", &record);
        }
        let terms = LeaseTerms { id: Some(record.id), duration: ttl, renewable: record.renewable };
        Ok((terms, warnings))
    }

    /// Ends a lease of a namespace: nobody sees it from the commit on, and its engine is asked soon after. One that could not be
    /// revoked is tried again; ending what is not there is fine.
    ///
    /// # Errors
    /// A failure when the store fails.
    pub fn retire(
        &self,
        txn: &mut Txn,
        namespace: &NamespaceId,
        id: &str,
        is_forced: bool,
        now: Timestamp,
    ) -> Result<(), Fault> {
        match read_in(txn, namespace, id)? {
            Some(record) => self.retire_record(txn, record, is_forced, now).map(drop),
            None => Ok(()),
        }
    }

    /// Ends a lease, in whatever state it is.
    pub(super) fn retire_record(
        &self,
        txn: &mut Txn,
        mut record: LeaseRecord,
        is_forced: bool,
        now: Timestamp,
    ) -> Result<LeaseRecord, Fault> {
        let attempts = Attempts { is_forced, ..Attempts::default() };
        match &mut record.state {
            LeaseState::Live => self.leave_use(txn, &record)?,
            LeaseState::Intended => self.give_intent_up(txn, &mut record, now)?,
            LeaseState::Revoking(attempts) if attempts.is_forced || !is_forced => return Ok(record),
            LeaseState::Revoking(_) => retried::forget(txn, &record)?,
            LeaseState::Irrevocable(_) => take_from_irrevocable(txn, &record)?,
        }
        move_to(txn, &mut record, Timestamp::from_seconds(now.seconds()))?;
        record.state = LeaseState::Revoking(attempts);
        write(txn, &record)?;
        Ok(record)
    }

    /// Counts a lease out that is in use.
    fn leave_use(&self, txn: &mut Txn, record: &LeaseRecord) -> Result<(), Fault> {
        tree::count(txn, &record.home(), record.id.as_str(), -1)?;
        observations::of_lease(txn, &self.spaces, "lease/end", record);
        self.leave_life(txn, record)
    }

    /// Counts a lease, in use or in the making, out of what is alive, and into what is being revoked; its token has it no more.
    pub(super) fn leave_life(&self, txn: &mut Txn, record: &LeaseRecord) -> Result<(), Fault> {
        let line = self.tokens.line_of(txn, &record.token)?;
        let what = CountedAs { namespace: &record.home(), mount: &record.mount, quotas: &record.counted };
        self.tokens.count(txn, &what, &line, -1)?;
        count_as(REVOKING, txn, record, 1)?;
        if let Some(owned) = owned_key(record)? {
            txn.leave(&owned);
        }
        Ok(())
    }

    /// Ends a lease of a token that was revoked.
    pub(super) fn retire_owned(
        &self,
        txn: &mut Txn,
        owned: &KeyPrefix,
        number: &str,
        now: Timestamp,
    ) -> Result<(), Fault> {
        if let Some(record) = numbered(txn, number)? {
            self.retire_record(txn, record, false, now)?;
        }
        txn.leave(&owned.key(number).map_err(Fault::internal)?);
        Ok(())
    }

    /// Ends some of the leases of a mount that was removed.
    pub(super) fn retire_below(
        &self,
        txn: &mut Txn,
        namespace: &NamespaceId,
        wipe: &mut WipeRecord,
        step_max: usize,
        now: Timestamp,
    ) -> Result<Retired, Fault> {
        let mount = &wipe.mount.0;
        if mount.class != StoredClass::Secret {
            return Ok(Retired::All);
        }
        if LeasesLeft::of(txn, namespace, &mount.id)?.is_nothing() {
            return Ok(Retired::All);
        }
        // What is missing among the ids ends in its own time, and the wiping waits for it.
        let (page, _) = readable_ids(txn, namespace, &mount.path, wipe.walked.as_deref(), step_max)?;
        let Some(last) = page.last().cloned() else { return Ok(Retired::Waits) };
        for id in &page {
            let Some(record) = read(txn, id)?.filter(|record| record.mount == mount.id) else { continue };
            let is_live = record.state == LeaseState::Live;
            if is_live || wipe.is_forced {
                self.retire_record(txn, record, wipe.is_forced, now)?;
                wipe.leases_ended += u64::from(is_live);
            }
        }
        wipe.walked = Some(last);
        Ok(Retired::Some)
    }

    /// Ends a lease of a namespace once its engine took it back, perhaps for the second time: all in one transaction.
    ///
    /// # Errors
    /// The engine's, and then nothing is written.
    pub(super) async fn revoke(
        &self,
        means: Means<'_>,
        namespace: &NamespaceId,
        id: &str,
        was_taken_back: bool,
    ) -> Result<(), Fault> {
        let Some(record) = read_in(means.txn, namespace, id)? else { return Ok(()) };
        let mut record = self.retire_record(means.txn, record, false, means.now)?;
        self.take_back(means, &mut record, was_taken_back).await
    }

    /// Asks the engine to take back a retired lease; when it did, nothing is left of the lease.
    pub(super) async fn take_back(
        &self,
        means: Means<'_>,
        record: &mut LeaseRecord,
        was_taken_back: bool,
    ) -> Result<(), Fault> {
        let Means { txn, now, entropy, workers, ways } = means;
        let gone = || Fault::internal("the mount that handed it out is gone");
        let TakingBack { facts, contents, engine } = self.taking_back(txn, record)?.ok_or_else(gone)?;
        let cx =
            own_context(View::of_mount(&mut *txn, contents, &facts, &BESIDES), &facts, now, entropy, workers, ways);
        engine.revoke(cx, Leased { was_taken_back, ..leased(record) }).await?;
        match record.again {
            // What was asked for in vain may come true until then.
            Some(again) if again > now => {
                retried::forget(txn, record)?;
                record.state = LeaseState::Revoking(Attempts::default());
                move_to(txn, record, again)?;
                write(txn, record)
            }
            _ => {
                observations::of_lease(txn, &self.spaces, "lease/revoke", record);
                forget(txn, record)
            }
        }
    }

    /// The nearest namespace from one upwards that stays.
    pub(super) fn outlives(&self, namespace: &NamespaceId) -> NamespaceId {
        self.spaces.outlives(namespace)
    }

    /// Tells the engine that a retired lease is forgotten without being taken back, if there still is one.
    pub(super) fn abandon(&self, txn: &mut Txn, record: &LeaseRecord) -> Result<(), Fault> {
        let Some(TakingBack { facts, contents, engine }) = self.taking_back(txn, record)? else { return Ok(()) };
        engine.abandon(&mut View::of_mount(txn, contents, &facts, &BESIDES), leased(record))
    }

    /// Moves a lease that is due, in use or in the making, to those that are being revoked.
    pub(super) fn end_of_life(&self, txn: &mut Txn, record: &mut LeaseRecord, now: Timestamp) -> Result<(), Fault> {
        match record.state {
            LeaseState::Live => self.leave_use(txn, record)?,
            LeaseState::Intended => self.give_intent_up(txn, record, now)?,
            LeaseState::Revoking(_) | LeaseState::Irrevocable(_) => return Ok(()),
        }
        record.state = LeaseState::Revoking(Attempts::default());
        Ok(())
    }

    /// The tokens, for who looks whether a lease's token is alive.
    pub(crate) fn tokens(&self) -> &Tokens {
        &self.tokens
    }
}

/// Removes what is left of a retired lease.
pub(super) fn forget(txn: &mut Txn, record: &LeaseRecord) -> Result<(), Fault> {
    retried::forget(txn, record)?;
    txn.leave(&id_key(&record.home(), record.id.as_str())?);
    txn.delete(&key(record.number())?).map_err(Fault::internal)?;
    index::leave(txn, &ends()?, record.due, record.number())?;
    count_as(REVOKING, txn, record, -1)
}

/// Counts an irrevocable lease to those that are being revoked.
pub(super) fn take_from_irrevocable(txn: &mut Txn, record: &LeaseRecord) -> Result<(), Fault> {
    let reference = keys::irrevocable(&record.home()).and_then(|at| at.key(record.number()));
    txn.leave(&reference.map_err(Fault::internal)?);
    count_as(IRREVOCABLE, txn, record, -1)?;
    count_as(REVOKING, txn, record, 1)
}

/// Sets a retired lease apart: it stays visible, and nothing is tried any more. If `forgotten_at` is given it is due once more then.
pub(super) fn give_up(
    txn: &mut Txn,
    record: &mut LeaseRecord,
    attempts: Attempts,
    forgotten_at: Option<Timestamp>,
) -> Result<(), Fault> {
    retried::forget(txn, record)?;
    match forgotten_at {
        Some(at) => move_to(txn, record, index::rounded(at))?,
        None => index::leave(txn, &ends()?, record.due, record.number())?,
    }
    count_as(REVOKING, txn, record, -1)?;
    count_as(IRREVOCABLE, txn, record, 1)?;
    let reference =
        keys::irrevocable(&record.home()).and_then(|at| at.key(record.number())).map_err(Fault::internal)?;
    // Giving up must come to an end.
    txn.enter_if_readable(&reference);
    record.state = LeaseState::Irrevocable(attempts);
    write(txn, record)
}

/// Moves a lease's place in the index.
pub(super) fn move_to(txn: &mut Txn, record: &mut LeaseRecord, due: Timestamp) -> Result<(), Fault> {
    let ends = ends()?;
    index::leave(txn, &ends, record.due, record.number())?;
    record.due = due;
    index::enter(txn, &ends, due, record.number())
}

/// Makes a lease that is being revoked due again.
pub(super) fn try_again(txn: &mut Txn, mut record: LeaseRecord, now: Timestamp) -> Result<(), Fault> {
    move_to(txn, &mut record, Timestamp::from_seconds(now.seconds()))?;
    write(txn, &record)
}

pub(super) fn count_as(label: &str, txn: &mut Txn, record: &LeaseRecord, delta: i64) -> Result<(), Fault> {
    let tally = keys::live_of(&record.home(), &record.mount).map_err(Fault::internal)?;
    txn.count(&tally, label, delta, &UNBOUNDED);
    Ok(())
}

/// Gives a lease its first life, and says how long that is.
pub(super) fn begin(
    record: &mut LeaseRecord,
    facts: &MountFacts,
    owner: &FoundToken,
    token_ends: Option<Timestamp>,
    now: Timestamp,
) -> Duration {
    let wish = Some(record.renewal_ttl).filter(|wish| !wish.is_zero());
    let ttl = lease_life(facts, wish, record.max_ttl, now, token_ends, now).ttl;
    if let Some(end) = token_ends.filter(|_| owner.is_batch()) {
        // No renewal leads beyond a token that nobody can ask by then.
        let left = end.since(now);
        record.max_ttl = if record.max_ttl.is_zero() { left } else { record.max_ttl.min(left) };
    }
    let expires = index::rounded(now.plus(ttl));
    (record.issued, record.expires, record.due, record.granted) = (now, expires, expires, ttl);
    ttl
}

/// How long a lease lives from now on: by the rules of its mount, and never longer than its token.
fn lease_life(
    facts: &MountFacts,
    wish: Option<Duration>,
    max: Duration,
    issued: Timestamp,
    token_ends: Option<Timestamp>,
    now: Timestamp,
) -> Life {
    let limits = Limits {
        mount_default: facts.default_lease_ttl,
        mount_max: facts.max_lease_ttl,
        max,
        explicit_max: Duration::ZERO,
        period: Duration::ZERO,
    };
    let mut life = decide(wish, &limits, issued, now);
    if let Some(end) = token_ends {
        let left = end.since(now);
        if left < life.ttl {
            let (wanted, left) = (print_go(life.ttl), print_go(Duration::from_secs(left.as_secs())));
            life.warnings.push(format!(
                "TTL of \"{wanted}\" exceeded what is left of the token, \"{left}\"; TTL value is capped accordingly"
            ));
        }
        life.ttl = life.ttl.min(left);
        life.latest = life.latest.map_or(end, |latest| latest.min(end)).into();
    }
    life
}

fn leased(record: &LeaseRecord) -> Leased<'_> {
    Leased { kind: &record.kind, recipe: &record.recipe, issued: record.issued, was_taken_back: false }
}

/// What an engine is handed when the server itself asks.
pub(crate) fn own_context<'a>(
    view: View<'a>,
    facts: &'a MountFacts,
    now: Timestamp,
    entropy: &'a dyn Entropy,
    workers: &'a dyn Workers,
    ways: Ways<'a>,
) -> Cx<'a> {
    Cx {
        view,
        now,
        entropy,
        workers,
        outgoing: ways.outgoing,
        net: ways.net,
        machine: ways.machine,
        keepers: ways.keepers,
        clock: ways.clock,
        caller: Caller {
            address: std::net::Ipv4Addr::UNSPECIFIED.into(),
            accessor: None,
            home: None,
            policies: &[],
            display_name: "",
            token_key: None,
            held: Held::new(None),
            has_sudo: false,
            is_root: false,
        },
        mount: facts,
        operation: Operation::Update,
        upload: None,
        headers: Headers::NONE,
    }
}

fn ends() -> Result<KeyPrefix, Fault> {
    keys::lease_ends().map_err(Fault::internal)
}

/// The name of a lease among those of its token; `None` when it hangs on no stored token.
fn owned_key(record: &LeaseRecord) -> Result<Option<StorageKey>, Fault> {
    if record.token.is_empty() {
        return Ok(None);
    }
    let owned = keys::leases_of(&record.token).and_then(|at| at.key(record.number()));
    owned.map(Some).map_err(Fault::internal)
}

/// The name of an id in the directories of ids.
pub(super) fn id_key(namespace: &NamespaceId, id: &str) -> Result<StorageKey, Fault> {
    keys::leases(namespace).and_then(|at| at.key(id)).map_err(tresor_engine::view::fault)
}

fn key(number: &str) -> Result<PointKey, Fault> {
    keys::lease(number).map_err(Fault::internal)
}

pub(super) fn write(txn: &mut Txn, record: &LeaseRecord) -> Result<(), Fault> {
    txn.write(&key(record.number())?, &record.encode()).map_err(Fault::internal)
}

/// A lease's record; an id that cannot be a name names nothing.
pub(super) fn read(txn: &mut Txn, id: &str) -> Result<Option<LeaseRecord>, Fault> {
    Ok(numbered(txn, number_of(id))?.filter(|record| record.id.as_str() == id))
}

/// The same, for an id that a client names: one of another namespace names nothing.
pub(super) fn read_in(txn: &mut Txn, namespace: &NamespaceId, id: &str) -> Result<Option<LeaseRecord>, Fault> {
    if ids::home(number_of(id)) == *namespace { read(txn, id) } else { Ok(None) }
}

/// The record of the lease with this number, which says where it lies.
pub(super) fn numbered(txn: &mut Txn, number: &str) -> Result<Option<LeaseRecord>, Fault> {
    let Ok(key) = keys::lease(number) else { return Ok(None) };
    let Some(bytes) = txn.read(&key).map_err(Fault::internal)? else { return Ok(None) };
    LeaseRecord::decode(&bytes).map(Some).map_err(Fault::internal)
}
