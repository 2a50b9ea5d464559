//! Uses that are going on: a token without uses left is revoked when the last request that counted one is done.
//!
//! Its requests rely on its record until their commit, so revoking it under them would refuse what was counted.
//! Invariant: a lost entry (a crash) costs nothing but time: a token without uses is refused, and expiry collects it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// How many requests of each token, by its hash, run with a counted use.
#[derive(Clone, Default)]
pub(crate) struct RunningUses(Arc<Mutex<BTreeMap<String, usize>>>);

/// Held while a request with a counted use runs.
pub(crate) struct Use {
    hash: String,
    running: RunningUses,
}

impl RunningUses {
    /// Notes that a request is about to count a use.
    pub(crate) fn begin(&self, hash: &str) -> Use {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(hash.to_owned()).or_default() += 1;
        Use { hash: hash.to_owned(), running: self.clone() }
    }

    fn count(&self, hash: &str) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(hash).copied().unwrap_or(0)
    }
}

impl Use {
    /// Ends the use; the token's hash when no other is going on.
    pub(crate) fn end(self) -> Option<String> {
        let (hash, running) = (self.hash.clone(), self.running.clone());
        drop(self);
        (running.count(&hash) == 0).then_some(hash)
    }
}

impl Drop for Use {
    fn drop(&mut self) {
        let mut running = self.running.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = running.get_mut(&self.hash) {
            *count -= 1;
            if *count == 0 {
                running.remove(&self.hash);
            }
        }
    }
}
