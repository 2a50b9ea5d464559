//! `sys/storage-status`: whether the store takes writes, when it was last looked through for damage, and how old the last
//! scheduled snapshot is.

use tresor_core::Condition;
use tresor_engine::{Cx, Data};
use tresor_model::Fault;
use tresor_wire::input::EmptyInput;
use tresor_wire::output::Output;
use tresor_wire::time::rfc3339;

use super::Sys;

/// How the store is doing.
#[derive(Output)]
pub(super) struct StorageStatus {
    /// Whether it takes writes: `writable`, `low-space`, `behind`, `impaired`, `damaged`, `stopped`, `unreachable`, `taken` or `fenced`.
    condition: &'static str,
    /// What is damaged, by file and offset.
    #[output(optional)]
    damage: Option<String>,
    /// How many times everything was looked through since the server started.
    scrubs: u64,
    /// How many pages were compared with their checksums the last time.
    scrubbed_pages: u64,
    /// How many seconds ago that ended.
    #[output(optional)]
    scrubbed_seconds_ago: Option<u64>,
    /// How old the last scheduled snapshot is that is whole and was restored once, in seconds.
    #[output(optional)]
    snapshot_age_seconds: Option<u64>,
    /// When it was taken.
    #[output(optional)]
    snapshot_taken: Option<String>,
    /// Why the last attempt to take one failed, when it did.
    #[output(optional)]
    snapshot_error: Option<String>,
}

pub(super) async fn status(sys: &Sys, cx: Cx<'_>, _input: EmptyInput) -> Result<Data<StorageStatus>, Fault> {
    let condition = match sys.handles.storage.condition() {
        Condition::Writable => "writable",
        Condition::LowSpace { .. } => "low-space",
        Condition::Behind => "behind",
        Condition::Impaired => "impaired",
        Condition::Damaged => "damaged",
        Condition::Stopped => "stopped",
        Condition::Unreachable => "unreachable",
        Condition::Taken => "taken",
        Condition::Fenced => "fenced",
    };
    let scheduled = sys.handles.snapshots.scheduled();
    let scrubbed = sys.handles.storage.scrubbed();
    Ok(Data(StorageStatus {
        condition,
        damage: scrubbed.damage.map(|damage| damage.to_string()),
        scrubs: scrubbed.passes,
        scrubbed_pages: scrubbed.pages,
        scrubbed_seconds_ago: scrubbed.ended_ago.map(|ago| ago.as_secs()),
        snapshot_age_seconds: scheduled.taken.map(|taken| cx.now.since(taken).as_secs()),
        snapshot_taken: scheduled.taken.map(rfc3339),
        snapshot_error: scheduled.error,
    }))
}
