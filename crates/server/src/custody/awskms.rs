//! Keys of AWS's key management service.
//!
//! It signs, verifies and shows public halves; a key may be one of RSA, of a curve, or symmetric. Deliberately absent: keys of AWS that are
//! found in the server's surroundings.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tresor_env::custody::{CustodyError, KeeperFacts, KeptKey, OptionFacts, Place, Signing};
use tresor_env::outgoing::Base;
use tresor_env::{BoxFuture, Doors};
use tresor_model::{Body, Map, map};
use zeroize::Zeroizing;

use super::{bits, blame, digest, literal, needed, plain};
use crate::config::{AwsKeysConfig, AwsKmsConfig};
use crate::key_services::{AwsKms, bytes_of, text_at};

pub(super) const FACTS: KeeperFacts = KeeperFacts {
    kind: "awskms",
    of_keeper: &[
        OptionFacts::shown("access_key"),
        OptionFacts::secret("secret_key"),
        OptionFacts::shown("region"),
        OptionFacts::shown("endpoint"),
    ],
    of_key: &[
        OptionFacts::shown("kms_key"),
        OptionFacts::shown("kms_key_id"),
        OptionFacts::shown("key_type"),
        OptionFacts::shown("key_bits"),
        OptionFacts::shown("curve"),
    ],
};

/// The longest message that it hashes itself.
const MESSAGE_BYTES_MAX: usize = 4096;
/// The most that is encrypted at once.
const PLAINTEXT_BYTES_MAX: usize = 4096;

/// A key of AWS.
pub(super) struct Kept {
    aws: AwsKms,
    key: String,
}

impl Kept {
    pub(super) fn new(place: &Place, doors: &Doors) -> Result<Self, CustodyError> {
        let region = plain(place, "region")?.to_owned();
        let endpoint = match place.option("endpoint") {
            None => format!("https://kms.{region}.amazonaws.com"),
            Some(text) => {
                let text = text.trim_end_matches('/');
                let base = Base::parse(text).ok_or(());
                base.map_err(|()| {
                    CustodyError::Misplaced("`endpoint` is an address, such as https://HOST".to_owned())
                })?;
                text.to_owned()
            }
        };
        let access_key = needed(place, "access_key")?.to_owned();
        let own = Some((access_key, literal(needed(place, "secret_key")?), None));
        let keys = AwsKeysConfig { own, ..AwsKeysConfig::NOTHING };
        let key = place.option("kms_key").map_or_else(|| needed(place, "kms_key_id"), Ok);
        let key = key.map_err(|_| CustodyError::Misplaced("`kms_key` is required".to_owned()))?.to_owned();
        let config = AwsKmsConfig { key_id: key.clone(), region, endpoint, keys };
        Ok(Self { aws: AwsKms::new(config, doors.clone()), key })
    }

    async fn ask(&self, target: &'static str, body: Map, withheld: &[&str]) -> Result<Map, CustodyError> {
        let body = body.with("KeyId", self.key.as_str());
        self.aws.ask(target, &body, withheld).await.map_err(blame)
    }

    async fn bytes(&self, target: &'static str, body: Map, field: &str) -> Result<Zeroizing<Vec<u8>>, CustodyError> {
        let answer = self.ask(target, body, &[]).await?;
        let bytes = bytes_of(text_at(&answer, &[field])).map_err(blame)?;
        if bytes.is_empty() {
            return Err(CustodyError::Refused(format!("it answered without `{field}`")));
        }
        Ok(bytes)
    }

    /// How it is called, by what the key is for: a key of a curve signs in one way for each hash.
    async fn algorithm(&self, how: Signing) -> Result<String, CustodyError> {
        let answer = self.ask("TrentService.GetPublicKey", Map::new(), &[]).await?;
        let spec = text_at(&answer, &["KeySpec"]).or(text_at(&answer, &["CustomerMasterKeySpec"])).unwrap_or_default();
        let padding = match spec {
            spec if spec.starts_with("ECC_") => "ECDSA",
            spec if spec.starts_with("RSA_") && how.pss => "RSASSA_PSS",
            spec if spec.starts_with("RSA_") => "RSASSA_PKCS1_V1_5",
            _ => return Err(CustodyError::Unable("sign")),
        };
        Ok(format!("{padding}_SHA_{}", bits(how)))
    }
}

impl Kept {
    /// What is signed, and how.
    async fn signed(&self, how: Signing, message: &[u8]) -> Result<Map, CustodyError> {
        let algorithm = self.algorithm(how).await?;
        let is_short = message.len() <= MESSAGE_BYTES_MAX;
        let sent = Zeroizing::new(if is_short { message.to_vec() } else { digest(how, message) });
        Ok(map! {
            "Message" => STANDARD.encode(&*sent),
            "MessageType" => if is_short { "RAW" } else { "DIGEST" },
            "SigningAlgorithm" => algorithm,
        })
    }
}

impl KeptKey for Kept {
    fn public(&self) -> BoxFuture<'_, Result<Vec<u8>, CustodyError>> {
        Box::pin(async { Ok(self.bytes("TrentService.GetPublicKey", Map::new(), "PublicKey").await?.to_vec()) })
    }

    fn sign<'k>(&'k self, how: Signing, message: &'k [u8]) -> BoxFuture<'k, Result<Vec<u8>, CustodyError>> {
        Box::pin(async move {
            let body = self.signed(how, message).await?;
            Ok(self.bytes("TrentService.Sign", body, "Signature").await?.to_vec())
        })
    }

    fn verify<'k>(
        &'k self,
        how: Signing,
        message: &'k [u8],
        signature: &'k [u8],
    ) -> BoxFuture<'k, Result<bool, CustodyError>> {
        Box::pin(async move {
            let body = self.signed(how, message).await?.with("Signature", STANDARD.encode(signature));
            match self.ask("TrentService.Verify", body, &[]).await {
                Ok(answer) => Ok(answer.get("SignatureValid").and_then(Body::as_bool) == Some(true)),
                Err(CustodyError::Refused(text)) if text.contains("KMSInvalidSignatureException") => Ok(false),
                Err(error) => Err(error),
            }
        })
    }

    fn look(&self) -> BoxFuture<'_, Result<(), CustodyError>> {
        Box::pin(async { self.ask("TrentService.DescribeKey", Map::new(), &[]).await.map(drop) })
    }

    fn encrypt<'k>(&'k self, plaintext: &'k [u8]) -> BoxFuture<'k, Result<Vec<u8>, CustodyError>> {
        Box::pin(async move {
            if plaintext.len() > PLAINTEXT_BYTES_MAX {
                return Err(CustodyError::Unable("encrypt more than 4096 bytes"));
            }
            let body = map! { "Plaintext" => STANDARD.encode(plaintext) };
            Ok(self.bytes("TrentService.Encrypt", body, "CiphertextBlob").await?.to_vec())
        })
    }

    fn decrypt<'k>(&'k self, ciphertext: &'k [u8]) -> BoxFuture<'k, Result<Zeroizing<Vec<u8>>, CustodyError>> {
        Box::pin(async move {
            let body = map! { "CiphertextBlob" => STANDARD.encode(ciphertext) };
            self.bytes("TrentService.Decrypt", body, "Plaintext").await
        })
    }
}
