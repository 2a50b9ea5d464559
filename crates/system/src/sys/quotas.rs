//! `sys/quotas/lease-count`: how many tokens and leases may be alive, altogether, in a namespace or of one mount.
//!
//! Paths are those of the namespace that is asked; quotas elsewhere are not seen. Deliberately absent: quotas on rates ([`rates`](super::rates)), and quotas on paths within a mount or on roles.

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
    /// The namespace or mount that it is about; without one, the whole server.
    #[input(default = "")]
    path: String,
    /// How many tokens and leases there may be.
    max_leases: i64,
    /// Roles are not counted apart.
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
    /// The namespace or mount that it is about.
    path: String,
    /// How many there may be.
    max_leases: u64,
    /// How many there are.
    counter: u64,
    /// Whether namespaces below have it too.
    inheritable: bool,
    /// Always empty: roles are not counted apart.
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
    let QuotaRecord { name, path, max_leases, inheritable, .. } = quota;
    Ok(Some(Data(Shown { name, kind: "lease-count", path, max_leases, counter, inheritable, role: String::new() })))
}

pub(super) async fn write(sys: &Sys, mut cx: Cx<'_>, input: Write) -> Result<Nothing, Fault> {
    let max_leases = u64::try_from(input.max_leases).ok().filter(|max| *max > 0);
    let max_leases = max_leases.ok_or_else(|| Fault::invalid("'max_leases' must be a positive number"))?;
    if !input.role.is_empty() {
        return Err(Fault::invalid("quotas on roles are not available"));
    }
    let target = Target::find(sys, &cx, &input.path)?;
    if !target.rest.is_empty() {
        return Err(Fault::invalid(format!("no mount at {:?}: quotas are on namespaces and mounts", input.path)));
    }
    let about = target.about();
    let is_root = about == About::Namespace(NamespaceId::root());
    let inheritable = input.inheritable.unwrap_or(is_root);
    if is_root && !inheritable {
        return Err(Fault::invalid("a lease count quota without a path is one of the whole server: it is inheritable"));
    }
    must_be_known(sys, &mut cx, &input.name)?;
    let quota = QuotaRecord { name: input.name, path: target.path(), about, max_leases, inheritable };
    sys.handles.quotas.write(cx.view.widen(Widened::assertion()), &quota)?;
    Ok(Nothing)
}

/// Refuses to change a quota that this namespace does not see.
fn must_be_known(sys: &Sys, cx: &mut Cx<'_>, name: &str) -> Result<(), Fault> {
    let stored = sys.handles.quotas.stored(cx.view.widen(Widened::assertion()))?;
    must_be_ones_own(sys, cx, stored.get(name).map(|known| &known.about))
}

pub(super) async fn delete(sys: &Sys, mut cx: Cx<'_>, input: ByName) -> Result<Nothing, Fault> {
    must_be_known(sys, &mut cx, &input.name)?;
    sys.handles.quotas.delete(cx.view.widen(Widened::assertion()), &input.name)?;
    Ok(Nothing)
}
