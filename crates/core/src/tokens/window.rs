//! Tokens whose time is over or about to be: the next window of the index of ends, in memory.
//!
//! A token lives only while its ancestors do, and an ancestor may have reached its end a moment ago, before the
//! background task came by. Reading each ancestor at each request would make deep tokens slow; so the ends of the next
//! seconds are kept here. Whoever has an ancestor among them, or asks about a time that the window does not reach, has
//! its ancestors read instead: the window makes answers fast, never different. Deliberately absent: one entry per
//! token; what ends later than the window is in the store only.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use tresor_barrier::{Changed, KeyPrefix, Txn};
use tresor_model::{Fault, Timestamp};
use tresor_storage::Version;

use super::names;
use crate::leases::index;

/// How many seconds the window reaches ahead.
const AHEAD: i64 = 5;
/// How many tokens the window holds at most; beyond, it reaches less far.
const TOKENS_MAX: usize = 16_384;
/// How many names are read at a time.
const PAGE: usize = 1000;

#[derive(Default)]
struct State {
    /// Everything that ends up to this second is among the ending.
    reaches: i64,
    /// Everything up to this second is being loaded: what is committed meanwhile must not be missed.
    loading: i64,
    /// What ends, by hash, and when; what left the index since may still be here, and is read once more than it must.
    ending: BTreeMap<String, i64>,
    /// The first second of which something was not taken in for want of room since loading began.
    missed: i64,
    /// No second among the ending is before this one.
    first: i64,
    /// The second that does not fit: it is tried again when everything before it and itself is collected.
    too_large: Option<i64>,
    /// The last batch that was followed.
    followed: Version,
}

impl State {
    fn empty() -> Self {
        Self { reaches: i64::MIN, loading: i64::MIN, missed: i64::MAX, first: i64::MAX, ..Self::default() }
    }

    /// Takes a token in; false when there is no room.
    fn insert(&mut self, hash: &str, second: i64) -> bool {
        if let Some(known) = self.ending.get_mut(hash) {
            // It may have left either.
            *known = second.max(*known);
        } else if self.ending.len() < TOKENS_MAX {
            self.ending.insert(hash.to_owned(), second);
        } else {
            return false;
        }
        self.first = self.first.min(second);
        true
    }

    /// Everything up to this second was loaded, but for what was missed meanwhile.
    fn reach(&mut self, second: i64) {
        self.reaches = self.reaches.max(second.min(self.missed.saturating_sub(1)));
    }
}

/// The window.
pub(crate) struct Window {
    prefix: KeyPrefix,
    state: Mutex<State>,
}

impl Window {
    pub(crate) fn new(prefix: KeyPrefix) -> Self {
        Self { prefix, state: Mutex::new(State::empty()) }
    }

    pub(crate) const fn prefix(&self) -> &KeyPrefix {
        &self.prefix
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it is sure that none of these has ended.
    pub(crate) fn vouches(&self, hashes: &[String], now: Timestamp) -> bool {
        if hashes.is_empty() {
            return true;
        }
        let state = self.state();
        state.reaches >= now.seconds().saturating_add(1) && !hashes.iter().any(|hash| state.ending.contains_key(hash))
    }

    /// Loads what ends next, page by page with others between; called each second by the background task.
    pub(crate) async fn load(&self, begin: impl Fn() -> Result<Txn, Fault>, now: Timestamp) -> Result<(), Fault> {
        self.forget_collected(&begin)?;
        let target = now.seconds().saturating_add(AHEAD);
        let (from, followed) = {
            let mut state = self.state();
            state.loading = state.loading.max(target);
            state.missed = i64::MAX;
            (state.reaches, state.followed)
        };
        let mut txn = begin()?;
        if txn.read_version() < followed {
            // What was followed a moment ago is not shown yet; the next look finds it.
            return Ok(());
        }
        let mut cursor = (from > 0).then(|| index::bucket_name(from));
        loop {
            let buckets = txn.list(&self.prefix, cursor.as_deref(), PAGE).map_err(Fault::internal)?;
            for name in &buckets {
                let Some(second) = index::second_of(name) else { continue };
                if second > target {
                    self.state().reach(target);
                    return Ok(());
                }
                if self.state().too_large == Some(second) || !self.load_bucket(&mut txn, name, second).await? {
                    return Ok(());
                }
                self.state().reach(second);
            }
            cursor = buckets.last().cloned();
            if buckets.len() < PAGE {
                self.state().reach(target);
                return Ok(());
            }
        }
    }

    /// Forgets what lies before the first bucket there is. The lock is held meanwhile: what is entered later is seen by
    /// [`Window::follow`].
    fn forget_collected(&self, begin: impl Fn() -> Result<Txn, Fault>) -> Result<(), Fault> {
        let mut state = self.state();
        if state.ending.is_empty() && state.too_large.is_none() {
            return Ok(());
        }
        let mut txn = begin()?;
        if txn.read_version() < state.followed {
            return Ok(());
        }
        let first = txn.list(&self.prefix, None, 1).map_err(Fault::internal)?.pop();
        let first = first.and_then(|name| index::second_of(&name)).unwrap_or(i64::MAX);
        // A second with very many is collected step by step: nothing is looked through for each of these.
        if first > state.first {
            state.ending.retain(|_, second| *second >= first);
            state.first = first;
        }
        state.too_large = state.too_large.filter(|second| *second >= first);
        Ok(())
    }

    /// Loads a second; false when there is no room for it.
    async fn load_bucket(&self, txn: &mut Txn, name: &str, second: i64) -> Result<bool, Fault> {
        let bucket = self.prefix.below(name).map_err(Fault::internal)?;
        let mut after: Option<String> = None;
        loop {
            let page = txn.list(&bucket, after.as_deref(), PAGE).map_err(Fault::internal)?;
            {
                let mut state = self.state();
                for name in &page {
                    let Some(hash) = names::hash_of(name) else { continue };
                    if !state.insert(hash, second) {
                        state.too_large = Some(second);
                        return Ok(false);
                    }
                }
            }
            after = page.last().cloned();
            if page.len() < PAGE {
                return Ok(true);
            }
            tresor_env::tasks::breathe().await;
        }
    }

    /// Follows a batch: what it entered into the window. What it took out stays until its second is over, because a look
    /// at the index for each name would make everybody wait who commits beside a storm of ends.
    pub(crate) fn follow(&self, changed: &Changed, version: Version) {
        let mut state = self.state();
        let Changed::Names(names) = changed else {
            // Nothing is vouched for before it is loaded anew; what is being loaded now is of before.
            *state = State { missed: i64::MIN, followed: version, ..State::empty() };
            return;
        };
        state.followed = version;
        let reach = state.reaches.max(state.loading);
        for key in names {
            let Some(rest) = key.as_str().strip_prefix(self.prefix.as_str()) else { continue };
            let Some((bucket, name)) = rest.split_once('/') else { continue };
            let Some(second) = index::second_of(bucket).filter(|second| *second <= reach) else { continue };
            let Some(hash) = names::hash_of(name) else { continue };
            if !state.insert(hash, second) {
                // What does not fit is not vouched for.
                state.missed = state.missed.min(second);
                state.reaches = state.reaches.min(second.saturating_sub(1));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use tresor_barrier::StorageKey;

    use super::*;
    use crate::keys;

    fn entry(second: i64, token: usize) -> StorageKey {
        let ends = keys::token_ends().unwrap();
        ends.below(&index::bucket_name(second)).unwrap().key(&format!("0000000{token:032}")).unwrap()
    }

    fn names(entries: &[StorageKey]) -> Changed {
        Changed::Names(entries.to_vec())
    }

    fn hash(token: usize) -> Vec<String> {
        vec![format!("{token:032}")]
    }

    /// A window whose loading reaches to this second.
    fn loading_up_to(second: i64) -> Window {
        let window = Window::new(keys::token_ends().unwrap());
        window.state().loading = second;
        window
    }

    #[test]
    fn what_left_a_second_and_entered_a_later_one_is_not_vouched_for_before_that_is_over() {
        let window = loading_up_to(20);
        window.follow(&names(&[entry(10, 1)]), Version::default());
        // Renewed: it left the one and entered the other; then the leftover of the first is removed.
        window.follow(&names(&[entry(10, 1), entry(15, 1)]), Version::default());
        window.follow(&names(&[entry(10, 1)]), Version::default());
        window.state().reach(20);
        assert_eq!(window.state().ending.get(&format!("{:032}", 1)), Some(&15));
        let now = Timestamp::from_seconds(3);
        assert!(!window.vouches(&hash(1), now) && window.vouches(&hash(2), now));
        assert!(!window.vouches(&hash(2), Timestamp::from_seconds(20)), "the window does not reach there");
    }

    #[test]
    fn nothing_is_vouched_for_after_another_state_came_whatever_was_being_loaded() {
        let window = loading_up_to(20);
        window.state().reach(20);
        assert!(window.vouches(&hash(1), Timestamp::from_seconds(3)));
        window.follow(&Changed::Everything, Version(7));
        window.state().reach(20);
        assert!(!window.vouches(&hash(1), Timestamp::from_seconds(3)));
    }

    #[test]
    fn what_does_not_fit_is_not_vouched_for_whatever_is_loaded_meanwhile() {
        let window = loading_up_to(20);
        let many: Vec<StorageKey> = (0..TOKENS_MAX).map(|token| entry(5, token)).collect();
        window.follow(&names(&many), Version::default());
        window.state().reach(4);
        window.follow(&names(&[entry(8, TOKENS_MAX)]), Version::default());
        assert_eq!(window.state().ending.len(), TOKENS_MAX, "memory is bounded");
        window.state().reach(20);
        assert!(window.vouches(&hash(TOKENS_MAX), Timestamp::from_seconds(6)), "it ends at 8");
        assert!(!window.vouches(&hash(TOKENS_MAX), Timestamp::from_seconds(7)));
        assert!(!window.vouches(&hash(7), Timestamp::from_seconds(1)));
    }
}
