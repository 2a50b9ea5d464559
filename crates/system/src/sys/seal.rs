//! `sys/seal`: asks the node to seal itself; it does so once the answer is recorded, before the answer leaves.

use tresor_engine::answer::Then;
use tresor_engine::reply::Afterwards;
use tresor_engine::{Cx, Nothing, Widened};
use tresor_model::Fault;
use tresor_wire::input::EmptyInput;

use super::Sys;

pub(super) async fn seal(_sys: &Sys, _cx: Cx<'_>, _input: EmptyInput) -> Result<Then<Nothing>, Fault> {
    Ok(Then::new(Nothing, Afterwards::Seal, Widened::assertion()))
}
