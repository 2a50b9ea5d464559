//! Keys in vaults of Microsoft's cloud, used as an application with a secret.
//!
//! The vault signs digests, and encrypts with RSA alone. Deliberately absent: identities of the machine and of pods, which are the server's.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tresor_core::ServiceError;
use tresor_crypto::public_key::{self, Curve, Kind};
use tresor_env::custody::{CustodyError, KeeperFacts, KeptKey, OptionFacts, Place, Signing};
use tresor_env::{BoxFuture, Doors};
use tresor_model::{Map, map};
use zeroize::Zeroizing;

use super::{bits, blame, digest, literal, needed, plain, verified};
use crate::config::{AzureIdentity, AzureKeyVaultConfig};
use crate::key_services::{AzureKeyVault, text_at};

pub(super) const FACTS: KeeperFacts = KeeperFacts {
    kind: "azurekeyvault",
    of_keeper: &[
        OptionFacts::shown("tenant_id"),
        OptionFacts::shown("client_id"),
        OptionFacts::secret("client_secret"),
        OptionFacts::shown("environment"),
        OptionFacts::shown("resource"),
        OptionFacts::shown("vault_name"),
    ],
    of_key: &[
        OptionFacts::shown("key_name"),
        OptionFacts::shown("key_version"),
        OptionFacts::shown("key_type"),
        OptionFacts::shown("key_bits"),
        OptionFacts::shown("curve"),
    ],
};

/// How the vault encrypts.
const ENCRYPTION: &str = "RSA-OAEP-256";

/// A key of a vault.
pub(super) struct Kept {
    azure: AzureKeyVault,
    version: String,
}

fn decoded(answer: &Map, path: &[&str]) -> Result<Vec<u8>, CustodyError> {
    let bytes = URL_SAFE_NO_PAD.decode(text_at(answer, path).unwrap_or_default().trim_end_matches('='));
    bytes
        .ok()
        .filter(|bytes| !bytes.is_empty())
        .ok_or_else(|| blame(ServiceError::Unexpected("without what was asked for")))
}

impl Kept {
    pub(super) fn new(place: &Place, doors: &Doors) -> Result<Self, CustodyError> {
        let (login, hosts) =
            match place.option("environment").unwrap_or("AZUREPUBLICCLOUD").to_ascii_uppercase().as_str() {
                "AZUREPUBLICCLOUD" => ("login.microsoftonline.com", "vault.azure.net"),
                "AZUREUSGOVERNMENTCLOUD" => ("login.microsoftonline.us", "vault.usgovcloudapi.net"),
                "AZURECHINACLOUD" => ("login.chinacloudapi.cn", "vault.azure.cn"),
                _ => {
                    return Err(CustodyError::Misplaced(
                        "`environment` is AZUREPUBLICCLOUD, AZUREUSGOVERNMENTCLOUD or AZURECHINACLOUD".to_owned(),
                    ));
                }
            };
        let resource = if place.option("resource").is_some() { plain(place, "resource")? } else { hosts }.to_owned();
        let vault_name = plain(place, "vault_name")?.to_owned();
        let identity = AzureIdentity::Secret {
            tenant: needed(place, "tenant_id")?.to_owned(),
            client_id: needed(place, "client_id")?.to_owned(),
            secret: literal(needed(place, "client_secret")?),
        };
        let version = if place.option("key_version").is_some() { plain(place, "key_version")? } else { "" }.to_owned();
        let config = AzureKeyVaultConfig {
            vault: format!("https://{vault_name}.{resource}"),
            vault_name,
            key_name: plain(place, "key_name")?.to_owned(),
            resource,
            login,
            identity,
        };
        Ok(Self { azure: AzureKeyVault::new(config, doors.clone()), version })
    }

    /// The key as the vault shows it, and what it is one of.
    async fn shown(&self) -> Result<(Map, Kind), CustodyError> {
        let shown = self.azure.shown(&self.version).await.map_err(blame)?;
        let kind = match text_at(&shown, &["key", "kty"]).unwrap_or_default() {
            "RSA" | "RSA-HSM" => Kind::Rsa,
            "EC" | "EC-HSM" => {
                let curve = Curve::parse(text_at(&shown, &["key", "crv"]).unwrap_or_default());
                Kind::Ec(curve.ok_or(CustodyError::Unable("be used with the curve that it is on"))?)
            }
            _ => return Err(CustodyError::Unable("sign")),
        };
        Ok((shown, kind))
    }

    async fn turned_by_key(&self, doing: &str, value: &str) -> Result<Vec<u8>, CustodyError> {
        let body = map! { "alg" => ENCRYPTION, "value" => value };
        decoded(&self.azure.ask(&self.version, doing, body, value).await.map_err(blame)?, &["value"])
    }
}

impl KeptKey for Kept {
    fn public(&self) -> BoxFuture<'_, Result<Vec<u8>, CustodyError>> {
        Box::pin(async {
            let (shown, kind) = self.shown().await?;
            let part = |name: &str| decoded(&shown, &["key", name]);
            match kind {
                Kind::Rsa => Ok(public_key::of_rsa(&part("n")?, &part("e")?)),
                Kind::Ec(curve) => Ok(public_key::of_curve(curve, &[vec![4], part("x")?, part("y")?].concat())),
            }
        })
    }

    fn sign<'k>(&'k self, how: Signing, message: &'k [u8]) -> BoxFuture<'k, Result<Vec<u8>, CustodyError>> {
        Box::pin(async move {
            let (_, kind) = self.shown().await?;
            let scheme = match kind {
                Kind::Rsa if how.pss => "PS",
                Kind::Rsa => "RS",
                Kind::Ec(_) => "ES",
            };
            let value = URL_SAFE_NO_PAD.encode(digest(how, message));
            let body = map! { "alg" => format!("{scheme}{}", bits(how)), "value" => value.as_str() };
            let answer = self.azure.ask(&self.version, "sign", body, &value).await.map_err(blame)?;
            let raw = decoded(&answer, &["value"])?;
            match kind {
                Kind::Rsa => Ok(raw),
                Kind::Ec(_) => public_key::of_two_numbers(&raw).ok_or(CustodyError::Unable("sign as ECDSA does")),
            }
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
        Box::pin(async { self.azure.shown(&self.version).await.map(drop).map_err(blame) })
    }

    fn encrypt<'k>(&'k self, plaintext: &'k [u8]) -> BoxFuture<'k, Result<Vec<u8>, CustodyError>> {
        Box::pin(async move { self.turned_by_key("encrypt", &Zeroizing::new(URL_SAFE_NO_PAD.encode(plaintext))).await })
    }

    fn decrypt<'k>(&'k self, ciphertext: &'k [u8]) -> BoxFuture<'k, Result<Zeroizing<Vec<u8>>, CustodyError>> {
        Box::pin(
            async move { self.turned_by_key("decrypt", &URL_SAFE_NO_PAD.encode(ciphertext)).await.map(Zeroizing::new) },
        )
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]
    use std::collections::BTreeMap;

    use rcgen::{KeyPair, PublicKeyData, SigningKey};
    use serde_json::{Value, json};
    use tresor_crypto::rsa::RsaKey;
    use tresor_env::custody::SignedHash;
    use tresor_env::doubles::TestDoors;
    use tresor_env::outgoing::{Ask, OutgoingError};

    use super::*;

    const HOW: Signing = Signing { hash: SignedHash::Sha256, pss: false };
    const OPTIONS: [(&str, &str); 5] = [
        ("tenant_id", "t"),
        ("client_id", "app"),
        ("client_secret", "canary-secret"),
        ("vault_name", "safe"),
        ("key_name", "signs"),
    ];

    fn place(options: &[(&str, &str)]) -> Place {
        let options: BTreeMap<_, _> =
            options.iter().map(|(name, text)| ((*name).to_owned(), Zeroizing::new((*text).to_owned()))).collect();
        Place { kind: "azurekeyvault".to_owned(), options }
    }

    /// A vault that shows a key, and does with it what it is told.
    fn fake_vault(doors: &TestDoors, jwk: Value, does: impl Fn(&str, &Value) -> (u16, Value) + Send + 'static) {
        doors.outgoing.answer(move |request| {
            let (status, said) = match (&request.ask, request.url.as_str()) {
                (Ask::Post(form), "https://login.microsoftonline.com/t/oauth2/v2.0/token") => {
                    assert!(std::str::from_utf8(form).unwrap().ends_with("&client_secret=canary-secret"));
                    (200, json!({ "access_token": "token" }))
                }
                (Ask::Get, "https://safe.vault.azure.net/keys/signs?api-version=7.4") => (200, json!({ "key": jwk })),
                (Ask::Post(body), url) => {
                    let doing = url.strip_prefix("https://safe.vault.azure.net/keys/signs//").unwrap();
                    does(doing, &serde_json::from_slice(body).unwrap())
                }
                (_, url) => panic!("{url}"),
            };
            Ok::<_, OutgoingError>((status, said.to_string().into_bytes()))
        });
    }

    /// The numbers of a signature, as the vault writes them.
    fn raw(der: &[u8]) -> Vec<u8> {
        let length = usize::from(der[3]);
        let (one, other) = (&der[4..4 + length], &der[6 + length..]);
        let wide = |number: &[u8]| {
            let digits: Vec<u8> = number.iter().copied().skip_while(|byte| *byte == 0).collect();
            [vec![0; 32 - digits.len()], digits].concat()
        };
        [wide(one), wide(other)].concat()
    }

    #[tokio::test]
    async fn keys_of_a_vault_sign_and_verify_by_the_public_half_that_it_shows() {
        let doors = TestDoors::new(1);
        let spelled = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let digest = spelled(&tresor_crypto::hash::sha256(b"message"));
        let key = Kept::new(&place(&OPTIONS), &doors.doors).unwrap();
        // A curve: the vault writes two numbers.
        let pair = KeyPair::generate().unwrap();
        let point = pair.der_bytes().to_vec();
        let jwk = json!({ "kty": "EC", "crv": "P-256", "x": spelled(&point[1..33]), "y": spelled(&point[33..]) });
        let (asked, signature) = (digest.clone(), spelled(&raw(&pair.sign(b"message").unwrap())));
        fake_vault(&doors, jwk, move |doing, body| {
            assert_eq!((doing, body), ("sign?api-version=7.4", &json!({ "alg": "ES256", "value": asked })));
            (200, json!({ "value": signature }))
        });
        let signed = key.sign(HOW, b"message").await.unwrap();
        assert!(key.verify(HOW, b"message", &signed).await.unwrap());
        assert!(!key.verify(HOW, b"another", &signed).await.unwrap());
        key.look().await.unwrap();
        // RSA, which encrypts, too.
        let pair = KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
        let public = pair.der_bytes();
        let jwk = json!({ "kty": "RSA", "n": spelled(&public[9..265]), "e": "AQAB" });
        let rsa = RsaKey::from_pkcs8(&pair.serialize_der()).unwrap();
        fake_vault(&doors, jwk, move |doing, body| match doing {
            "sign?api-version=7.4" => {
                assert_eq!(body, &json!({ "alg": "RS256", "value": digest }));
                (200, json!({ "value": spelled(&rsa.sign(b"message").unwrap()) }))
            }
            "encrypt?api-version=7.4" => (200, json!({ "value": spelled(b"made") })),
            "decrypt?api-version=7.4" => (200, json!({ "value": spelled(b"text") })),
            other => panic!("{other}"),
        });
        let signed = key.sign(HOW, b"message").await.unwrap();
        assert!(key.verify(HOW, b"message", &signed).await.unwrap());
        assert_eq!(key.encrypt(b"text").await.unwrap(), b"made");
        assert_eq!(key.decrypt(b"made").await.unwrap().as_slice(), b"text");
    }

    #[tokio::test]
    async fn what_a_vault_refuses_or_answers_amiss_and_places_that_lead_nowhere_are_told_without_secrets() {
        let doors = TestDoors::new(1);
        let key = Kept::new(&place(&OPTIONS), &doors.doors).unwrap();
        let jwk = json!({ "kty": "RSA", "n": "AQAB", "e": "AQAB" });
        for (status, said, error) in [
            (403, json!({ "error": { "message": "no token token" } }), "it refuses: status 403"),
            (503, json!({}), "it does not answer: status 503"),
            (200, json!({}), "it answered without what was asked for"),
        ] {
            fake_vault(&doors, jwk.clone(), move |_, _| (status, said.clone()));
            assert_eq!(key.sign(HOW, b"message").await.unwrap_err().to_string(), error);
        }
        fake_vault(&doors, json!({ "kty": "oct" }), |_, _| (200, json!({})));
        assert_eq!(key.sign(HOW, b"message").await.unwrap_err(), CustodyError::Unable("sign"));
        for missing in OPTIONS {
            let options: Vec<_> = OPTIONS.into_iter().filter(|option| *option != missing).collect();
            let error = Kept::new(&place(&options), &doors.doors).err().unwrap();
            assert_eq!(error, CustodyError::Misplaced(format!("`{}` is required", missing.0)));
        }
        let elsewhere = [OPTIONS.as_slice(), &[("resource", "evil.example/x")]].concat();
        assert!(Kept::new(&place(&elsewhere), &doors.doors).is_err());
    }
}
