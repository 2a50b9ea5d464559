//! A key of a token, used for others: what it signs, encrypts and decrypts, and its public half.
//!
//! Of which type a key is says the token, not whoever asks. What is to be signed by a curve is hashed here, as few tokens hash for
//! it. Deliberately absent: verifying, which takes no token, and a way to a private half.

use cryptoki::mechanism::aead::GcmParams;
use cryptoki::mechanism::rsa::{PkcsMgfType, PkcsPssParams};
use cryptoki::mechanism::{Mechanism as Asked, MechanismType};
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use tresor_crypto::hash::named;
use tresor_crypto::public_key::{self, Curve};
use tresor_env::Entropy;
use tresor_env::custody::{SignedHash, Signing};
use zeroize::Zeroizing;

use crate::keys::{TAG_BITS, bits, not_opened, within};
use crate::{KeyName, Module, Token, TokenError};

/// How long what AES in Galois/counter mode begins with is.
const NONCE_BYTES: usize = 12;

/// What a key is that is made where there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MadeKey {
    /// RSA of so many bits.
    Rsa(u64),
    /// A curve.
    Ec(Curve),
    /// AES of so many bytes.
    Aes(u64),
}

impl Module {
    /// The public half of the key.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn public(&mut self, pin: &[u8]) -> Result<Vec<u8>, TokenError> {
        self.within(pin, |token| token.public())
    }

    /// Whether the key is there, of whatever type it is; made where that is asked for.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn look(&mut self, pin: &[u8]) -> Result<(), TokenError> {
        self.within(pin, |token| match token.only(ObjectClass::PRIVATE_KEY)? {
            Some(_) => Ok(()),
            None => token.one(token.made_class()).map(drop),
        })
    }

    /// Signs a message.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn sign(&mut self, pin: &[u8], how: Signing, message: &[u8]) -> Result<Vec<u8>, TokenError> {
        self.within(pin, |token| token.sign(how, message))
    }

    /// Encrypts something short.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn encrypt(&mut self, pin: &[u8], plaintext: &[u8], entropy: &dyn Entropy) -> Result<Vec<u8>, TokenError> {
        self.within(pin, |token| token.encrypt(plaintext, entropy))
    }

    /// Decrypts that.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn decrypt(&mut self, pin: &[u8], ciphertext: &[u8]) -> Result<Zeroizing<Vec<u8>>, TokenError> {
        self.within(pin, |token| token.decrypt(ciphertext))
    }
}

/// A key, as the token has it.
struct Kept {
    handle: ObjectHandle,
    kind: KeyType,
}

impl Token<'_> {
    /// The only one of a class that has the configured name.
    fn only(&self, class: ObjectClass) -> Result<Option<Kept>, TokenError> {
        let name = &self.config.key;
        let template = [vec![Attribute::Class(class)], name.attributes()].concat();
        match self.session.find_objects(&template)?.as_slice() {
            [] => Ok(None),
            [handle] => {
                let kind = self.session.get_attributes(*handle, &[AttributeType::KeyType])?;
                match kind.as_slice() {
                    [Attribute::KeyType(kind)] => Ok(Some(Kept { handle: *handle, kind: *kind })),
                    _ => Err(TokenError::NoKey(name.to_string())),
                }
            }
            _ => Err(TokenError::SeveralKeys(name.to_string())),
        }
    }

    /// One of a class; made before, where that is asked for and there is none of the name at all.
    fn one(&self, class: ObjectClass) -> Result<Kept, TokenError> {
        let name = &self.config.key;
        let none = || TokenError::NoKey(name.to_string());
        if let Some(kept) = self.only(class)? {
            return Ok(kept);
        }
        let Some(made) = self.config.made.filter(|_| self.config.generates) else { return Err(none()) };
        for other in [ObjectClass::PRIVATE_KEY, ObjectClass::SECRET_KEY] {
            if self.only(other)?.is_some() {
                return Err(none());
            }
        }
        self.make(made, name)?;
        // Whoever made one at the same time is seen here.
        self.only(class)?.ok_or_else(none)
    }

    fn make(&self, made: MadeKey, name: &KeyName) -> Result<(), TokenError> {
        let private = |use_: &[Attribute]| [within(), use_.to_vec(), name.attributes()].concat();
        let public = |of: Vec<Attribute>| [vec![Attribute::Token(true)], of, name.attributes()].concat();
        match made {
            MadeKey::Rsa(length) => {
                let of = vec![
                    Attribute::Encrypt(true),
                    Attribute::Verify(true),
                    Attribute::ModulusBits(bits(length)),
                    Attribute::PublicExponent(vec![1, 0, 1]),
                ];
                let private = private(&[Attribute::Decrypt(true), Attribute::Sign(true)]);
                self.session.generate_key_pair(&Asked::RsaPkcsKeyPairGen, &public(of), &private)?;
            }
            MadeKey::Ec(curve) => {
                let of = vec![Attribute::Verify(true), Attribute::EcParams(curve.identifier().to_vec())];
                let private = private(&[Attribute::Sign(true)]);
                self.session.generate_key_pair(&Asked::EccKeyPairGen, &public(of), &private)?;
            }
            MadeKey::Aes(length) => {
                let kept = [Attribute::Class(ObjectClass::SECRET_KEY), Attribute::ValueLen(bits(length))];
                let template = private(&[Attribute::Encrypt(true), Attribute::Decrypt(true)]);
                self.session.generate_key(&Asked::AesKeyGen, &[&kept[..], &template].concat())?;
            }
        }
        Ok(())
    }

    fn public(&self) -> Result<Vec<u8>, TokenError> {
        self.one(ObjectClass::PRIVATE_KEY)?;
        let key = self.only(ObjectClass::PUBLIC_KEY)?.ok_or_else(|| TokenError::NoKey(self.config.key.to_string()))?;
        let wanted = if key.kind == KeyType::RSA {
            [AttributeType::Modulus, AttributeType::PublicExponent]
        } else {
            [AttributeType::EcParams, AttributeType::EcPoint]
        };
        match self.session.get_attributes(key.handle, &wanted)?.as_slice() {
            [Attribute::Modulus(modulus), Attribute::PublicExponent(exponent)]
            | [Attribute::PublicExponent(exponent), Attribute::Modulus(modulus)] => {
                Ok(public_key::of_rsa(modulus, exponent))
            }
            [Attribute::EcParams(identifier), Attribute::EcPoint(point)]
            | [Attribute::EcPoint(point), Attribute::EcParams(identifier)] => {
                let curve = Curve::ALL.into_iter().find(|curve| curve.identifier() == identifier);
                let curve = curve.ok_or(TokenError::Unable("be used with the curve that it is on"))?;
                Ok(public_key::of_curve(curve, public_key::out_of_octets(point)))
            }
            _ => Err(TokenError::Unable("show its public half")),
        }
    }

    fn sign(&self, how: Signing, message: &[u8]) -> Result<Vec<u8>, TokenError> {
        let key = self.one(ObjectClass::PRIVATE_KEY)?;
        if key.kind == KeyType::RSA {
            return Ok(self.session.sign(&rsa(how), key.handle, message)?);
        }
        let name = match how.hash {
            SignedHash::Sha256 => "sha2-256",
            SignedHash::Sha384 => "sha2-384",
            SignedHash::Sha512 => "sha2-512",
        };
        let digest = named(name, message).unwrap_or_default();
        let raw = self.session.sign(&Asked::Ecdsa, key.handle, &digest)?;
        public_key::of_two_numbers(&raw).ok_or(TokenError::Unable("sign as ECDSA does"))
    }

    fn encrypt(&self, plaintext: &[u8], entropy: &dyn Entropy) -> Result<Vec<u8>, TokenError> {
        if self.only(ObjectClass::PUBLIC_KEY)?.is_some() {
            return self.encrypt_by_public(plaintext);
        }
        let key = self.one(self.made_class())?;
        if key.kind != KeyType::AES {
            // It was made now, and has a public half.
            return self.encrypt_by_public(plaintext);
        }
        let mut nonce = [0; NONCE_BYTES];
        entropy.fill(&mut nonce);
        let mut begin = nonce;
        let how = Asked::AesGcm(GcmParams::new(&mut begin, &[], bits(TAG_BITS))?);
        let sealed = self.session.encrypt(&how, key.handle, plaintext)?;
        // Some modules draw their own.
        if let Asked::AesGcm(mut how) = how {
            nonce.copy_from_slice(how.iv());
        }
        Ok([&nonce[..], &sealed].concat())
    }

    fn encrypt_by_public(&self, plaintext: &[u8]) -> Result<Vec<u8>, TokenError> {
        match self.only(ObjectClass::PUBLIC_KEY)?.filter(|public| public.kind == KeyType::RSA) {
            Some(public) => Ok(self.session.encrypt(&self.config.oaep_hash.asked(), public.handle, plaintext)?),
            None => Err(TokenError::Unable("encrypt")),
        }
    }

    /// What is looked for, and made, where there is nothing with a private half.
    const fn made_class(&self) -> ObjectClass {
        match self.config.made {
            Some(MadeKey::Rsa(_) | MadeKey::Ec(_)) => ObjectClass::PRIVATE_KEY,
            Some(MadeKey::Aes(_)) | None => ObjectClass::SECRET_KEY,
        }
    }

    fn decrypt(&self, ciphertext: &[u8]) -> Result<Zeroizing<Vec<u8>>, TokenError> {
        let opened = if let Some(private) = self.only(ObjectClass::PRIVATE_KEY)? {
            if private.kind != KeyType::RSA {
                return Err(TokenError::Unable("decrypt"));
            }
            self.session.decrypt(&self.config.oaep_hash.asked(), private.handle, ciphertext)
        } else {
            let key = self.one(ObjectClass::SECRET_KEY)?;
            let (nonce, sealed) = ciphertext.split_at_checked(NONCE_BYTES).ok_or(TokenError::Damaged)?;
            let mut nonce = nonce.to_vec();
            let how = Asked::AesGcm(GcmParams::new(&mut nonce, &[], bits(TAG_BITS))?);
            self.session.decrypt(&how, key.handle, sealed)
        };
        opened.map(Zeroizing::new).map_err(|error| not_opened(&error))
    }
}

/// How RSA signs.
fn rsa(how: Signing) -> Asked<'static> {
    let (hash_alg, mgf, length) = match how.hash {
        SignedHash::Sha256 => (MechanismType::SHA256, PkcsMgfType::MGF1_SHA256, 32),
        SignedHash::Sha384 => (MechanismType::SHA384, PkcsMgfType::MGF1_SHA384, 48),
        SignedHash::Sha512 => (MechanismType::SHA512, PkcsMgfType::MGF1_SHA512, 64),
    };
    let pss = PkcsPssParams { hash_alg, mgf, s_len: bits(length) };
    match (how.hash, how.pss) {
        (SignedHash::Sha256, false) => Asked::Sha256RsaPkcs,
        (SignedHash::Sha384, false) => Asked::Sha384RsaPkcs,
        (SignedHash::Sha512, false) => Asked::Sha512RsaPkcs,
        (SignedHash::Sha256, true) => Asked::Sha256RsaPkcsPss(pss),
        (SignedHash::Sha384, true) => Asked::Sha384RsaPkcsPss(pss),
        (SignedHash::Sha512, true) => Asked::Sha512RsaPkcsPss(pss),
    }
}
