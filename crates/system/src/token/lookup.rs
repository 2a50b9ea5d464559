//! Showing tokens: by text, by handle, the caller's own; and the list of handles.

use tresor_core::tokens::FoundToken;
use tresor_engine::{Cx, Reply, Widened};
use tresor_model::{Body, Fault, Map, Timestamp, map};
use tresor_wire::input::EmptyInput;
use tresor_wire::time::rfc3339;

use super::{ByAccessor, ByToken, InPath, TokenStore};

/// What is shown of a token; `id` is known only to who knows it already.
fn show(found: &FoundToken, id: &str, now: Timestamp) -> Reply {
    let record = &found.record;
    let time = |at: Option<Timestamp>| at.map(rfc3339);
    let metadata = (!record.metadata.is_empty()).then(|| {
        record.metadata.iter().map(|(name, value)| (name.clone(), Body::from(value.as_str()))).collect::<Map>()
    });
    let mut data = map! {
        "accessor" => record.accessor.as_str(),
        "creation_time" => record.created.seconds(),
        "creation_ttl" => record.creation_ttl.as_secs(),
        "display_name" => record.display_name.as_str(),
        "entity_id" => "",
        "expire_time" => time(record.expires),
        "explicit_max_ttl" => record.explicit_max_ttl.as_secs(),
        "id" => id,
        "meta" => metadata,
        "num_uses" => record.uses.on_wire(),
        "orphan" => record.parent.is_none(),
        "path" => record.path.as_str(),
        "policies" => record.policies.clone(),
        "ttl" => record.remaining(now).unwrap_or_default().as_secs(),
        "type" => record.token_type().name(),
    };
    if record.expires.is_some() {
        data.insert("issue_time", rfc3339(record.created));
        data.insert("renewable", record.renewable);
    }
    if let Some(renewed) = record.renewed {
        data.insert("last_renewal", rfc3339(renewed));
        data.insert("last_renewal_time", renewed.seconds());
    }
    if !record.period.is_zero() {
        data.insert("period", record.period.as_secs());
    }
    if !record.bound_cidrs.is_empty() {
        data.insert("bound_cidrs", record.bound_cidrs.clone());
    }
    Reply::data(data)
}

pub(super) async fn by_token(store: &TokenStore, mut cx: Cx<'_>, input: ByToken) -> Result<Reply, Fault> {
    let found = store.find(&mut cx, input.token.expose())?.ok_or_else(bad_token)?;
    Ok(show(&found, input.token.expose(), cx.now))
}

pub(super) async fn in_path(store: &TokenStore, mut cx: Cx<'_>, input: InPath) -> Result<Reply, Fault> {
    let found = store.find(&mut cx, &input.token)?.ok_or_else(bad_token)?;
    Ok(show(&found, &input.token, cx.now))
}

pub(super) async fn caller(store: &TokenStore, mut cx: Cx<'_>, _input: EmptyInput) -> Result<Reply, Fault> {
    let found = store.find_caller(&mut cx)?;
    let id = cx.caller.held.token(Widened::assertion()).ok_or_else(Fault::denied)?;
    Ok(show(&found, id.expose(), cx.now))
}

pub(super) async fn by_accessor(store: &TokenStore, mut cx: Cx<'_>, input: ByAccessor) -> Result<Reply, Fault> {
    let found = store.find_accessor(&mut cx, &input.accessor)?;
    Ok(show(&found, "", cx.now))
}

pub(super) async fn accessors(store: &TokenStore, mut cx: Cx<'_>, _input: EmptyInput) -> Result<Reply, Fault> {
    let now = cx.now;
    Ok(Reply::keys(store.handles.tokens.accessors(cx.view.widen(Widened::assertion()), now)?))
}

/// A token that is not alive looks the same whether it ever was.
pub(super) const fn bad_token() -> Fault {
    Fault::denied()
}
