//! Looks after a store: whether it is still ours, what became of a change that is in doubt, and what is left to be cleared
//! away.
//!
//! It runs as long as the store is open, and holds it only while it works. Deliberately absent: giving up.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use crate::settings::LOOK_EVERY;
use crate::store::Inner;
use crate::trouble::Trouble;

/// Looks every now and then, until the store is closed or another's.
pub(crate) async fn keep(store: Weak<Inner>) {
    let mut was_there = true;
    loop {
        let pause = match store.upgrade() {
            Some(store) if store.is_taken() => return,
            // Who writes a store that several share is looked after by itself.
            Some(store) if !store.writes() => store.lane.doors.clock.sleep(LOOK_EVERY),
            Some(store) => {
                was_there = look(&store, was_there).await;
                store.lane.doors.clock.sleep(LOOK_EVERY)
            }
            None => return,
        };
        pause.await;
    }
}

/// Looks once; whether the server is there.
async fn look(store: &Arc<Inner>, was_there: bool) -> bool {
    let asked_at = store.moment();
    match store.writer.look(&store.lane, &store.settings).await {
        Ok(now) => {
            store.is_ours(asked_at);
            if let Some(change) = store.cleared_up(now) {
                let store = Arc::clone(store);
                let workers = Arc::clone(&store.lane.doors.workers);
                // Those who watch read the store, which waits for this lane.
                workers.tidy_up(Box::new(move || store.follow(change)));
            } else if store.has_remains.load(Ordering::Acquire) {
                clear(store).await;
            }
            true
        }
        Err(Trouble::Taken) => {
            store.is_lost();
            false
        }
        Err(Trouble::Broken(why) | Trouble::Unreachable(why) | Trouble::Refused(why)) => {
            if was_there {
                tracing::warn!(store = %store.name, %why, "the server of the store is not reached; tried again");
            }
            false
        }
        Err(trouble) => {
            tracing::error!(store = %store.name, ?trouble, "the store is not what it was");
            false
        }
    }
}

/// Deletes what no generation in use has, a part at each look.
async fn clear(store: &Arc<Inner>) {
    match store.writer.clear(&store.lane, &store.settings, || store.generations()).await {
        Ok(has_more) => store.has_remains.store(has_more, Ordering::Release),
        Err(trouble) => tracing::debug!(store = %store.name, ?trouble, "nothing could be cleared away; tried again"),
    }
}
