//! Work that goes on side by side in one background task: each piece belongs to somebody, and none waits for another.
//!
//! Deliberately absent: any task of its own; dropping the crew ends what it does, and all of it may be ended at any point.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tresor_env::{BoxFuture, SteadyClock};

use crate::gate::Gate;

/// Pieces of work under way.
pub(super) struct Crew<T> {
    working: FuturesUnordered<BoxFuture<'static, (String, String, T)>>,
    /// What is worked on, by whom it belongs to.
    at: BTreeMap<String, BTreeSet<String>>,
}

impl<T> Default for Crew<T> {
    fn default() -> Self {
        Self { working: FuturesUnordered::new(), at: BTreeMap::new() }
    }
}

/// A pause of that length; of none, others have their turn.
pub(super) fn pause(clock: &SteadyClock, length: Duration) -> BoxFuture<'static, ()> {
    if length.is_zero() { Box::pin(tresor_env::tasks::breathe()) } else { clock.sleep(length) }
}

impl<T: Send + 'static> Crew<T> {
    /// How many pieces are under way.
    pub(super) fn len(&self) -> usize {
        self.working.len()
    }

    /// How many of them belong to `owner`.
    pub(super) fn of(&self, owner: &str) -> usize {
        self.at.get(owner).map_or(0, BTreeSet::len)
    }

    /// Whether this piece is under way.
    pub(super) fn is_at(&self, owner: &str, piece: &str) -> bool {
        self.at.get(owner).is_some_and(|pieces| pieces.contains(piece))
    }

    /// Begins a piece; it goes on while somebody rests.
    pub(super) fn begin(&mut self, owner: &str, piece: &str, work: impl Future<Output = T> + Send + 'static) {
        self.at.entry(owner.to_owned()).or_default().insert(piece.to_owned());
        let (owner, piece) = (owner.to_owned(), piece.to_owned());
        self.working.push(Box::pin(async move { (owner, piece, work.await) }));
    }

    /// Works for as long as the pause, or until something is done if that `ends_it`; gives what was done, by whose it is.
    /// Nothing when the gate is closed.
    pub(super) async fn rest(
        &mut self,
        gate: &Gate,
        mut pause: BoxFuture<'static, ()>,
        ends_it: bool,
    ) -> Option<Vec<(String, T)>> {
        let mut done = Vec::new();
        loop {
            tokio::select! {
                biased;
                () = gate.closed() => return None,
                Some((owner, piece, result)) = self.working.next() => {
                    if let Some(pieces) = self.at.get_mut(&owner) {
                        pieces.remove(&piece);
                        if pieces.is_empty() {
                            self.at.remove(&owner);
                        }
                    }
                    done.push((owner, result));
                    if ends_it && self.working.is_empty() {
                        return Some(done);
                    }
                }
                () = &mut pause => return Some(done),
            }
            if ends_it && !done.is_empty() {
                // What is done at the same moment is told at once.
                pause = Box::pin(tresor_env::tasks::breathe());
            }
        }
    }
}
