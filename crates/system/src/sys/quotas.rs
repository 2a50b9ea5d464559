//! `sys/quotas/lease-count`: how many tokens and leases may be alive, altogether or of one mount.
//!
//! Deliberately absent: quotas on rates ([`rates`](super::rates)), and quotas on paths within a mount or on roles.

use tresor_core::quotas::QuotaRecord;
use tresor_engine::{Cx, Data, Keys, Nothing, Widened};
use tresor_model::Fault;
use tresor_wire::input::{EmptyInput, Input};
use tresor_wire::output::Output;

use super::Sys;

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
    /// The mount that it is about; without one, the whole server.
    #[input(default = "")]
    path: String,
    /// How many tokens and leases there may be.
    max_leases: i64,
    /// Roles are not counted apart.
    #[input(default = "")]
    role: String,
    /// There are no child namespaces.
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
    /// The mount that it is about.
    path: String,
    /// How many there may be.
    max_leases: u64,
    /// How many there are.
    counter: u64,
    /// Always empty: roles are not counted apart.
    role: String,
}

pub(super) async fn list(sys: &Sys, mut cx: Cx<'_>, _input: EmptyInput) -> Result<Keys, Fault> {
    let stored = sys.handles.quotas.stored(cx.view.widen(Widened::assertion()))?;
    Ok(Keys(stored.into_keys().collect()))
}

pub(super) async fn read(sys: &Sys, mut cx: Cx<'_>, input: ByName) -> Result<Option<Data<Shown>>, Fault> {
    let txn = cx.view.widen(Widened::assertion());
    let Some(quota) = sys.handles.quotas.stored(txn)?.remove(&input.name) else { return Ok(None) };
    let counter = match &quota.mount {
        Some(mount) => match sys.handles.spaces.with_mount(mount) {
            Some((space, _)) => sys.handles.tokens.live(txn, &space.id)?.get(mount).copied().unwrap_or(0),
            None => 0,
        },
        None => sys.handles.tokens.live_everywhere(txn)?,
    };
    let QuotaRecord { name, path, max_leases, .. } = quota;
    Ok(Some(Data(Shown { name, kind: "lease-count", path, max_leases, counter, role: String::new() })))
}

pub(super) async fn write(sys: &Sys, mut cx: Cx<'_>, input: Write) -> Result<Nothing, Fault> {
    let max_leases = u64::try_from(input.max_leases).ok().filter(|max| *max > 0);
    let max_leases = max_leases.ok_or_else(|| Fault::invalid("'max_leases' must be a positive number"))?;
    if !input.role.is_empty() {
        return Err(Fault::invalid("quotas on roles are not available"));
    }
    // There are no child namespaces to inherit it.
    let _ = input.inheritable;
    let txn = cx.view.widen(Widened::assertion());
    let path = input.path.trim_matches('/');
    let (path, mount) = if path.is_empty() {
        (String::new(), None)
    } else {
        let path = format!("{path}/");
        let found = sys.mount_behind(&path).filter(|(_, _, rest)| rest.is_empty());
        let nothing = || Fault::invalid(format!("no mount at {path:?}: quotas are on mounts"));
        let (mount, path, _) = found.ok_or_else(nothing)?;
        (path, Some(mount.record.id.clone()))
    };
    sys.handles.quotas.write(txn, &QuotaRecord { name: input.name, path, mount, max_leases })?;
    Ok(Nothing)
}

pub(super) async fn delete(sys: &Sys, mut cx: Cx<'_>, input: ByName) -> Result<Nothing, Fault> {
    sys.handles.quotas.delete(cx.view.widen(Widened::assertion()), &input.name)?;
    Ok(Nothing)
}
