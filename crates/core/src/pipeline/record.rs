//! Steps 8 and 12: the record of the request before its effect, the record of the response before the answer.
//!
//! Refusals are recorded like everything else. When the local audit log cannot take a record, the request is refused
//! (before) or its answer withheld (after). Deliberately absent: redaction, which belongs to each device.

use std::borrow::Cow;
use std::time::Duration;

use tresor_audit::{
    Admission, Audited, AuthFacts, Exempt, GrantingPolicy, Handle, Head, HeldRequest, MountFacts, NamespaceFacts,
    PolicyResults, RequestEntry, RequestFacts, ResponseEntry, ResponseFacts,
};
use tresor_model::{Fault, Operation, Refusal, Request, Response, Timestamp};
use tresor_wire::input::Place;

use super::Outcome;
use super::authenticate::Principal;
use super::authorize::Authorized;
use super::route::{Routed, Target, operation_candidates};
use crate::mounts::record::StoredClass;
use crate::tokens::FoundToken;
use crate::unsealed::Unsealed;

/// What the records say of the caller and of the decision.
pub(super) struct Seen {
    token: Option<FoundToken>,
    operation: Option<Operation>,
    refusal: Option<String>,
    allowed: bool,
    /// The names of the policies that grant it.
    granting: Vec<String>,
    /// How long the path is from the token's namespace to the one that is asked.
    way: usize,
}

impl Seen {
    /// Nobody is known yet.
    pub(super) const fn nothing() -> Self {
        Self { token: None, operation: None, refusal: None, allowed: false, granting: Vec::new(), way: 0 }
    }

    pub(super) fn of(identity: &Option<Principal>) -> Self {
        let way = identity.as_ref().map_or(0, |principal| principal.permissions().way().len());
        Self { token: identity.as_ref().map(|principal| principal.token().clone()), way, ..Self::nothing() }
    }

    /// Notes what was decided.
    pub(super) fn note(&mut self, authorized: &Result<Authorized<'_>, Fault>) {
        match authorized {
            Ok(authorized) => {
                self.operation = Some(authorized.operation());
                self.allowed = true;
                self.granting = authorized.granting_policies().map(str::to_owned).collect();
            }
            Err(fault) => self.refuse(fault),
        }
    }

    /// Notes that the request is refused.
    pub(super) fn refuse(&mut self, fault: &Fault) {
        self.refusal = Some(fault.to_string());
    }

    /// Who asks and for what, as far as it is seen.
    fn head(&self, unsealed: &Unsealed, request: &Request, routed: &Routed, now: Timestamp) -> Head {
        let facts = self.request(request, routed);
        let facts = unsealed.handles.edge.audited(facts, |facts, wanted| facts.with_headers(request, wanted));
        Head::new(&self.auth(request, routed, now), &facts)
    }

    fn auth<'a>(&'a self, request: &'a Request, routed: &'a Routed, now: Timestamp) -> AuthFacts<'a> {
        let Some(token) = &self.token else { return AuthFacts::default() };
        let record = &token.record;
        // Policies are those of the token's namespace, which is the request's or lies above it.
        let above = routed.space.path.len().saturating_sub(self.way);
        let home = NamespaceFacts {
            id: record.namespace.as_str().into(),
            path: routed.space.path.get(..above).unwrap_or_default().into(),
        };
        let granting = |name: &'a String| GrantingPolicy {
            name: name.as_str().into(),
            namespace_id: home.id.clone(),
            namespace_path: home.path.clone(),
            kind: "acl".into(),
        };
        AuthFacts {
            client_token: request.token.as_ref().map(Into::into),
            accessor: handle(token),
            display_name: record.display_name.as_str().into(),
            policies: Cow::Borrowed(&record.policies),
            token_policies: Cow::Borrowed(&record.policies),
            policy_results: Some(PolicyResults {
                allowed: self.allowed,
                granting_policies: self.granting.iter().map(granting).collect(),
            }),
            metadata: (!record.metadata.is_empty()).then_some(Cow::Borrowed(&record.metadata)),
            num_uses: token.uses_on_wire(),
            remaining_uses: token.uses_on_wire(),
            token_type: Some(record.token_type()),
            // In whole seconds, as devices show it: so of one caller the same is recorded, and shown, for a second.
            token_ttl: Duration::from_secs(record.remaining(now).map_or(0, |rest| rest.as_secs())),
            token_issue_time: Some(record.created),
            ..AuthFacts::default()
        }
    }

    fn request<'a>(&'a self, request: &'a Request, routed: &'a Routed) -> RequestFacts<'a> {
        let operation =
            self.operation.or(operation_candidates(request.verb).first().copied()).unwrap_or(Operation::Read);
        let mut facts = RequestFacts::from_request(request, operation);
        if let Ok(target) = &routed.target {
            facts.path = match shown_path(request.path.as_str(), target) {
                Cow::Borrowed(path) => path.into(),
                Cow::Owned(path) => path.into(),
            };
        }
        facts.client_token_accessor = self.token.as_ref().and_then(handle);
        facts.namespace =
            NamespaceFacts { id: routed.space.id.as_str().into(), path: routed.space.path.as_str().into() };
        let Some(mount) = &routed.mount else { return facts };
        let class = if mount.record.class == StoredClass::Auth { "auth" } else { "secret" };
        let at = MountFacts::new(&mount.record.path, &mount.record.kind, mount.record.accessor.as_str(), class);
        facts.with_mount(at, &mount.record.tuning.audit_non_hmac_request_keys)
    }
}

/// The handle of a token; batch tokens have none.
fn handle(token: &FoundToken) -> Option<Handle<'_>> {
    (!token.is_batch()).then(|| token.record.accessor.as_str().into())
}

/// The path as it is recorded: devices show paths in the clear, so a parameter that is a secret of any of the route's
/// operations (the token of an old client's look-up) is shown by its name.
fn shown_path<'p>(path: &'p str, target: &Target) -> Cow<'p, str> {
    let fields = target.operations.values().flat_map(|facts| facts.fields);
    let secrets = fields.filter(|field| field.place == Place::Path && field.secret);
    secrets.fold(Cow::Borrowed(path), |path, field| match target.parameters.get(field.name) {
        Some(secret) if !secret.is_empty() => path.replace(secret.as_str(), &format!("{{{}}}", field.name)).into(),
        _ => path,
    })
}

/// What is left to do for the record of a request when its answer is recorded.
#[derive(Default)]
pub(super) struct Recorded {
    /// What the record of the answer begins with, too; `None` where nobody records.
    head: Option<Head>,
    /// The rest of it, if it waits for the record of the answer.
    held: Option<HeldRequest>,
}

impl Recorded {
    /// What was seen then is not what counts now.
    pub(super) fn forget_head(&mut self) {
        self.head = None;
    }
}

/// Records the request; afterwards, and only then, it may have an effect. The record of one that cannot have any
/// (`has_effect`) waits for that of its answer: one record says both.
pub(super) async fn request(
    unsealed: &Unsealed,
    request: &Request,
    routed: &Routed,
    seen: &Seen,
    has_effect: bool,
    now: Timestamp,
) -> Result<Recorded, Fault> {
    if !unsealed.handles.audits.is_enabled() {
        return Ok(Recorded::default());
    }
    let head = seen.head(unsealed, request, routed, now);
    // Managing audit devices must stay possible when a device does not drain, for those who may: nobody else can use
    // up the reserve.
    let mends_audit = seen.allowed && routed.target.as_ref().is_ok_and(|target| target.mends_audit);
    let entry = RequestEntry {
        time: now,
        head: &head,
        error: seen.refusal.as_deref().unwrap_or("").into(),
        admission: if mends_audit { Admission::Reserve } else { Admission::Ordinary },
    };
    if !has_effect {
        let held = Some(entry.hold());
        return Ok(Recorded { head: Some(head), held });
    }
    let (metrics, began) = (&unsealed.handles.metrics, unsealed.handles.metrics.moment());
    let recorded = unsealed.handles.audits.record_request(&entry).await;
    metrics.log_request.observe(metrics.since(began));
    if recorded.is_err() {
        metrics.log_request_failure.add(1);
    }
    recorded?;
    Ok(Recorded { head: Some(head), held: None })
}

/// Records the response and gives back the answer that may leave. Without the head of its request's record, it is made
/// of what is seen now.
pub(super) async fn response(
    unsealed: &Unsealed,
    request: &Request,
    routed: &Routed,
    seen: &Seen,
    recorded: Recorded,
    outcome: Outcome,
) -> Audited<Outcome> {
    let now = unsealed.clock.now();
    let no_keys = Vec::new();
    let keys = routed.mount.as_ref().map_or(&no_keys, |mount| &mount.record.tuning.audit_non_hmac_response_keys);
    let (metrics, began) = (&unsealed.handles.metrics, unsealed.handles.metrics.moment());
    let is_enabled = unsealed.handles.audits.is_enabled();
    let was_done = outcome.is_ok();
    // The entry borrows from the outcome that the witness then carries: write first, hand over after.
    let written = unsealed.handles.audits.encode_response(|| {
        let head = recorded.head.unwrap_or_else(|| seen.head(unsealed, request, routed, now));
        let error = outcome.as_ref().err().map(ToString::to_string).unwrap_or_default();
        let nothing = Response::default();
        let response = &ResponseFacts::from_response(outcome.as_ref().unwrap_or(&nothing), keys);
        ResponseEntry { time: now, head, request: recorded.held, response, error: error.as_str().into() }.write()
    });
    let audited = unsealed.handles.audits.record_response(written, outcome).await;
    if is_enabled {
        metrics.log_response.observe(metrics.since(began));
        // An answer that could not be recorded is withheld.
        if was_done && audited.value().is_err() {
            metrics.log_response_failure.add(1);
        }
    }
    audited
}

/// Records a request that is refused before it is known who asks, and its answer.
pub(super) async fn refused(
    unsealed: &Unsealed,
    request: &Request,
    routed: &Routed,
    fault: Fault,
    now: Timestamp,
) -> Audited<Outcome> {
    let mut seen = Seen::nothing();
    seen.refuse(&fault);
    match self::request(unsealed, request, routed, &seen, false, now).await {
        Ok(recorded) => response(unsealed, request, routed, &seen, recorded, Err(fault)).await,
        Err(fault) => unrecorded(fault),
    }
}

/// The answer of a route on the list of unaudited ones.
pub(super) fn exempt(outcome: Outcome) -> Audited<Outcome> {
    Audited::exempt(outcome, Exempt::UnauditedRoute)
}

/// The refusal of a request that was not let in, so that nothing is known to record it with.
pub(super) fn never_admitted(refusal: Refusal) -> Audited<Outcome> {
    Audited::exempt(Err(refusal.into()), Exempt::NeverAdmitted)
}

/// The refusal of a request that could not be recorded.
pub(super) fn unrecorded(fault: Fault) -> Audited<Outcome> {
    Audited::exempt(Err(fault), Exempt::NeverAdmitted)
}
