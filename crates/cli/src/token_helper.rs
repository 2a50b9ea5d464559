//! The token that a login leaves behind: a file that its owner alone can read, or whatever a helper program does with it.
//!
//! A helper is a program that `~/.vault` or `~/.bao` names (`token_helper`), called with `get`, `store` or `erase`, as those
//! of the original are. Deliberately absent: a helper of our own.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tresor_secret::{SecretString, TokenSecret};

use crate::environment::Environment;

const FILE_NAME: &str = ".vault-token";
/// The longest token that a file or a helper is read for.
const TOKEN_BYTES_MAX: u64 = 64 * 1024;

/// Where a token is kept.
pub(crate) enum TokenStore {
    /// In a file of mode 0600.
    File(PathBuf),
    /// By a program: a command line of the shell.
    Program(String),
    /// Nowhere: there is no home directory.
    Nowhere,
}

impl TokenStore {
    /// The one outside of contexts.
    pub(crate) fn usual(environment: &Environment) -> io::Result<Self> {
        if let Some(path) = environment.variable("VAULT_TOKEN_PATH") {
            return Ok(Self::File(PathBuf::from(path)));
        }
        let Some(home) = environment.home() else { return Ok(Self::Nowhere) };
        for name in [".bao", ".vault"] {
            if let Some(program) = helper_of(&home.join(name))? {
                return Ok(Self::Program(program));
            }
        }
        Ok(Self::File(home.join(FILE_NAME)))
    }

    /// Keeps a token for later commands.
    pub(crate) fn store(&self, token: &TokenSecret) -> io::Result<()> {
        match self {
            Self::File(path) => write_privately(path, token.expose().as_bytes()),
            Self::Program(program) => call(program, "store", Some(token)).map(|_| ()),
            Self::Nowhere => Err(io::Error::new(io::ErrorKind::NotFound, "no home directory: HOME is not set")),
        }
    }

    /// The kept token, if there is one.
    pub(crate) fn load(&self) -> io::Result<Option<TokenSecret>> {
        let text = match self {
            Self::File(path) => match fs::read_to_string(path) {
                Ok(text) => SecretString::new(text),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(error),
            },
            Self::Program(program) => call(program, "get", None)?,
            Self::Nowhere => return Ok(None),
        };
        match text.expose().trim() {
            "" => Ok(None),
            token => TokenSecret::parse(token)
                .map(Some)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string())),
        }
    }

    /// Keeps none any more.
    pub(crate) fn forget(&self) -> io::Result<()> {
        match self {
            Self::File(path) => match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            },
            Self::Program(program) => call(program, "erase", None).map(|_| ()),
            Self::Nowhere => Ok(()),
        }
    }

    /// Its place, for people.
    pub(crate) fn shown(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Program(program) => program.clone(),
            Self::Nowhere => "nobody".to_owned(),
        }
    }
}

/// Keeps a token for later commands outside of contexts.
///
/// # Errors
/// When `HOME` is not set or the token cannot be kept.
pub fn store_token(environment: &Environment, token: &TokenSecret) -> io::Result<()> {
    TokenStore::usual(environment)?.store(token)
}

/// Writes a file of mode 0600, replaced in one step, below directories that its owner alone can look into.
pub(crate) fn write_privately(target: &Path, bytes: &[u8]) -> io::Result<()> {
    if let Some(parent) = target.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
    }
    let mut name = target.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let fresh = target.with_file_name(name);
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut out = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
    let written = out.write_all(bytes).and_then(|()| out.sync_all()).and_then(|()| fs::rename(&fresh, target));
    if written.is_err() {
        let _ = fs::remove_file(&fresh);
    }
    written
}

/// The helper that a configuration of the command line names.
fn helper_of(file: &Path) -> io::Result<Option<String>> {
    let text = match fs::read_to_string(file) {
        Ok(text) => text,
        // Where a directory has the name, it is something else.
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::IsADirectory) => return Ok(None),
        Err(error) => return Err(error),
    };
    let wrong = |error: String| io::Error::new(io::ErrorKind::InvalidData, format!("{}: {error}", file.display()));
    let document = tresor_hcl::parse(&text).map_err(|error| wrong(error.problem.to_string()))?;
    let Some(value) = document.value("token_helper") else { return Ok(None) };
    let program = value.as_string("token_helper").map_err(|error| wrong(error.to_string()))?;
    Ok(Some(program).filter(|program| !program.trim().is_empty()))
}

/// Calls a helper; what it printed.
fn call(program: &str, what: &str, token: Option<&TokenSecret>) -> io::Result<SecretString> {
    let failed = |text: String| io::Error::other(format!("the token helper `{program} {what}` {text}"));
    let mut shell = Command::new("/bin/sh");
    shell.arg("-c").arg(format!("{program} {what}"));
    shell.stdin(if token.is_some() { Stdio::piped() } else { Stdio::null() });
    let mut child =
        shell.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().map_err(|error| failed(error.to_string()))?;
    if let (Some(token), Some(mut input)) = (token, child.stdin.take()) {
        input.write_all(token.expose().as_bytes())?;
    }
    let mut text = String::new();
    if let Some(output) = child.stdout.take() {
        output.take(TOKEN_BYTES_MAX).read_to_string(&mut text)?;
    }
    let text = SecretString::new(text);
    let status = child.wait()?;
    if status.success() { Ok(text) } else { Err(failed(format!("failed: {status}"))) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn token(text: &str) -> TokenSecret {
        TokenSecret::parse(text).unwrap()
    }

    #[test]
    fn kept_token_is_readable_by_its_owner_alone_even_over_an_open_file() {
        let home = tempfile::tempdir().unwrap();
        let environment = Environment::of_pairs([("HOME", home.path().to_str().unwrap())]);
        let store = TokenStore::usual(&environment).unwrap();
        assert!(store.load().unwrap().is_none());
        fs::write(home.path().join(FILE_NAME), "old\n").unwrap();
        fs::set_permissions(home.path().join(FILE_NAME), fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(store.load().unwrap().unwrap().expose(), "old");
        store_token(&environment, &token("hvs.new")).unwrap();
        assert_eq!(fs::metadata(home.path().join(FILE_NAME)).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_to_string(home.path().join(FILE_NAME)).unwrap(), "hvs.new");
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_token_is_where_a_variable_says() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("elsewhere/token");
        let environment = Environment::of_pairs([
            ("HOME", home.path().to_str().unwrap()),
            ("BAO_TOKEN_PATH", path.to_str().unwrap()),
        ]);
        store_token(&environment, &token("hvs.x")).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "hvs.x");
        let store = TokenStore::usual(&environment).unwrap();
        store.forget().unwrap();
        assert!(store.load().unwrap().is_none() && !path.exists());
    }

    #[test]
    fn a_helper_program_gets_stores_and_erases() {
        let home = tempfile::tempdir().unwrap();
        let kept = home.path().join("kept");
        let script = home.path().join("helper");
        let text = "#!/bin/sh\ncase \"$1\" in\nget) cat KEPT 2>/dev/null || true ;;\nstore) cat > KEPT ;;\nerase) rm KEPT ;;\nesac\n";
        fs::write(&script, text.replace("KEPT", kept.to_str().unwrap())).unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(home.path().join(".vault"), format!("token_helper = \"{}\"\n", script.display())).unwrap();
        let environment = Environment::of_pairs([("HOME", home.path().to_str().unwrap())]);
        let store = TokenStore::usual(&environment).unwrap();
        assert!(store.load().unwrap().is_none());
        store.store(&token("hvs.x")).unwrap();
        assert_eq!(store.load().unwrap().unwrap().expose(), "hvs.x");
        assert!(!home.path().join(FILE_NAME).exists());
        store.forget().unwrap();
        assert!(!kept.exists());
        let refused = store.forget().unwrap_err().to_string();
        assert!(refused.contains("helper erase` failed"), "{refused}");
        fs::write(home.path().join(".vault"), "token_helper = [").unwrap();
        assert!(TokenStore::usual(&environment).is_err(), "a broken file is told, not passed over");
    }
}
