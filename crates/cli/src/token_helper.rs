//! The token that a login leaves behind: one file in the home directory, readable by its owner alone.
//!
//! Deliberately absent: external helper programs.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use tresor_secret::{SecretString, TokenSecret};

use crate::environment::Environment;

const FILE_NAME: &str = ".vault-token";

fn file(environment: &Environment) -> io::Result<PathBuf> {
    let home = environment
        .home()
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no home directory: HOME is not set"))?;
    Ok(home.join(FILE_NAME))
}

/// Keeps a token for later commands in `~/.vault-token`, mode 0600, replaced in one step.
///
/// # Errors
/// When `HOME` is not set or the file cannot be written.
pub fn store_token(environment: &Environment, token: &TokenSecret) -> io::Result<()> {
    let target = file(environment)?;
    let fresh = target.with_file_name(format!("{FILE_NAME}.{}.tmp", std::process::id()));
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut out = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
    let written = out
        .write_all(token.expose().as_bytes())
        .and_then(|()| out.sync_all())
        .and_then(|()| fs::rename(&fresh, &target));
    if written.is_err() {
        let _ = fs::remove_file(&fresh);
    }
    written
}

/// The kept token, if there is one.
pub(crate) fn load_token(environment: &Environment) -> io::Result<Option<TokenSecret>> {
    let Ok(path) = file(environment) else { return Ok(None) };
    let text = match fs::read_to_string(&path) {
        Ok(text) => SecretString::new(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    match text.expose().trim() {
        "" => Ok(None),
        token => TokenSecret::parse(token)
            .map(Some)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn kept_token_is_readable_by_its_owner_alone_even_over_an_open_file() {
        let home = tempfile::tempdir().unwrap();
        let environment = Environment::of_pairs([("HOME", home.path().to_str().unwrap())]);
        assert!(load_token(&environment).unwrap().is_none());
        fs::write(home.path().join(FILE_NAME), "old\n").unwrap();
        fs::set_permissions(home.path().join(FILE_NAME), fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(load_token(&environment).unwrap().unwrap().expose(), "old");
        store_token(&environment, &TokenSecret::parse("hvs.new").unwrap()).unwrap();
        assert_eq!(fs::metadata(home.path().join(FILE_NAME)).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_to_string(home.path().join(FILE_NAME)).unwrap(), "hvs.new");
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1);
    }
}
