//! A node as the HTTP face sees it.
//!
//! A request that was begun runs to its end, whether or not its client still waits: what it commits reaches the caches,
//! and its response is recorded. It runs in its connection's own task; when the connection goes away meanwhile, the rest
//! of it becomes a task of its own. How many run at once is bounded; who comes later waits
//! in its connection, and leaves the queue with it. What answers in every state of the node, and sealing it, wait apart,
//! so that a server whose ordinary requests hang can be looked at, sealed and unsealed. Deliberately absent: any
//! knowledge of what a request means.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tresor_audit::{Audited, Exempt};
use tresor_core::Node;
use tresor_core::forward::Passed;
use tresor_core::pipeline::Turn;
use tresor_env::{BoxFuture, Tasks};
use tresor_http::{HeldBody, Outcome, Serve};
use tresor_model::{Fault, Known, Origin, Path, Request, RequestId, Throttle, Verb};

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
        let passed = Passed::new(&node, slots(running_max));
        node.cluster().answer_with(Arc::new(passed));
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
        let slots = match tresor_core::pipeline::turn(&self.node, &request) {
            Turn::Always => &self.always,
            Turn::Sealing => &self.sealing,
            Turn::Ordinary => &self.ordinary,
        };
        Box::pin(async move {
            let Ok(slot) = Arc::clone(slots).acquire_owned().await else {
                // Nobody closes it.
                return Audited::exempt(Err(Fault::internal("no place to run in")), Exempt::NeverAdmitted);
            };
            self.running.see_through(served(Arc::clone(&self.node), request, (slot, held))).await
        })
    }
}

/// Serves a request, and holds what it holds to its end, also when its client has left. Boxed where it is made: it is large,
/// and would be a part of whatever awaits it.
fn served(
    node: Arc<Node>,
    request: Request,
    held: (OwnedSemaphorePermit, Option<HeldBody>),
) -> BoxFuture<'static, Audited<Outcome>> {
    Box::pin(async move {
        let _held = held;
        tresor_core::pipeline::serve(&node, request).await
    })
}

impl Serve for NodeService {
    fn serve(&self, request: Request) -> BoxFuture<'_, Audited<Outcome>> {
        self.begin(request, None)
    }

    fn serve_holding(&self, request: Request, held: HeldBody) -> BoxFuture<'_, Audited<Outcome>> {
        self.begin(request, Some(held))
    }

    fn takes_upload(&self, verb: Verb, path: &Path) -> bool {
        tresor_core::pipeline::takes_upload(&self.node, verb, path)
    }

    fn origin(&self, origin: &str) -> Origin {
        tresor_core::pipeline::origin(&self.node, origin)
    }

    fn page_headers(&self) -> Vec<(String, String)> {
        tresor_core::pipeline::page_headers(&self.node)
    }

    fn serve_opened<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Option<Audited<Outcome>>> {
        Box::pin(tresor_core::pipeline::serve_opened(&self.node, request))
    }

    fn throttle(&self, request: &Request, known: Known) -> Throttle {
        tresor_core::pipeline::throttle(&self.node, request, known)
    }

    fn next_request_id(&self) -> RequestId {
        self.node.next_request_id()
    }
}
