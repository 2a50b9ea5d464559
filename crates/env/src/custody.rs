//! The custody door: keys that others keep, modules and the key services of clouds, and use on request.
//!
//! A key is found by its *place*: what kind of keeper has it, and the options that lead to it there, of which some are secrets. Deliberately
//! absent: who may use a key (decided above), a way to a key's private half, and waiting for ever: each keeper has its own bound.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::BoxFuture;

/// One thing that a keeper has to be told.
#[derive(Clone, Copy, Debug)]
pub struct OptionFacts {
    /// Its name.
    pub name: &'static str,
    /// Whether nobody is shown it again.
    pub is_secret: bool,
}

impl OptionFacts {
    /// One that is shown.
    #[must_use]
    pub const fn shown(name: &'static str) -> Self {
        Self { name, is_secret: false }
    }

    /// One that is not.
    #[must_use]
    pub const fn secret(name: &'static str) -> Self {
        Self { name, is_secret: true }
    }
}

/// A kind of keeper.
#[derive(Clone, Copy, Debug)]
pub struct KeeperFacts {
    /// Its name.
    pub kind: &'static str,
    /// What leads to the keeper.
    pub of_keeper: &'static [OptionFacts],
    /// What names one of its keys.
    pub of_key: &'static [OptionFacts],
}

/// Where a key is, and what it takes to use it.
pub struct Place {
    /// The kind of its keeper.
    pub kind: String,
    /// By name.
    pub options: BTreeMap<String, Zeroizing<String>>,
}

impl Place {
    /// An option; an empty one is none.
    #[must_use]
    pub fn option(&self, name: &str) -> Option<&str> {
        self.options.get(name).map(|text| text.as_str()).filter(|text| !text.is_empty())
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&String> = self.options.keys().collect();
        f.debug_struct("Place").field("kind", &self.kind).field("options", &names).finish()
    }
}

/// The hash of what is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignedHash {
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

/// How something is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signing {
    /// The hash.
    pub hash: SignedHash,
    /// With the padding PSS, where the key is one of RSA; PKCS#1 1.5 otherwise.
    pub pss: bool,
}

/// Why a key was not used; no secret is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CustodyError {
    /// Whoever said where the key is said it wrong.
    Misplaced(String),
    /// The keeper does not answer now.
    Away(String),
    /// The keeper says no, or something that makes no sense.
    Refused(String),
    /// The key, or its keeper, cannot do that.
    Unable(&'static str),
}

impl fmt::Display for CustodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Misplaced(text) | Self::Refused(text) => f.write_str(text),
            Self::Away(text) => write!(f, "it does not answer: {text}"),
            Self::Unable(what) => write!(f, "it cannot {what}"),
        }
    }
}

/// A key that somebody keeps.
pub trait KeptKey: Send + Sync {
    /// Its public half: `SubjectPublicKeyInfo`, DER (RFC 5280).
    fn public(&self) -> BoxFuture<'_, Result<Vec<u8>, CustodyError>>;

    /// Signs a message; ECDSA as a sequence of two integers, DER.
    fn sign<'k>(&'k self, how: Signing, message: &'k [u8]) -> BoxFuture<'k, Result<Vec<u8>, CustodyError>>;

    /// Whether a signature is one of the message by this key.
    fn verify<'k>(
        &'k self,
        how: Signing,
        message: &'k [u8],
        signature: &'k [u8],
    ) -> BoxFuture<'k, Result<bool, CustodyError>>;

    /// Whether the key is there.
    fn look(&self) -> BoxFuture<'_, Result<(), CustodyError>>;

    /// Encrypts something short.
    fn encrypt<'k>(&'k self, plaintext: &'k [u8]) -> BoxFuture<'k, Result<Vec<u8>, CustodyError>>;

    /// Decrypts that.
    fn decrypt<'k>(&'k self, ciphertext: &'k [u8]) -> BoxFuture<'k, Result<Zeroizing<Vec<u8>>, CustodyError>>;
}

/// The way to those who keep keys.
pub trait Custody: Send + Sync {
    /// The kinds of keepers that there are.
    fn keepers(&self) -> &'static [KeeperFacts];

    /// Whether a place leads to a keeper, whichever key it is; nobody is asked.
    ///
    /// # Errors
    /// [`CustodyError::Misplaced`].
    fn check(&self, place: &Place) -> Result<(), CustodyError>;

    /// A key, by its place; nobody is asked yet.
    ///
    /// # Errors
    /// [`CustodyError::Misplaced`].
    fn key(&self, place: &Place) -> Result<Arc<dyn KeptKey>, CustodyError>;
}

/// Nobody keeps keys.
pub struct Nobody;

impl Custody for Nobody {
    fn keepers(&self) -> &'static [KeeperFacts] {
        &[]
    }

    fn check(&self, place: &Place) -> Result<(), CustodyError> {
        self.key(place).map(drop)
    }

    fn key(&self, place: &Place) -> Result<Arc<dyn KeptKey>, CustodyError> {
        Err(CustodyError::Misplaced(format!("there is no keeper `{}`", place.kind)))
    }
}
