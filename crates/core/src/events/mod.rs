//! What happens, told to those who listen.
//!
//! Engines tell it along with their transaction (`View::tell`), and it is handed on here once that is committed: never
//! before, and never of one that was not. Telling waits for nobody. Who listens is asked for in memory, on the node that
//! leads; whether somebody may be told is decided for each event when it is sent, by what is stored then. Deliberately
//! absent: keeping anything. Who was not there has missed it, and a crash between commit and telling loses it.

mod protobuf;
mod queue;
mod spelled;
mod subscription;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tresor_audit::Filter;
use tresor_barrier::Barrier;
use tresor_crypto::token_text;
use tresor_env::{Entropy, SteadyClock};
use tresor_model::{Event, Fault, MessageStream, NamespaceId, Refusal, Timestamp};
use tresor_policy::matches_glob;
use tresor_secret::TokenSecret;

use crate::cluster::Cluster;
use crate::gate::Gate;
use crate::namespaces::Spaces;
use crate::tokens::Tokens;
use queue::Queue;
use subscription::Subscription;

/// How many listen to one node.
const LISTENERS_MAX: usize = 512;

/// The properties that filters speak of.
pub const PROPERTIES: &[&str] =
    &["data_path", "event_type", "modified", "namespace", "operation", "path", "source_plugin_mount"];

/// How events are spelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// As `CloudEvents` in JSON.
    Json,
    /// As the message `EventReceived` of the reference.
    Protobuf,
}

/// What somebody wants to be told of.
pub struct Wanted {
    /// The types; `*` stands for anything.
    pub kinds: String,
    /// How.
    pub form: Form,
    /// Of these only.
    pub filter: Option<Filter>,
    /// The namespaces below the own one, relative to it; `*` stands for anything.
    pub namespaces: Vec<String>,
}

/// What happened, with its name and time.
pub(crate) struct Told {
    id: String,
    at: Timestamp,
    event: Event,
}

/// What it takes to find out who may be told.
pub(crate) struct Means {
    pub(crate) barrier: Barrier,
    pub(crate) spaces: Arc<Spaces>,
    pub(crate) tokens: Arc<Tokens>,
    pub(crate) nodes: Arc<dyn Cluster>,
    pub(crate) clock: SteadyClock,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) gate: Gate,
    /// Where events come from: a URI that names the cluster.
    pub(crate) source: String,
}

struct Listener {
    number: u64,
    kinds: String,
    queue: Arc<Queue>,
}

#[derive(Default)]
struct State {
    next: u64,
    listeners: Vec<Listener>,
}

/// Those who listen.
pub struct Events {
    means: Means,
    state: Mutex<State>,
    /// How many there are, for those who only ask whether.
    count: AtomicUsize,
}

impl Events {
    pub(crate) fn new(means: Means) -> Self {
        Self { means, state: Mutex::default(), count: AtomicUsize::new(0) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many listen.
    #[must_use]
    pub fn listeners(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// Tells what happened.
    pub(crate) fn publish(&self, events: Vec<Event>) {
        for event in events {
            let told = Told { id: token_text::random_uuid(&*self.means.entropy), at: self.means.clock.now(), event };
            let told = Arc::new(told);
            for queue in self.heard_by(told.event.kind) {
                queue.push(&told);
            }
        }
    }

    /// The queues of those who asked for a type.
    fn heard_by(&self, kind: &str) -> Vec<Arc<Queue>> {
        let state = self.state();
        let heard_by = state.listeners.iter().filter(|listener| matches_glob(&listener.kinds, kind));
        heard_by.map(|listener| Arc::clone(&listener.queue)).collect()
    }

    /// Lets somebody listen, who asks in a namespace by this token; until the stream is dropped.
    ///
    /// # Errors
    /// A refusal where too many listen.
    pub fn subscribe(
        self: &Arc<Self>,
        wanted: Wanted,
        namespace: &NamespaceId,
        token: &TokenSecret,
    ) -> Result<MessageStream, Fault> {
        let queue = Arc::new(Queue::default());
        let mut state = self.state();
        if state.listeners.len() >= LISTENERS_MAX {
            return Err(Refusal::Unavailable("too many listen to events, try again".into()).into());
        }
        let number = state.next;
        state.next += 1;
        state.listeners.push(Listener { number, kinds: wanted.kinds.clone(), queue: Arc::clone(&queue) });
        self.count.store(state.listeners.len(), Ordering::Release);
        drop(state);
        Ok(MessageStream::new(Subscription::new(self, number, queue, wanted, namespace.clone(), token.duplicate())))
    }

    fn unsubscribe(&self, number: u64) {
        let mut state = self.state();
        state.listeners.retain(|listener| listener.number != number);
        self.count.store(state.listeners.len(), Ordering::Release);
    }
}
