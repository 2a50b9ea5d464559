//! What happens, told to those who listen.
//!
//! Engines tell it along with their transaction (`View::tell`), and it is handed on here once that is committed: never
//! before, and never of one that was not. Telling waits for nobody. Who listens is asked for in memory, on the node that
//! leads; whether somebody may be told is decided for each event when it is sent, by what is stored then. A ledger that is
//! configured is told everything, and more (`observations`). Deliberately absent: keeping anything. Who was not there has missed it, and a crash between commit and telling loses it.

mod listeners;
mod protobuf;
mod queue;
mod spelled;
mod subscription;

use std::sync::Arc;

use tresor_audit::Filter;
use tresor_barrier::Barrier;
use tresor_crypto::hash::HmacKey;
use tresor_crypto::token_text;
use tresor_env::{Entropy, SteadyClock};
use tresor_model::{Audience, Event, Fault, MessageStream, NamespaceId, Timestamp};
use tresor_secret::TokenSecret;

use crate::cluster::Cluster;
use crate::gate::Gate;
use crate::namespaces::Spaces;
use crate::observations::{self, Ledger};
use crate::tokens::{Tokens, keyed_hash};
use listeners::{Listeners, Whose};
use subscription::Subscription;

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
    pub(crate) id: String,
    pub(crate) at: Timestamp,
    pub(crate) event: Event,
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
    /// Who is told everything, beside those who listen.
    pub(crate) ledger: Option<Arc<dyn Ledger>>,
}

/// Those who listen, and what it takes to tell them.
pub struct Events {
    means: Means,
    listeners: Listeners,
    /// What the ledger knows leases by.
    hash_key: HmacKey,
}

impl Events {
    pub(crate) fn new(means: Means) -> Self {
        let hash_key = keyed_hash(&means.barrier, "observations");
        Self { means, listeners: Listeners::default(), hash_key }
    }

    /// How many listen.
    #[must_use]
    pub fn listeners(&self) -> usize {
        self.listeners.count()
    }

    /// Whether what happens is put into words.
    pub(crate) fn is_listened_to(&self) -> bool {
        self.means.ledger.is_some() || self.listeners() > 0
    }

    /// Tells what happened.
    pub(crate) fn publish(&self, events: Vec<Event>) {
        for event in events {
            let told = Told { id: token_text::random_uuid(&*self.means.entropy), at: self.means.clock.now(), event };
            self.enter(&told);
            if told.event.audience == Audience::Ledger {
                continue;
            }
            let told = Arc::new(told);
            for queue in self.listeners.of(told.event.kind) {
                queue.push(&told);
            }
        }
    }

    /// Enters it into the ledger, where there is one that wants it.
    fn enter(&self, told: &Told) {
        let Some(ledger) = self.means.ledger.as_ref().filter(|ledger| ledger.wants(told.event.kind)) else { return };
        let space = self.means.spaces.with_id(&told.event.mount.namespace);
        let path = space.as_ref().map_or("", |space| space.path.as_str());
        ledger.take(observations::line(told, path, &self.hash_key));
    }

    /// Lets somebody listen, who asks in a namespace by this token; until the stream is dropped.
    ///
    /// # Errors
    /// A refusal where too many listen, or too many by this token or in this namespace.
    pub fn subscribe(
        self: &Arc<Self>,
        wanted: Wanted,
        namespace: &NamespaceId,
        token: &TokenSecret,
    ) -> Result<MessageStream, Fault> {
        let space = self.means.spaces.with_id(namespace).ok_or_else(Fault::denied)?;
        // One token is one here, whichever namespace it asks in.
        let token_hash = self.means.tokens.hash(token, &NamespaceId::root());
        let whose = Whose { token_hash, line: space.line.clone() };
        let (number, queue) = self.listeners.admit(whose, &wanted.kinds)?;
        Ok(MessageStream::new(Subscription::new(self, number, queue, wanted, namespace.clone(), token.duplicate())))
    }

    fn unsubscribe(&self, number: u64) {
        self.listeners.leave(number);
    }
}
