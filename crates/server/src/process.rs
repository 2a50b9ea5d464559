//! What the process asks of the system: memory that is not swapped, no core dumps, a file with its id.

use std::path::{Path, PathBuf};

use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// Keeps keys out of core dumps. Failing is no reason not to start: the limit below is the second fence.
pub(crate) fn forbid_core_dumps() {
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        tracing::warn!(%error, "the process cannot be made undumpable");
    }
    if let Err(error) = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }) {
        tracing::warn!(%error, "core dumps cannot be switched off");
    }
}

/// Keeps all memory out of swap: each page from when it is used, or stacks and reserves that nobody touches would take
/// what they may become.
pub(crate) fn lock_memory() -> Result<(), String> {
    mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT).map_err(|error| {
        format!(
            "memory cannot be locked: {error}\n\nThe server keeps its keys out of swap by mlock. Give it the right to \
             (setcap cap_ipc_lock=+ep on the binary, or LimitMEMLOCK=infinity in its unit), or, where swap is off or \
             encrypted, set disable_mlock = true."
        )
    })
}

/// A file with the process id, removed at the end.
pub(crate) struct PidFile(PathBuf);

impl PidFile {
    pub(crate) fn write(path: &Path) -> std::io::Result<Self> {
        std::fs::write(path, format!("{}\n", std::process::id()))?;
        Ok(Self(path.to_path_buf()))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // Somebody else removed it: that was the aim.
        drop(std::fs::remove_file(&self.0));
    }
}
