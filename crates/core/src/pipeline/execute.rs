//! Step 9: call the handler, do what its answer leads to, commit once.
//!
//! The handler runs under a deadline and behind a panic fence: a panic costs this request and nothing else, because
//! everything it wrote is in a transaction that is dropped. Invariant: only an [`Authorized`] gets here.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt;
use tresor_barrier::Txn;
use tresor_engine::answer::AnswerShape;
use tresor_engine::reply::Afterwards;
use tresor_engine::{Access, Caller, Cx, Headers, Held, Keepers, Machine, Reply, View, headers};
use tresor_model::{Body, Fault, Operation, Refusal, Request, Response, Shape, Timestamp};
use tresor_wire::input::Fields;

use super::authenticate::Principal;
use super::authorize::Authorized;
use super::outside::{self, Asked, Planned};
use super::{help, issue, shown, wrap};
use crate::besides::BESIDES;
use crate::lockout::{self, Attempt};
use crate::mounts::Mount;
use crate::mounts::record::StoredClass;
use crate::unsealed::{CommitFault, Unsealed};

/// The longest that a handler may take where nobody says otherwise.
pub(crate) const DEADLINE: Duration = Duration::from_secs(90);
/// The same for one whose request's body is no JSON: it may be as large as what is stored. What it waits for has bounds of
/// its own.
const UPLOAD_DEADLINE: Duration = Duration::from_secs(6 * 60 * 60);

/// What clients of the reference look for.
pub(super) const TOO_LONG: &str = "context deadline exceeded: the request took longer than `max_request_duration`";

/// What whoever asks for messages is told whose connection cannot take them.
const NO_WEBSOCKET: &str =
    "this is a WebSocket: ask for it with `Connection: Upgrade` and `Upgrade: websocket` over HTTP/1.1 (RFC 6455)";

pub(super) enum Executed {
    /// Committed.
    Committed(Said),
    /// Nothing was to be written, or it was refused.
    Done(Result<Said, Fault>),
    /// Somebody changed what this request read; do it again.
    Conflicted,
    /// Something is to be done outside the server, and the intent is committed.
    Planned(Planned),
}

pub(super) async fn execute(
    unsealed: &Unsealed,
    mut txn: Txn,
    request: &Request,
    authorized: &Authorized<'_>,
    now: Timestamp,
) -> Executed {
    let (writes, has_effect) = (authorized.writes(), authorized.has_effect());
    if has_effect && let Some(mount) = &authorized.routed().mount {
        match authorized.routed().space.mounts.is_current(&mut txn, mount) {
            Ok(Some(true)) => {}
            Ok(Some(false)) => return Executed::Conflicted,
            Ok(None) => {
                return Executed::Done(Err(Refusal::NoRoute(request.path.as_str().to_owned()).into()));
            }
            Err(fault) => return Executed::Done(Err(fault)),
        }
    }
    // What a secrets engine keeps decides about nobody's requests.
    if let Some(mount) = &authorized.routed().mount
        && mount.record.class == StoredClass::Secret
    {
        txn.writes_data_below(&mount.contents);
    }
    // Nothing is written for a token whose ancestor is revoked, or whose mount is removed, meanwhile.
    if has_effect
        && let Some(principal) = authorized.principal()
        && let Err(fault) = unsealed.handles.tokens.rely_on(&mut txn, principal.token())
    {
        return Executed::Done(Err(fault));
    }
    let done = async {
        let wrapping = wrap::asked(request, authorized)?;
        let (metrics, began) = (&unsealed.handles.metrics, unsealed.handles.metrics.moment());
        let attempt = attempt(unsealed, &mut txn, request, authorized, now)?;
        let called = call(unsealed, &mut txn, request, authorized, now).await;
        if let Some(attempt) = attempt {
            unsealed.handles.lockouts.end(attempt, &called, now);
        }
        if let Some(mount) = &authorized.routed().mount {
            let took = metrics.since(began);
            metrics.routed(&mount.record.path, authorized.operation(), took);
            if let Some(route) = authorized.target().engine.route(authorized.target().route) {
                metrics.done(&mount.record.kind, route.pattern, authorized.operation(), took);
            }
        }
        let mut reply = called?;
        if let Some(plan) = reply.outside.take() {
            if !writes {
                return Err(Fault::internal("a handler that declared to read only acts outside"));
            }
            let (wrapping, warnings) = (wrapping, std::mem::take(&mut reply.warnings));
            let asked = Asked { wrapping, warnings };
            let intending = outside::intend(unsealed, &mut txn, request, authorized, *plan, asked, now);
            return Box::pin(intending).await.map(Called::Planned);
        }
        say(unsealed, &mut txn, request, authorized, reply, wrapping, now).await.map(Called::Said)
    };
    let done = match done.await {
        Ok(done) => done,
        Err(fault) => return Executed::Done(Err(fault)),
    };
    let writes_nothing = txn.is_empty_of_writes();
    match unsealed.commit(txn).await {
        Ok(()) => match done {
            Called::Planned(planned) => Executed::Planned(planned),
            Called::Said(said) if writes_nothing => Executed::Done(Ok(said)),
            Called::Said(said) => {
                made(unsealed, authorized, &said.0);
                Executed::Committed(said)
            }
        },
        Err(CommitFault::Conflict) => Executed::Conflicted,
        Err(CommitFault::OutOfBounds) => {
            unsealed.handles.metrics.lease_count_violation.add(1);
            Executed::Done(Err(crate::quotas::refusal(request.path.as_str()).into()))
        }
        Err(other) => Executed::Done(Err(other.into())),
    }
}

/// Counts what was made.
pub(super) fn made(unsealed: &Unsealed, authorized: &Authorized<'_>, response: &Response) {
    let Some(mount) = &authorized.routed().mount else { return };
    let metrics = &unsealed.handles.metrics;
    // What is renewed is shown in the same way.
    let is_login = authorized.facts().is_some_and(|facts| facts.access == Access::Login);
    let creates = || {
        let target = authorized.target();
        let route = target.engine.route(target.route).filter(|_| mount.record.kind == "token");
        route.is_some_and(|route| route.pattern.starts_with("create"))
    };
    if response.auth.is_some() && (is_login || creates()) {
        metrics.tokens_made.of(&mount.record.path).add(1);
    }
    if response.lease.as_ref().is_some_and(|lease| lease.id.is_some()) && mount.record.class != StoredClass::System {
        metrics.leases_made.of(&mount.record.path).add(1);
    }
}

/// What a handler came to.
#[expect(clippy::large_enum_variant, reason = "one of them per request, and hardly ever the smaller one")]
enum Called {
    Said(Said),
    Planned(Planned),
}

/// The answer, and what the node does after it.
pub(super) type Said = (Response, Option<Afterwards>);

/// What a reply leads to, within the same transaction: a token, a lease, an answer behind a token.
pub(super) async fn say(
    unsealed: &Unsealed,
    txn: &mut Txn,
    request: &Request,
    authorized: &Authorized<'_>,
    mut reply: Reply,
    wrapping: Option<wrap::Wanted>,
    now: Timestamp,
) -> Result<Said, Fault> {
    shown::restrict(authorized, &mut reply);
    let auth = issue::token(unsealed, txn, request, authorized, &mut reply, now)?;
    let lease = issue::lease(unsealed, txn, request, authorized, &mut reply, now)?;
    // Before the answer is wrapped, which writes whatever it was asked of.
    if !authorized.writes() && !txn.is_empty_of_writes() {
        return Err(Fault::internal("a handler that declared to read only has written"));
    }
    let (afterwards, must_be_wrapped) = (reply.afterwards, reply.must_be_wrapped);
    let handle = auth.as_ref().map(|auth| auth.accessor.clone()).or(reply.handle);
    let response = Response {
        shape: reply.shape,
        warnings: reply.warnings,
        auth,
        lease: lease.or(reply.advice),
        wrap_info: reply.wrap_info,
        behind: None,
        headers: let_out(authorized, reply.headers),
    };
    let response = match wrapping {
        Some(wanted) => {
            let wanted = wrap::Wanted { handle, ..wanted };
            Box::pin(wrap::wrap(unsealed, txn, request, authorized, response, wanted, now)).await?
        }
        None if must_be_wrapped => return Err(Fault::invalid("endpoint requires response wrapping to be used")),
        None => response,
    };
    Ok((response, afterwards))
}

/// Of the headers that the engine sets, those that its mount lets out.
fn let_out(authorized: &Authorized<'_>, set: Vec<(&'static str, String)>) -> Vec<(String, String)> {
    let Some(mount) = authorized.routed().mount.as_ref().filter(|_| !set.is_empty()) else { return Vec::new() };
    headers::let_out(authorized.target().engine.header_use(), set, &mount.record.tuning.allowed_response_headers)
}

/// Begins an attempt to log in where there is something to guess; a locked name is refused before anybody looks at what it sends.
fn attempt(
    unsealed: &Unsealed,
    txn: &mut Txn,
    request: &Request,
    authorized: &Authorized<'_>,
    now: Timestamp,
) -> Result<Option<Attempt>, Fault> {
    if authorized.facts().is_none_or(|facts| facts.access != Access::Login) {
        return Ok(None);
    }
    let target = authorized.target();
    let Some(mount) = authorized.routed().mount.as_ref() else { return Ok(None) };
    if !lockout::KINDS.contains(&mount.record.kind.as_str()) {
        return Ok(None);
    }
    let Some(name) = target.engine.claimant(&target.parameters, &request.body) else { return Ok(None) };
    let rules = lockout::rules(&unsealed.handles.settings.lockout, mount, txn)?;
    unsealed.handles.lockouts.begin(&mount.record.id, &name, rules, now)
}

async fn call(
    unsealed: &Unsealed,
    txn: &mut Txn,
    request: &Request,
    authorized: &Authorized<'_>,
    now: Timestamp,
) -> Result<Reply, Fault> {
    let target = authorized.target();
    let mount = authorized.routed().mount.as_ref().ok_or_else(|| Fault::internal("a route without a mount"))?;
    if authorized.operation() == Operation::Help {
        return Ok(help::answer(target));
    }
    if authorized.facts().is_none() {
        let hint =
            target.engine.hint(&target.relative, authorized.operation()).ok_or(Fault::Refusal(Refusal::Unsupported))?;
        let (shape, warnings) = (Shape::Absent(None), vec![hint.to_owned()]);
        return Ok(Reply { shape, warnings, ..Reply::default() });
    }
    let is_told = authorized.facts().is_some_and(|facts| facts.answer.shape == AnswerShape::Messages);
    if is_told && !request.takes_messages {
        return Err(Fault::invalid(NO_WEBSOCKET));
    }
    let upload = request.upload.take();
    let deadline = match upload {
        Some(_) => UPLOAD_DEADLINE,
        None => request.connection.request_time_max.unwrap_or(unsealed.handles.settings.request_time_max),
    };
    let cx = context(
        unsealed,
        txn,
        request,
        mount,
        authorized.principal(),
        authorized.operation(),
        authorized.has_sudo(),
        now,
    );
    let let_through = &mount.record.tuning.passthrough_request_headers;
    let headers = Headers::of(target.engine.header_use(), &request.headers, let_through);
    let cx = Cx { upload, headers, ..cx };
    // Decoding the input is behind the fence too.
    let handler = async {
        let handler = target.engine.invoke(target.route, authorized.operation(), cx, fields(request, authorized));
        handler.ok_or(Fault::Refusal(Refusal::Unsupported))?.await
    };
    let fenced = AssertUnwindSafe(handler).catch_unwind();
    tokio::select! {
        biased;
        answered = fenced => answered.unwrap_or_else(|_| Err(Fault::internal("a handler panicked"))),
        () = unsealed.gate.closed() => Err(Refusal::Sealed.into()),
        // What it wrote is dropped with its transaction, so it may be asked again.
        () = unsealed.clock.sleep(deadline) => Err(Refusal::Unavailable(TOO_LONG.into()).into()),
    }
}

/// What a handler of this mount is handed.
#[expect(clippy::too_many_arguments, reason = "the context is made of exactly these")]
pub(super) fn context<'a>(
    unsealed: &'a Unsealed,
    txn: &'a mut Txn,
    request: &'a Request,
    mount: &'a Mount,
    principal: Option<&'a Principal>,
    operation: Operation,
    has_sudo: bool,
    now: Timestamp,
) -> Cx<'a> {
    let token = principal.map(Principal::token);
    let record = token.map(|token| &token.record);
    // Nothing can hang on what is not stored.
    let stored = token.filter(|token| !token.is_batch());
    Cx {
        view: View::of_mount(txn, mount.contents.clone(), &mount.facts, &BESIDES),
        now,
        entropy: &*unsealed.doors.entropy,
        workers: &*unsealed.doors.workers,
        outgoing: &unsealed.doors.outgoing,
        net: &unsealed.doors.net,
        machine: Machine::new(&unsealed.doors.surroundings),
        keepers: Keepers::new(&unsealed.doors.custody),
        clock: &unsealed.doors.clock,
        caller: Caller {
            address: request.connection.peer_address,
            accessor: stored.map(|token| &token.record.accessor),
            home: record.map(|record| &record.namespace),
            policies: record.map_or(&[], |record| &record.policies),
            display_name: record.map_or("", |record| &record.display_name),
            token_key: stored.map(|token| token.hash.as_str()),
            held: match (principal, &request.token) {
                (None, Some(_)) => Held::refused(),
                (_, token) => Held::new(token.as_ref()),
            }
            .with(request),
            has_sudo,
            is_root: record.is_some_and(|record| record.is_root()),
        },
        mount: &mount.facts,
        operation,
        upload: None,
        headers: Headers::NONE,
    }
}

/// What the request brings to the route. Of a listing that a rule bounds, the bound is the limit when none was asked for.
fn fields(request: &Request, authorized: &Authorized<'_>) -> Fields {
    let (mut body, mut from_query) = (request.body.duplicate(), request.from_query.clone());
    if let Some(limit) = authorized.listing().limit {
        let asked = body.get("limit").and_then(shown::number).filter(|asked| *asked > 0);
        body.insert("limit".to_owned(), Body::from(asked.map_or(limit, |asked| limit.min(asked)).to_string()));
        from_query.retain(|name| name != "limit");
        from_query.push("limit".to_owned());
    }
    Fields { path: authorized.target().parameters.clone(), body, from_query }
}
