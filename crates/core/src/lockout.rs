//! Lock-out: who gave a wrong password too often is not asked for one for a while.
//!
//! Attempts are counted by mount and by the name that is claimed, folded as the login folds it, whether or not there is such a
//! user; so a locked name tells nothing. All logins run on the leader, which keeps the counts in memory: nothing is written for a
//! guess, and another leader begins anew. Memory is bounded: when it is full, what was tried least goes first, so that a flood of
//! names makes nobody's count forgotten. Deliberately absent: any judgment who is right, which is the auth method's.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tresor_barrier::Txn;
use tresor_model::ids::{MountId, NamespaceId};
use tresor_model::{Fault, Refusal, Timestamp};
use tresor_record::{Part, Record};

use crate::cached::every_name;
use crate::keys;
use crate::mounts::Mount;

/// The auth methods that are locked, by type: those with a secret that can be guessed.
pub const KINDS: &[&str] = &["userpass", "ldap", "approle"];
/// How many names are counted at the same time.
const NAMES_MAX: usize = 16_384;
/// Longer names are counted by their hash.
const NAME_BYTES_MAX: usize = 256;

/// When a name is locked.
#[derive(Part, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// After so many attempts.
    pub threshold: u64,
    /// For so long.
    pub duration: Duration,
    /// Attempts are forgotten when none came for so long.
    pub counter_reset: Duration,
    /// Nobody is locked.
    pub is_disabled: bool,
}

impl Default for Rules {
    fn default() -> Self {
        let quarter = Duration::from_secs(15 * 60);
        Self { threshold: 5, duration: quarter, counter_reset: quarter, is_disabled: false }
    }
}

/// What was tuned on a mount.
#[derive(Record)]
#[record(kind = "lockout-rules", version = 1)]
struct TunedRules {
    rules: Rules,
}

/// The failed attempts with one name.
#[derive(Clone, Copy, Debug)]
struct Attempts {
    count: u64,
    last: Timestamp,
    /// How long they count.
    until: Timestamp,
    is_locked: bool,
}

/// One attempt to log in.
pub(crate) struct Attempt {
    mount: MountId,
    name: String,
    rules: Rules,
}

/// The names that are counted.
#[derive(Default)]
pub struct Lockouts(Mutex<BTreeMap<(MountId, String), Attempts>>);

impl Lockouts {
    /// Begins an attempt; a locked name is refused.
    pub(crate) fn begin(
        &self,
        mount: &MountId,
        name: &str,
        rules: Rules,
        now: Timestamp,
    ) -> Result<Option<Attempt>, Fault> {
        if rules.is_disabled || rules.threshold == 0 {
            return Ok(None);
        }
        let name = counted_as(name);
        let attempt = Attempt { mount: mount.clone(), name, rules };
        let counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match counted.get(&(attempt.mount.clone(), attempt.name.clone())) {
            Some(before) if before.is_locked && now < before.until => Err(Fault::denied()),
            _ => Ok(Some(attempt)),
        }
    }

    /// Ends an attempt: who was wrong is counted, who was right is forgiven.
    pub(crate) fn end<T>(&self, attempt: Attempt, answered: &Result<T, Fault>, now: Timestamp) {
        let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (attempt.mount, attempt.name);
        match answered {
            Ok(_) => {
                counted.remove(&key);
            }
            Err(Fault::Refusal(Refusal::Unproven(_))) => {
                if counted.len() >= NAMES_MAX && !counted.contains_key(&key) {
                    make_room(&mut counted, now);
                }
                let before = counted.get(&key).filter(|before| now < before.until);
                // Somebody who began before the name was locked changes nothing.
                if before.is_some_and(|before| before.is_locked) {
                    return;
                }
                let count = before.map_or(1, |before| before.count.saturating_add(1));
                let is_locked = count >= attempt.rules.threshold;
                let lasts = if is_locked { attempt.rules.duration } else { attempt.rules.counter_reset };
                counted.insert(key, Attempts { count, last: now, until: now.plus(lasts), is_locked });
            }
            Err(_) => {}
        }
    }

    /// The names that are locked, by mount.
    #[must_use]
    pub fn locked(&self, now: Timestamp) -> BTreeMap<MountId, Vec<String>> {
        let counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut locked: BTreeMap<MountId, Vec<String>> = BTreeMap::new();
        for ((mount, name), attempts) in counted.iter() {
            if attempts.is_locked && now < attempts.until {
                locked.entry(mount.clone()).or_default().push(name.clone());
            }
        }
        locked
    }

    /// Forgets the attempts with a name.
    pub fn unlock(&self, mount: &MountId, name: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&(mount.clone(), counted_as(name)));
    }
}

/// A name as it is counted.
fn counted_as(name: &str) -> String {
    if name.len() <= NAME_BYTES_MAX {
        return name.to_owned();
    }
    tresor_crypto::hash::to_hex(&tresor_crypto::hash::sha256(name.as_bytes()))
}

/// Forgets what is over; if nothing is, the name that was tried least, and of these the one that was tried longest ago.
fn make_room(counted: &mut BTreeMap<(MountId, String), Attempts>, now: Timestamp) {
    counted.retain(|_, attempts| now < attempts.until);
    if counted.len() < NAMES_MAX {
        return;
    }
    let least = counted.iter().min_by_key(|(_, attempts)| (attempts.is_locked, attempts.count, attempts.last));
    if let Some(key) = least.map(|(key, _)| key.clone()) {
        counted.remove(&key);
    }
}

/// The rules of a mount: as it was tuned, else as the server is configured for its type.
///
/// # Errors
/// A failure when the store fails.
pub(crate) fn rules(configured: &BTreeMap<String, Rules>, mount: &Mount, txn: &mut Txn) -> Result<Rules, Fault> {
    let configured = configured.get(&mount.record.kind).or_else(|| configured.get("all")).copied();
    Ok(tuned(txn, &mount.record.id)?.or(configured).unwrap_or_default())
}

/// What was tuned on a mount.
///
/// # Errors
/// A failure when the store fails.
pub fn tuned(txn: &mut Txn, mount: &MountId) -> Result<Option<Rules>, Fault> {
    let key = keys::lockout(&NamespaceId::root(), mount).map_err(Fault::internal)?;
    let Some(bytes) = txn.read(&key).map_err(Fault::internal)? else { return Ok(None) };
    TunedRules::decode(&bytes).map(|tuned| Some(tuned.rules)).map_err(Fault::internal)
}

/// What was tuned on all mounts.
///
/// # Errors
/// A failure when the store fails.
pub fn every(txn: &mut Txn) -> Result<BTreeMap<MountId, Rules>, Fault> {
    let names = every_name(txn, &keys::lockouts(&NamespaceId::root()).map_err(Fault::internal)?);
    let mut every = BTreeMap::new();
    for id in names.map_err(Fault::internal)? {
        let id = MountId::new(id);
        if let Some(rules) = tuned(txn, &id)? {
            every.insert(id, rules);
        }
    }
    Ok(every)
}

/// Tunes a mount.
///
/// # Errors
/// A failure when the store fails.
pub fn tune(txn: &mut Txn, mount: &MountId, rules: Rules) -> Result<(), Fault> {
    let key = keys::lockout(&NamespaceId::root(), mount).map_err(Fault::internal)?;
    txn.write(&key, &TunedRules { rules }.encode()).map_err(Fault::internal)
}

/// Forgets what was tuned on a mount that is removed.
pub(crate) fn forget(txn: &mut Txn, mount: &MountId) -> Result<(), Fault> {
    let key = keys::lockout(&NamespaceId::root(), mount).map_err(Fault::internal)?;
    txn.delete(&key).map_err(Fault::internal)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(seconds)
    }

    fn fail(lockouts: &Lockouts, name: &str, now: Timestamp) -> bool {
        let mount = MountId::new("m");
        let Ok(Some(attempt)) = lockouts.begin(&mount, name, Rules::default(), now) else { return false };
        let wrong: Result<(), Fault> = Err(Refusal::Unproven("no".into()).into());
        lockouts.end(attempt, &wrong, now);
        true
    }

    #[test]
    fn a_name_is_locked_by_wrong_passwords_alone_and_for_its_time() {
        let lockouts = Lockouts::default();
        for second in 0..5 {
            assert!(fail(&lockouts, "bob", at(second)));
        }
        assert!(!fail(&lockouts, "bob", at(5)) && fail(&lockouts, "eve", at(5)));
        assert_eq!(lockouts.locked(at(5)).values().next().unwrap(), &["bob"]);
        assert!(fail(&lockouts, "bob", at(4 + 900)), "it begins anew");
        assert!(lockouts.locked(at(4 + 900)).is_empty());
        for _ in 0..4 {
            assert!(fail(&lockouts, "bob", at(910)));
        }
        assert!(!fail(&lockouts, "bob", at(911)));
        lockouts.unlock(&MountId::new("m"), "bob");
        assert!(fail(&lockouts, "bob", at(912)));
        // Attempts that lie far apart do not add up, other faults do not count, and who was right is forgiven.
        for step in 0..9 {
            assert!(fail(&lockouts, "far", at(step * 900)));
        }
        let begin = || lockouts.begin(&MountId::new("m"), "right", Rules::default(), at(1)).unwrap().unwrap();
        for _ in 0..4 {
            assert!(fail(&lockouts, "right", at(1)));
        }
        lockouts.end(begin(), &Err::<(), _>(Fault::invalid("missing password")), at(1));
        lockouts.end(begin(), &Ok(()), at(1));
        assert!(fail(&lockouts, "right", at(1)) && fail(&lockouts, "right", at(1)));
    }

    #[test]
    fn a_flood_of_names_is_bounded_and_makes_nobody_forgotten() {
        let lockouts = Lockouts::default();
        for _ in 0..5 {
            assert!(fail(&lockouts, "locked", at(0)));
        }
        for _ in 0..3 {
            assert!(fail(&lockouts, "tried", at(0)));
        }
        for number in 0..NAMES_MAX + 50 {
            assert!(fail(&lockouts, &format!("flood{number}"), at(1)));
        }
        assert!(lockouts.0.lock().unwrap().len() <= NAMES_MAX);
        assert!(!fail(&lockouts, "locked", at(2)));
        assert!(fail(&lockouts, "tried", at(2)) && fail(&lockouts, "tried", at(2)) && !fail(&lockouts, "tried", at(2)));
        assert!(fail(&lockouts, &"x".repeat(100_000), at(2)));
        let longest = lockouts.0.lock().unwrap().keys().map(|(_, name)| name.len()).max();
        assert!(longest.unwrap() <= NAME_BYTES_MAX);
    }
}
