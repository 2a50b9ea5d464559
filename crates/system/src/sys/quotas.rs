//! `sys/quotas/lease-count`: how many tokens and leases may be alive, altogether, in a namespace, of one mount, of a path
//! below it, or of the logins of a role.
//!
//! Paths are those of the namespace that is asked; quotas elsewhere are not seen. Deliberately absent: quotas on rates
//! ([`rates`](super::rates)), and counting.

use tresor_core::quotas::{About, QuotaRecord};
use tresor_engine::{Cx, Data, Keys, Nothing, Widened};
use tresor_model::Fault;
use tresor_model::ids::NamespaceId;
use tresor_wire::input::{EmptyInput, Input};
use tresor_wire::output::Output;

use super::Sys;
use super::quota_target::{Target, must_be_ones_own, seen};

/// A quota by name.
#[derive(Input)]
pub(super) struct ByName {
    /// Its name.
    #[input(path)]
    name: String,
}

/// A quota to write.
#[derive(Input)]
pub(super) struct Write {
    /// Its name.
    #[input(path)]
    name: String,
    /// What it is about: a namespace, a mount, or a path below one, which may end in a star; without one, the whole server.
    #[input(default = "")]
    path: String,
    /// How many tokens and leases there may be.
    max_leases: i64,
    /// The role of an auth method whose logins it is about.
    #[input(default = "")]
    role: String,
    /// Whether a namespace hands it down to those below it.
    inheritable: Option<bool>,
}

/// A quota as it is shown.
#[derive(Output)]
pub(super) struct Shown {
    /// Its name.
    name: String,
    /// Its kind.
    #[output(name = "type")]
    kind: &'static str,
    /// What it is about.
    path: String,
    /// How many there may be.
    max_leases: u64,
    /// How many there are.
    counter: u64,
    /// Whether namespaces below have it too.
    inheritable: bool,
    /// The role whose logins it is about; empty for none.
    role: String,
}

/// The quotas on what is still there, each with where that is now.
fn standing(sys: &Sys, cx: &mut Cx<'_>) -> Result<Vec<QuotaRecord>, Fault> {
    let stored = sys.handles.quotas.stored(cx.view.widen(Widened::assertion()))?;
    let mut standing = Vec::new();
    for quota in stored.into_values() {
        standing.extend(seen(sys, cx, &quota.about)?.map(|path| QuotaRecord { path, ..quota }));
    }
    Ok(standing)
}

pub(super) async fn list(sys: &Sys, mut cx: Cx<'_>, _input: EmptyInput) -> Result<Keys, Fault> {
    Ok(Keys(standing(sys, &mut cx)?.into_iter().map(|quota| quota.name).collect()))
}

pub(super) async fn read(sys: &Sys, mut cx: Cx<'_>, input: ByName) -> Result<Option<Data<Shown>>, Fault> {
    let Some(quota) = standing(sys, &mut cx)?.into_iter().find(|quota| quota.name == input.name) else {
        return Ok(None);
    };
    let counter = sys.handles.tokens.counted(cx.view.widen(Widened::assertion()), &quota)?;
    let QuotaRecord { name, path, max_leases, inheritable, suffix, role, .. } = quota;
    let path = [path, suffix].concat();
    Ok(Some(Data(Shown { name, kind: "lease-count", path, max_leases, counter, inheritable, role })))
}

pub(super) async fn write(sys: &Sys, mut cx: Cx<'_>, input: Write) -> Result<Nothing, Fault> {
    let max_leases = u64::try_from(input.max_leases).ok().filter(|max| *max > 0);
    let max_leases = max_leases.ok_or_else(|| Fault::invalid("'max_leases' must be a positive number"))?;
    let target = Target::find(sys, &cx, &input.path)?;
    if !input.role.is_empty() {
        target.must_have_roles(sys, &mut cx)?;
    }
    let about = target.about();
    if input.inheritable == Some(true) && target.mount.is_some() {
        return Err(Fault::invalid("only the quota of a namespace can be inheritable"));
    }
    let inheritable = input.inheritable.unwrap_or(about == About::Namespace(NamespaceId::root()));
    must_be_known(sys, &mut cx, &input.name)?;
    let path = target.path();
    let (suffix, role, number) = (target.rest, input.role, String::new());
    let quota = QuotaRecord { name: input.name, path, about, max_leases, inheritable, suffix, role, number };
    let (txn, quotas) = (cx.view.widen(Widened::assertion()), &sys.handles.quotas);
    sys.handles.leases.set_quota(txn, quotas, quota, cx.now, cx.entropy)?;
    Ok(Nothing)
}

/// Refuses to change a quota that this namespace does not see.
fn must_be_known(sys: &Sys, cx: &mut Cx<'_>, name: &str) -> Result<(), Fault> {
    let stored = sys.handles.quotas.stored(cx.view.widen(Widened::assertion()))?;
    must_be_ones_own(sys, cx, stored.get(name).map(|known| &known.about))
}

pub(super) async fn delete(sys: &Sys, mut cx: Cx<'_>, input: ByName) -> Result<Nothing, Fault> {
    must_be_known(sys, &mut cx, &input.name)?;
    let (txn, quotas) = (cx.view.widen(Widened::assertion()), &sys.handles.quotas);
    sys.handles.leases.remove_quota(txn, quotas, &input.name)?;
    Ok(Nothing)
}
