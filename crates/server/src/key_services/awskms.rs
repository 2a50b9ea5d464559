//! `seal "awskms"`: the key management service of AWS keeps the key.
//!
//! The slot's id goes along as encryption context, so what is moved to another slot does not open, and AWS's own log names it.
//! Which key sealed it is said by AWS, in what it made; an alias that leads to another key later is another version. Deliberately
//! absent: where access keys come from ([`aws_keys`](super::aws_keys)).

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tresor_core::{KeyService, Sealed, SealedKey, ServiceError};
use tresor_env::outgoing::Ask;
use tresor_env::{BoxFuture, Doors};
use tresor_model::{Map, map};
use tresor_secret::DataKey;
use tresor_sigv4::{Posted, Scope};
use zeroize::Zeroizing;

use super::aws_keys::AwsKeys;
use super::{Answered, BOUND_TO, Reach, bytes_of, ciphertext, gathered, json_body, key_at, refusal, text_at};
use crate::config::AwsKmsConfig;

/// The media type of what is asked.
const JSON: &str = "application/x-amz-json-1.1";
/// How many random bytes it gives at once.
const RANDOM_BYTES_MAX: usize = 1024;
/// The longest name of a key.
const KEY_NAME_BYTES_MAX: usize = 2048;
/// What AWS says with status 400 and means for now.
const PASSING: [&str; 4] =
    ["ThrottlingException", "LimitExceededException", "KMSInternalException", "DependencyTimeoutException"];

/// The key management service of AWS.
pub(crate) struct AwsKms {
    config: AwsKmsConfig,
    keys: AwsKeys,
    reach: Arc<Reach>,
}

impl AwsKms {
    pub(crate) fn new(config: AwsKmsConfig, doors: Doors) -> Self {
        let reach = Arc::new(Reach::to(&config.endpoint, doors));
        let keys = AwsKeys::new(config.keys.clone(), Arc::clone(&reach));
        Self { config, keys, reach }
    }

    pub(crate) async fn ask(&self, target: &'static str, body: &Map, withheld: &[&str]) -> Result<Map, ServiceError> {
        let keys = self.keys.find().await?;
        let body = json_body(body);
        let scope = Scope { region: &self.config.region, service: "kms" };
        let posted = Posted { media: JSON, target: Some(target), body: &body };
        let now = self.reach.doors.clock.wall();
        let headers = tresor_sigv4::headers(&keys, scope, &self.reach.host, posted, now);
        let url = format!("{}/", self.config.endpoint);
        let Answered { status, body, .. } = self.reach.ask(Ask::Post(body), url, headers).await?;
        if status == 200 {
            return Ok(body);
        }
        // Some services say the type with its shape before it.
        let code = body.text("__type").map(|code| code.rsplit('#').next().unwrap_or(code)).unwrap_or_default();
        let said = body.text("message").or_else(|| body.text("Message")).unwrap_or_default();
        let status = if PASSING.contains(&code) { 503 } else { status };
        Err(refusal(status, Some(&format!("{code} {said}")), withheld))
    }
}

impl KeyService for AwsKms {
    fn kind(&self) -> &'static str {
        "awskms"
    }

    fn key_id(&self) -> &str {
        &self.config.key_id
    }

    fn seal<'k>(&'k self, key: &'k [u8; 32], name: &'k str) -> BoxFuture<'k, Result<Sealed, ServiceError>> {
        Box::pin(async move {
            let plaintext = Zeroizing::new(STANDARD.encode(key));
            let body = map! {
                "KeyId" => self.config.key_id.as_str(),
                "Plaintext" => plaintext.as_str(),
                "EncryptionContext" => map! { BOUND_TO => name },
            };
            let answer = self.ask("TrentService.Encrypt", &body, &[&plaintext]).await?;
            let sealed = STANDARD.decode(text_at(&answer, &["CiphertextBlob"]).unwrap_or_default());
            let sealed = sealed.ok().and_then(ciphertext);
            let version = text_at(&answer, &["KeyId"]).filter(|name| name.len() <= KEY_NAME_BYTES_MAX);
            match (sealed, version) {
                (Some(sealed), Some(version)) => Ok(Sealed { version: version.to_owned(), sealed }),
                _ => Err(ServiceError::Unexpected("without a ciphertext")),
            }
        })
    }

    fn open<'k>(&'k self, sealed: &'k SealedKey) -> BoxFuture<'k, Result<DataKey, ServiceError>> {
        Box::pin(async move {
            let body = map! {
                "CiphertextBlob" => STANDARD.encode(&sealed.sealed),
                "EncryptionContext" => map! { BOUND_TO => sealed.slot.as_str() },
            };
            let answer = self.ask("TrentService.Decrypt", &body, &[]).await?;
            key_at(&answer, &["Plaintext"])
        })
    }

    fn random(&self, count: usize) -> BoxFuture<'_, Result<Zeroizing<Vec<u8>>, ServiceError>> {
        Box::pin(gathered(count, RANDOM_BYTES_MAX, move |part| async move {
            let body = map! { "NumberOfBytes" => part };
            bytes_of(text_at(&self.ask("TrentService.GenerateRandom", &body, &[]).await?, &["Plaintext"]))
        }))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]
    use serde_json::{Value, json};
    use tresor_env::doubles::TestDoors;
    use tresor_env::outgoing::OutgoingError;

    use super::*;
    use crate::config::{AwsKeysConfig, KeyPlace};

    fn aws(doors: &TestDoors) -> AwsKms {
        let secret = |text: &str| KeyPlace::Literal(Arc::new(tresor_secret::SecretString::new(text.to_owned())));
        let own = Some(("AKID".to_owned(), secret("canary-secret"), None));
        let config = AwsKmsConfig {
            key_id: "alias/unseal".to_owned(),
            region: "eu-central-1".to_owned(),
            endpoint: "https://kms.eu-central-1.amazonaws.com".to_owned(),
            keys: AwsKeysConfig { own, ..AwsKeysConfig::NOTHING },
        };
        AwsKms::new(config, doors.doors.clone())
    }

    /// A fake of the service, which answers as it is told; what stands for AWS in the binary's tests checks signatures.
    fn fake_kms(doors: &TestDoors, answer: impl Fn(&str, &Value) -> (u16, Value) + Send + 'static) {
        doors.outgoing.answer(move |request| {
            let Ask::Post(body) = &request.ask else { return Err(OutgoingError::Unsendable) };
            let header = |name: &str| {
                let found = request.headers.iter().find(|(known, _)| *known == name);
                found.map_or(String::new(), |(_, value)| value.as_str().to_owned())
            };
            assert_eq!(request.url, "https://kms.eu-central-1.amazonaws.com/");
            assert_eq!(header("content-type"), JSON);
            let scope = "Credential=AKID/20260101/eu-central-1/kms/aws4_request";
            assert!(header("authorization").contains(scope), "{}", header("authorization"));
            let (status, said) = answer(&header("x-amz-target"), &serde_json::from_slice(body).unwrap());
            Ok((status, said.to_string().into_bytes()))
        });
    }

    fn stored(sealed: &[u8]) -> SealedKey {
        let [slot, service, key_id, version] = ["s1", "awskms", "k", "v"].map(str::to_owned);
        SealedKey { slot, service, key_id, version, sealed: sealed.to_vec() }
    }

    #[tokio::test]
    async fn a_key_is_sealed_and_opened_by_aws_bound_to_its_slot() {
        let doors = TestDoors::new(1);
        fake_kms(&doors, |target, body| {
            assert_eq!(body["EncryptionContext"], json!({ "tresor-key-slot": "s1" }));
            match target {
                "TrentService.Encrypt" => {
                    assert_eq!(
                        (&body["KeyId"], &body["Plaintext"]),
                        (&json!("alias/unseal"), &json!(STANDARD.encode([9; 32])))
                    );
                    (200, json!({ "CiphertextBlob": STANDARD.encode(b"made"), "KeyId": "arn:aws:kms:x:1:key/2" }))
                }
                "TrentService.Decrypt" => {
                    assert_eq!(body["CiphertextBlob"], json!(STANDARD.encode(b"made")));
                    (200, json!({ "Plaintext": STANDARD.encode([9; 32]), "KeyId": "arn:aws:kms:x:1:key/2" }))
                }
                other => panic!("{other}"),
            }
        });
        let aws = aws(&doors);
        let made = aws.seal(&[9; 32], "s1").await.map_err(|error| error.to_string()).unwrap();
        assert_eq!((made.version.as_str(), made.sealed.as_slice()), ("arn:aws:kms:x:1:key/2", b"made".as_slice()));
        let opened = aws.open(&stored(&made.sealed)).await.map_err(|error| error.to_string()).unwrap();
        assert!(opened.is_same(&DataKey::new([9; 32])));
    }

    #[tokio::test]
    async fn random_bytes_are_gathered_from_services_that_give_few_at_once() {
        let doors = TestDoors::new(1);
        let aws = aws(&doors);
        fake_kms(&doors, |target, body| {
            assert_eq!(target, "TrentService.GenerateRandom");
            let count = usize::try_from(body["NumberOfBytes"].as_u64().unwrap()).unwrap();
            assert!(count <= 1024, "it gives no more");
            (200, json!({ "Plaintext": STANDARD.encode(vec![7; count]) }))
        });
        assert_eq!(aws.random(2500).await.unwrap().as_slice(), [7; 2500]);
        for said in [json!({}), json!({ "Plaintext": "AAAA" }), json!({ "Plaintext": "!" })] {
            fake_kms(&doors, move |_, _| (200, said.clone()));
            assert!(matches!(aws.random(32).await.unwrap_err(), ServiceError::Unexpected(_)));
        }
        fake_kms(&doors, |_, _| (400, json!({ "__type": "AccessDeniedException" })));
        let error = aws.random(32).await.unwrap_err().to_string();
        assert_eq!(error, "it refuses: status 400, AccessDeniedException");
    }

    #[tokio::test]
    async fn sea_01_what_aws_refuses_or_answers_amiss_is_an_error_that_shows_no_secret() {
        let doors = TestDoors::new(1);
        let aws = aws(&doors);
        let plaintext = STANDARD.encode([9; 32]);
        for (status, said, words) in [
            (
                400,
                json!({ "__type": "com.amazonaws.kms#AccessDeniedException", "Message": "User is not authorized" }),
                "it refuses: status 400, AccessDeniedException User is not authorized",
            ),
            (400, json!({ "__type": "ThrottlingException" }), "it does not answer: status 503, ThrottlingException"),
            (400, json!({ "__type": "X", "message": format!("no {plaintext}") }), "it refuses: status 400"),
            (500, json!("nonsense"), "it does not answer: status 500"),
            (200, json!({}), "it answered without a ciphertext"),
            (200, json!({ "CiphertextBlob": "", "KeyId": "k" }), "it answered without a ciphertext"),
            (200, json!({ "CiphertextBlob": "AA==" }), "it answered without a ciphertext"),
        ] {
            fake_kms(&doors, move |_, _| (status, said.clone()));
            assert_eq!(aws.seal(&[9; 32], "s1").await.err().unwrap().to_string(), words);
        }
        for said in [json!({}), json!({ "Plaintext": "!" }), json!({ "Plaintext": "AAAA" })] {
            fake_kms(&doors, move |_, _| (200, said.clone()));
            let error = aws.open(&stored(b"made")).await.err().unwrap().to_string();
            assert_eq!(error, "it answered with something that is no key");
        }
    }
}
