//! Encrypting to OpenPGP keys that operators hand in: shares and tokens leave the server so that only their owner reads them.
//!
//! A key counts as what its owner last signed and nothing else: of the primary key and its subkeys, the one that encrypts is the
//! newest whose binding holds, says that it is for encryption, has not ended and was not revoked. What others signed, and what
//! does not verify, is passed over. Deliberately absent: private keys, signatures of our own, the web of trust, and any way to
//! get a key from elsewhere.

use std::io::Cursor;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pgp::composed::{Deserializable, MessageBuilder, SignedPublicKey, SignedPublicSubKey};
use pgp::crypto::sym::SymmetricKeyAlgorithm;
use pgp::packet::{Signature, SignatureType};
use pgp::types::{KeyDetails, Tag};
use rand_core::{CryptoRng, RngCore};
use tresor_env::{Entropy, Timestamp};

/// The longest key that is read: one with many signatures of others.
const KEY_BYTES_MAX: usize = 512 * 1024;

/// Why a key cannot be encrypted to.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// It is not spelled as a key is.
    #[error("the PGP key is neither base64 nor armored")]
    Spelling,
    /// What is spelled is no public key.
    #[error("the PGP key cannot be read: {0}")]
    Malformed(#[source] pgp::errors::Error),
    /// The whole key ended or was revoked, or nobody vouches for it.
    #[error("the PGP key has ended, was revoked, or is not signed by itself")]
    Unusable,
    /// None of its keys is for encryption now.
    #[error("the PGP key has no key for encryption that is valid now")]
    NoneForEncryption,
    /// Encrypting failed.
    #[error("encrypting to the PGP key failed: {0}")]
    Encryption(#[source] pgp::errors::Error),
}

/// A key that may be encrypted to.
pub struct Recipient {
    key: SignedPublicKey,
    chosen: Chosen,
}

/// Which of its keys encrypts.
enum Chosen {
    Primary,
    Subkey(usize),
}

impl Recipient {
    /// Reads a key, in base64 or armored, and chooses what encrypts at this time.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn parse(text: &str, now: Timestamp) -> Result<Self, KeyError> {
        let text = text.trim();
        if text.len() > KEY_BYTES_MAX {
            return Err(KeyError::Spelling);
        }
        let key = if text.starts_with("-----BEGIN") {
            SignedPublicKey::from_armor_single(Cursor::new(text.as_bytes())).map_err(KeyError::Malformed)?.0
        } else {
            let compact: String = text.chars().filter(|letter| !letter.is_ascii_whitespace()).collect();
            let bytes = STANDARD.decode(compact).map_err(|_| KeyError::Spelling)?;
            // Some paste base64 of the armored text.
            if bytes.starts_with(b"-----BEGIN") {
                SignedPublicKey::from_armor_single(Cursor::new(bytes)).map_err(KeyError::Malformed)?.0
            } else {
                SignedPublicKey::from_bytes(Cursor::new(bytes)).map_err(KeyError::Malformed)?
            }
        };
        let chosen = choose(&key, u64::try_from(now.seconds()).unwrap_or(0))?;
        Ok(Self { key, chosen })
    }

    /// The fingerprint of the primary key, in hexadecimal.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        hex::encode(self.key.fingerprint().as_bytes())
    }

    /// A message that only the key's owner reads; not armored.
    ///
    /// # Errors
    /// [`KeyError::Encryption`].
    pub fn encrypt(&self, plain: &[u8], entropy: &dyn Entropy) -> Result<Vec<u8>, KeyError> {
        let mut random = Random(entropy);
        let message = MessageBuilder::from_bytes("", plain.to_vec());
        let mut message = message.seipd_v1(&mut random, SymmetricKeyAlgorithm::AES256);
        match &self.chosen {
            Chosen::Primary => message.encrypt_to_key(&mut random, &self.key.primary_key),
            Chosen::Subkey(at) => {
                let subkey = self.key.public_subkeys.get(*at).ok_or(KeyError::NoneForEncryption)?;
                message.encrypt_to_key(&mut random, &subkey.key)
            }
        }
        .map_err(KeyError::Encryption)?;
        message.to_vec(&mut random).map_err(KeyError::Encryption)
    }
}

/// What encrypts: the newest subkey that may, or the primary key if it says so itself.
fn choose(key: &SignedPublicKey, now: u64) -> Result<Chosen, KeyError> {
    let primary = &key.primary_key;
    let made = u64::from(primary.created_at().as_secs());
    let is_revoked = key.details.revocation_signatures.iter().any(|signature| {
        signature.typ() == Some(SignatureType::KeyRevocation) && signature.verify_key(primary).is_ok()
    });
    let own = newest(own_signatures(key), now).ok_or(KeyError::Unusable)?;
    if is_revoked || has_ended(own, made, now) {
        return Err(KeyError::Unusable);
    }
    let subkeys = key.public_subkeys.iter().enumerate().filter_map(|(at, subkey)| {
        let valid = encrypts(key, subkey, now)?;
        Some((u64::from(subkey.key.created_at().as_secs()), valid, at))
    });
    if let Some((_, _, at)) = subkeys.max() {
        return Ok(Chosen::Subkey(at));
    }
    let may_primary = own.key_flags().encrypt_comms() || own.key_flags().encrypt_storage();
    if may_primary && primary.algorithm().can_encrypt() {
        Ok(Chosen::Primary)
    } else {
        Err(KeyError::NoneForEncryption)
    }
}

/// What the key says of itself: signatures on its names, and on the key directly.
fn own_signatures(key: &SignedPublicKey) -> Vec<&Signature> {
    let primary = &key.primary_key;
    let of_names = key.details.users.iter().flat_map(|user| {
        let own = user.signatures.iter().filter(|signature| {
            signature.typ() != Some(SignatureType::CertRevocation)
                && signature.verify_certification(primary, Tag::UserId, &user.id).is_ok()
        });
        own.collect::<Vec<_>>()
    });
    let direct = key.details.direct_signatures.iter().filter(|signature| signature.verify_key(primary).is_ok());
    of_names.chain(direct).collect()
}

/// When a subkey's binding was made, if the subkey is for encryption and valid.
fn encrypts(key: &SignedPublicKey, subkey: &SignedPublicSubKey, now: u64) -> Option<u64> {
    let verified = subkey
        .signatures
        .iter()
        .filter(|signature| signature.verify_subkey_binding(&key.primary_key, &subkey.key).is_ok());
    let (revocations, bindings): (Vec<_>, Vec<_>) =
        verified.partition(|signature| signature.typ() == Some(SignatureType::SubkeyRevocation));
    let binding = newest(bindings, now)?;
    let may = binding.key_flags().encrypt_comms() || binding.key_flags().encrypt_storage();
    let has_ended = has_ended(binding, u64::from(subkey.key.created_at().as_secs()), now);
    let is_valid = may && revocations.is_empty() && !has_ended && subkey.key.algorithm().can_encrypt();
    is_valid.then(|| made(binding))
}

fn made(signature: &Signature) -> u64 {
    signature.created().map_or(0, |created| u64::from(created.as_secs()))
}

/// The newest signature that was made by now and has not ended itself.
fn newest(signatures: Vec<&Signature>, now: u64) -> Option<&Signature> {
    let holds = |signature: &&Signature| {
        let length = signature.signature_expiration_time().map_or(0, |length| u64::from(length.as_secs()));
        made(signature) <= now && (length == 0 || made(signature).saturating_add(length) > now)
    };
    signatures.into_iter().filter(holds).max_by_key(|signature| made(signature))
}

/// Whether a key made at this time has ended by what a signature says; zero means never.
fn has_ended(signature: &Signature, key_made: u64, now: u64) -> bool {
    let length = signature.key_expiration_time().map_or(0, |length| u64::from(length.as_secs()));
    length != 0 && key_made.saturating_add(length) <= now
}

/// The entropy door, as the library wants it.
struct Random<'e>(&'e dyn Entropy);

impl RngCore for Random<'_> {
    fn next_u32(&mut self) -> u32 {
        let mut bytes = [0; 4];
        self.0.fill(&mut bytes);
        u32::from_le_bytes(bytes)
    }

    fn next_u64(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        self.0.fill(bytes);
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), rand_core::Error> {
        self.0.fill(bytes);
        Ok(())
    }
}

impl CryptoRng for Random<'_> {}
