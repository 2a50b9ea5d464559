//! `sys/auth`: auth methods, mounted below `auth/`.

use tresor_core::lockout;
use tresor_engine::{Class, Cx, Mirrored, Nothing, Warned, Widened};
use tresor_model::{Fault, Map};
use tresor_wire::input::EmptyInput;

use super::Sys;
use super::mounts::{AtPath, Enable, MountShown, disable_class, enable_class, entry, find_shown, listing};

pub(super) async fn list(sys: &Sys, mut cx: Cx<'_>, _input: EmptyInput) -> Result<Mirrored<Map>, Fault> {
    let lockouts = lockout::every(cx.view.widen(Widened::assertion()))?;
    Ok(listing(&sys.space(&cx)?.mounts.table(), Class::Auth, &lockouts))
}

pub(super) async fn read(sys: &Sys, mut cx: Cx<'_>, input: AtPath) -> Result<Mirrored<MountShown>, Fault> {
    let table = sys.space(&cx)?.mounts.table();
    let mount = find_shown(&table, Class::Auth, &input.path)?;
    let lockout = lockout::tuned(cx.view.widen(Widened::assertion()), &mount.record.id)?;
    Ok(Mirrored(entry(mount, lockout.as_ref())))
}

pub(super) async fn enable(sys: &Sys, cx: Cx<'_>, input: Enable) -> Result<Warned<Nothing>, Fault> {
    enable_class(sys, cx, input, Class::Auth)
}

pub(super) async fn disable(sys: &Sys, cx: Cx<'_>, input: AtPath) -> Result<Nothing, Fault> {
    disable_class(sys, cx, &input.path, Class::Auth)
}
