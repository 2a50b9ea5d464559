//! Tidying tokens: handles that lead to no token are removed, in the background.

use tresor_core::leases::record::JobWork;
use tresor_engine::answer::Accepted;
use tresor_engine::{Cx, Warned, Widened};
use tresor_model::Fault;
use tresor_wire::input::EmptyInput;

use super::TokenStore;

pub(super) async fn tidy(store: &TokenStore, mut cx: Cx<'_>, _input: EmptyInput) -> Result<Warned<Accepted>, Fault> {
    let (now, entropy, space) = (cx.now, cx.entropy, store.handles.spaces.of(&cx.mount.namespace)?);
    store.handles.leases.order(cx.view.widen(Widened::assertion()), &space, JobWork::TidyTokens, "", now, entropy)?;
    Ok(Warned(Accepted, vec!["Tidy operation successfully started. Any information from the operation will be printed to the server's logs.".to_owned()]))
}
