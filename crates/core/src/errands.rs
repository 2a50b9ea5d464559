//! Requests that the server makes itself, on behalf of whoever asked it to run a workflow.
//!
//! Each is a request as any client's: quotas, token, policies, audit records, and a transaction of its own, so no workflow can do
//! what its caller could not. It runs in a task of its own: what was begun is done even though whoever waits for it goes.
//! Deliberately absent: what is asked (`tresor-profile`, `tresor-system`).

use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use tokio::sync::oneshot;
use tresor_env::{BoxFuture, Entropy, Timestamp};
use tresor_model::{Fault, Known, Refusal, Request, Response};

use crate::node::Node;
use crate::pipeline;

/// The way for requests that the server makes itself.
#[derive(Default)]
pub struct Errands(OnceLock<Weak<Node>>);

impl Errands {
    /// From now on they go to this node.
    pub(crate) fn go_to(&self, node: Weak<Node>) {
        // An unsealed node is opened once.
        drop(self.0.set(node));
    }

    fn node(&self) -> Result<Arc<Node>, Fault> {
        self.0.get().and_then(Weak::upgrade).ok_or_else(|| Refusal::Sealed.into())
    }

    /// Makes a request.
    #[must_use]
    pub fn make(&self, request: Request) -> BoxFuture<'static, Result<Response, Fault>> {
        let node = match self.node() {
            Ok(node) => node,
            Err(fault) => return Box::pin(std::future::ready(Err(fault))),
        };
        let (done, waiting) = oneshot::channel();
        let running = Arc::clone(&node);
        node.tasks.spawn(async move {
            // As if it had come by itself.
            let outcome = match pipeline::throttle(&running, &request, Known::Body).refusal {
                Some(refusal) => Err(refusal.into()),
                None => pipeline::serve(&running, request).await.into_inner(),
            };
            // Whoever waited may be gone.
            drop(done.send(outcome));
        });
        Box::pin(async move { waiting.await.unwrap_or_else(|_| Err(Refusal::Sealed.into())) })
    }

    /// Unpredictable bytes.
    ///
    /// # Errors
    /// When the node is gone.
    pub fn entropy(&self) -> Result<Arc<dyn Entropy>, Fault> {
        Ok(Arc::clone(&self.node()?.doors.entropy))
    }

    /// The time.
    ///
    /// # Errors
    /// When the node is gone.
    pub fn now(&self) -> Result<Timestamp, Fault> {
        Ok(self.node()?.now())
    }

    /// A time that only passes.
    ///
    /// # Errors
    /// When the node is gone.
    pub fn elapsed(&self) -> Result<Duration, Fault> {
        Ok(self.node()?.doors.clock.monotonic())
    }
}
