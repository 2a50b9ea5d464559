//! `sys/explain*`: why a token may do something or may not, by which rule of which policy, and what would grant it.
//!
//! The answer is the decision that a request would get, with its reasons: one function makes both (`tresor-policy`). Whoever
//! holds a token may ask about it; about the tokens of others, whom policies let. Deliberately absent: whether what lies at
//! the path exists, and mounts that the token asked about cannot see.

use tresor_core::Space;
use tresor_core::mounts::LeadsTo;
use tresor_core::namespaces::Permissions;
use tresor_core::tokens::FoundToken;
use tresor_engine::{Access, Cx, Data, Widened};
use tresor_model::{Body, Fault, Map, Operation, Timestamp};
use tresor_policy::{Explanation, KV2_SEGMENTS, Matched, Parameters, PolicySet, Request, WRAPPING_POLICY};
use tresor_secret::SecretString;
use tresor_wire::input::{Input, Seconds};
use tresor_wire::output::Output;

use super::Sys;
use super::capabilities::named;

/// What to explain about the caller's own token.
#[derive(Input)]
pub(super) struct Asked {
    /// The path.
    path: String,
    /// The operation: create, read, update, write, patch, delete, list, scan or subscribe.
    operation: String,
    /// Parameters that would be sent.
    parameters: Option<Map>,
    /// How long the answer would be wrapped for.
    wrap_ttl: Option<Seconds>,
    /// The type of the event, for `subscribe`.
    event_type: Option<String>,
}

/// What to explain about a token.
#[derive(Input)]
pub(super) struct AskedOfToken {
    /// The token.
    token: SecretString,
    /// The path.
    path: String,
    /// The operation: create, read, update, write, patch, delete, list, scan or subscribe.
    operation: String,
    /// Parameters that would be sent.
    parameters: Option<Map>,
    /// How long the answer would be wrapped for.
    wrap_ttl: Option<Seconds>,
    /// The type of the event, for `subscribe`.
    event_type: Option<String>,
}

/// What to explain about the token of an accessor.
#[derive(Input)]
pub(super) struct AskedOfAccessor {
    /// The accessor.
    accessor: String,
    /// The path.
    path: String,
    /// The operation: create, read, update, write, patch, delete, list, scan or subscribe.
    operation: String,
    /// Parameters that would be sent.
    parameters: Option<Map>,
    /// How long the answer would be wrapped for.
    wrap_ttl: Option<Seconds>,
    /// The type of the event, for `subscribe`.
    event_type: Option<String>,
}

/// A decision and its reasons.
#[derive(Output)]
pub(super) struct Explained {
    /// Whether it may be done.
    allowed: bool,
    /// The path that policies decide on.
    path: String,
    /// The operation.
    operation: String,
    /// What decided, in a word.
    reason: String,
    /// What decided, in a sentence.
    explanation: String,
    /// The rule that decided: its path, capabilities, and policies with the place in their text.
    rule: Map,
    /// Rules that match too and decide nothing, because they are less specific.
    shadowed: Vec<Body>,
    /// The token's policies, and how each got attached.
    policies: Vec<Body>,
    /// A rule that would grant it, added to any of these policies; empty where none would.
    would_grant: String,
    /// What else may help.
    hints: Vec<String>,
}

pub(super) async fn of_caller(sys: &Sys, mut cx: Cx<'_>, input: Asked) -> Result<Data<Explained>, Fault> {
    let token = cx.caller.held.token(Widened::assertion()).ok_or_else(Fault::denied)?;
    let (now, space) = (cx.now, sys.space(&cx)?);
    let found = sys.handles.tokens.find(cx.view.widen(Widened::assertion()), &space.line, token, now)?;
    explain(sys, &space, &found.ok_or_else(Fault::denied)?, input, now)
}

pub(super) async fn of_token(sys: &Sys, mut cx: Cx<'_>, input: AskedOfToken) -> Result<Data<Explained>, Fault> {
    let AskedOfToken { token, path, operation, parameters, wrap_ttl, event_type } = input;
    let (now, space) = (cx.now, sys.space(&cx)?);
    let found = named(sys, cx.view.widen(Widened::assertion()), &space, &token, now)?;
    explain(sys, &space, &found, Asked { path, operation, parameters, wrap_ttl, event_type }, now)
}

pub(super) async fn of_accessor(sys: &Sys, mut cx: Cx<'_>, input: AskedOfAccessor) -> Result<Data<Explained>, Fault> {
    let AskedOfAccessor { accessor, path, operation, parameters, wrap_ttl, event_type } = input;
    let (now, space) = (cx.now, sys.space(&cx)?);
    let txn = cx.view.widen(Widened::assertion());
    let found = sys.handles.tokens.find_accessor(txn, &space.id, &accessor, now)?;
    let found = found.ok_or_else(|| Fault::invalid("invalid accessor"))?;
    explain(sys, &space, &found, Asked { path, operation, parameters, wrap_ttl, event_type }, now)
}

/// The operations that a word may turn out to be, the likelier first.
fn operations(word: &str) -> Result<&'static [Operation], Fault> {
    Ok(match word.trim().to_lowercase().as_str() {
        "read" | "get" => &[Operation::Read],
        "list" => &[Operation::List],
        "scan" => &[Operation::Scan],
        "create" => &[Operation::Create],
        "update" => &[Operation::Update],
        "write" | "put" | "post" => &[Operation::Update, Operation::Create],
        "patch" => &[Operation::Patch],
        "delete" => &[Operation::Delete],
        "subscribe" => &[Operation::Subscribe],
        _ => {
            return Err(Fault::invalid(
                "operation is create, read, update, write, patch, delete, list, scan or subscribe",
            ));
        }
    })
}

fn explain(
    sys: &Sys,
    space: &Space,
    token: &FoundToken,
    asked: Asked,
    now: Timestamp,
) -> Result<Data<Explained>, Fault> {
    let path = asked.path.trim_start_matches('/');
    if path.is_empty() {
        return Err(Fault::invalid("path must be supplied"));
    }
    let record = &token.record;
    let permissions = sys.handles.spaces.permissions(space, &record.namespace, &record.policies, now);
    let sent = asked.parameters.unwrap_or_default();
    let wrap_ttl_seconds = asked.wrap_ttl.map(|ttl| ttl.0.as_secs());
    let decide = |operation: Operation, leads: &LeadsTo| {
        let seen = permissions.asked(&leads.policy_path);
        let request = Request {
            path: (&*seen).into(),
            operation,
            parameters: Some(Parameters { sent: &sent, from_query: &[], fields: leads.fields }),
            wrap_ttl_seconds,
            is_protected: leads.access.asks_for_sudo() && operation != Operation::Subscribe,
            event_type: asked.event_type.as_deref(),
        };
        explained(permissions.set(), operation, &request, leads)
    };
    let candidates = operations(&asked.operation)?;
    let first = candidates.first().copied().unwrap_or(Operation::Read);
    let leads = space.mounts.leads_to(path, first);
    let mut explained = decide(first, &leads);
    if leads.tells_create
        && let Some(other) = candidates.get(1).copied()
    {
        let created = decide(other, &space.mounts.leads_to(path, other));
        if created.allowed != explained.allowed {
            let verdict = if created.allowed { "allowed" } else { "denied" };
            explained.hints.push(format!(
                "writing what is not there yet is `create`, which is {verdict}: {}",
                created.explanation
            ));
        }
    }
    explained.policies = policies(sys, token, now)?;
    if let Some(record) = space.record.as_ref().filter(|_| token.record.namespace != space.id) {
        let held = |name: &String| {
            sys.handles.spaces.of(&token.record.namespace).ok().map(|home| format!("{}{name}", home.path))
        };
        let held: Vec<String> = token.record.policies.iter().filter_map(held).collect();
        let outdated = sys.handles.spaces.outdated(record).into_iter().filter(|name| held.contains(name));
        explained.hints.extend(outdated.map(|name| {
            format!("`{name}` was written before the namespace `{}` was made, so its rules do not lead into it: write it again to mean it", record.path)
        }));
    }
    explained.hints.extend(kv2_hint(&permissions, path, first, asked.event_type.as_deref(), &leads));
    Ok(Data(explained))
}

fn explained(set: &PolicySet, operation: Operation, request: &Request<'_>, leads: &LeadsTo) -> Explained {
    let open = match leads.access {
        Access::Public | Access::Login => Some("needs no token"),
        Access::AnyToken => Some("is open to every valid token"),
        Access::Token | Access::Wrapping | Access::Sudo | Access::Shareholders(_) => None,
    };
    let explanation: Explanation<'_> = set.explain(request);
    let path = request.path.text.to_owned();
    let (allowed, reason, sentence) = match open {
        Some(why) => (true, "open", format!("`{}` on `{path}` {why}", operation.name())),
        None => {
            let allowed = explanation.decision.allowed_with_sudo().is_some();
            (allowed, explanation.reason(), explanation.sentence(operation, &path))
        }
    };
    Explained {
        allowed,
        path,
        operation: operation.name().to_owned(),
        reason: reason.to_owned(),
        explanation: sentence,
        rule: explanation.rule.filter(|_| open.is_none()).map(matched).unwrap_or_default(),
        shadowed: explanation.shadowed.iter().copied().map(|found| Body::Map(matched(found))).collect(),
        policies: Vec::new(),
        would_grant: explanation.would_grant.filter(|_| !allowed).unwrap_or_default(),
        hints: Vec::new(),
    }
}

fn words(capabilities: tresor_policy::Capabilities) -> Vec<String> {
    capabilities.iter().map(|one| one.name().to_owned()).collect()
}

fn matched(found: Matched<'_>) -> Map {
    let sources: Vec<Body> = found
        .sources
        .iter()
        .map(|source| {
            let place = Map::new()
                .with("name", source.policy.clone())
                .with("line", u64::try_from(source.position.line).unwrap_or(u64::MAX))
                .with("column", u64::try_from(source.position.column).unwrap_or(u64::MAX))
                .with("capabilities", words(source.grants));
            Body::Map(place)
        })
        .collect();
    Map::new()
        .with("path", found.pattern)
        .with("capabilities", words(found.capabilities))
        .with("policies", Body::List(sources))
}

/// The token's policies, how each got attached, and whether it is there.
fn policies(sys: &Sys, token: &FoundToken, now: Timestamp) -> Result<Vec<Body>, Fault> {
    let record = &token.record;
    let made = &record.path;
    let attached = match made.strip_prefix("auth/token/create/") {
        Some(role) => format!("by the token role `{role}`"),
        None if made.starts_with("auth/token/") => "when the token was created".to_owned(),
        None => format!("by the login at `{made}`"),
    };
    let table = sys.handles.spaces.of(&record.namespace)?.policies.table();
    let one = |name: &String| {
        let stored = table.policy(name, now);
        let state = match stored {
            _ if name == "root" || name == WRAPPING_POLICY => "in force",
            None => "absent",
            Some(stored) if stored.policy.is_none() => "unreadable",
            Some(_) => "in force",
        };
        let how = if name == "default" { "to every token that is not made without it" } else { attached.as_str() };
        Body::Map(Map::new().with("name", name.clone()).with("attached", how).with("state", state))
    };
    Ok(record.policies.iter().map(one).collect())
}

/// What is special about KV version 2, whose paths have a word that the command line leaves out; of mounts that the token
/// can see.
fn kv2_hint(
    permissions: &Permissions,
    path: &str,
    operation: Operation,
    event_type: Option<&str>,
    leads: &LeadsTo,
) -> Option<String> {
    let mount = leads.mount.as_ref()?;
    let at = &mount.record.path;
    let is_kv2 = mount.record.kind == "kv" && mount.record.options.get("version").is_some_and(|version| version == "2");
    if !is_kv2 || !permissions.reaches_below(at) {
        return None;
    }
    let rest = path.strip_prefix(at.as_str())?;
    let (first, name) = rest.split_once('/').unwrap_or((rest, ""));
    if !KV2_SEGMENTS.contains(&first) {
        return Some(format!(
            "`{at}` holds KV version 2: `{rest}` is read and written at `{at}data/{rest}`, and listed at `{at}metadata/{rest}`"
        ));
    }
    let short = format!("{}{at}{name}", permissions.way());
    let request = Request {
        path: tresor_policy::AskedPath::exact(&short),
        operation,
        parameters: None,
        wrap_ttl_seconds: None,
        is_protected: false,
        event_type,
    };
    let tresor_policy::Decision::Allowed { pattern: Some(pattern), .. } = permissions.set().decide(&request) else {
        return None;
    };
    let own = permissions.set().decide(&Request { path: (&*permissions.asked(&leads.policy_path)).into(), ..request });
    own.allowed_with_sudo().is_none().then(|| {
        format!("the rule for `{pattern}` would grant it, but for the `{first}/` that paths of KV version 2 have after `{at}`")
    })
}
