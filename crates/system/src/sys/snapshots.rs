//! `sys/storage/raft/snapshot`: what is stored, as one file and back.
//!
//! The path is the one that clients know, whatever the storage. A restore is recorded before it begins, staged while
//! everything goes on, and swapped in by the node once its answer is recorded. Deliberately absent: any look at what is
//! inside, which is sealed.

use tresor_core::snapshots::Foreign;
use tresor_engine::answer::{Streamed, Then};
use tresor_engine::reply::Afterwards;
use tresor_engine::{Cx, Nothing, Widened};
use tresor_model::Fault;
use tresor_wire::input::EmptyInput;

use super::Sys;

/// Where snapshots are taken and restored.
pub(super) const PATH: &str = "storage/raft/snapshot";
/// Where those of other clusters are.
pub(super) const PATH_OF_FORCE: &str = "storage/raft/snapshot-force";

pub(super) async fn take(sys: &Sys, cx: Cx<'_>, _input: EmptyInput) -> Result<Streamed, Fault> {
    Ok(Streamed(sys.handles.snapshots.take(cx.now).await?))
}

pub(super) async fn restore(sys: &Sys, cx: Cx<'_>, _input: EmptyInput) -> Result<Then<Nothing>, Fault> {
    staged(sys, cx, Foreign::Refused).await
}

pub(super) async fn restore_any(sys: &Sys, cx: Cx<'_>, _input: EmptyInput) -> Result<Then<Nothing>, Fault> {
    staged(sys, cx, Foreign::Taken).await
}

async fn staged(sys: &Sys, cx: Cx<'_>, foreign: Foreign) -> Result<Then<Nothing>, Fault> {
    let upload = cx.upload.ok_or_else(|| Fault::internal("a snapshot came as JSON"))?;
    sys.handles.snapshots.stage(upload, foreign).await?;
    Ok(Then::new(Nothing, Afterwards::Restore, Widened::assertion()))
}
