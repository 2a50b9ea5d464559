//! The path of a request: this function is the table of contents of the server. Read it from top to bottom; each
//! step is one file.
//!
//! Invariants: nothing is executed without an [`authorize::Authorized`], and no answer leaves without a
//! [`tresor_audit::Audited`]. A request is one transaction; when it conflicts with another, the whole of it, from the
//! token check on, is done again on what is stored then, in its turn.
//!
//! The witnesses can be named outside, and made by nobody outside:
//!
//! ```
//! fn holds(_: &tresor_core::pipeline::Authorized<'_>, _: &tresor_core::pipeline::Principal) {}
//! ```
//!
//! ```compile_fail,E0451
//! fn forges(token: tresor_core::tokens::FoundToken, policies: std::sync::Arc<tresor_policy::PolicySet>) {
//!     let _ = tresor_core::pipeline::Principal { token, policies };
//! }
//! ```
//!
//! ```compile_fail,E0451
//! fn forges(known: tresor_core::pipeline::Authorized<'_>) {
//!     let _ = tresor_core::pipeline::Authorized { has_sudo: true, ..known };
//! }
//! ```

mod admit;
mod authenticate;
mod authorize;
mod execute;
mod help;
mod issue;
mod record;
mod route;
mod turns;
mod uses;

use tresor_audit::Audited;
use tresor_engine::reply::Afterwards;
use tresor_model::{Fault, Refusal, Request, Response};

pub use admit::{Turn, takes_upload, turn};
pub use authenticate::Principal;
pub use authorize::Authorized;

use crate::cluster::ClusterError;
use crate::leases;
use crate::node::Node;
use execute::Executed;
pub(crate) use turns::Turns;
pub(crate) use uses::RunningUses;

/// How often a request whose transaction conflicts is done again.
const ATTEMPTS_MAX: usize = 64;

/// What a request comes to.
pub type Outcome = Result<Response, Fault>;

/// Serves one request.
pub async fn serve(node: &Node, mut request: Request) -> Audited<Outcome> {
    let refusal = request.refusal.take();
    // Some endpoints answer in every state of the node; everything else needs an unsealed one.
    if let Some(route) = admit::always(node, &request) {
        return record::exempt(match refusal {
            Some(refusal) => Err(refusal.into()),
            None => (route.answer)(node, request.body).await,
        });
    }
    let admitted = match admit::admit(node, &request) {
        Ok(admitted) => admitted,
        Err(sealed) => return record::never_admitted(refusal.unwrap_or(sealed)),
    };
    let unsealed = &*admitted.unsealed;

    // One snapshot of the mounts decides where the path leads.
    let mut routed = route::route(unsealed, &request);

    // What could not be read as sent, or leads out of every namespace, is refused whoever asks; and recorded.
    if let Some(refusal) = refusal.or_else(|| admitted.refusal.clone()) {
        return record::refused(unsealed, &request, &routed, refusal.into(), admitted.now).await;
    }

    let mut recorded = None;
    let mut using = None;
    let mut outcome = Err(Refusal::Unavailable("too many conflicting changes, try again".into()).into());
    let mut seen = record::Seen::nothing();
    let mut turn = None;
    for _ in 0..ATTEMPTS_MAX {
        // Who asks? A use of a limited token is committed here, by itself, whatever becomes of the request.
        let (mut txn, identity) =
            match authenticate::authenticate(unsealed, &request, &routed, admitted.now, &mut using).await {
                Ok(authenticated) => authenticated,
                Err(fault) => {
                    seen.refuse(&fault);
                    outcome = Err(fault);
                    break;
                }
            };
        seen = record::Seen::of(&identity);

        // May they? The answer is a value that execution demands.
        let authorized = authorize::authorize(unsealed, &mut txn, &request, &routed, &identity, admitted.now);
        seen.note(&authorized);

        // The record of the request, refusals included, comes before any effect.
        if recorded.is_none() {
            let has_effect = authorized.as_ref().is_ok_and(|authorized| authorized.writes());
            match record::request(unsealed, &request, &routed, &seen, has_effect, admitted.now).await {
                Ok(written) => recorded = Some(written),
                Err(fault) => return record::unrecorded(fault),
            }
        }

        // The handler, what it leads to (a token), and the one commit.
        let executed = match authorized {
            Ok(authorized) => execute::execute(unsealed, txn, &request, &authorized, admitted.now).await,
            Err(refusal) => Executed::Done(Err(refusal)),
        };
        match executed {
            Executed::Done(done) => {
                outcome = done;
                break;
            }
            Executed::Conflicted => {
                if turn.is_none() {
                    turn = unsealed.turns.take(routed.contended()).await;
                }
                routed = route::route(unsealed, &request);
                recorded.iter_mut().for_each(record::Recorded::forget_head);
            }
        }
    }
    drop(turn);
    let recorded = match recorded {
        Some(recorded) => recorded,
        None => match record::request(unsealed, &request, &routed, &seen, false, admitted.now).await {
            Ok(recorded) => recorded,
            Err(fault) => return record::unrecorded(fault),
        },
    };
    authenticate::finish(unsealed, using, admitted.now).await;

    // The record of the response comes before the answer.
    let (outcome, afterwards) = match outcome {
        Ok((response, Some(Afterwards::AwaitRevoked(prefix)))) => {
            let waited = leases::awaited::revoked(unsealed, &prefix, admitted.now, execute::DEADLINE).await;
            (waited.map(|()| response), None)
        }
        Ok((response, afterwards)) => (Ok(response), afterwards),
        Err(fault) => (Err(fault), None),
    };
    let answer = record::response(unsealed, &request, &routed, &seen, recorded, outcome).await;

    let staged = unsealed.handles.snapshots.staged().filter(|_| afterwards == Some(Afterwards::Restore));
    // Sealing waits until everybody has left, so this request leaves first.
    drop(admitted);
    match afterwards {
        Some(Afterwards::Seal) => {
            if let Err(fault) = node.seal().await {
                tracing::error!(%fault, "sealing failed");
            }
        }
        Some(Afterwards::Restore) => {
            // Its record says that it was taken in whole. What goes wrong now is told, although nothing records it any more.
            if let Err(fault) = node.restore(staged).await {
                return record::unrecorded(fault);
            }
        }
        Some(Afterwards::StepDown) => match node.cluster.step_down().await {
            // Who does not lead any more has stepped down.
            Ok(()) | Err(ClusterError::NotLeader) => {}
            Err(error) => return record::unrecorded(error.into()),
        },
        Some(Afterwards::AwaitRevoked(_)) | None => {}
    }
    answer
}
