//! The keys of a token: found, made where they are missing, and used.
//!
//! A key that is made never leaves its token. Deliberately absent: choosing among keys that answer to one name; which of them is
//! meant nobody knows.

use std::fmt;

use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::aead::GcmParams;
use cryptoki::mechanism::{Mechanism as Asked, MechanismType};
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::types::Ulong;
use tresor_crypto::public_key::{encrypted, of_rsa};
use tresor_env::Entropy;
use tresor_secret::Wiped;
use zeroize::Zeroizing;

use crate::mechanism::Mechanism;
use crate::sealed::Envelope;
use crate::{Token, TokenError, said};

/// How many bits authenticate what AES in Galois/counter mode sealed.
pub(crate) const TAG_BITS: u64 = 128;
/// How long RSA keys are that are made.
const RSA_BITS: u64 = 3072;

/// What a key is called.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyName {
    /// Its label.
    pub label: Option<String>,
    /// Its id.
    pub id: Option<Vec<u8>>,
}

impl KeyName {
    pub(crate) fn of(label: &str, id: &[u8]) -> Self {
        let label = Some(label.to_owned()).filter(|label| !label.is_empty());
        Self { label, id: Some(id.to_vec()).filter(|id| !id.is_empty()) }
    }

    pub(crate) fn attributes(&self) -> Vec<Attribute> {
        let label = self.label.iter().map(|label| Attribute::Label(label.clone().into_bytes()));
        label.chain(self.id.iter().map(|id| Attribute::Id(id.clone()))).collect()
    }
}

impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.label, &self.id) {
            (Some(label), None) => write!(f, "`{label}`"),
            (label, id) => {
                let label = label.as_deref().unwrap_or_default();
                write!(f, "`{label}` (id 0x{})", hex::encode(id.as_deref().unwrap_or_default()))
            }
        }
    }
}

/// A key that was found.
struct Found {
    handle: ObjectHandle,
    /// All that it is called.
    name: KeyName,
}

/// What a key is for.
#[derive(Clone, Copy)]
enum Use {
    Aes,
    Hmac,
    /// The half that seals.
    RsaPublic,
    /// The half that opens.
    RsaPrivate,
}

impl Use {
    fn attributes(self) -> Vec<Attribute> {
        match self {
            Self::Aes => vec![Attribute::Class(ObjectClass::SECRET_KEY), Attribute::KeyType(KeyType::AES)],
            // Of which type those are modules do not agree.
            Self::Hmac => vec![Attribute::Class(ObjectClass::SECRET_KEY)],
            Self::RsaPublic => vec![Attribute::Class(ObjectClass::PUBLIC_KEY), Attribute::KeyType(KeyType::RSA)],
            Self::RsaPrivate => vec![Attribute::Class(ObjectClass::PRIVATE_KEY), Attribute::KeyType(KeyType::RSA)],
        }
    }
}

impl Token<'_> {
    pub(crate) fn seal(&self, secret: &[u8], bound_to: &[u8], entropy: &dyn Entropy) -> Result<Envelope, TokenError> {
        let mechanism = match self.config.mechanism {
            Some(mechanism) => mechanism,
            None => self.best()?,
        };
        let own = &self.config.key;
        let wiped = |bytes: &[u8]| Wiped::new(bytes.to_vec());
        let key = match mechanism {
            Mechanism::RsaOaep(_) => {
                if self.config.generates && self.find(Use::RsaPrivate, own)?.is_none() {
                    self.generate_pair(own)?;
                }
                // A token that is not asked to seal may have the private half alone.
                self.needed(if self.config.seals_outside { Use::RsaPrivate } else { Use::RsaPublic }, own)?
            }
            Mechanism::AesGcm | Mechanism::AesCbcPad(_) => self.found_or_made(Use::Aes, own)?,
        };
        let mut envelope = Envelope {
            mechanism: mechanism.stored(),
            label: key.name.label.clone().unwrap_or_default(),
            id: wiped(key.name.id.as_deref().unwrap_or_default()),
            hmac_label: String::new(),
            hmac_id: wiped(&[]),
            nonce: wiped(&[]),
            ciphertext: wiped(&[]),
            code: wiped(&[]),
        };
        match mechanism {
            Mechanism::AesGcm => {
                let mut nonce = [0; 12];
                entropy.fill(&mut nonce);
                let sealed = {
                    let mut begin = nonce;
                    let how = Asked::AesGcm(GcmParams::new(&mut begin, bound_to, bits(TAG_BITS))?);
                    let sealed = self.session.encrypt(&how, key.handle, secret)?;
                    // Some modules draw their own.
                    if let Asked::AesGcm(mut how) = how {
                        nonce.copy_from_slice(how.iv());
                    }
                    sealed
                };
                envelope.nonce = wiped(&nonce);
                envelope.ciphertext = Wiped::new(sealed);
            }
            Mechanism::AesCbcPad(hash) => {
                let by = self.config.hmac_key.as_ref().ok_or(TokenError::NoHmacKey)?;
                let by = self.found_or_made(Use::Hmac, by)?;
                let mut nonce = [0; 16];
                entropy.fill(&mut nonce);
                envelope.nonce = wiped(&nonce);
                envelope.ciphertext = Wiped::new(self.session.encrypt(&Asked::AesCbcPad(nonce), key.handle, secret)?);
                envelope.hmac_label = by.name.label.clone().unwrap_or_default();
                envelope.hmac_id = wiped(by.name.id.as_deref().unwrap_or_default());
                envelope.code =
                    Wiped::new(self.session.sign(&hash.asked(), by.handle, &envelope.authenticated(bound_to))?);
            }
            Mechanism::RsaOaep(hash) if self.config.seals_outside => {
                let hash = hash.outside().ok_or(TokenError::Unable("seal outside of its token with this hash"))?;
                let sealed = encrypted(&self.public_of(key.handle)?, hash, secret);
                envelope.ciphertext = Wiped::new(sealed.ok_or(TokenError::Unable("seal outside of its token"))?);
            }
            Mechanism::RsaOaep(hash) => {
                envelope.ciphertext = Wiped::new(self.session.encrypt(&hash.asked(), key.handle, secret)?);
            }
        }
        Ok(envelope)
    }

    pub(crate) fn open(&self, envelope: &Envelope, bound_to: &[u8]) -> Result<Zeroizing<Vec<u8>>, TokenError> {
        let mechanism = envelope.mechanism().ok_or(TokenError::Damaged)?;
        let (name, ciphertext) = (envelope.key(), &envelope.ciphertext);
        let opened = match mechanism {
            Mechanism::AesGcm => {
                let mut nonce = envelope.nonce.to_vec();
                let how = Asked::AesGcm(GcmParams::new(&mut nonce, bound_to, bits(TAG_BITS))?);
                self.session.decrypt(&how, self.needed(Use::Aes, &name)?.handle, ciphertext)
            }
            Mechanism::AesCbcPad(hash) => {
                let by = self.needed(Use::Hmac, &envelope.hmac_key())?;
                let text = envelope.authenticated(bound_to);
                self.session
                    .verify(&hash.asked(), by.handle, &text, &envelope.code)
                    .map_err(|error| not_opened(&error))?;
                let nonce = envelope.nonce.as_slice().try_into().map_err(|_| TokenError::Damaged)?;
                self.session.decrypt(&Asked::AesCbcPad(nonce), self.needed(Use::Aes, &name)?.handle, ciphertext)
            }
            Mechanism::RsaOaep(hash) => {
                self.session.decrypt(&hash.asked(), self.needed(Use::RsaPrivate, &name)?.handle, ciphertext)
            }
        };
        opened.map(Zeroizing::new).map_err(|error| not_opened(&error))
    }

    /// The best that the configured key and its token can do.
    fn best(&self) -> Result<Mechanism, TokenError> {
        let own = &self.config.key;
        let can = self.context.get_mechanism_list(self.slot)?;
        let (is_aes, is_rsa) = (self.find(Use::Aes, own)?.is_some(), self.find(Use::RsaPrivate, own)?.is_some());
        match (is_aes || (!is_rsa && self.config.generates), is_rsa) {
            (true, _) if can.contains(&MechanismType::AES_GCM) => Ok(Mechanism::AesGcm),
            (true, _) if can.contains(&MechanismType::AES_CBC_PAD) && self.config.hmac_key.is_some() => {
                Ok(Mechanism::AesCbcPad(self.config.hmac_hash))
            }
            (true, false) => Err(TokenError::NoMechanism(own.to_string())),
            (_, true) => Ok(Mechanism::RsaOaep(self.config.oaep_hash)),
            (false, false) => Err(TokenError::NoKey(own.to_string())),
        }
    }

    /// The public half, out of a half of RSA.
    fn public_of(&self, handle: ObjectHandle) -> Result<Vec<u8>, TokenError> {
        let wanted = [AttributeType::Modulus, AttributeType::PublicExponent];
        match self.session.get_attributes(handle, &wanted)?.as_slice() {
            [Attribute::Modulus(modulus), Attribute::PublicExponent(exponent)]
            | [Attribute::PublicExponent(exponent), Attribute::Modulus(modulus)] => Ok(of_rsa(modulus, exponent)),
            _ => Err(TokenError::Unable("show its public half")),
        }
    }

    fn needed(&self, kind: Use, name: &KeyName) -> Result<Found, TokenError> {
        self.find(kind, name)?.ok_or_else(|| TokenError::NoKey(name.to_string()))
    }

    fn find(&self, kind: Use, name: &KeyName) -> Result<Option<Found>, TokenError> {
        let template = [kind.attributes(), name.attributes()].concat();
        match self.session.find_objects(&template)?.as_slice() {
            [] => Ok(None),
            [handle] => {
                let (mut label, mut id) = (None, None);
                for attribute in self.session.get_attributes(*handle, &[AttributeType::Label, AttributeType::Id])? {
                    match attribute {
                        Attribute::Label(bytes) => label = String::from_utf8(bytes).ok(),
                        Attribute::Id(bytes) => id = Some(bytes),
                        _ => {}
                    }
                }
                // A label that is no text is that of another key.
                let name = KeyName::of(&label.unwrap_or_default(), &id.unwrap_or_default());
                Ok(Some(Found { handle: *handle, name }))
            }
            _ => Err(TokenError::SeveralKeys(name.to_string())),
        }
    }

    fn found_or_made(&self, kind: Use, name: &KeyName) -> Result<Found, TokenError> {
        if let Some(found) = self.find(kind, name)? {
            return Ok(found);
        }
        if !self.config.generates {
            return Err(TokenError::NoKey(name.to_string()));
        }
        // As long as the longest hash: some modules take none that is shorter than the one that is used.
        let (how, length, can) = match kind {
            Use::Hmac => {
                let is_of = Attribute::KeyType(KeyType::GENERIC_SECRET);
                (Asked::GenericSecretKeyGen, 64, [is_of, Attribute::Sign(true), Attribute::Verify(true)])
            }
            _ => {
                let is_of = Attribute::KeyType(KeyType::AES);
                (Asked::AesKeyGen, 32, [is_of, Attribute::Encrypt(true), Attribute::Decrypt(true)])
            }
        };
        let kept = [Attribute::Class(ObjectClass::SECRET_KEY), Attribute::ValueLen(bits(length))];
        self.session.generate_key(&how, &[&kept[..], &can, &within(), &name.attributes()].concat())?;
        // Whoever made one at the same time is seen here.
        self.needed(kind, name)
    }

    fn generate_pair(&self, name: &KeyName) -> Result<(), TokenError> {
        let public = vec![
            Attribute::Token(true),
            Attribute::Encrypt(true),
            Attribute::ModulusBits(bits(RSA_BITS)),
            Attribute::PublicExponent(vec![1, 0, 1]),
        ];
        let private = [within(), vec![Attribute::Decrypt(true)], name.attributes()].concat();
        let public = [public, name.attributes()].concat();
        self.session.generate_key_pair(&Asked::RsaPkcsKeyPairGen, &public, &private)?;
        Ok(())
    }
}

/// What keeps a key where it was made.
pub(crate) fn within() -> Vec<Attribute> {
    vec![Attribute::Token(true), Attribute::Private(true), Attribute::Sensitive(true), Attribute::Extractable(false)]
}

/// A number as the standard has it, on machines where that is wide enough.
pub(crate) fn bits(number: u64) -> Ulong {
    Ulong::from(number)
}

/// What opens to nothing is told from a module that is away.
pub(crate) fn not_opened(error: &Error) -> TokenError {
    match error {
        Error::Pkcs11(
            RvError::EncryptedDataInvalid
            | RvError::EncryptedDataLenRange
            | RvError::SignatureInvalid
            | RvError::SignatureLenRange
            | RvError::DataInvalid
            | RvError::GeneralError
            | RvError::FunctionFailed,
            _,
        ) => TokenError::NotOpened(said(error)),
        Error::Pkcs11(code, _) if crate::is_away(*code) => TokenError::Away(said(error)),
        _ => TokenError::Refused(said(error)),
    }
}
