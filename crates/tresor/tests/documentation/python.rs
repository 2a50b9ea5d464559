//! A Python environment with hvac, made once below the target folder from pinned and hashed packages.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use tresor_services::python::environment;

static PYTHON: LazyLock<PathBuf> = LazyLock::new(|| {
    let pinned = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../conformance/client-requirements.txt");
    environment("python", Path::new(env!("CARGO_TARGET_TMPDIR")), &pinned).expect("hvac")
});

/// The interpreter.
pub(crate) fn python() -> &'static Path {
    &PYTHON
}
