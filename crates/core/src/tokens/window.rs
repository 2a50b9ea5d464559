//! Tokens whose time is over or about to be: the next window of the index of ends, in memory.
//!
//! A token lives only while its ancestors do, and an ancestor may have reached its end a moment ago, before the
//! background task came by. Reading each ancestor at each request would make deep tokens slow; so the ends of the next
//! seconds are kept here. Whoever has an ancestor among them, or asks about a time that the window does not reach, has
//! its ancestors read instead: the window makes answers fast, never different. Deliberately absent: one entry per
//! token; what ends later than the window is in the store only.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use tresor_barrier::{KeyPrefix, StorageKey, Txn};
use tresor_model::{Fault, Timestamp};
use tresor_storage::Version;

use super::names;
use crate::leases::index;

/// How many seconds the window reaches ahead.
const AHEAD: i64 = 5;
/// How many tokens the window holds at most; beyond, it reaches less far.
const TOKENS_MAX: usize = 50_000;
/// How many names are read at a time.
const PAGE: usize = 1000;

#[derive(Default)]
struct State {
    /// Everything that ends up to this second is among the ending.
    reaches: i64,
    /// Everything up to this second is being loaded: what is committed meanwhile must not be missed.
    loading: i64,
    /// What ends, by hash, and when.
    ending: BTreeMap<String, i64>,
    /// The last batch that was followed.
    followed: Version,
}

/// The window.
pub(crate) struct Window {
    prefix: KeyPrefix,
    state: Mutex<State>,
}

impl Window {
    pub(crate) fn new(prefix: KeyPrefix) -> Self {
        let state = State { reaches: i64::MIN, loading: i64::MIN, ..State::default() };
        Self { prefix, state: Mutex::new(state) }
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

    /// Loads what ends next; called each second by the background task.
    pub(crate) fn load(&self, begin: impl Fn() -> Result<Txn, Fault>, now: Timestamp) -> Result<(), Fault> {
        self.forget_collected(&begin)?;
        let target = now.seconds().saturating_add(AHEAD);
        let (from, followed) = {
            let mut state = self.state();
            state.loading = state.loading.max(target);
            (state.reaches, state.followed)
        };
        let mut txn = begin()?;
        if txn.read_version() < followed {
            // What was followed a moment ago is not shown yet; the next look finds it.
            return Ok(());
        }
        let mut cursor = (from > 0).then(|| index::bucket_name(from));
        'buckets: loop {
            let buckets = txn.list(&self.prefix, cursor.as_deref(), PAGE).map_err(Fault::internal)?;
            for name in &buckets {
                let Some(second) = index::second_of(name) else { continue };
                if second > target || self.state().ending.len() >= TOKENS_MAX {
                    break 'buckets;
                }
                self.load_bucket(&mut txn, name, second)?;
                let mut state = self.state();
                state.reaches = state.reaches.max(second);
            }
            cursor = buckets.last().cloned();
            if buckets.len() < PAGE {
                break;
            }
        }
        let mut state = self.state();
        if state.ending.len() < TOKENS_MAX {
            state.reaches = state.reaches.max(target);
        }
        Ok(())
    }

    /// Forgets what lies before the first bucket there is. The lock is held meanwhile: what is entered later is seen by
    /// [`Window::follow`].
    fn forget_collected(&self, begin: impl Fn() -> Result<Txn, Fault>) -> Result<(), Fault> {
        let mut state = self.state();
        if state.ending.is_empty() {
            return Ok(());
        }
        let mut txn = begin()?;
        if txn.read_version() < state.followed {
            return Ok(());
        }
        let first = txn.list(&self.prefix, None, 1).map_err(Fault::internal)?.pop();
        let first = first.and_then(|name| index::second_of(&name)).unwrap_or(i64::MAX);
        state.ending.retain(|_, second| *second >= first);
        Ok(())
    }

    fn load_bucket(&self, txn: &mut Txn, name: &str, second: i64) -> Result<(), Fault> {
        let bucket = self.prefix.below(name).map_err(Fault::internal)?;
        let mut after: Option<String> = None;
        loop {
            let page = txn.list(&bucket, after.as_deref(), PAGE).map_err(Fault::internal)?;
            let mut state = self.state();
            for name in &page {
                if let Some(hash) = names::hash_of(name) {
                    state.ending.insert(hash.to_owned(), second);
                }
            }
            drop(state);
            after = page.last().cloned();
            if page.len() < PAGE {
                return Ok(());
            }
        }
    }

    /// Follows a batch: what it entered into the window, or took out of it.
    pub(crate) fn follow<'c>(&self, changed: &'c [StorageKey], txn: &mut Txn) -> Result<(), Fault> {
        let mut state = self.state();
        state.followed = txn.read_version();
        let reach = state.reaches.max(state.loading);
        let entry = |key: &'c StorageKey| {
            let (bucket, name) = key.as_str().strip_prefix(self.prefix.as_str())?.split_once('/')?;
            let second = index::second_of(bucket).filter(|second| *second <= reach)?;
            Some((second, name))
        };
        for (second, name) in changed.iter().filter_map(entry) {
            let Some(hash) = names::hash_of(name).map(str::to_owned) else { continue };
            let bucket = self.prefix.below(&index::bucket_name(second)).map_err(Fault::internal)?;
            let is_in = match txn.glance(&bucket, name) {
                Ok(found) => found.is_some(),
                Err(error) if error.is_damage() => {
                    // What cannot be read is not vouched for.
                    state.reaches = state.reaches.min(second.saturating_sub(1));
                    continue;
                }
                Err(error) => return Err(Fault::internal(error)),
            };
            if is_in {
                state.ending.insert(hash, second);
                if state.ending.len() > TOKENS_MAX {
                    // What does not fit is not vouched for.
                    state.reaches = state.reaches.min(second.saturating_sub(1));
                }
            } else if state.ending.get(&hash) == Some(&second) {
                state.ending.remove(&hash);
            }
        }
        Ok(())
    }
}
