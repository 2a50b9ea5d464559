//! `auth/token/`: the token store's endpoints; one file per thing that can be done to a token.
//!
//! Deliberately absent: what a token is (`tresor_core::tokens`).

mod create;
mod lookup;
mod renew;
mod revoke;
mod roles;
mod tidy;

use tresor_core::Handles;
use tresor_core::tokens::FoundToken;
use tresor_engine::{Access, Class, Cx, Descriptor, Engine, Routes, Widened};
use tresor_model::Fault;
use tresor_secret::{SecretString, TokenSecret};
use tresor_wire::input::Input;

/// The engine behind `auth/token/`.
pub(crate) struct TokenStore {
    handles: Handles,
}

/// A token in the body.
#[derive(Input)]
pub(super) struct ByToken {
    /// The token.
    token: Option<SecretString>,
}

/// A token in the path.
#[derive(Input)]
pub(super) struct InPath {
    /// The token.
    #[input(path, secret)]
    token: String,
}

/// A token by its handle.
#[derive(Input)]
pub(super) struct ByAccessor {
    /// The accessor.
    accessor: Option<String>,
}

/// The accessor that a request is about.
fn handle(accessor: Option<&String>) -> Result<&str, Fault> {
    let named = accessor.map(String::as_str).filter(|accessor| !accessor.is_empty());
    named.ok_or_else(|| Fault::invalid("missing accessor"))
}

/// The token that a request is about.
fn named(token: Option<&SecretString>) -> Result<&str, Fault> {
    let named = token.map(|token| token.expose().as_str()).filter(|token| !token.is_empty());
    named.ok_or_else(|| Fault::invalid("missing token ID"))
}

impl TokenStore {
    pub(crate) fn new(handles: &Handles) -> Self {
        Self { handles: handles.clone() }
    }

    /// The live token of the namespace with this text. One whose last use was taken is not alive, even while nobody has come to
    /// remove it.
    fn find(&self, cx: &mut Cx<'_>, text: &str) -> Result<Option<FoundToken>, Fault> {
        let Ok(token) = TokenSecret::parse(text) else { return Ok(None) };
        let now = cx.now;
        let homes = std::slice::from_ref(&cx.mount.namespace);
        let found = self.handles.tokens.find(cx.view.widen(Widened::assertion()), homes, &token, now)?;
        Ok(found.filter(|found| !found.is_used_up()))
    }

    /// A token as it is stored, alive or not.
    fn find_stored(&self, cx: &mut Cx<'_>, text: &str) -> Result<Option<FoundToken>, Fault> {
        let Ok(token) = TokenSecret::parse(text) else { return Ok(None) };
        self.handles.tokens.find_stored(cx.view.widen(Widened::assertion()), &cx.mount.namespace, &token)
    }

    /// The token of an accessor, alive or ended by itself: what was revoked must not come back when a later process tells
    /// an earlier time.
    fn to_revoke_by_accessor(&self, cx: &mut Cx<'_>, accessor: &str) -> Result<Option<FoundToken>, Fault> {
        let now = cx.now;
        let txn = cx.view.widen(Widened::assertion());
        let found = self.handles.tokens.stored_by_accessor(txn, &cx.mount.namespace, accessor)?;
        match found.filter(|found| found.record.is_expired(now)) {
            Some(ended) => Ok(Some(ended)),
            None => self.find_live(cx, accessor),
        }
    }

    /// The live token of an accessor, if there is one.
    fn find_live(&self, cx: &mut Cx<'_>, accessor: &str) -> Result<Option<FoundToken>, Fault> {
        let now = cx.now;
        let txn = cx.view.widen(Widened::assertion());
        let found = self.handles.tokens.find_accessor(txn, &cx.mount.namespace, accessor, now)?;
        Ok(found.filter(|found| !found.is_used_up()))
    }

    /// The live token of an accessor.
    fn find_accessor(&self, cx: &mut Cx<'_>, accessor: &str) -> Result<FoundToken, Fault> {
        self.find_live(cx, accessor)?.ok_or_else(|| Fault::invalid("invalid accessor"))
    }

    /// The caller's own token, which may belong to a namespace above.
    fn find_caller(&self, cx: &mut Cx<'_>) -> Result<FoundToken, Fault> {
        let token = cx.caller.held.token(Widened::assertion()).ok_or_else(Fault::denied)?;
        let now = cx.now;
        let line = &self.handles.spaces.of(&cx.mount.namespace)?.line;
        let txn = cx.view.widen(Widened::assertion());
        self.handles.tokens.find(txn, line, token, now)?.ok_or_else(Fault::denied)
    }
}

impl Engine for TokenStore {
    fn descriptor() -> &'static Descriptor {
        &Descriptor {
            kind: "token",
            class: Class::Auth,
            summary: "The token store makes, shows, renews and revokes tokens.",
        }
    }

    fn routes() -> Routes<Self> {
        Routes::new()
            .at("create", "Makes a child of the caller's token.")
            .open_to(Access::Token)
            .write(create::child)
            .at("create-orphan", "Makes a token without a parent.")
            .open_to(Access::Sudo)
            .write(create::orphan)
            .at("create/{role_name}", "Makes a token by a role.")
            .open_to(Access::Token)
            .write(create::by_role)
            .at("roles", "Lists the token roles.")
            .list(roles::list)
            .at("roles/{role_name}", "Shows, writes or deletes a token role.")
            .read(roles::read)
            .write(roles::write)
            .delete(roles::delete)
            .exists(roles::exists)
            .at("lookup", "Shows a token.")
            .open_to(Access::Token)
            .ask(lookup::by_token)
            .read(lookup::caller)
            .at("lookup/{token}", "Shows a token; the token in the path ends up in logs, use the body.")
            .read(lookup::in_path)
            .ask(lookup::in_path)
            .at("lookup-self", "Shows the caller's token.")
            .read(lookup::caller)
            .ask(lookup::caller)
            .at("lookup-accessor", "Shows the token of an accessor.")
            .ask(lookup::by_accessor)
            .at("accessors", "Lists the accessors of all tokens.")
            .open_to(Access::Sudo)
            .list(lookup::accessors)
            .at("tidy", "Removes what is left of tokens that are gone.")
            .write(tidy::tidy)
            .at("renew", "Renews a token.")
            .open_to(Access::Token)
            .write(renew::by_token)
            .at("renew-self", "Renews the caller's token.")
            .write(renew::caller)
            .at("renew-accessor", "Renews the token of an accessor.")
            .write(renew::by_accessor)
            .at("revoke", "Revokes a token and its descendants.")
            .write(revoke::by_token)
            .at("revoke-self", "Revokes the caller's token and its descendants.")
            .write(revoke::caller)
            .at("revoke-accessor", "Revokes the token of an accessor and its descendants.")
            .write(revoke::by_accessor)
            .at("revoke-orphan", "Revokes a token and makes its children orphans.")
            .open_to(Access::Sudo)
            .write(revoke::orphaning)
            .done()
    }
}
