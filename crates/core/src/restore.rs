//! A snapshot takes the place of what is stored, on a node that is sealed.
//!
//! The local audit log is the node's own and stays. But it is sealed by keys of the cluster whose records it holds: before
//! another cluster's state comes in it is set aside, whole, or nothing could be recorded under the new keys. Deliberately
//! absent: verifying the snapshot, which was done when it was staged.

use std::io;
use std::path::{Path, PathBuf};

use tresor_env::tasks::run_blocking;
use tresor_env::{Disk, Doors};
use tresor_model::Fault;

use crate::snapshots::Staged;

/// How often another name is tried for what is set aside.
const NAMES_MAX: u32 = 10_000;

/// Swaps it in; the node must be sealed.
///
/// # Errors
/// When that fails. What was stored is there then, and so is the audit log.
pub(crate) async fn swap_in(doors: &Doors, audit_log: Option<&Path>, staged: Staged) -> Result<(), Fault> {
    let disk = std::sync::Arc::clone(&doors.disk);
    let audit_log = audit_log.filter(|_| staged.is_foreign).map(Path::to_path_buf);
    let swapped = run_blocking(&*doors.workers, move || {
        // Before, because a process that ends in between must not come up with a log that its keys do not open.
        let aside = audit_log.map(|from| set_aside(&*disk, &from).map(|to| (from, to))).transpose()?;
        let finished = staged.install.finish();
        if finished.is_err()
            && let Some((from, to)) = aside
        {
            move_files(&*disk, &to, &from)?;
        }
        finished.map_err(Fault::internal)
    });
    swapped.await.map_err(Fault::internal)??;
    tracing::info!("a snapshot took the place of what was stored");
    Ok(())
}

/// Moves what is in the log's directory into one beside it, which is named.
fn set_aside(disk: &dyn Disk, log: &Path) -> Result<PathBuf, Fault> {
    let name = log.file_name().unwrap_or_default().to_string_lossy().into_owned();
    for number in 1..=NAMES_MAX {
        let aside = log.with_file_name(format!("{name}-of-before-{number}"));
        disk.create_directory(&aside).map_err(Fault::internal)?;
        if disk.names(&aside).map_err(Fault::internal)?.is_empty() {
            move_files(disk, log, &aside)?;
            tracing::warn!(directory = %aside.display(), "the audit log of the cluster of before is set aside");
            return Ok(aside);
        }
    }
    Err(Fault::internal("there are too many audit logs that were set aside"))
}

fn move_files(disk: &dyn Disk, from: &Path, to: &Path) -> Result<(), Fault> {
    let moved = || {
        let names = match disk.names(from) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            names => names?,
        };
        names.iter().try_for_each(|name| disk.rename(&from.join(name), &to.join(name)))?;
        disk.sync_directory(to)?;
        disk.sync_directory(from)
    };
    moved().map_err(Fault::internal)
}
