//! Reads a secret from where the operator keeps it: a file, a variable, a credential of the service manager, or the
//! configuration itself.
//!
//! A file that everybody on the machine can read, or others can write, is refused: it would give the secret to them. A group
//! may read it, as the orchestrators do that mount secrets for a service's group; what the service manager hands out as a
//! credential is guarded by it. Deliberately absent: what the secret is, and keeping it.

use std::ffi::OsString;
use std::io::Read;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::config::KeyPlace;

/// How far a file is read at most: the longest spelling of a key or a token, and some blanks.
const BYTES_MAX: u64 = 16 * 1024;

/// Where the service manager puts credentials.
const CREDENTIALS_DIRECTORY: &str = "CREDENTIALS_DIRECTORY";

/// The bits of a file's mode that nobody but owner and group may have, and that the group may not.
const MODE_TOO_OPEN: u32 = 0o027;

/// Why a secret cannot be read; names its place, and shows nothing of it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PlaceError {
    /// The variable is not set.
    #[error("{0} is not set")]
    NoVariable(KeyPlace),
    /// The service was given no credentials.
    #[error("{0} needs LoadCredential= in the service's unit")]
    NoCredentials(KeyPlace),
    /// The file cannot be read.
    #[error("{place} cannot be read: {error}")]
    Unreadable { place: KeyPlace, error: std::io::Error },
    /// It is a directory, a pipe or the like.
    #[error("{0} is no file")]
    NoFile(KeyPlace),
    /// Too many can read or change it.
    #[error(
        "{place} has the mode {mode:04o}: others must not read it, nor anybody but its owner write it (chmod 0600)"
    )]
    TooOpen { place: KeyPlace, mode: u32 },
}

/// Variables of the process, by name.
pub(crate) type Variables = fn(&str) -> Option<OsString>;

/// Who keeps others from a file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Guard {
    /// Its mode.
    Mode,
    /// The service manager: what it shows as mode is not all it does.
    Manager,
}

/// The bytes that are there now. Blocking.
pub(crate) fn read(place: &KeyPlace, variables: Variables) -> Result<Zeroizing<Vec<u8>>, PlaceError> {
    match place {
        KeyPlace::Literal(text) => Ok(Zeroizing::new(text.expose().as_bytes().to_vec())),
        KeyPlace::Variable(name) => {
            let value = variables(name).ok_or_else(|| PlaceError::NoVariable(place.clone()))?;
            Ok(Zeroizing::new(value.into_vec()))
        }
        KeyPlace::File(path) => read_file(path, Guard::Mode, place),
        KeyPlace::Credential(name) => {
            let directory = variables(CREDENTIALS_DIRECTORY).ok_or_else(|| PlaceError::NoCredentials(place.clone()))?;
            read_file(&PathBuf::from(directory).join(name), Guard::Manager, place)
        }
    }
}

fn read_file(path: &Path, guard: Guard, place: &KeyPlace) -> Result<Zeroizing<Vec<u8>>, PlaceError> {
    let unreadable = |error| PlaceError::Unreadable { place: place.clone(), error };
    // Opening a pipe would wait for whoever writes into it.
    if !std::fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(PlaceError::NoFile(place.clone()));
    }
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let mode = file.metadata().map_err(unreadable)?.permissions().mode() & 0o7777;
    if guard == Guard::Mode && mode & MODE_TOO_OPEN != 0 {
        return Err(PlaceError::TooOpen { place: place.clone(), mode });
    }
    // As large as it can become, so that it is not moved about.
    let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(BYTES_MAX).unwrap_or(0) + 1));
    file.take(BYTES_MAX).read_to_end(&mut bytes).map_err(unreadable)?;
    Ok(bytes)
}
