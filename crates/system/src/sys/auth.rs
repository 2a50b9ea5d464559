//! `sys/auth`: auth methods, mounted below `auth/`.

use tresor_engine::{Class, Cx, Mirrored, Nothing, Warned, Widened};
use tresor_model::{Fault, Map};
use tresor_wire::input::EmptyInput;

use super::Sys;
use super::mounts::{AtPath, Enable, MountShown, disable_class, enable_class, listing, show};

pub(super) async fn list(sys: &Sys, mut cx: Cx<'_>, _input: EmptyInput) -> Result<Mirrored<Map>, Fault> {
    Ok(listing(&sys.handles.mounts.stored_table(cx.view.widen(Widened::assertion()))?, Class::Auth))
}

pub(super) async fn read(sys: &Sys, mut cx: Cx<'_>, input: AtPath) -> Result<Mirrored<MountShown>, Fault> {
    show(&sys.handles.mounts.stored_table(cx.view.widen(Widened::assertion()))?, Class::Auth, &input.path)
}

pub(super) async fn enable(sys: &Sys, cx: Cx<'_>, input: Enable) -> Result<Warned<Nothing>, Fault> {
    enable_class(sys, cx, input, Class::Auth)
}

pub(super) async fn disable(sys: &Sys, cx: Cx<'_>, input: AtPath) -> Result<Nothing, Fault> {
    disable_class(sys, cx, &input.path, Class::Auth)
}
