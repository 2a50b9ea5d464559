//! A node as the HTTP face sees it.
//!
//! A request that was begun runs to its end in a task of its own, whether or not its client still waits: what it
//! commits reaches the caches, and its response is recorded. How many run at once is bounded; who comes later waits
//! in its connection, and leaves the queue with it. What answers in every state of the node, and sealing it, wait apart,
//! so that a server whose ordinary requests hang can be looked at, sealed and unsealed. Deliberately absent: any
//! knowledge of what a request means.

use std::sync::Arc;

use tokio::sync::{Semaphore, oneshot};
use tresor_audit::{Audited, Exempt};
use tresor_core::Node;
use tresor_core::pipeline::Turn;
use tresor_env::{BoxFuture, Tasks};
use tresor_http::{HeldBody, Outcome, Serve};
use tresor_model::{Fault, Request, RequestId};

/// How many ordinary requests run at once.
const RUNNING_MAX: usize = 4096;
/// How many of those that answer in every state of the node run at once.
const ALWAYS_MAX: usize = 1024;
/// How many that seal the node run at once.
const SEALING_MAX: usize = 64;

/// Serves by one node.
pub struct NodeService {
    node: Arc<Node>,
    ordinary: Arc<Semaphore>,
    always: Arc<Semaphore>,
    sealing: Arc<Semaphore>,
    running: Tasks,
}

impl NodeService {
    /// Serves by this node.
    #[must_use]
    pub fn new(node: Arc<Node>) -> Self {
        Self::with_running_max(node, RUNNING_MAX)
    }

    /// The same, with another bound on how many ordinary requests run at once.
    #[must_use]
    pub fn with_running_max(node: Arc<Node>, running_max: usize) -> Self {
        let slots = |count| Arc::new(Semaphore::new(count));
        Self {
            node,
            ordinary: slots(running_max),
            always: slots(ALWAYS_MAX),
            sealing: slots(SEALING_MAX),
            running: Tasks::new(),
        }
    }

    /// Waits for the requests that run, at most until `bound` completes.
    pub async fn finish(&self, bound: BoxFuture<'static, ()>) {
        self.running.finish(bound).await;
    }

    fn begin(&self, request: Request, held: Option<HeldBody>) -> BoxFuture<'_, Audited<Outcome>> {
        Box::pin(async move {
            let (answer, waiting) = oneshot::channel();
            let slots = match tresor_core::pipeline::turn(&self.node, &request) {
                Turn::Always => &self.always,
                Turn::Sealing => &self.sealing,
                Turn::Ordinary => &self.ordinary,
            };
            if let Ok(slot) = Arc::clone(slots).acquire_owned().await {
                let node = Arc::clone(&self.node);
                self.running.spawn(async move {
                    // Who does not wait any more has gone with its connection; the request is done all the same.
                    drop(answer.send(tresor_core::pipeline::serve(&node, request).await));
                    drop((slot, held));
                });
            }
            waiting.await.unwrap_or_else(|_| {
                Audited::exempt(Err(Fault::internal("serving a request panicked")), Exempt::NeverAdmitted)
            })
        })
    }
}

impl Serve for NodeService {
    fn serve(&self, request: Request) -> BoxFuture<'_, Audited<Outcome>> {
        self.begin(request, None)
    }

    fn serve_holding(&self, request: Request, held: HeldBody) -> BoxFuture<'_, Audited<Outcome>> {
        self.begin(request, Some(held))
    }

    fn next_request_id(&self) -> RequestId {
        self.node.next_request_id()
    }
}
