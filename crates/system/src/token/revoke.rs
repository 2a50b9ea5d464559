//! Revoking tokens. Revoking what is not there succeeds by text (it is gone, which is what was asked for) and is an
//! error by handle.

use tresor_core::tokens::FoundToken;
use tresor_engine::{Cx, Nothing, Widened};
use tresor_model::Fault;
use tresor_wire::input::EmptyInput;

use super::{ByAccessor, ByToken, TokenStore};

fn revoke(store: &TokenStore, cx: &mut Cx<'_>, found: &FoundToken) -> Result<Nothing, Fault> {
    let now = cx.now;
    store.handles.tokens.revoke(cx.view.widen(Widened::assertion()), found, now)?;
    Ok(Nothing)
}

pub(super) async fn by_token(store: &TokenStore, mut cx: Cx<'_>, input: ByToken) -> Result<Nothing, Fault> {
    match store.find_stored(&mut cx, input.token.expose())? {
        Some(found) => revoke(store, &mut cx, &found),
        None => Ok(Nothing),
    }
}

pub(super) async fn caller(store: &TokenStore, mut cx: Cx<'_>, _input: EmptyInput) -> Result<Nothing, Fault> {
    let found = store.find_caller(&mut cx)?;
    revoke(store, &mut cx, &found)
}

pub(super) async fn by_accessor(store: &TokenStore, mut cx: Cx<'_>, input: ByAccessor) -> Result<Nothing, Fault> {
    let found = store.to_revoke_by_accessor(&mut cx, &input.accessor)?;
    revoke(store, &mut cx, &found)
}

pub(super) async fn orphaning(store: &TokenStore, mut cx: Cx<'_>, input: ByToken) -> Result<Nothing, Fault> {
    let found = store.find(&mut cx, input.token.expose())?;
    let found = found.ok_or_else(|| Fault::invalid("token to revoke not found"))?;
    let now = cx.now;
    store.handles.tokens.revoke_orphaning(cx.view.widen(Widened::assertion()), &found, now)?;
    Ok(Nothing)
}
