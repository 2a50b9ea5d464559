//! The terms of the key ring: which one seals, how much it has sealed, and when the next one takes its place.
//!
//! Each node counts what it seals in memory, and the leader adds that to a tally now and then, so no request writes for it;
//! what is lost with a process is far less than what is left between the largest bound that may be configured and the 2³²
//! values after which a random nonce may come again. That bound holds whatever is configured. Deliberately absent: what a term
//! is (`tresor-barrier`), and the root key ([`rekey`](crate::rekey)).

use std::sync::{Arc, Weak};
use std::time::Duration;

use tresor_barrier::{Barrier, CommitError, RekeyError, SealingTerm, SlotFacts, StaticKey, Txn};
use tresor_env::{SteadyClock, Tasks, Timestamp};
use tresor_model::ids::{NamespaceId, RealmId};
use tresor_model::{Fault, Operation, Refusal, map};
use tresor_record::Record;

use crate::gate::Gate;
use crate::namespaces::Spaces;
use crate::settings::Settings;
use crate::unsealed::{Handles, Unsealed};
use crate::{deeds, keys};

/// Whatever is configured, a term seals no more values than these.
const ABSOLUTE_MAX: u64 = 3_865_470_566;
/// The fewest values after which a new term may be asked for.
const OPERATIONS_MIN: u64 = 1_000_000;
/// The shortest time after which a new term may be asked for.
const INTERVAL_MIN: Duration = Duration::from_secs(24 * 3600);
/// How often the leader looks whether a new term is due.
const LOOK: Duration = Duration::from_secs(60);
/// Fewer values than these are not worth a write of their own.
const WORTH_COUNTING: u64 = 4096;

/// When a new term is made by itself, as it is stored.
#[derive(Record, Clone, Debug, PartialEq, Eq)]
#[record(kind = "rotation", version = 1)]
pub struct Rotation {
    /// Whether it is, before the bound that always holds.
    pub enabled: bool,
    /// After how many values.
    pub max_operations: u64,
    /// After how many seconds; 0: whatever the time.
    pub interval: u64,
}

impl Default for Rotation {
    fn default() -> Self {
        Self { enabled: true, max_operations: ABSOLUTE_MAX, interval: 0 }
    }
}

impl Rotation {
    /// As it is stored; the defaults where nothing is.
    ///
    /// # Errors
    /// When the store fails.
    pub fn stored(txn: &mut Txn) -> Result<Self, Fault> {
        let stored = txn.read(&keys::rotation().map_err(Fault::internal)?).map_err(Fault::internal)?;
        stored.map_or_else(|| Ok(Self::default()), |bytes| Self::decode(&bytes).map_err(Fault::internal))
    }

    /// Stores it.
    ///
    /// # Errors
    /// A refusal when it is out of range; a failure when the store fails.
    pub fn store(&self, txn: &mut Txn) -> Result<(), Fault> {
        if self.interval != 0 && self.interval < INTERVAL_MIN.as_secs() {
            return Err(Fault::invalid("interval must be greater or equal to 24h0m0s"));
        }
        if !(OPERATIONS_MIN..=ABSOLUTE_MAX).contains(&self.max_operations) {
            let text = format!("max_operations must be in the range [{OPERATIONS_MIN},{ABSOLUTE_MAX}]");
            return Err(Fault::invalid(text));
        }
        txn.write(&keys::rotation().map_err(Fault::internal)?, &self.encode()).map_err(Fault::internal)
    }

    fn is_due(&self, term: &Term, now: Timestamp) -> bool {
        let is_old = self.interval != 0 && now.since(term.installed).as_secs() >= self.interval;
        term.encryptions >= ABSOLUTE_MAX || self.enabled && (is_old || term.encryptions >= self.max_operations)
    }
}

/// The term that seals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Term {
    /// Its number.
    pub number: u32,
    /// When it was made.
    pub installed: Timestamp,
    /// How many values it sealed, as far as they are counted.
    pub encryptions: u64,
}

/// The owner of the terms: those of the store, or of a namespace that has a seal of its own.
pub struct Keyring {
    barrier: Barrier,
    clock: SteadyClock,
    spaces: Arc<Spaces>,
    settings: Arc<Settings>,
    /// Whose they are; the root namespace's are the store's.
    of: NamespaceId,
}

impl Keyring {
    pub(crate) fn new(barrier: &Barrier, clock: SteadyClock, spaces: Arc<Spaces>, settings: Arc<Settings>) -> Self {
        Self { barrier: barrier.clone(), clock, spaces, settings, of: NamespaceId::root() }
    }

    /// The terms of a namespace's own ring; those of the store, where it is the root namespace.
    #[must_use]
    pub fn of(&self, namespace: &NamespaceId) -> Self {
        Self {
            barrier: self.barrier.clone(),
            clock: self.clock.clone(),
            spaces: Arc::clone(&self.spaces),
            settings: Arc::clone(&self.settings),
            of: namespace.clone(),
        }
    }

    /// The realm whose ring it is; nothing where it is the store's.
    fn realm(&self) -> Result<Option<RealmId>, Fault> {
        if self.of.is_root() { Ok(None) } else { self.spaces.own_seal(&self.of).map(|(realm, _)| Some(realm)) }
    }

    fn sealing(&self) -> Result<SealingTerm, Fault> {
        match self.realm()? {
            None => Ok(self.barrier.sealing_term()),
            Some(realm) => self.barrier.realm_term(&realm).map_err(Fault::internal),
        }
    }

    fn uncounted(&self) -> Result<u64, Fault> {
        Ok(self
            .realm()?
            .map_or_else(|| self.barrier.uncounted_seals(), |realm| self.barrier.uncounted_seals_in(&realm)))
    }

    /// The term that seals.
    ///
    /// # Errors
    /// When the store fails.
    pub fn term(&self, txn: &mut Txn) -> Result<Term, Fault> {
        let sealing = self.sealing()?;
        let counted = txn.tally(&keys::encryptions(&self.of).map_err(Fault::internal)?).map_err(Fault::internal)?;
        let counted = counted.get(&sealing.term.to_string()).map_or(0, |count| count.unsigned_abs());
        let encryptions = counted.saturating_add(self.uncounted()?);
        Ok(Term { number: sealing.term, installed: sealing.installed, encryptions })
    }

    /// Lets a new term seal from now on, on every node.
    ///
    /// # Errors
    /// When it cannot be stored, or when the seal is to give random bytes for it and gives none.
    pub async fn rotate(&self) -> Result<(), Fault> {
        self.settings.stir().await?;
        let now = self.clock.now();
        match self.realm()? {
            None => self.barrier.rotate(now).await.map_err(fault)?,
            Some(_) => {
                self.spaces.change_seal(&self.of, |realm, seal| self.barrier.rotated_realm(realm, seal, now)).await?;
            }
        }
        tracing::info!(namespace = %self.of, term = self.sealing()?.term, "a new term of the key ring seals");
        Ok(())
    }

    /// Who opens the root key.
    ///
    /// # Errors
    /// When the store fails.
    pub fn slots(&self) -> Result<Vec<SlotFacts>, Fault> {
        self.barrier.slot_facts().map_err(Fault::internal)
    }

    /// A key that lies with a machine opens as well from now on.
    ///
    /// # Errors
    /// A refusal when its id means another key; a failure when it cannot be stored.
    pub async fn add_slot(&self, key: &StaticKey) -> Result<(), Fault> {
        self.barrier.add_slot(key, self.clock.now()).await.map_err(fault)?;
        tracing::info!(key = key.id(), "a static key opens the store as well");
        Ok(())
    }

    /// A slot opens no more.
    ///
    /// # Errors
    /// A refusal when there is none, or when it is that of shares; a failure when it cannot be stored.
    pub async fn remove_slot(&self, id: &str) -> Result<(), Fault> {
        self.barrier.remove_slot(id).await.map_err(fault)?;
        tracing::info!(id, "a key slot was removed");
        Ok(())
    }

    /// The slots that a key opens.
    ///
    /// # Errors
    /// When the store fails.
    pub fn slots_opened_by(&self, key: &StaticKey) -> Result<Vec<String>, Fault> {
        self.barrier.slots_opened_by(key).map_err(Fault::internal)
    }

    /// Adds what was sealed to what is counted.
    fn count(&self, txn: &mut Txn) -> Result<u64, Fault> {
        let (term, sealed) = (self.sealing()?.term, self.uncounted()?);
        let delta = i64::try_from(sealed).unwrap_or(i64::MAX);
        let tally = keys::encryptions(&self.of).map_err(Fault::internal)?;
        txn.count(&tally, &term.to_string(), delta, &(i64::MIN..=i64::MAX));
        Ok(sealed)
    }

    fn is_counted(&self, count: u64) -> Result<(), Fault> {
        match self.realm()? {
            None => self.barrier.seals_are_counted(count),
            Some(realm) => self.barrier.seals_are_counted_in(&realm, count),
        }
        Ok(())
    }
}

/// What whoever asked for a change of keys is told.
pub(crate) fn fault(error: RekeyError) -> Fault {
    match error {
        RekeyError::NoSlot
        | RekeyError::LastSlot
        | RekeyError::NothingElse
        | RekeyError::TooMany
        | RekeyError::OtherKey
        | RekeyError::OldSlot => Fault::invalid(error.to_string()),
        RekeyError::Commit(CommitError::Stopped) => Refusal::Sealed.into(),
        RekeyError::Commit(CommitError::Conflict) => {
            Refusal::Unavailable("too many conflicting changes, try again".into()).into()
        }
        other => Fault::internal(other),
    }
}

/// Starts what only the leader does.
pub(crate) fn start(unsealed: &Arc<Unsealed>, tasks: &Tasks) {
    tasks.spawn(run(Arc::downgrade(unsealed), unsealed.gate.clone()));
}

/// Counts, and makes a new term when it is due. It holds the node only while it works.
async fn run(node: Weak<Unsealed>, gate: Gate) {
    while let Some(unsealed) = node.upgrade() {
        if gate.is_closed() {
            return;
        }
        let waiting = unsealed.clock.sleep(LOOK);
        drop(unsealed);
        tokio::select! {
            biased;
            () = waiting => {}
            () = gate.closed() => return,
        }
        let Some(unsealed) = node.upgrade() else { return };
        if let Err(fault) = look(&unsealed).await {
            tracing::warn!(cause = fault.for_operators(), "whether a new term is due is not known; tried again");
        }
    }
}

async fn look(unsealed: &Unsealed) -> Result<(), Fault> {
    let Handles { keyring, spaces, .. } = &unsealed.handles;
    look_at(unsealed, keyring).await?;
    for namespace in spaces.open_realms()? {
        // One that is sealed meanwhile is nobody's care.
        if let Err(fault) = look_at(unsealed, &keyring.of(&namespace)).await
            && spaces.own_seal(&namespace).is_ok()
        {
            return Err(fault);
        }
    }
    Ok(())
}

async fn look_at(unsealed: &Unsealed, keyring: &Keyring) -> Result<(), Fault> {
    let mut txn = unsealed.begin()?;
    let (rotation, term) = (Rotation::stored(&mut txn)?, keyring.term(&mut txn)?);
    if rotation.is_due(&term, unsealed.clock.now()) {
        keyring.rotate().await?;
        let body = map! { "encryptions" => term.encryptions, "term" => u64::from(term.number) };
        deeds::record(unsealed, "sys/rotate/due", Operation::Update, body).await;
        return Ok(());
    }
    if keyring.uncounted()? >= WORTH_COUNTING {
        let counted = keyring.count(&mut txn)?;
        unsealed.commit(txn).await?;
        keyring.is_counted(counted)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_term_is_due_after_a_count_or_a_time_and_always_at_the_bound_of_the_cipher() {
        let day = INTERVAL_MIN.as_secs();
        let due = |enabled, max_operations, interval, encryptions, seconds| {
            let term = Term { number: 1, installed: Timestamp::EPOCH, encryptions };
            Rotation { enabled, max_operations, interval }
                .is_due(&term, Timestamp::EPOCH.plus(Duration::from_secs(seconds)))
        };
        assert!(!due(true, OPERATIONS_MIN, 0, OPERATIONS_MIN - 1, 10 * day));
        assert!(due(true, OPERATIONS_MIN, 0, OPERATIONS_MIN, 0));
        assert!(!due(true, OPERATIONS_MIN, day, 0, day - 1));
        assert!(due(true, OPERATIONS_MIN, day, 0, day));
        assert!(!due(false, OPERATIONS_MIN, day, ABSOLUTE_MAX - 1, 10 * day));
        assert!(due(false, OPERATIONS_MIN, day, ABSOLUTE_MAX, 0));
        const { assert!(ABSOLUTE_MAX < 1 << 32) };
    }
}
