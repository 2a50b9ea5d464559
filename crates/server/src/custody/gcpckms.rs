//! Keys of Google's key management service, used as a service account by the text of its key.
//!
//! Such a key has versions, and the one that is used is named. Deliberately absent: the account of the machine, which is the server's.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::SubjectPublicKeyInfoDer;
use rustls::pki_types::pem::PemObject;
use tresor_core::ServiceError;
use tresor_env::custody::{CustodyError, KeeperFacts, KeptKey, OptionFacts, Place, Signing};
use tresor_env::{BoxFuture, Doors};
use tresor_model::{Map, map};
use zeroize::Zeroizing;

use super::{bits, blame, digest, literal, needed, plain, verified};
use crate::config::GcpKmsConfig;
use crate::key_services::{GcpKms, bytes_of, text_at};

pub(super) const FACTS: KeeperFacts = KeeperFacts {
    kind: "gcpckms",
    of_keeper: &[
        OptionFacts::secret("credentials"),
        OptionFacts::shown("project"),
        OptionFacts::shown("region"),
        OptionFacts::shown("key_ring"),
    ],
    of_key: &[
        OptionFacts::shown("crypto_key"),
        OptionFacts::shown("crypto_key_version"),
        OptionFacts::shown("algorithm"),
    ],
};

/// A key of Google's.
pub(super) struct Kept {
    gcp: GcpKms,
    /// The key.
    key: String,
    /// The version of it that signs.
    version: String,
    /// Which way it was made for, where whoever wrote it down says that.
    algorithm: Option<String>,
}

impl Kept {
    pub(super) fn new(place: &Place, doors: &Doors) -> Result<Self, CustodyError> {
        let (project, region) = (plain(place, "project")?, plain(place, "region")?);
        let (ring, name) = (plain(place, "key_ring")?, plain(place, "crypto_key")?);
        let key = format!("projects/{project}/locations/{region}/keyRings/{ring}/cryptoKeys/{name}");
        let version =
            if place.option("crypto_key_version").is_some() { plain(place, "crypto_key_version")? } else { "1" };
        let config = GcpKmsConfig { key: key.clone(), credentials: None, machine: String::new() };
        let gcp = GcpKms::of_account(config, literal(needed(place, "credentials")?), doors.clone());
        let version = format!("{key}/cryptoKeyVersions/{version}");
        Ok(Self { gcp, key, version, algorithm: place.option("algorithm").map(str::to_ascii_uppercase) })
    }

    async fn turned_by_key(
        &self,
        doing: &str,
        body: Map,
        withheld: &str,
        field: &str,
    ) -> Result<Zeroizing<Vec<u8>>, CustodyError> {
        let answer = self.gcp.ask_of(&self.key, doing, &body, &[withheld]).await.map_err(blame)?;
        bytes_of(text_at(&answer, &[field])).map_err(blame)
    }
}

impl KeptKey for Kept {
    fn public(&self) -> BoxFuture<'_, Result<Vec<u8>, CustodyError>> {
        Box::pin(async {
            let shown = self.gcp.shown(&format!("{}/publicKey", self.version)).await.map_err(blame)?;
            let pem = text_at(&shown, &["pem"]).unwrap_or_default();
            let der = SubjectPublicKeyInfoDer::from_pem_slice(pem.as_bytes());
            let der = der.map_err(|_| blame(ServiceError::Unexpected("without a public key")))?;
            Ok(der.to_vec())
        })
    }

    fn sign<'k>(&'k self, how: Signing, message: &'k [u8]) -> BoxFuture<'k, Result<Vec<u8>, CustodyError>> {
        Box::pin(async move {
            // A version signs in one way alone, and says so in its algorithm.
            let wanted = format!("SHA{}", bits(how));
            if self.algorithm.as_ref().is_some_and(|algorithm| !algorithm.ends_with(&wanted)) {
                return Err(CustodyError::Unable("sign with another hash than that of its algorithm"));
            }
            let field = wanted.to_ascii_lowercase();
            let body = map! { "digest" => Map::new().with(field, STANDARD.encode(digest(how, message))) };
            let answer = self.gcp.ask_of(&self.version, "asymmetricSign", &body, &[]).await.map_err(blame)?;
            Ok(bytes_of(text_at(&answer, &["signature"])).map_err(blame)?.to_vec())
        })
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
        Box::pin(async { self.gcp.shown(&self.version).await.map(drop).map_err(blame) })
    }

    fn encrypt<'k>(&'k self, plaintext: &'k [u8]) -> BoxFuture<'k, Result<Vec<u8>, CustodyError>> {
        Box::pin(async move {
            let text = Zeroizing::new(STANDARD.encode(plaintext));
            let body = map! { "plaintext" => text.as_str() };
            Ok(self.turned_by_key("encrypt", body, &text, "ciphertext").await?.to_vec())
        })
    }

    fn decrypt<'k>(&'k self, ciphertext: &'k [u8]) -> BoxFuture<'k, Result<Zeroizing<Vec<u8>>, CustodyError>> {
        Box::pin(async move {
            let body = map! { "ciphertext" => STANDARD.encode(ciphertext) };
            self.turned_by_key("decrypt", body, "", "plaintext").await
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use std::collections::BTreeMap;

    use rcgen::{KeyPair, SigningKey};
    use serde_json::{Value, json};
    use tresor_env::custody::SignedHash;
    use tresor_env::doubles::TestDoors;
    use tresor_env::outgoing::{Ask, OutgoingError};

    use super::*;

    const HOW: Signing = Signing { hash: SignedHash::Sha256, pss: false };
    const KEY: &str = "projects/p/locations/l/keyRings/r/cryptoKeys/k";

    fn kept(doors: &TestDoors, more: &[(&str, &str)]) -> Kept {
        let account = KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
        let account = json!({
            "client_email": "a@p", "private_key": account.serialize_pem(), "token_uri": "https://oauth2.example/token",
        });
        let account = account.to_string();
        let options = [
            ("credentials", account.as_str()),
            ("project", "p"),
            ("region", "l"),
            ("key_ring", "r"),
            ("crypto_key", "k"),
        ];
        let options: BTreeMap<_, _> = options
            .iter()
            .chain(more)
            .map(|(name, text)| ((*name).to_owned(), Zeroizing::new((*text).to_owned())))
            .collect();
        Kept::new(&Place { kind: "gcpckms".to_owned(), options }, &doors.doors).unwrap()
    }

    fn fake_google(doors: &TestDoors, does: impl Fn(&str, Option<Value>) -> (u16, Value) + Send + 'static) {
        doors.outgoing.answer(move |request| {
            let (status, said) = match (&request.ask, request.url.as_str()) {
                (Ask::Post(_), "https://oauth2.example/token") => (200, json!({ "access_token": "token" })),
                (ask, url) => {
                    let doing = url.strip_prefix("https://cloudkms.googleapis.com/v1/").unwrap();
                    let body = match ask {
                        Ask::Post(body) => Some(serde_json::from_slice(body).unwrap()),
                        _ => None,
                    };
                    does(doing, body)
                }
            };
            Ok::<_, OutgoingError>((status, said.to_string().into_bytes()))
        });
    }

    #[tokio::test]
    async fn keys_of_google_sign_by_their_version_and_encrypt() {
        let doors = TestDoors::new(1);
        let pair = KeyPair::generate().unwrap();
        let (pem, signature) = (pair.public_key_pem(), STANDARD.encode(pair.sign(b"message").unwrap()));
        let digest = STANDARD.encode(tresor_crypto::hash::sha256(b"message"));
        fake_google(&doors, move |doing, body| {
            let version = format!("{KEY}/cryptoKeyVersions/3");
            match (doing.strip_prefix(&version), body) {
                (Some("/publicKey"), None) => (200, json!({ "pem": pem })),
                (Some(""), None) => (200, json!({ "state": "ENABLED" })),
                (Some(":asymmetricSign"), Some(body)) => {
                    assert_eq!(body, json!({ "digest": { "sha256": digest } }));
                    (200, json!({ "signature": signature }))
                }
                (None, Some(_)) if doing.ends_with("k:encrypt") => {
                    (200, json!({ "ciphertext": STANDARD.encode("made") }))
                }
                (None, Some(_)) if doing.ends_with("k:decrypt") => {
                    (200, json!({ "plaintext": STANDARD.encode("text") }))
                }
                _ => panic!("{doing}"),
            }
        });
        let key = kept(&doors, &[("crypto_key_version", "3"), ("algorithm", "ec_sign_p256_sha256")]);
        key.look().await.unwrap();
        let signed = key.sign(HOW, b"message").await.unwrap();
        assert!(key.verify(HOW, b"message", &signed).await.unwrap());
        assert!(!key.verify(HOW, b"another", &signed).await.unwrap());
        let other = Signing { hash: SignedHash::Sha512, ..HOW };
        assert!(matches!(key.sign(other, b"message").await.unwrap_err(), CustodyError::Unable(_)));
        assert_eq!(key.encrypt(b"text").await.unwrap(), b"made");
        assert_eq!(key.decrypt(b"made").await.unwrap().as_slice(), b"text");
        fake_google(&doors, |_, _| (404, json!({ "error": { "message": "not found, token" } })));
        assert_eq!(key.look().await.unwrap_err().to_string(), "it refuses: status 404");
    }
}
