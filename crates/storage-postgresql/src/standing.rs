//! What a process knows of a store that several share: while it stands by, one state, and another only when it is told to;
//! when it comes to write, everything that was written.
//!
//! What is kept in memory follows from what a store shows, so a store that another process writes must not move by itself.
//! Deliberately absent: who writes ([`lock`](crate::lock)).

use std::sync::{Arc, PoisonError};

use tresor_storage::{Batch, RawKey, StoreError, Stored, Version};

use crate::history::Moment;
use crate::lock::{LIFE, Lock, Part};
use crate::pin::{HELD_FOR, Pin};
use crate::readers::Sought;
use crate::store::Inner;
use crate::trouble::Trouble;

/// A key that no value has, as they all begin with a smaller byte: who asks for it asks whose the store is.
const NOTHING: &[u8] = &[0xff];

impl Inner {
    /// Brings a process that stands by to what is stored now. Blocking.
    pub(crate) fn refresh(self: &Arc<Self>) -> Result<(), StoreError> {
        if self.stored_version()? == self.at().version || !self.stands_by() {
            return Ok(());
        }
        let (lane, settings) = (Arc::clone(&self.lane), Arc::clone(&self.settings));
        let pin = self.lane.wait(async move { Pin::begin(&lane, &settings).await });
        let pin = pin.unwrap_or_else(|| Err(Trouble::late())).map_err(|trouble| self.told(trouble))?;
        let take = || {
            if self.stands_by() && self.jump(pin.moment) {
                *self.pin.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(pin));
            }
        };
        self.watchers.around_state(|| self.now(), take);
        Ok(())
    }

    /// How far the store is. Blocking.
    fn stored_version(&self) -> Result<Version, StoreError> {
        let asked_at = self.moment();
        let generation = self.at().generation;
        let looked = match RawKey::new(NOTHING) {
            Some(nothing) => self.lane.wait(self.asked(generation, &nothing, Sought::Version)),
            None => None,
        };
        let found = looked.unwrap_or_else(|| Err(Trouble::late())).map_err(|trouble| self.told(trouble))?;
        self.is_ours(asked_at);
        Ok(found.version)
    }

    /// Goes on from what is stored, if that is further than what is known; whether it is.
    fn jump(&self, now: Moment) -> bool {
        let mut known = self.known();
        // Whoever asked was told that nobody knows; now it is known.
        known.in_doubt = None;
        let is_further = now.version > known.history.now().version;
        if is_further {
            known.history.jump(now);
        }
        is_further
    }

    /// This process has the lock, and the store is that far: those who watch follow all of it, then it writes. Blocking.
    pub(crate) fn come_to_write(self: &Arc<Self>, lock: &Lock, term: i64, now: Moment) {
        let take = || {
            drop(self.pin.lock().unwrap_or_else(PoisonError::into_inner).take());
            self.jump(now);
            lock.begin(term);
        };
        self.watchers.around_state(|| self.now(), take);
        lock.wake();
    }

    /// Whether a batch is the first one, of a store that nobody has initialised yet, and this process got the lock for it.
    /// Blocking.
    pub(crate) fn founds(self: &Arc<Self>, batch: &Batch) -> Result<bool, StoreError> {
        let Some(lock) = &self.lock else { return Ok(false) };
        let is_first = batch.version == Version(1) && self.at().version == Version(0);
        if !is_first || self.stored_version()? != Version(0) {
            return Ok(false);
        }
        let (lane, settings, writer) = (Arc::clone(&self.lane), Arc::clone(&self.settings), Arc::clone(&self.writer));
        let taken = self.lane.wait(async move { writer.take_over(&lane, &settings, LIFE, None).await });
        let taken = taken.unwrap_or_else(|| Err(Trouble::late())).map_err(|trouble| self.told(trouble))?;
        let Some((term, now)) = taken.filter(|(_, now)| now.version == Version(0)) else { return Ok(false) };
        if self.at() != now {
            return Ok(false);
        }
        lock.found(term, self.moment());
        Ok(true)
    }

    /// Asks whether this process writes; one question serves all that wait for one that begins after they came.
    pub(crate) async fn confirm(&self) -> Result<(), StoreError> {
        let Some(lock) = &self.lock else { return Ok(()) };
        let part = lock.part();
        let elsewhere = || StoreError::Elsewhere { name: self.name.clone() };
        if !matches!(part, Part::Active { .. }) {
            return Err(elsewhere());
        }
        let asked = lock.rounds.ask(|| self.is_the_writer()).await;
        match asked {
            Ok(true) if lock.part() == part => Ok(()),
            Ok(_) => {
                self.is_lost();
                Err(elsewhere())
            }
            Err(trouble) => Err(self.told(trouble)),
        }
    }

    pub(crate) async fn is_the_writer(&self) -> Result<bool, Trouble> {
        let asked_at = self.moment();
        let nothing = RawKey::new(NOTHING).ok_or_else(Trouble::late)?;
        let found = self.lane.ask(self.asked(self.at().generation, &nothing, Sought::Version)).await;
        let found = found.unwrap_or_else(|| Err(Trouble::late()))?;
        self.is_ours(asked_at);
        Ok(found.owner == self.writer.owner())
    }

    /// What a key holds in the state that a process which stands by shows, while that is held; nothing when it is not.
    pub(crate) fn pinned(&self, moment: Moment, key: &RawKey, sought: Sought) -> Option<Option<Stored>> {
        let pin = self.pin.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
        if pin.moment != moment {
            return None;
        }
        let (lane, key, reading) = (Arc::clone(&self.lane), key.clone(), Arc::clone(&pin));
        let found = self.lane.wait(async move { reading.find(&lane, &key, sought).await });
        match found {
            Some(Ok(found)) => Some(found.stored),
            _ => {
                self.unpin(&pin);
                None
            }
        }
    }

    fn unpin(&self, pin: &Arc<Pin>) {
        let mut held = self.pin.lock().unwrap_or_else(PoisonError::into_inner);
        if held.as_ref().is_some_and(|held| Arc::ptr_eq(held, pin)) {
            *held = None;
        }
    }

    /// Lets go of a state that was held for long enough.
    pub(crate) fn unpin_old(&self) {
        let now = self.moment();
        let mut held = self.pin.lock().unwrap_or_else(PoisonError::into_inner);
        if held.as_ref().is_some_and(|held| now.saturating_sub(held.since) > HELD_FOR) {
            *held = None;
        }
    }
}
