//! Environments of Python: made once, from pinned and hashed packages, below the target folder.
//!
//! Deliberately absent: which packages; that is a file of who needs them.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The interpreter of an environment called `name`, in which the packages of a file are installed.
///
/// # Errors
/// Text that says what did not work.
pub fn environment(name: &str, place: &Path, pinned: &Path) -> Result<PathBuf, String> {
    let wanted = std::fs::read_to_string(pinned).map_err(|error| format!("{}: {error}", pinned.display()))?;
    let environment = place.join(name);
    let python = environment.join("bin/python3");
    let stamp = place.join(format!("{name}-installed"));
    if python.exists() && std::fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(python);
    }
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&environment))?;
    run(Command::new(&python)
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes", "-r"])
        .arg(pinned))?;
    std::fs::write(&stamp, wanted).map_err(|error| error.to_string())?;
    Ok(python)
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    let failed = || format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    if output.status.success() { Ok(()) } else { Err(failed()) }
}
