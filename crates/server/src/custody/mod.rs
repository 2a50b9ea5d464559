//! Keys that others keep, and how each keeper is asked: modules by their libraries, the key services of clouds over HTTP.
//!
//! All that leads to a key is in its place; nothing is found in this server's own surroundings, or who may write a place in a namespace would
//! have the server's keys. Deliberately absent: which mount may use which key (`tresor-core`), and a memory of keys: what is written
//! down is what holds.

mod awskms;
mod azurekeyvault;
mod gcpckms;
mod pkcs11;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use tresor_core::ServiceError;
use tresor_crypto::public_key;
use tresor_env::Doors;
use tresor_env::custody::{Custody, CustodyError, KeeperFacts, KeptKey, Place, SignedHash, Signing};
use tresor_secret::SecretString;
use zeroize::Zeroizing;

use crate::config::KeyPlace;

/// The keepers that a server knows.
pub struct Keepers {
    doors: Doors,
    /// The libraries of modules, by the lower-case names that the configuration gives them.
    libraries: BTreeMap<String, PathBuf>,
    /// Those that were used, which stay loaded.
    loaded: Mutex<BTreeMap<PathBuf, tresor_pkcs11::Library>>,
}

/// All of them.
static KEEPERS: [KeeperFacts; 4] = [pkcs11::FACTS, awskms::FACTS, azurekeyvault::FACTS, gcpckms::FACTS];

impl Keepers {
    /// With these libraries of modules, by lower-case names.
    #[must_use]
    pub fn new(libraries: BTreeMap<String, PathBuf>, doors: &Doors) -> Self {
        Self { doors: doors.clone(), libraries, loaded: Mutex::default() }
    }
}

impl Custody for Keepers {
    fn keepers(&self) -> &'static [KeeperFacts] {
        &KEEPERS
    }

    fn check(&self, place: &Place) -> Result<(), CustodyError> {
        let mut options = place.options.clone();
        // As if it named a key; no keeper's option has such a name.
        for name in ["key_label", "kms_key", "key_name", "crypto_key"] {
            options.insert(name.to_owned(), Zeroizing::new("any".to_owned()));
        }
        self.key(&Place { kind: place.kind.clone(), options }).map(drop)
    }

    fn key(&self, place: &Place) -> Result<Arc<dyn KeptKey>, CustodyError> {
        match place.kind.as_str() {
            "pkcs11" => Ok(Arc::new(pkcs11::Kept::new(self, place)?)),
            "awskms" => Ok(Arc::new(awskms::Kept::new(place, &self.doors)?)),
            "azurekeyvault" => Ok(Arc::new(azurekeyvault::Kept::new(place, &self.doors)?)),
            "gcpckms" => Ok(Arc::new(gcpckms::Kept::new(place, &self.doors)?)),
            other => Err(CustodyError::Misplaced(format!("there is no keeper of keys of the type {other:?}"))),
        }
    }
}

/// An option that there has to be.
fn needed<'p>(place: &'p Place, name: &str) -> Result<&'p str, CustodyError> {
    place.option(name).ok_or_else(|| CustodyError::Misplaced(format!("`{name}` is required")))
}

/// A secret as the code that asks services takes it.
fn literal(text: &str) -> KeyPlace {
    KeyPlace::Literal(Arc::new(SecretString::new(text.to_owned())))
}

/// A name that becomes a part of an address.
fn plain<'p>(place: &'p Place, name: &str) -> Result<&'p str, CustodyError> {
    let text = needed(place, name)?;
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.');
    if text.chars().all(is_plain) && !text.starts_with('.') {
        return Ok(text);
    }
    Err(CustodyError::Misplaced(format!("`{name}` has letters, digits, `-`, `_` and `.`")))
}

/// Whose fault it is.
fn blame(error: ServiceError) -> CustodyError {
    match error {
        ServiceError::Unprepared(text) => CustodyError::Misplaced(text),
        ServiceError::Unanswered(text) => CustodyError::Away(text),
        ServiceError::Refused(text) => CustodyError::Refused(format!("it refuses: {text}")),
        ServiceError::Unexpected(what) => CustodyError::Refused(format!("it answered {what}")),
    }
}

/// Verifies here, by the public half.
async fn verified(key: &dyn KeptKey, how: Signing, message: &[u8], signature: &[u8]) -> Result<bool, CustodyError> {
    Ok(public_key::verifies(&key.public().await?, how, message, signature))
}

/// The hash of what is to be signed, where the keeper takes no more than that.
fn digest(how: Signing, message: &[u8]) -> Vec<u8> {
    let name = match how.hash {
        SignedHash::Sha256 => "sha2-256",
        SignedHash::Sha384 => "sha2-384",
        SignedHash::Sha512 => "sha2-512",
    };
    tresor_crypto::hash::named(name, message).unwrap_or_default()
}

/// Its bits, as clouds name the hash.
const fn bits(how: Signing) -> u16 {
    match how.hash {
        SignedHash::Sha256 => 256,
        SignedHash::Sha384 => 384,
        SignedHash::Sha512 => 512,
    }
}
