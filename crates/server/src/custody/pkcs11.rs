//! Keys in hardware security modules, by the libraries that the configuration names (`kms_library`).
//!
//! An operator says which libraries there are, since they run in this process; who writes a key down names one of them. Deliberately
//! absent: a session that stays open, so what a PIN opens is closed with each use.

use std::sync::{Arc, PoisonError};

use tresor_crypto::public_key::Curve;
use tresor_env::BoxFuture;
use tresor_env::Entropy;
use tresor_env::custody::{CustodyError, KeeperFacts, KeptKey, OptionFacts, Place, Signing};
use tresor_pkcs11::{HmacHash, KeyName, Library, MadeKey, Module, OaepHash, TokenConfig, TokenError};
use zeroize::Zeroizing;

use super::{Keepers, blame, needed, verified};
use crate::key_services::Hsm;

pub(super) const FACTS: KeeperFacts = KeeperFacts {
    kind: "pkcs11",
    of_keeper: &[
        OptionFacts::shown("library"),
        OptionFacts::shown("lib"),
        OptionFacts::shown("slot"),
        OptionFacts::shown("token_label"),
        OptionFacts::secret("pin"),
        OptionFacts::shown("force_rw_session"),
        OptionFacts::shown("max_parallel"),
    ],
    of_key: &[
        OptionFacts::shown("key_label"),
        OptionFacts::shown("label"),
        OptionFacts::shown("key_id"),
        OptionFacts::shown("id"),
        OptionFacts::shown("mechanism"),
        OptionFacts::shown("key_bits"),
        OptionFacts::shown("curve"),
        OptionFacts::shown("rsa_oaep_hash"),
    ],
};

/// What keys can be made for, by the numbers and names of the standard.
const OF_RSA: [&str; 6] = ["0x0001", "0x0009", "0x000d", "CKM_RSA_PKCS", "CKM_RSA_PKCS_OAEP", "CKM_RSA_PKCS_PSS"];
const OF_CURVES: [&str; 2] = ["0x1041", "CKM_ECDSA"];
const OF_AES: [&str; 2] = ["0x1087", "CKM_AES_GCM"];

/// A key in a module.
pub(super) struct Kept {
    hsm: Hsm,
    pin: Zeroizing<String>,
    entropy: Arc<dyn Entropy>,
}

fn misplaced(text: impl Into<String>) -> CustodyError {
    CustodyError::Misplaced(text.into())
}

fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x").or(text.strip_prefix("0X")) {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

/// What is made where there is no key, as mechanism, length and curve say.
fn made(place: &Place) -> Result<Option<MadeKey>, CustodyError> {
    let length = place.option("key_bits").map(|text| number(text).ok_or_else(|| misplaced("`key_bits` is a number")));
    let length = length.transpose()?.filter(|length| *length > 0);
    let Some(mechanism) = place.option("mechanism") else { return Ok(None) };
    let is_one_of = |names: &[&str]| {
        names.iter().any(|name| {
            name.eq_ignore_ascii_case(mechanism) || number(mechanism).is_some_and(|asked| number(name) == Some(asked))
        })
    };
    if is_one_of(&OF_RSA) {
        let length = length.unwrap_or(2048);
        return match length {
            2048 | 3072 | 4096 => Ok(Some(MadeKey::Rsa(length))),
            _ => Err(misplaced("`key_bits` of a key of RSA is 2048, 3072 or 4096")),
        };
    }
    if is_one_of(&OF_CURVES) {
        let curve = Curve::parse(place.option("curve").unwrap_or("P256"));
        return curve.map(|curve| Some(MadeKey::Ec(curve))).ok_or_else(|| misplaced("`curve` is P256, P384 or P521"));
    }
    if is_one_of(&OF_AES) {
        let length = length.unwrap_or(256);
        return match length {
            128 | 192 | 256 => Ok(Some(MadeKey::Aes(length / 8))),
            _ => Err(misplaced("`key_bits` of a key of AES is 128, 192 or 256")),
        };
    }
    Err(misplaced(
        "`mechanism` is one of CKM_RSA_PKCS (0x0001), CKM_RSA_PKCS_OAEP (0x0009), CKM_RSA_PKCS_PSS (0x000d), CKM_ECDSA (0x1041) and CKM_AES_GCM (0x1087)",
    ))
}

impl Kept {
    pub(super) fn new(keepers: &Keepers, place: &Place) -> Result<Self, CustodyError> {
        let name = place
            .option("library")
            .map_or_else(|| needed(place, "lib").map_err(|_| misplaced("`library` is required")), Ok)?;
        let path = keepers.libraries.get(&name.to_lowercase());
        let path =
            path.ok_or_else(|| misplaced(format!("the configuration has no `kms_library` of the name {name:?}")))?;
        let slot =
            place.option("slot").map(|text| number(text).ok_or_else(|| misplaced("`slot` is the number of a slot")));
        let (slot, token_label) = (slot.transpose()?, place.option("token_label").map(str::to_owned));
        if slot.is_none() && token_label.is_none() {
            return Err(misplaced("a `slot` or a `token_label` is required"));
        }
        let pin = Zeroizing::new(needed(place, "pin")?.to_owned());
        let id = place.option("key_id").or(place.option("id")).map(|text| {
            let digits = text.strip_prefix("0x").or(text.strip_prefix("0X"));
            // The reference takes both: digits that say so, and letters as they are.
            digits.map_or_else(|| Ok(text.as_bytes().to_vec()), hex::decode)
        });
        let id = id.transpose().map_err(|_| misplaced("`key_id` is letters, or hexadecimal digits after `0x`"))?;
        let key = KeyName { label: place.option("key_label").or(place.option("label")).map(str::to_owned), id };
        if key == KeyName::default() {
            return Err(misplaced("a `key_label` or a `key_id` is required"));
        }
        let oaep_hash = match place.option("rsa_oaep_hash") {
            None => OaepHash::default(),
            Some(name) => OaepHash::parse(name)
                .ok_or_else(|| misplaced("`rsa_oaep_hash` is sha1, sha224, sha256, sha384 or sha512"))?,
        };
        let is_set = |name: &str| matches!(place.option(name), Some("true" | "1"));
        let config = TokenConfig {
            library: path.clone(),
            slot,
            token_label,
            key,
            mechanism: None,
            hmac_key: None,
            hmac_hash: HmacHash::default(),
            oaep_hash,
            generates: is_set("allow_generate_key"),
            made: made(place)?,
            seals_outside: false,
            begins_anew: true,
            writable: is_set("force_rw_session"),
        };
        if config.generates && config.made.is_none() {
            return Err(misplaced("a `mechanism` says what key is made, which `allow_generate_key` asks for"));
        }
        let mut loaded = keepers.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let entropy = &keepers.doors.entropy;
        loaded.entry(path.clone()).or_insert_with(|| Library::of(path, &**entropy));
        drop(loaded);
        Ok(Self { hsm: Hsm::new(Module::new(config, &**entropy), &keepers.doors), pin, entropy: Arc::clone(entropy) })
    }

    async fn ask<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Module, &[u8]) -> Result<T, TokenError> + Send + 'static,
    ) -> Result<T, CustodyError> {
        match self.hsm.ask(self.pin.clone(), work).await {
            Ok(done) => done.map_err(|error| match error {
                TokenError::Unable(what) => CustodyError::Unable(what),
                other => blame(crate::key_services::blame(&other)),
            }),
            Err(late) => Err(blame(late)),
        }
    }
}

impl KeptKey for Kept {
    fn public(&self) -> BoxFuture<'_, Result<Vec<u8>, CustodyError>> {
        Box::pin(self.ask(Module::public))
    }

    fn sign<'k>(&'k self, how: Signing, message: &'k [u8]) -> BoxFuture<'k, Result<Vec<u8>, CustodyError>> {
        let message = Zeroizing::new(message.to_vec());
        Box::pin(self.ask(move |module, pin| module.sign(pin, how, &message)))
    }

    fn verify<'k>(
        &'k self,
        how: Signing,
        message: &'k [u8],
        signature: &'k [u8],
    ) -> BoxFuture<'k, Result<bool, CustodyError>> {
        Box::pin(verified(self, how, message, signature))
    }

    fn look(&self) -> BoxFuture<'_, Result<(), CustodyError>> {
        Box::pin(self.ask(Module::look))
    }

    fn encrypt<'k>(&'k self, plaintext: &'k [u8]) -> BoxFuture<'k, Result<Vec<u8>, CustodyError>> {
        let (plaintext, entropy) = (Zeroizing::new(plaintext.to_vec()), Arc::clone(&self.entropy));
        Box::pin(self.ask(move |module, pin| module.encrypt(pin, &plaintext, &*entropy)))
    }

    fn decrypt<'k>(&'k self, ciphertext: &'k [u8]) -> BoxFuture<'k, Result<Zeroizing<Vec<u8>>, CustodyError>> {
        let ciphertext = ciphertext.to_vec();
        Box::pin(self.ask(move |module, pin| module.decrypt(pin, &ciphertext)))
    }
}
