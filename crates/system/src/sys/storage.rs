//! `sys/storage-status`: whether the store takes writes, and when it was last looked through for damage.

use tresor_core::Condition;
use tresor_engine::{Cx, Data};
use tresor_model::Fault;
use tresor_wire::input::EmptyInput;
use tresor_wire::output::Output;

use super::Sys;

/// How the store is doing.
#[derive(Output)]
pub(super) struct StorageStatus {
    /// Whether it takes writes: `writable`, `low-space`, `behind`, `damaged` or `stopped`.
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
}

pub(super) async fn status(sys: &Sys, _cx: Cx<'_>, _input: EmptyInput) -> Result<Data<StorageStatus>, Fault> {
    let condition = match sys.handles.storage.condition() {
        Condition::Writable => "writable",
        Condition::LowSpace { .. } => "low-space",
        Condition::Behind => "behind",
        Condition::Damaged => "damaged",
        Condition::Stopped => "stopped",
    };
    let scrubbed = sys.handles.storage.scrubbed();
    Ok(Data(StorageStatus {
        condition,
        damage: scrubbed.damage,
        scrubs: scrubbed.passes,
        scrubbed_pages: scrubbed.pages,
        scrubbed_seconds_ago: scrubbed.ended_ago.map(|ago| ago.as_secs()),
    }))
}
