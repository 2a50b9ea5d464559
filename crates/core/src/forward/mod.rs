//! Requests that run on another node: what is sent to the leader, and what comes back.
//!
//! A request is passed on as it was decoded, with what the listener knew of its connection, so the leader sees what it would
//! have seen itself. Nothing that a client sends is taken for a request that was passed on (RFT-12): only the cluster port leads
//! to [`Passed`]. Deliberately absent: when a request is passed on (`pipeline/place.rs`), and bodies that are streams; these
//! run where they arrive.

mod spelled;

use std::sync::{Arc, Weak};

use tokio::sync::Semaphore;
use tresor_env::BoxFuture;

use crate::clients;
use crate::cluster::{Forwarded, Message};
use crate::namespaces::keeping;
use crate::node::Node;
use crate::pipeline;

pub(crate) use spelled::{Answer, read_answer, read_request, write_answer, write_request};

/// Takes what other nodes pass on, while this one leads. How many run at once is bounded; who comes later waits.
pub struct Passed {
    node: Weak<Node>,
    slots: Arc<Semaphore>,
}

impl Passed {
    /// Takes it for this node, and lets so many run.
    #[must_use]
    pub fn new(node: &Arc<Node>, slots: Arc<Semaphore>) -> Self {
        Self { node: Arc::downgrade(node), slots }
    }
}

impl Forwarded for Passed {
    fn answer(&self, from: &str, message: Message) -> BoxFuture<'static, Message> {
        let from = Some(from).filter(|from| !from.is_empty()).map(Arc::from);
        let (node, slots) = (self.node.upgrade(), Arc::clone(&self.slots));
        Box::pin(async move {
            let elsewhere = || write_answer(Answer::Elsewhere);
            let Some(node) = node else { return elsewhere() };
            let Ok(_slot) = slots.acquire_owned().await else { return elsewhere() };
            let mut request = match read_request(&message) {
                Ok(request) => request,
                Err(error) => {
                    tracing::error!(%error, "another node passed something on that is no request of this release");
                    return write_answer(Answer::Unreadable);
                }
            };
            drop(message);
            request.connection.passed_on_by = from;
            write_answer(pipeline::serve_passed_on(&node, request).await)
        })
    }

    fn hand_over(&self, message: Message) -> Message {
        keeping::answer(self.node.upgrade().and_then(|node| node.unsealed()).as_deref(), &message)
    }

    fn take_report(&self, message: Message) -> Message {
        clients::take_report(self.node.upgrade().and_then(|node| node.unsealed()).as_deref(), &message)
    }
}
