//! What operators keep by name in a namespace, as it is listed, read and deleted, whatever it is.
//!
//! Deliberately absent: what each kind is made of.

use tresor_core::named::{Kept, Named};
use tresor_engine::{Cx, Keys, Nothing, Widened};
use tresor_model::{Fault, Refusal};
use tresor_wire::input::Input;

use crate::pages::Page;

/// One by name.
#[derive(Input)]
pub(super) struct ByName {
    /// Its name.
    #[input(path)]
    pub(super) name: String,
}

pub(super) fn list<R: Kept>(kept: &Named<R>, mut cx: Cx<'_>, input: &Page) -> Result<Keys, Fault> {
    let namespace = cx.mount.namespace.clone();
    let txn = cx.view.widen(Widened::assertion());
    Ok(Keys(kept.names(txn, &namespace, input.after.as_deref(), input.limit.0)?))
}

/// One that is there.
pub(super) fn read<R: Kept>(kept: &Named<R>, mut cx: Cx<'_>, input: &ByName) -> Result<R, Fault> {
    let namespace = cx.mount.namespace.clone();
    let found = kept.read(cx.view.widen(Widened::assertion()), &namespace, &input.name)?;
    found.ok_or_else(|| Refusal::Absent("policy does not exist".into()).into())
}

pub(super) fn write<R: Kept>(kept: &Named<R>, mut cx: Cx<'_>, name: &str, record: &R) -> Result<Nothing, Fault> {
    let namespace = cx.mount.namespace.clone();
    kept.write(cx.view.widen(Widened::assertion()), &namespace, name, record)?;
    Ok(Nothing)
}

pub(super) fn delete<R: Kept>(kept: &Named<R>, mut cx: Cx<'_>, input: &ByName) -> Result<Nothing, Fault> {
    let namespace = cx.mount.namespace.clone();
    kept.delete(cx.view.widen(Widened::assertion()), &namespace, &input.name)?;
    Ok(Nothing)
}
