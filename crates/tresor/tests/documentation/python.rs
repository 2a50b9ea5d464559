//! A Python environment with hvac, made once below the target folder from pinned and hashed packages.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

static PYTHON: LazyLock<PathBuf> = LazyLock::new(prepare);

/// The interpreter.
pub(crate) fn python() -> &'static Path {
    &PYTHON
}

fn prepare() -> PathBuf {
    let place = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let pinned = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../conformance/client-requirements.txt");
    let wanted = std::fs::read_to_string(&pinned).expect("the list of pinned packages");
    let environment = place.join("python");
    let python = environment.join("bin/python3");
    let stamp = place.join("python-installed");
    if python.exists() && std::fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return python;
    }
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&environment));
    run(Command::new(&python)
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes", "-r"])
        .arg(&pinned));
    std::fs::write(&stamp, wanted).expect("a note of what is installed");
    python
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
