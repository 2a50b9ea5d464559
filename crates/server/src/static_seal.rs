//! Reads the keys of the static seal from where the operator keeps them.
//!
//! A key is 32 bytes: as they are, in hexadecimal or in base64.
//! Deliberately absent: keeping a key: the node asks when it needs one.

use base64::Engine as _;
use base64::engine::general_purpose::{GeneralPurpose, STANDARD, URL_SAFE_NO_PAD};
use tresor_core::{StaticKey, StaticKeySource, StaticKeys};
use tresor_secret::DataKey;
use zeroize::Zeroizing;

use crate::config::{KeyPlace, KeyReference, StaticSealConfig};
use crate::place::{self, PlaceError, Variables};

/// Why a key cannot be read; names the key and its place, and shows nothing of it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeyError {
    /// It is not where it should be.
    #[error("the key `{id}` of the static seal: {error}")]
    Unreadable { id: String, error: PlaceError },
    /// It is no key.
    #[error(
        "the key `{id}` of the static seal: {place} holds no key: 32 bytes, as they are, in hexadecimal or in base64"
    )]
    NoKey { id: String, place: KeyPlace },
    /// One key under two ids.
    #[error("the keys `{current}` and `{previous}` of the static seal are one key: another id is no other key")]
    OneKey { current: String, previous: String },
}

/// The keys of a `seal "static"` stanza.
pub(crate) struct ConfiguredKeys {
    pub(crate) config: StaticSealConfig,
    pub(crate) variables: Variables,
}

impl StaticKeySource for ConfiguredKeys {
    fn read(&self) -> Result<StaticKeys, Box<dyn std::error::Error + Send + Sync>> {
        Ok(self.keys()?)
    }
}

impl ConfiguredKeys {
    fn keys(&self) -> Result<StaticKeys, KeyError> {
        let current = self.key(&self.config.current)?;
        // A key that is on its way out may be gone already; it is missed only where the current one opens nothing.
        let previous = match self.config.previous.as_ref().map(|reference| self.key(reference)).transpose() {
            Ok(previous) => previous,
            Err(error) => {
                tracing::warn!(%error, "going on without the previous key");
                None
            }
        };
        if let Some(previous) = &previous
            && previous.is_key_of(&current)
        {
            return Err(KeyError::OneKey { current: current.id().to_owned(), previous: previous.id().to_owned() });
        }
        Ok(StaticKeys { current, previous })
    }

    fn key(&self, reference: &KeyReference) -> Result<StaticKey, KeyError> {
        let (id, place) = (reference.id.clone(), reference.place.clone());
        let bytes = place::read(&reference.place, self.variables);
        let bytes = bytes.map_err(|error| KeyError::Unreadable { id: id.clone(), error })?;
        match decode(&bytes) {
            Some(key) => Ok(StaticKey::new(id, key)),
            None => Err(KeyError::NoKey { id, place }),
        }
    }
}

/// A key in any of its spellings. Exactly 32 bytes are the key, blanks included; around every other spelling there may
/// be blanks.
fn decode(bytes: &[u8]) -> Option<DataKey> {
    if let Ok(key) = <[u8; 32]>::try_from(bytes) {
        return Some(DataKey::new(key));
    }
    let text = bytes.trim_ascii();
    let mut key = Zeroizing::new([0; 32]);
    match text.len() {
        32 => key.copy_from_slice(text),
        43 => decode_base64(&URL_SAFE_NO_PAD, text, &mut key)?,
        44 => decode_base64(&STANDARD, text, &mut key)?,
        64 => hex::decode_to_slice(text, &mut *key).ok()?,
        _ => return None,
    }
    Some(DataKey::new(*key))
}

fn decode_base64(spelling: &GeneralPurpose, text: &[u8], key: &mut [u8; 32]) -> Option<()> {
    let decoded = Zeroizing::new(spelling.decode(text).ok()?);
    *key = decoded.as_slice().try_into().ok()?;
    Some(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]
    use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
    use std::path::{Path, PathBuf};
    use std::sync::Arc;

    use tresor_secret::SecretString;

    use super::*;

    const HEX: &str = "542a91c2aff86797e8dfa16adf86dcbea5706410791b319798936a1b08e4ef8b";

    fn raw() -> Vec<u8> {
        hex::decode(HEX).unwrap()
    }

    fn reference(id: &str, place: KeyPlace) -> KeyReference {
        KeyReference { id: id.to_owned(), place }
    }

    fn read(place: KeyPlace, variables: Variables) -> Result<StaticKeys, KeyError> {
        ConfiguredKeys { config: StaticSealConfig { current: reference("k", place), previous: None }, variables }.keys()
    }

    fn literal(text: &str) -> KeyPlace {
        KeyPlace::Literal(Arc::new(SecretString::new(text.to_owned())))
    }

    fn expected() -> StaticKey {
        StaticKey::new("k".to_owned(), DataKey::new(raw().try_into().unwrap()))
    }

    fn write(directory: &Path, name: &str, mode: u32, bytes: &[u8]) -> PathBuf {
        let path = directory.join(name);
        let file = std::fs::OpenOptions::new().create_new(true).write(true).mode(0o600).open(&path).unwrap();
        std::io::Write::write_all(&mut &file, bytes).unwrap();
        file.set_permissions(std::fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    #[test]
    fn a_key_is_read_in_every_spelling() {
        let directory = tempfile::tempdir().unwrap();
        let base64 = STANDARD.encode(raw());
        let spellings = [
            HEX.as_bytes().to_vec(),
            HEX.to_uppercase().into_bytes(),
            format!("  {HEX}\n").into_bytes(),
            base64.clone().into_bytes(),
            format!("{base64}\r\n").into_bytes(),
            URL_SAFE_NO_PAD.encode(raw()).into_bytes(),
            raw(),
            [raw().as_slice(), b"\n"].concat(),
        ];
        for (at, bytes) in spellings.iter().enumerate() {
            let path = write(directory.path(), &format!("key-{at}"), 0o600, bytes);
            let keys = read(KeyPlace::File(path), |_| None).unwrap_or_else(|error| panic!("{at}: {error}"));
            assert!(keys.current.is_key_of(&expected()), "{at}");
        }
        // Blanks are bytes of a key like any others.
        let blank = [b' '; 32];
        let path = write(directory.path(), "blank", 0o400, &blank);
        let keys = read(KeyPlace::File(path), |_| None).unwrap();
        assert!(keys.current.is_key_of(&StaticKey::new(String::new(), DataKey::new(blank))));
    }

    #[test]
    fn a_key_comes_from_a_variable_a_credential_or_the_configuration() {
        static CREDENTIALS: std::sync::OnceLock<PathBuf> = std::sync::OnceLock::new();
        let directory = tempfile::tempdir().unwrap();
        CREDENTIALS.set(directory.path().to_path_buf()).unwrap();
        let variables: Variables = |name| match name {
            "KEY" => Some(HEX.into()),
            "CREDENTIALS_DIRECTORY" => CREDENTIALS.get().map(|path| path.clone().into_os_string()),
            _ => None,
        };
        // The group bit of a credential is the mask of an access list, and says nothing.
        write(directory.path(), "unseal", 0o440, &raw());
        for place in [KeyPlace::Variable("KEY".to_owned()), KeyPlace::Credential("unseal".to_owned()), literal(HEX)] {
            assert!(read(place.clone(), variables).unwrap().current.is_key_of(&expected()), "{place}");
        }
        let missing = read(KeyPlace::Variable("NO".to_owned()), variables).err().unwrap();
        assert_eq!(missing.to_string(), "the key `k` of the static seal: env://NO is not set");
        let missing = read(KeyPlace::Credential("other".to_owned()), variables).err().unwrap();
        assert!(missing.to_string().contains("credential://other cannot be read: No such file"), "{missing}");
        let none = read(KeyPlace::Credential("unseal".to_owned()), |_| None).err().unwrap();
        assert!(none.to_string().contains("LoadCredential="), "{none}");
    }

    #[test]
    fn a_file_that_others_can_read_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        for (mode, is_taken) in [
            (0o400, true),
            (0o600, true),
            (0o640, true),
            (0o440, true),
            (0o644, false),
            (0o604, false),
            (0o660, false),
            (0o602, false),
            (0o777, false),
        ] {
            let path = write(directory.path(), &format!("{mode:o}"), mode, &raw());
            let result = read(KeyPlace::File(path), |_| None);
            match result {
                Ok(_) => assert!(is_taken, "{mode:o}"),
                Err(error) => {
                    assert!(!is_taken, "{mode:o}: {error}");
                    assert!(error.to_string().contains(&format!("{mode:04o}")), "{error}");
                }
            }
        }
    }

    #[test]
    fn what_is_no_key_is_refused_by_id_and_place_without_a_byte_of_it() {
        for text in ["canary", &HEX[1..], &format!("{HEX}00"), &"canary!!".repeat(8), &"=".repeat(44), &"é".repeat(32)]
        {
            let error = read(literal(text), |_| None).err().unwrap().to_string();
            assert!(error.contains("`k`") && error.contains("holds no key") && !error.contains("canary"), "{error}");
        }
        let directory = tempfile::tempdir().unwrap();
        let long = write(directory.path(), "long", 0o600, &[b'a'; 5000]);
        assert!(read(KeyPlace::File(long), |_| None).is_err());
        let error = read(KeyPlace::File(directory.path().to_path_buf()), |_| None).err().unwrap();
        assert!(error.to_string().ends_with("is no file"), "{error}");
    }

    #[test]
    fn another_id_is_another_key_and_a_previous_one_may_be_gone() {
        let keys = |previous: KeyPlace| {
            let config =
                StaticSealConfig { current: reference("b", literal(HEX)), previous: Some(reference("a", previous)) };
            ConfiguredKeys { config, variables: |_| None }.keys()
        };
        assert!(matches!(keys(literal(HEX)), Err(KeyError::OneKey { .. })));
        assert!(keys(literal(&HEX.replace('5', "6"))).unwrap().previous.is_some());
        assert!(keys(KeyPlace::File("/nowhere/at/all".into())).unwrap().previous.is_none());
    }
}
