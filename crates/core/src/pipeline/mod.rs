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
//! fn forges(token: tresor_core::tokens::FoundToken, permissions: tresor_core::namespaces::Permissions) {
//!     let _ = tresor_core::pipeline::Principal { token, permissions };
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
mod inline;
mod issue;
mod outside;
mod place;
mod record;
mod route;
mod shown;
mod throttle;
mod turns;
mod uses;
mod withheld;
mod wrap;

use tresor_audit::Audited;
use tresor_engine::reply::Afterwards;
use tresor_engine::view::is_sealed;
use tresor_engine::{Access, Place};
use tresor_model::request::Inline;
use tresor_model::{Fault, Origin, Refusal, Request, Response};

pub use admit::{Turn, takes_upload, turn};
pub use authenticate::Principal;
pub use authorize::Authorized;
pub use throttle::throttle;

use crate::cluster::ClusterError;
use crate::forward::Answer;
use crate::leases;
use crate::namespaces::realms;
use crate::node::{Node, State};
use crate::traces::Tracing;
use admit::Admitted;
pub(crate) use execute::DEADLINE;
use execute::Executed;
pub(crate) use outside::act_once;
pub(crate) use place::CONFIRMED_WITHIN;
pub(crate) use place::uncertain;
use place::{Footing, Placed};
pub(crate) use turns::Turns;
pub(crate) use uses::RunningUses;

/// How often a request whose transaction conflicts is done again. Whoever has its turn loses to those alone that come anew,
/// to each of them once, so this is how many may come meanwhile.
const ATTEMPTS_MAX: usize = 1024;

/// What a request comes to.
pub type Outcome = Result<Response, Fault>;

/// How often a request looks for another node because this one stopped to lead while it ran.
const MOVES_MAX: usize = 8;

/// Serves one request.
pub async fn serve(node: &Node, mut request: Request) -> Audited<Outcome> {
    // Some endpoints answer in every state of the node; everything else needs an unsealed one.
    if let Some(route) = admit::always(node, &request) {
        if let Some(refusal) = request.refusal.take().or_else(|| admit::only_in_root(route, &request)) {
            return record::exempt(Err(refusal.into()));
        }
        if route.place == Place::Leader {
            match place::to_leader(node, request).await {
                Placed::Here(here, _) => request = here,
                Placed::Answered(answered) => return answered,
            }
        }
        let withheld = request.connection.withheld;
        let mut outcome = (route.answer)(node, request.body).await;
        if let Ok(response) = &mut outcome {
            withheld::withhold(withheld, &mut response.shape);
        }
        return record::exempt(outcome);
    }
    let _running = node.metrics.running.enter(&request, node.now());
    // Who comes with a login in the headers is logged in first; the token is stored nowhere.
    if request.refusal.is_none()
        && matches!(request.inline, Inline::Asked(_))
        && let Err(failed) = inline::log_in(node, &mut request).await
    {
        return record::unrecorded(failed);
    }
    let mut moves = 0;
    loop {
        let admitted = match admit::admit(node, &mut request) {
            Ok(admitted) => admitted,
            Err(sealed) => return record::never_admitted(request.refusal.take().unwrap_or(sealed)),
        };
        // What could not be read as sent, or goes to a namespace that is locked, is refused whoever asks; and recorded.
        if let Some(refusal) = request.refusal.take().or_else(|| admitted.refusal.clone()) {
            return refused(&admitted, &request, refusal).await;
        }
        // On which node does it run?
        let mut footing = Footing::current(true);
        if admitted.unsealed.handles.cluster.is_enabled() {
            match place::place(&admitted, request, moves > 0).await {
                Placed::Here(here, found) => (request, footing) = (here, found),
                Placed::Answered(answered) => return answered,
            }
        } else if let Some(vouched) = admitted.unsealed.handles.storage.vouched() {
            vouched.await;
        }
        // Whether a namespace is sealed, the node that leads knows.
        let answered = match admitted.unserved(&request) {
            None => run(node, admitted, &request, footing).await,
            Some(Refusal::Elsewhere) => record::never_admitted(Refusal::Elsewhere),
            Some(refusal) => return refused(&admitted, &request, refusal).await,
        };
        moves += 1;
        // Leadership changed meanwhile, and nothing was done.
        if moves >= MOVES_MAX || !matches!(answered.value(), Err(Fault::Refusal(Refusal::Elsewhere))) {
            return answered;
        }
    }
}

/// Whether a browser may ask from an origin; while the node is sealed nobody says.
#[must_use]
pub fn origin(node: &Node, origin: &str) -> Origin {
    match &**node.state.load() {
        State::Unsealed(unsealed) => unsealed.handles.edge.origin(origin),
        State::Sealed => Origin::NotAsked,
    }
}

/// The headers of answers below `/ui`; while the node is sealed nobody says.
#[must_use]
pub fn page_headers(node: &Node) -> Vec<(String, String)> {
    match &**node.state.load() {
        State::Unsealed(unsealed) => unsealed.handles.edge.page_headers(),
        State::Sealed => Vec::new(),
    }
}

/// Serves a request that the listener which it came through lets everybody make; nothing when it is none of those.
pub async fn serve_opened(node: &Node, request: &Request) -> Option<Audited<Outcome>> {
    let path = request.path.trimmed();
    let route = node.registry.opened.iter().find(|route| route.path == path && route.verb == request.verb)?;
    Some(record::exempt((route.answer)(node, request.body.duplicate()).await))
}

/// Serves a request that another node passed on to this one because it leads.
pub(crate) async fn serve_passed_on(node: &Node, mut request: Request) -> Answer {
    if let Some(route) = admit::always(node, &request).filter(|route| route.place == Place::Leader) {
        return Answer::Outcome((route.answer)(node, request.body).await);
    }
    let Ok(admitted) = admit::admit(node, &mut request) else { return Answer::Elsewhere };
    if let Some(refusal) = &admitted.refusal {
        return Answer::Outcome(refused(&admitted, &request, refusal.clone()).await.into_inner());
    }
    let Some(is_confirmed) = place::passed_on(&admitted, &request).await else { return Answer::Elsewhere };
    let outcome = match admitted.unserved(&request) {
        None => run(node, admitted, &request, Footing::current(is_confirmed)).await,
        // It is passed on again.
        Some(Refusal::Elsewhere) => return Answer::Elsewhere,
        Some(refusal) => refused(&admitted, &request, refusal).await,
    };
    Answer::Outcome(outcome.into_inner())
}

/// Refuses a request before it is known who asks, and records that.
async fn refused(admitted: &Admitted, request: &Request, refusal: Refusal) -> Audited<Outcome> {
    let routed = route::route(&admitted.unsealed, &admitted.goes_to, request);
    record::refused(&admitted.unsealed, request, &routed, refusal.into(), admitted.now).await
}

/// Runs a request on this node.
async fn run(node: &Node, admitted: Admitted, request: &Request, footing: Footing) -> Audited<Outcome> {
    let Footing { mut is_confirmed, behind } = footing;
    let unsealed = &*admitted.unsealed;
    let metrics = &*unsealed.handles.metrics;
    let began = metrics.moment();
    let now = unsealed.clock.now();
    let standing = unsealed.handles.cluster.standing();
    let tracer = unsealed.handles.settings.tracer.as_ref();
    let mut tracing = Tracing::begin(tracer, request, now, began, &*unsealed.doors.entropy);

    // One snapshot of the mounts decides where the path leads.
    let mut routed = route::route(unsealed, &admitted.goes_to, request);
    tracing.step("route", began, || metrics.moment());

    let mut recorded = None;
    let mut using = None;
    let mut outcome = Err(Refusal::Unavailable("too many conflicting changes, try again".into()).into());
    let mut seen = record::Seen::nothing();
    let (mut turn, mut lease) = (None, None);
    let mut is_stirred = false;
    for _ in 0..ATTEMPTS_MAX {
        let asked = metrics.moment();
        // Who asks? A use of a limited token is committed here, by itself, whatever becomes of the request.
        let (mut txn, identity) = match authenticate::authenticate(unsealed, request, &routed, now, &mut using).await {
            Ok(authenticated) => authenticated,
            Err(fault) => {
                seen.refuse(&fault);
                outcome = Err(fault);
                break;
            }
        };
        seen = record::Seen::of(&identity);

        // May they? The answer is a value that execution demands.
        let authorized = authorize::authorize(unsealed, &mut txn, request, &routed, &identity, now);
        seen.note(&authorized);
        metrics.check_token.observe(metrics.since(asked));
        tracing.step("check_token", asked, || metrics.moment());

        // The record of the request, refusals included, comes before any effect.
        if recorded.is_none() {
            let has_effect = authorized.as_ref().is_ok_and(|authorized| authorized.has_effect());
            match record::request(unsealed, request, &routed, &seen, has_effect, now).await {
                Ok(written) => recorded = Some(written),
                Err(fault) => return record::unrecorded(fault),
            }
        }

        // The handler, what it leads to (a token), and the one commit.
        let executing = tracing.moment(|| metrics.moment());
        let authorized = match authorized {
            Ok(authorized) => authorized,
            Err(refusal) => {
                outcome = Err(refusal);
                break;
            }
        };
        if let Some(principal) = authorized.client() {
            let (clients, spaces) = (&unsealed.handles.clients, &unsealed.handles.spaces);
            clients.count(spaces, principal.permissions(), principal.token(), now);
        }
        // What it draws must not be weaker than the mount's operator demands, so it waits for the seal, or is not done.
        if !is_stirred && authorized.needs_seal_entropy() {
            if let Err(fault) = Box::pin(unsealed.handles.settings.stir()).await {
                outcome = Err(fault);
                break;
            }
            is_stirred = true;
        }
        let executed = execute::execute(unsealed, txn, request, &authorized, now).await;
        tracing.step("execute_and_commit", executing, || metrics.moment());
        match executed {
            Executed::Committed(done) => {
                (outcome, is_confirmed) = (Ok(done), true);
                break;
            }
            Executed::Done(done) => {
                outcome = done;
                break;
            }
            // What happens outside the server is asked for once, and its answer is made by another commit.
            Executed::Planned(planned) => {
                drop(turn.take());
                // Boxed, as all that few requests do: their room would be copied with every other request.
                let made = Box::pin(outside::carry_out(unsealed, request, &authorized, planned)).await;
                (outcome, lease, is_confirmed) = (made.outcome, made.lease, true);
                break;
            }
            Executed::Conflicted => {
                if turn.is_none() {
                    turn = unsealed.turns.take(routed.contended()).await;
                }
                routed = route::route(unsealed, &admitted.goes_to, request);
                recorded.iter_mut().for_each(record::Recorded::forget_head);
            }
        }
    }
    drop(turn);
    let recorded = match recorded {
        Some(recorded) => recorded,
        None => match record::request(unsealed, request, &routed, &seen, false, now).await {
            Ok(recorded) => recorded,
            Err(fault) => return record::unrecorded(fault),
        },
    };
    authenticate::finish(unsealed, using, now).await;

    // Its namespace was sealed while it ran, or it asks for what lies in another one that is.
    if outcome.as_ref().is_err_and(is_sealed) {
        outcome = Err(realms::sealed().into());
    }
    // What committed nothing (a refusal, or nothing to do) may be wrong where another node leads by now, or did before this one
    // began. What may have been committed is not done again.
    let is_open = !is_confirmed && matches!(outcome, Ok(_) | Err(Fault::Refusal(_)));
    if is_open && !place::led_all_the_time(unsealed, &standing).await {
        outcome = Err(Refusal::Elsewhere.into());
    }

    // The record of the response comes before the answer.
    let (outcome, afterwards) = match outcome {
        Ok((response, Some(Afterwards::AwaitRevoked(prefix)))) => {
            let waiting = leases::awaited::revoked(unsealed, &routed.space.id, &prefix, now, execute::DEADLINE);
            let waited = Box::pin(waiting).await;
            (waited.map(|()| response), None)
        }
        Ok((response, Some(Afterwards::TakeBack(ids)))) => {
            let deadline = request.connection.request_time_max.unwrap_or(unsealed.handles.settings.request_time_max);
            let taking = leases::at_once::taken_back(unsealed, &routed.space.id, &ids, deadline);
            (Box::pin(taking).await.map(|()| response), None)
        }
        Ok((response, afterwards)) => (Ok(Response { behind, ..response }), afterwards),
        Err(fault) => (Err(fault), None),
    };
    let recording = tracing.moment(|| metrics.moment());
    let answer = record::response(unsealed, request, &routed, &seen, recorded, outcome).await;
    tracing.step("record", recording, || metrics.moment());
    if answer.value().is_err()
        && let Some(lease) = &lease
    {
        Box::pin(outside::take_back(unsealed, &routed, lease)).await;
    }
    tracing.about(|| routed.about(request.verb));
    tracing.end(answer.value(), || metrics.moment());
    let is_login = routed.access(request.verb) == Access::Login;
    let took = if is_login { &metrics.handle_login_request } else { &metrics.handle_request };
    took.observe(metrics.since(began));

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
        Some(Afterwards::AwaitRevoked(_) | Afterwards::TakeBack(_)) | None => {}
    }
    answer
}
