//! A key that somebody else keeps, in the hands of an engine: what it may be used for, and refusals that say why not.
//!
//! An engine asks for one by its name ([`Cx::kept_key`](crate::Cx::kept_key)), and gets it when its mount was granted it, so who may use
//! which key is decided in one place. Deliberately absent: where a key is and what it takes to use it, which no engine sees.

use std::sync::Arc;

use tresor_env::custody::{Custody, CustodyError, Place, Signing};
use tresor_model::{Fault, Refusal};
use zeroize::Zeroizing;

use crate::view::Widened;

/// What a key may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Usage {
    /// Encrypting.
    Encrypt,
    /// Decrypting.
    Decrypt,
    /// Signing.
    Sign,
    /// Verifying.
    Verify,
}

impl Usage {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Encrypt, Self::Decrypt, Self::Sign, Self::Verify];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Encrypt => "encrypt",
            Self::Decrypt => "decrypt",
            Self::Sign => "sign",
            Self::Verify => "verify",
        }
    }

    /// Reads a name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|usage| usage.name() == name)
    }
}

/// What a mount was granted.
pub struct Granted {
    /// Where it is.
    pub place: Place,
    /// What it may be used for.
    pub usages: Vec<Usage>,
}

/// The way to those who keep keys, out of reach of engines.
#[derive(Clone, Copy)]
pub struct Keepers<'a>(&'a Arc<dyn Custody>);

impl<'a> Keepers<'a> {
    /// Encloses it.
    #[must_use]
    pub const fn new(custody: &'a Arc<dyn Custody>) -> Self {
        Self(custody)
    }

    /// The way itself, for the system engine that writes down where keys are.
    #[must_use]
    pub const fn custody(self, _right: Widened) -> &'a Arc<dyn Custody> {
        self.0
    }

    pub(crate) fn key(self, granted: Granted) -> Result<KeptKey, Fault> {
        KeptKey::of(&**self.0, granted)
    }
}

/// A key that somebody else keeps.
pub struct KeptKey {
    key: Arc<dyn tresor_env::custody::KeptKey>,
    usages: Vec<Usage>,
}

impl KeptKey {
    fn of(custody: &dyn Custody, Granted { place, usages }: Granted) -> Result<Self, Fault> {
        Ok(Self { key: custody.key(&place).map_err(fault)?, usages })
    }

    fn check(&self, usage: Usage) -> Result<(), Fault> {
        if self.usages.contains(&usage) {
            return Ok(());
        }
        Err(Fault::invalid(format!("the key may not be used to {}", usage.name())))
    }

    /// Its public half: `SubjectPublicKeyInfo`, DER.
    ///
    /// # Errors
    /// A refusal or a failure that says whose it is.
    pub async fn public(&self) -> Result<Vec<u8>, Fault> {
        self.key.public().await.map_err(fault)
    }

    /// Signs a message; ECDSA as a sequence of two integers, DER.
    ///
    /// # Errors
    /// As [`KeptKey::public`]; a refusal when the key may not be used so.
    pub async fn sign(&self, how: Signing, message: &[u8]) -> Result<Vec<u8>, Fault> {
        self.check(Usage::Sign)?;
        self.key.sign(how, message).await.map_err(fault)
    }

    /// Whether a signature is one of the message by this key.
    ///
    /// # Errors
    /// As [`KeptKey::sign`].
    pub async fn verify(&self, how: Signing, message: &[u8], signature: &[u8]) -> Result<bool, Fault> {
        self.check(Usage::Verify)?;
        self.key.verify(how, message, signature).await.map_err(fault)
    }

    /// Encrypts something short.
    ///
    /// # Errors
    /// As [`KeptKey::sign`].
    pub async fn encrypt(&self, plaintext: &[u8]) -> Result<Vec<u8>, Fault> {
        self.check(Usage::Encrypt)?;
        self.key.encrypt(plaintext).await.map_err(fault)
    }

    /// Decrypts that.
    ///
    /// # Errors
    /// As [`KeptKey::sign`].
    pub async fn decrypt(&self, ciphertext: &[u8]) -> Result<Zeroizing<Vec<u8>>, Fault> {
        self.check(Usage::Decrypt)?;
        self.key.decrypt(ciphertext).await.map_err(fault)
    }
}

/// What whoever asks is told.
#[must_use]
pub fn fault(error: CustodyError) -> Fault {
    let text = format!("the key's keeper: {error}");
    match error {
        CustodyError::Misplaced(text) => Fault::invalid(text),
        CustodyError::Unable(_) => Fault::invalid(text),
        CustodyError::Away(_) => Refusal::Unavailable(text.into()).into(),
        CustodyError::Refused(_) => Fault::upstream(text),
    }
}
