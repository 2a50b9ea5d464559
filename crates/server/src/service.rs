//! A node as the HTTP face sees it.
//!
//! A request that was begun runs to its end in a task of its own, whether or not its client still waits: what it
//! commits reaches the caches, and its response is recorded. How many run at once is bounded; who comes later waits
//! in its connection, and leaves the queue with it. Deliberately absent: any knowledge of what a request means.

use std::sync::Arc;

use tokio::sync::{Semaphore, oneshot};
use tresor_audit::{Audited, Exempt};
use tresor_core::Node;
use tresor_env::{BoxFuture, Tasks};
use tresor_http::{Outcome, Serve};
use tresor_model::{Fault, Request, RequestId};

/// How many requests run at once.
const RUNNING_MAX: usize = 4096;

/// Serves by one node.
pub struct NodeService {
    node: Arc<Node>,
    slots: Arc<Semaphore>,
    running: Tasks,
}

impl NodeService {
    /// Serves by this node.
    #[must_use]
    pub fn new(node: Arc<Node>) -> Self {
        Self { node, slots: Arc::new(Semaphore::new(RUNNING_MAX)), running: Tasks::new() }
    }

    /// Waits for the requests that run, at most until `bound` completes.
    pub async fn finish(&self, bound: BoxFuture<'static, ()>) {
        self.running.finish(bound).await;
    }
}

impl Serve for NodeService {
    fn serve(&self, request: Request) -> BoxFuture<'_, Audited<Outcome>> {
        Box::pin(async move {
            let (answer, waiting) = oneshot::channel();
            if let Ok(slot) = Arc::clone(&self.slots).acquire_owned().await {
                let node = Arc::clone(&self.node);
                self.running.spawn(async move {
                    // Who does not wait any more has gone with its connection; the request is done all the same.
                    drop(answer.send(tresor_core::pipeline::serve(&node, request).await));
                    drop(slot);
                });
            }
            waiting.await.unwrap_or_else(|_| {
                Audited::exempt(Err(Fault::internal("serving a request panicked")), Exempt::NeverAdmitted)
            })
        })
    }

    fn next_request_id(&self) -> RequestId {
        self.node.next_request_id()
    }
}
