//! Who listens: how many may, and what each asked for.
//!
//! Each stream costs every event of its types a look at policies, so there is a bound for the node, and smaller ones for
//! one token and for one namespace with all below it: neither a careless program nor a tenant takes the places of the
//! others. The root namespace is the operator's, and has no bound but the node's. Deliberately absent: what they are told.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tresor_model::{NamespaceId, Refusal};
use tresor_policy::matches_glob;

use super::queue::Queue;

/// How many listen to one node.
const NODE_MAX: usize = 512;
/// How many in one namespace and below it.
const NAMESPACE_MAX: usize = 128;
/// How many by one token.
const TOKEN_MAX: usize = 64;

/// For whom a stream counts.
pub(super) struct Whose {
    pub(super) token_hash: String,
    /// The namespace that it was asked for in, last, and those above it.
    pub(super) line: Vec<NamespaceId>,
}

struct Listener {
    number: u64,
    whose: Whose,
    kinds: String,
    queue: Arc<Queue>,
}

#[derive(Default)]
struct State {
    next: u64,
    listeners: Vec<Listener>,
}

/// Those who listen.
#[derive(Default)]
pub(super) struct Listeners {
    state: Mutex<State>,
    /// How many there are, for those who only ask whether.
    count: AtomicUsize,
}

impl Listeners {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// The queues of those who asked for a type.
    pub(super) fn of(&self, kind: &str) -> Vec<Arc<Queue>> {
        let state = self.state();
        let of = state.listeners.iter().filter(|listener| matches_glob(&listener.kinds, kind));
        of.map(|listener| Arc::clone(&listener.queue)).collect()
    }

    /// One more, with its number and its queue.
    pub(super) fn admit(&self, whose: Whose, kinds: &str) -> Result<(u64, Arc<Queue>), Refusal> {
        let queue = Arc::new(Queue::default());
        let mut state = self.state();
        state.has_room_for(&whose)?;
        let number = state.next;
        state.next += 1;
        state.listeners.push(Listener { number, whose, kinds: kinds.to_owned(), queue: Arc::clone(&queue) });
        self.count.store(state.listeners.len(), Ordering::Release);
        drop(state);
        Ok((number, queue))
    }

    pub(super) fn leave(&self, number: u64) {
        let mut state = self.state();
        state.listeners.retain(|listener| listener.number != number);
        self.count.store(state.listeners.len(), Ordering::Release);
    }
}

impl State {
    fn has_room_for(&self, whose: &Whose) -> Result<(), Refusal> {
        if self.listeners.len() >= NODE_MAX {
            return Err(Refusal::Unavailable("too many listen to events, try again".into()));
        }
        let among = |counts: &dyn Fn(&Whose) -> bool| self.listeners.iter().filter(|one| counts(&one.whose)).count();
        if among(&|one| one.token_hash == whose.token_hash) >= TOKEN_MAX {
            let text =
                format!("this token listens to events {TOKEN_MAX} times already, which is the most that one may");
            return Err(Refusal::Throttled(text.into()));
        }
        let is_full = |namespace: &&NamespaceId| among(&|one| one.line.contains(namespace)) >= NAMESPACE_MAX;
        if whose.line.iter().filter(|namespace| !namespace.is_root()).any(|namespace| is_full(&namespace)) {
            let text = format!(
                "in this namespace, or in one that it lies in, {NAMESPACE_MAX} listen to events already, which is the most that may"
            );
            return Err(Refusal::Throttled(text.into()));
        }
        Ok(())
    }
}
