//! Who is told what a store is about to hold, and when it does: whoever keeps in memory what is a function of it.
//!
//! Each store and machine tells at one place, whoever made the batch: this node or another. One change is told at a time.
//! Deliberately absent: any say of the watcher in whether a batch is taken, and whether it was.

use std::borrow::Borrow;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::{Batch, Snapshot};

/// What a store is about to hold.
#[derive(Clone, Copy)]
pub enum Coming<'b> {
    /// The next batch.
    Batch(&'b Batch),
    /// Another state, in place of everything.
    State,
}

/// Someone who is told.
pub trait Watcher: Send + Sync {
    /// Before anybody can see it; `now` is the store as it is until then.
    fn before(&self, coming: Coming<'_>, now: &dyn Fn() -> Box<dyn Snapshot>);

    /// It is there, or came to nothing.
    fn after(&self);
}

/// Those who watch a store, for as long as they live.
#[derive(Default)]
pub struct Watchers {
    watching: Mutex<Arc<[Weak<dyn Watcher>]>>,
    /// Held around a change: stores have one caller at a time anyway.
    turn: Mutex<()>,
}

impl Watchers {
    /// Tells one more from now on.
    pub fn add(&self, watcher: Weak<dyn Watcher>) {
        let mut watching = self.watching.lock().unwrap_or_else(PoisonError::into_inner);
        let living = watching.iter().filter(|watcher| watcher.strong_count() > 0).cloned();
        *watching = living.chain([watcher]).collect();
    }

    /// Whether anybody is told.
    #[must_use]
    pub fn is_anybody_there(&self) -> bool {
        let watching = self.watching.lock().unwrap_or_else(PoisonError::into_inner);
        watching.iter().any(|watcher| watcher.strong_count() > 0)
    }

    /// Takes a batch between the two words.
    pub fn around<B: Borrow<Batch>, T>(
        &self,
        batch: B,
        now: impl Fn() -> Box<dyn Snapshot>,
        take: impl FnOnce(B) -> T,
    ) -> T {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let told = self.tell(Coming::Batch(batch.borrow()), &now);
        let taken = take(batch);
        told.iter().for_each(|watcher| watcher.after());
        taken
    }

    /// Takes over another state between the two words.
    pub fn around_state<T>(&self, now: impl Fn() -> Box<dyn Snapshot>, take: impl FnOnce() -> T) -> T {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let told = self.tell(Coming::State, &now);
        let taken = take();
        told.iter().for_each(|watcher| watcher.after());
        taken
    }

    fn tell(&self, coming: Coming<'_>, now: &dyn Fn() -> Box<dyn Snapshot>) -> Vec<Arc<dyn Watcher>> {
        let watching = Arc::clone(&self.watching.lock().unwrap_or_else(PoisonError::into_inner));
        let watching: Vec<_> = watching.iter().filter_map(Weak::upgrade).collect();
        watching.iter().for_each(|watcher| watcher.before(coming, now));
        watching
    }
}
