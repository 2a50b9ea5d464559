//! Showing tokens: by text, by handle, the caller's own; and the list of handles.

use std::collections::BTreeMap;
use std::time::Duration;

use tresor_core::tokens::FoundToken;
use tresor_engine::token_fields::shown_ranges;
use tresor_engine::{Cx, Data, Keys, Widened};
use tresor_model::{Fault, Refusal, Timestamp};
use tresor_secret::SecretString;
use tresor_wire::input::{EmptyInput, Input};
use tresor_wire::output::Output;
use tresor_wire::time::rfc3339;

use super::{ByAccessor, InPath, TokenStore, handle};
use crate::pages::{Page, listed};

/// A token in the body; without one, the caller's.
#[derive(Input)]
pub(super) struct AnyToken {
    /// The token.
    token: Option<SecretString>,
}

/// A token.
#[derive(Output)]
pub(super) struct TokenShown {
    /// Its handle.
    accessor: String,
    /// When it was made, in seconds since the Unix epoch.
    creation_time: i64,
    /// Life at creation.
    creation_ttl: Duration,
    /// Shown in audit records.
    display_name: String,
    /// The entity; empty without one.
    entity_id: String,
    /// When it ends.
    expire_time: Option<String>,
    /// Its longest life, whatever the mount says.
    explicit_max_ttl: Duration,
    /// The token itself; empty when it was found by its handle.
    #[output(secret)]
    id: String,
    /// What is known of the holder.
    meta: Option<BTreeMap<String, String>>,
    /// Uses left; 0 means no limit.
    num_uses: u64,
    /// Whether it has no parent.
    orphan: bool,
    /// The path that made it.
    path: String,
    /// The token role that made it.
    #[output(optional)]
    role: Option<String>,
    /// Its policies.
    policies: Vec<String>,
    /// What is left of its life.
    ttl: Duration,
    /// Its kind.
    #[output(name = "type")]
    kind: &'static str,
    /// When it was made.
    issue_time: String,
    /// Whether it can be renewed.
    renewable: bool,
    /// When it was renewed last.
    #[output(optional)]
    last_renewal: Option<String>,
    /// The same, in seconds since the Unix epoch.
    #[output(optional)]
    last_renewal_time: Option<i64>,
    /// Renewable for ever by so much.
    #[output(optional)]
    period: Option<Duration>,
    /// The path of its namespace, for tokens of other namespaces than the root one.
    #[output(optional)]
    namespace_path: Option<String>,
    /// Addresses that it may be used from.
    #[output(optional)]
    bound_cidrs: Option<Vec<String>>,
}

/// What is shown of a token; `id` is known only to who knows it already.
fn show(store: &TokenStore, found: &FoundToken, id: &str, now: Timestamp) -> Data<TokenShown> {
    let record = &found.record;
    let space = store.handles.spaces.with_id(&record.namespace).filter(|space| !space.is_root());
    Data(TokenShown {
        accessor: record.accessor.as_str().to_owned(),
        creation_time: record.created.seconds(),
        creation_ttl: record.creation_ttl,
        display_name: record.display_name.clone(),
        entity_id: String::new(),
        expire_time: record.expires.map(rfc3339),
        explicit_max_ttl: record.explicit_max_ttl,
        id: id.to_owned(),
        meta: (!record.metadata.is_empty()).then(|| record.metadata.clone()),
        num_uses: found.uses_on_wire(),
        orphan: record.ancestors.is_empty(),
        path: record.path.clone(),
        role: record.role().map(str::to_owned),
        policies: record.policies.clone(),
        ttl: record.remaining(now).unwrap_or_default(),
        kind: record.token_type().name(),
        issue_time: rfc3339(record.created),
        // What never ends has nothing to be renewed.
        renewable: record.expires.is_some() && record.renewable,
        last_renewal: record.renewed.map(rfc3339),
        last_renewal_time: record.renewed.map(Timestamp::seconds),
        period: (!record.period.is_zero()).then_some(record.period),
        namespace_path: space.map(|space| space.path.clone()),
        bound_cidrs: (!record.bound_cidrs.is_empty()).then(|| shown_ranges(&record.bound_cidrs)),
    })
}

pub(super) async fn by_token(store: &TokenStore, mut cx: Cx<'_>, input: AnyToken) -> Result<Data<TokenShown>, Fault> {
    // Who names no token means their own.
    let text = input.token.as_ref().map_or("", |token| token.expose());
    if text.is_empty() {
        return caller(store, cx, EmptyInput).await;
    }
    let found = store.find(&mut cx, text)?.ok_or_else(bad_token)?;
    Ok(show(store, &found, text, cx.now))
}

pub(super) async fn in_path(store: &TokenStore, mut cx: Cx<'_>, input: InPath) -> Result<Data<TokenShown>, Fault> {
    let found = store.find(&mut cx, &input.token)?.ok_or_else(bad_token)?;
    Ok(show(store, &found, &input.token, cx.now))
}

pub(super) async fn caller(store: &TokenStore, mut cx: Cx<'_>, _input: EmptyInput) -> Result<Data<TokenShown>, Fault> {
    let found = store.find_caller(&mut cx)?;
    let id = cx.caller.held.token(Widened::assertion()).ok_or_else(Fault::denied)?;
    Ok(show(store, &found, id.expose(), cx.now))
}

pub(super) async fn by_accessor(
    store: &TokenStore,
    mut cx: Cx<'_>,
    input: ByAccessor,
) -> Result<Data<TokenShown>, Fault> {
    let found = store.find_accessor(&mut cx, handle(input.accessor.as_ref())?)?;
    Ok(show(store, &found, "", cx.now))
}

pub(super) async fn accessors(store: &TokenStore, cx: Cx<'_>, page: Page) -> Result<Keys, Fault> {
    let (now, tokens, namespace) = (cx.now, &store.handles.tokens, cx.mount.namespace.clone());
    listed(cx, page, |txn, after, at_most| tokens.accessors(txn, &namespace, after, at_most, now)).await
}

/// A token that is not alive looks the same whether it ever was.
fn bad_token() -> Fault {
    Refusal::Foreign("bad token".into()).into()
}
