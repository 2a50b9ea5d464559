//! Which names of a listing may be of something that is over and not collected yet.
//!
//! Looking at each record of a page would make a listing as dear as all of its tokens. Names begin with the time at which
//! what they name was made, and what lies below a token is younger than it: so only names younger than the oldest token
//! that is being collected, and those that reached their own end, are in doubt. Deliberately absent: whether what is in
//! doubt is alive; whoever lists looks at it.

use std::collections::BTreeSet;
use std::time::Duration;

use tresor_barrier::{KeyPrefix, Txn};
use tresor_model::ids::NamespaceId;
use tresor_model::{Fault, Timestamp};

use super::{Tokens, fault, hash_of, names};
use crate::keys;
use crate::leases::index;
use crate::leases::secrets::REVOKING;

/// How many seconds of things that have ended may wait to be collected before everything is in doubt.
const SECONDS_MAX: usize = 32;
/// How many that ended in one second are looked at each.
const ENDED_MAX: usize = 64;
/// A later process may tell an earlier time, by the minute in which the time is stored (`leases/clock.rs`): so much older
/// than its ancestor may something look.
const SLACK: Duration = Duration::from_secs(120);

/// What is in doubt.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Doubt {
    everything: bool,
    /// Names that ended by themselves: hashes of tokens, numbers of leases.
    ended: BTreeSet<String>,
    /// Names that begin with this time or a later one.
    younger: Option<String>,
}

impl Doubt {
    /// Whether the thing must be looked at that is found by `key`, a token's hash or a lease's number, and was made at the
    /// time that `name` begins with.
    pub(crate) fn is_about(&self, name: &str, key: &str) -> bool {
        let is_younger = self.younger.as_deref().is_some_and(|time| names::time_in(name) >= time);
        self.everything || is_younger || self.ended.contains(key)
    }

    fn add_younger(&mut self, time: String) {
        if self.younger.as_ref().is_none_or(|known| time < *known) {
            self.younger = Some(time);
        }
    }
}

/// The time part of a name that is made within [`SLACK`] before this.
fn well_before(time: Timestamp) -> String {
    names::time_part(Timestamp::from_nanos(
        time.nanos().saturating_sub(SLACK.as_nanos().try_into().unwrap_or(i64::MAX)),
    ))
}

impl Tokens {
    /// What of the listed tokens is in doubt.
    ///
    /// # Errors
    /// A failure when the store fails.
    pub(crate) fn doubt(&self, txn: &mut Txn, now: Timestamp) -> Result<Doubt, Fault> {
        let mut doubt = Doubt::default();
        if let Some(oldest) = self.marks.ask(super::lineage::Marks::oldest_doomed) {
            doubt.add_younger(well_before(oldest));
        }
        for waiting in [keys::wipes(), keys::set_aside()] {
            doubt.everything |= !txn.list(&waiting.map_err(fault)?, None, 1).map_err(fault)?.is_empty();
        }
        let ended = ended(txn, &keys::token_ends().map_err(fault)?, now, |txn, name| {
            let hash = hash_of(name).unwrap_or(name);
            let below = txn.tally(&keys::below(hash).map_err(fault)?).map_err(fault)?;
            Ok((hash.to_owned(), !below.is_empty()))
        })?;
        Ok(doubt.and(ended))
    }

    /// What of the listed lease ids of a namespace is in doubt, those of tokens included.
    ///
    /// # Errors
    /// A failure when the store fails.
    pub(crate) fn doubt_of_ids(&self, txn: &mut Txn, namespace: &NamespaceId, now: Timestamp) -> Result<Doubt, Fault> {
        let doubt = self.doubt(txn, now)?;
        let ends = keys::lease_ends().map_err(fault)?;
        let mut doubt = doubt.and(ended(txn, &ends, now, |_, number| Ok((number.to_owned(), false)))?);
        // What a mount that was removed handed out is in doubt while it is wiped, as everything is.
        for mount in self.spaces.of(namespace)?.mounts.table().iter() {
            let tally = txn.tally(&keys::live_of(namespace, &mount.record.id).map_err(fault)?).map_err(fault)?;
            // What an engine does not take back stands somewhere, with a time of its own.
            doubt.everything |= tally.contains_key(REVOKING);
        }
        Ok(doubt)
    }
}

impl Doubt {
    fn and(mut self, other: Self) -> Self {
        self.everything |= other.everything;
        self.ended.extend(other.ended);
        if let Some(time) = other.younger {
            self.add_younger(time);
        }
        self
    }
}

/// What stands in the seconds of an index that are over; `key` says by what each is found, and whether anything may be
/// below it.
fn ended(
    txn: &mut Txn,
    ends: &KeyPrefix,
    now: Timestamp,
    key: impl Fn(&mut Txn, &str) -> Result<(String, bool), Fault>,
) -> Result<Doubt, Fault> {
    let mut doubt = Doubt::default();
    let (seconds, is_cut) = txn.list_readable(ends, None, SECONDS_MAX).map_err(fault)?;
    let over = seconds.iter().filter(|name| index::second_of(name).is_some_and(|second| second <= now.seconds()));
    let over: Vec<&String> = over.collect();
    doubt.everything = is_cut || over.len() == SECONDS_MAX;
    for second in over {
        let second = ends.below(second).map_err(fault)?;
        let (names, is_cut) = txn.list_readable(&second, None, ENDED_MAX + 1).map_err(fault)?;
        doubt.everything |= is_cut;
        if names.len() > ENDED_MAX {
            // They are in order of time: none is older than the first.
            names.first().into_iter().for_each(|first| doubt.add_younger(names::earlier(first, SLACK)));
            continue;
        }
        for name in names {
            let (key, has_anything_below) = key(txn, &name)?;
            doubt.ended.insert(key);
            if has_anything_below {
                doubt.add_younger(names::earlier(&name, SLACK));
            }
        }
    }
    Ok(doubt)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_doubt_is_what_ended_and_what_is_younger_than_what_is_collected() {
        let at = |seconds: i64| names::time_part(Timestamp::from_seconds(seconds));
        let mut doubt = Doubt::default();
        assert!(!doubt.is_about(&at(5_000), "a"));
        doubt.ended.insert("a".to_owned());
        assert!(doubt.is_about(&at(5_000), "a") && !doubt.is_about(&at(5_000), "b"));
        let doubt = doubt.and(Doubt { younger: Some(well_before(Timestamp::from_seconds(7_000))), ..Doubt::default() });
        assert!(!doubt.is_about(&at(6_879), "b") && doubt.is_about(&at(6_880), "b") && doubt.is_about(&at(9_000), "b"));
        let doubt = doubt.and(Doubt { younger: Some(names::earlier(&at(3_120), SLACK)), ..Doubt::default() });
        assert!(!doubt.is_about(&at(2_999), "b") && doubt.is_about(&at(3_000), "b"));
        assert!(doubt.and(Doubt { everything: true, ..Doubt::default() }).is_about(&at(1), "c"));
    }
}
