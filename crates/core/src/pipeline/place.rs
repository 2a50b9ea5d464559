//! Step 3b: on which node does this request run?
//!
//! Decided here once, before any effect and any audit record, from what the route declares and from what the request brings. A
//! read runs where it arrived, once everything that was acknowledged anywhere before is applied here; so whoever wrote something
//! reads it through any node. Everything else runs on the leader: a node that stands by passes it on, and the leader records it.
//! While leadership changes a request waits; when that takes too long, nothing was done, and the answer says so.
//!
//! A read may choose to do without what was written to the data of secrets engines since anything else was changed
//! ([`WhenBehind::Stale`]): then it need not wait for a flood of such writes, and its answer says how much it lacks. Deliberately
//! absent: an answer without the leader's word on what that is. Who may do what is never older than what was acknowledged.

use std::time::Duration;

use tresor_audit::{Audited, Exempt};
use tresor_engine::{Access, Effect, OperationFacts, Place};
use tresor_env::BoxFuture;
use tresor_model::fault::{Failure, Side};
use tresor_model::{Fault, Refusal, Request, WhenBehind};
use tresor_storage::Condition;

use super::Outcome;
use super::admit::Admitted;
use super::execute::DEADLINE;
use super::route::{Routed, operation_candidates, route};
use crate::cluster::{About, ClusterError, Contact, Message, Needed, Standing};
use crate::forward::{Answer, read_answer, read_request, write_request};
use crate::node::Node;
use crate::settings::Elsewhere;
use crate::tokens::record::Uses;
use crate::unsealed::Unsealed;

/// How long a request waits for a leader.
const PATIENCE: Duration = Duration::from_secs(6);
/// How long the leader has for what was passed on: a little more than its handlers.
const PASSED_ON_BOUND: Duration = Duration::from_secs(DEADLINE.as_secs() + 5);
/// How long what was acknowledged may take to arrive at a node that can do nothing else than wait for it.
pub(crate) const CONFIRMED_WITHIN: Duration = Duration::from_secs(10);
/// The same where another node can answer.
const ARRIVES_WITHIN: Duration = Duration::from_secs(2);
/// The pause before a request is passed on again.
const PAUSE: Duration = Duration::from_millis(10);

/// A client that does not want its request passed on.
const NO_FORWARDING: &str = "x-vault-no-request-forwarding";
/// A client that wants the leader to answer.
const FORWARD: &str = "x-vault-forward";

/// What clients of the reference look for.
const NO_LEADER: &str = "local node not active but active cluster node not found";
/// Of a node whose store failed it.
const OUT_OF_SERVICE: &str = "this node is out of service, since its storage failed: its log says what happened, and the \
                              other nodes of the cluster answer";
const UNCERTAIN: &str = "the active node did not answer; whether the request was done is not known";

/// What a request stands on that runs here.
#[derive(Clone, Copy)]
pub(super) struct Footing {
    /// Whether it sees everything that was acknowledged before, as far as it needs it. A write is confirmed by being committed.
    pub(super) is_confirmed: bool,
    /// How many entries of the log it does without, where its client chose that.
    pub(super) behind: Option<u64>,
}

impl Footing {
    pub(super) const fn current(is_confirmed: bool) -> Self {
        Self { is_confirmed, behind: None }
    }
}

/// Where a request runs.
pub(super) enum Placed {
    /// Here.
    Here(Request, Footing),
    /// It ran elsewhere, or nowhere.
    Answered(Audited<Outcome>),
}

/// Whether what was passed on to this node may run here, now or in a moment; and then whether it is confirmed.
pub(super) async fn passed_on(admitted: &Admitted, request: &Request) -> Option<bool> {
    let unsealed = &*admitted.unsealed;
    let mut patience = unsealed.clock.sleep(PATIENCE);
    let standing = unsealed.handles.cluster.standing();
    if !standing.leads() || is_active(unsealed, standing, &mut patience).await != Some(true) {
        return None;
    }
    on_the_leader(admitted, request, false).await
}

/// Confirms what only reads, and what is in doubt; nothing when this node does not lead any more.
async fn on_the_leader(admitted: &Admitted, request: &Request, is_in_doubt: bool) -> Option<bool> {
    if !is_in_doubt && writes(&route(&admitted.unsealed, &admitted.goes_to, request), request) {
        return Some(false);
    }
    confirmed(&admitted.unsealed).await.then_some(true)
}

/// Finds where a request runs, and lets it run there if that is not here. It is in doubt whether this node leads when the request
/// ran here, and the store took nothing or a majority did not confirm.
pub(super) async fn place(admitted: &Admitted, request: Request, is_in_doubt: bool) -> Placed {
    let unsealed = &*admitted.unsealed;
    let cluster = &unsealed.handles.cluster;
    if is_in_doubt {
        unsealed.clock.sleep(PAUSE).await;
    }
    // Nearly always on a leader, without a timer.
    if unsealed.duties.is_active()
        && cluster.standing().leads()
        && let Some(is_confirmed) = on_the_leader(admitted, &request, is_in_doubt).await
    {
        return Placed::Here(request, Footing::current(is_confirmed));
    }
    let mut patience = unsealed.clock.sleep(PATIENCE);
    let mut request = request;
    loop {
        // Nothing that it could wait for.
        if cluster.is_out_of_service() {
            return refused(OUT_OF_SERVICE);
        }
        let standing = cluster.standing();
        let leader = match &standing {
            Standing::Leads { .. } => {
                match is_active(unsealed, standing.clone(), &mut patience).await {
                    Some(true) => {
                        if let Some(is_confirmed) = on_the_leader(admitted, &request, is_in_doubt).await {
                            return Placed::Here(request, Footing::current(is_confirmed));
                        }
                    }
                    Some(false) => {}
                    None => return unavailable(),
                }
                None
            }
            Standing::Follows(leader) if placed(admitted, &request) == Place::Leader => Some(leader),
            Standing::Follows(leader) => match arrived(unsealed, &request).await {
                Ok(footing) if may_run_here(admitted, &request) => return Placed::Here(request, footing),
                Ok(_) | Err(ClusterError::Behind) => Some(leader),
                Err(_) => None,
            },
            Standing::Leaderless => None,
        };
        if let Some(leader) = leader {
            // What it is part of is over: whoever began it does not lead any more.
            if request.errand.is_some() {
                return unavailable();
            }
            if is_sent_there(unsealed, &request) {
                return redirect(leader);
            }
            request = match pass_on(unsealed, request).await {
                Ok(outcome) => return Placed::Answered(Audited::exempt(outcome, Exempt::RanElsewhere)),
                Err(request) => request,
            };
        }
        let next = async {
            tokio::select! {
                biased;
                _ = cluster.changed(standing.clone()) => {}
                () = unsealed.clock.sleep(PAUSE) => {}
            }
        };
        tokio::select! {
            biased;
            () = &mut patience => return unavailable(),
            () = unsealed.gate.closed() => {
                return Placed::Answered(Audited::exempt(Err(Refusal::Sealed.into()), Exempt::NeverAdmitted));
            }
            () = next => {}
        }
    }
}

/// Lets what answers without a token run on the leader, if this node follows one; it says itself when no node leads.
pub(super) async fn to_leader(node: &Node, request: Request) -> Placed {
    let Some(unsealed) = node.unsealed() else { return Placed::Here(request, Footing::current(false)) };
    let Standing::Follows(leader) = unsealed.handles.cluster.standing() else {
        return Placed::Here(request, Footing::current(false));
    };
    if is_sent_there(&unsealed, &request) {
        return redirect(&leader);
    }
    match pass_on(&unsealed, request).await {
        Ok(outcome) => Placed::Answered(Audited::exempt(outcome, Exempt::RanElsewhere)),
        Err(request) => Placed::Here(request, Footing::current(false)),
    }
}

/// Whether whoever asks is sent to the leader, in place of the request; with a body that is a stream, or where messages are to
/// go over the connection, always.
fn is_sent_there(unsealed: &Unsealed, request: &Request) -> bool {
    let is_wanted = request.headers.contains_key(NO_FORWARDING) || request.upload.is_there() || request.takes_messages;
    is_wanted || unsealed.handles.settings.elsewhere == Elsewhere::Redirect
}

/// Waits until a node that leads is active; false when it does not lead any more, nothing when patience ends.
async fn is_active(unsealed: &Unsealed, standing: Standing, patience: &mut BoxFuture<'static, ()>) -> Option<bool> {
    tokio::select! {
        biased;
        () = unsealed.duties.active() => Some(true),
        _ = unsealed.handles.cluster.changed(standing) => Some(false),
        () = patience => None,
    }
}

/// Whether a node that led when it began to look still does, which a majority confirms: only then was what it saw everything. A
/// node that was deposed meanwhile is confirmed by the one that leads now, and that says nothing of what it saw before.
pub(super) async fn led_all_the_time(unsealed: &Unsealed, began: &Standing) -> bool {
    began.leads() && confirmed(unsealed).await && unsealed.handles.cluster.standing() == *began
}

/// Whether everything that was acknowledged before is applied here, and is recorded by the audit devices that there are by then.
pub(super) async fn confirmed(unsealed: &Unsealed) -> bool {
    unsealed.handles.cluster.confirm(Needed::Everything, CONFIRMED_WITHIN).await.is_ok() && unsealed.devices_follow()
}

/// The same on a node that follows, of what a request needs; [`ClusterError::Behind`] when the leader had better answer it.
async fn arrived(unsealed: &Unsealed, request: &Request) -> Result<Footing, ClusterError> {
    let (needed, within) = match request.when_behind {
        WhenBehind::Wait => (Needed::Everything, ARRIVES_WITHIN),
        WhenBehind::PassOn => (Needed::Everything, Duration::ZERO),
        WhenBehind::Stale => (Needed::AllButData, ARRIVES_WITHIN),
    };
    let behind = unsealed.handles.cluster.confirm(needed, within).await?;
    if !unsealed.devices_follow() {
        return Err(ClusterError::NoLeader);
    }
    Ok(Footing { is_confirmed: true, behind: Some(behind).filter(|_| needed == Needed::AllButData) })
}

/// Where a request runs, by what is known here; where the path leads nowhere, finding that out is a read.
fn placed(admitted: &Admitted, request: &Request) -> Place {
    // The keys of a namespace with a seal of its own are in use on the leader alone.
    if admitted.goes_to.space.id.realm().is_some() {
        return Place::Leader;
    }
    let place = declared(&route(&admitted.unsealed, &admitted.goes_to, request), request);
    let mut forward = request.headers.get(FORWARD).into_iter().flatten();
    let wants_leader = request.wrap_ttl.is_some()
        || forward.any(|value| value == "active-node")
        || !admitted.unsealed.handles.cluster.has_log()
        // What cannot be read here can be read there.
        || admitted.unsealed.handles.storage.condition() == Condition::Impaired;
    if place == Place::Any && wants_leader { Place::Leader } else { place }
}

fn facts<'r>(routed: &'r Routed, request: &Request) -> impl Iterator<Item = &'r OperationFacts> + use<'r> {
    let operations = routed.target.as_ref().ok().map(|target| &target.operations);
    let candidates = operation_candidates(request.verb).iter();
    candidates.filter_map(move |operation| operations.and_then(|operations| operations.get(operation)))
}

fn declared(routed: &Routed, request: &Request) -> Place {
    facts(routed, request).map(|facts| facts.place).find(|place| *place != Place::Any).unwrap_or(Place::Any)
}

fn writes(routed: &Routed, request: &Request) -> bool {
    facts(routed, request).any(|facts| facts.effect == Effect::Writes)
}

/// Whether a read may run here, now that everything is applied: the path leads where it led, and no use is counted.
fn may_run_here(admitted: &Admitted, request: &Request) -> bool {
    let unsealed = &*admitted.unsealed;
    let routed = route(unsealed, &admitted.goes_to, request);
    match declared(&routed, request) {
        Place::Asked => return true,
        Place::Leader => return false,
        Place::Any => {}
    }
    let Some(token) = request.token.as_ref().filter(|_| routed.access(request.verb) != Access::Login) else {
        return true;
    };
    // What cannot be read is found again, and told, by the step that is about it.
    let found = unsealed
        .begin()
        .and_then(|mut txn| unsealed.handles.tokens.find(&mut txn, &routed.space.line, token, unsealed.clock.now()));
    !matches!(found, Ok(Some(found)) if found.record.uses == Uses::Counted)
}

/// Passes a request on; it comes back when certainly nothing was done.
async fn pass_on(unsealed: &Unsealed, request: Request) -> Result<Outcome, Request> {
    let message = write_request(request);
    let again = |message: Message| read_request(&message).map_err(|error| Fault::internal(error.to_string()));
    let (metrics, began) = (&unsealed.handles.metrics, unsealed.handles.metrics.moment());
    let passed_on = unsealed.handles.cluster.ask_leader(About::Request, message.clone(), PASSED_ON_BOUND).await;
    metrics.forward.observe(metrics.since(began));
    if passed_on.is_err() {
        metrics.forward_errors.add(1);
    }
    let answer = match passed_on {
        Ok(answer) => read_answer(&answer),
        Err(ClusterError::Uncertain) => return Ok(Err(uncertain())),
        Err(_) => Ok(Answer::Elsewhere),
    };
    match answer {
        Ok(Answer::Outcome(outcome)) => Ok(outcome),
        Ok(Answer::Elsewhere) => match again(message) {
            Ok(request) => Err(request),
            Err(fault) => Ok(Err(fault)),
        },
        // Nothing was changed: no stream is an answer to a write.
        Ok(Answer::Stream) => match unsealed.handles.cluster.standing() {
            Standing::Follows(leader) if !leader.api_address.is_empty() => {
                Ok(Err(Refusal::Redirect(leader.api_address).into()))
            }
            _ => Ok(Err(Refusal::Unavailable(NO_LEADER.into()).into())),
        },
        Ok(Answer::Unreadable) => Ok(Err(Refusal::Unavailable("the active node is of another release".into()).into())),
        Err(error) => {
            tracing::error!(%error, "the active node's answer cannot be read");
            Ok(Err(uncertain()))
        }
    }
}

pub(crate) fn uncertain() -> Fault {
    Fault::Failure(Failure { cause: UNCERTAIN.into(), side: Side::Upstream, public: Some(UNCERTAIN.into()) })
}

fn unavailable() -> Placed {
    refused(NO_LEADER)
}

fn refused(why: &'static str) -> Placed {
    Placed::Answered(Audited::exempt(Err(Refusal::Unavailable(why.into()).into()), Exempt::RanElsewhere))
}

fn redirect(leader: &Contact) -> Placed {
    if leader.api_address.is_empty() {
        return unavailable();
    }
    let refusal = Refusal::Redirect(leader.api_address.clone());
    Placed::Answered(Audited::exempt(Err(refusal.into()), Exempt::RanElsewhere))
}
