//! `seal "alicloudkms"`: the key management service of Alibaba's cloud keeps the key.
//!
//! The slot's id goes along as encryption context, so what is moved to another slot does not open. A request is a form that is signed
//! by HMAC-SHA1, as this service wants it. Who asks has an access key, or is the machine, which is told the keys of its role.
//! Deliberately absent: roles that are assumed by other keys, and a memory of keys.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tresor_core::{KeyService, Sealed, SealedKey, ServiceError};
use tresor_crypto::hash::hmac_sha1;
use tresor_crypto::token_text::random_uuid;
use tresor_env::outgoing::{Ask, OutgoingRequest, escaped};
use tresor_env::{BoxFuture, Doors};
use tresor_model::{Map, Timestamp};
use tresor_secret::DataKey;
use tresor_wire::json::{self, JsonLimits};
use tresor_wire::time::rfc3339;
use zeroize::Zeroizing;

use super::{Answered, BODY_BYTES_MAX, Reach, TIME_MAX, ciphertext, key_at, refusal, text_at};
use crate::config::{AliCloudKmsConfig, ServiceTls};

/// The version of the API.
const API: &str = "2016-01-20";
/// Below what a machine is told the keys of its role.
const ROLES: &str = "latest/meta-data/ram/security-credentials/";
/// What is said with a status of the caller's fault and meant for now.
const PASSING: [&str; 4] = ["Throttling", "Throttling.User", "Throttling.Api", "ServiceUnavailableTemporary"];

/// The key management service of Alibaba's cloud.
pub(super) struct AliCloudKms {
    config: AliCloudKmsConfig,
    reach: Reach,
}

/// Who asks.
struct Keys {
    access_key: String,
    secret: Zeroizing<String>,
    token: Option<Zeroizing<String>>,
}

impl AliCloudKms {
    pub(super) fn new(config: AliCloudKmsConfig, doors: Doors) -> Self {
        Self { config, reach: Reach { doors, tls: ServiceTls::default(), host: String::new() } }
    }

    async fn keys(&self) -> Result<Keys, ServiceError> {
        let Some((access_key, secret, token)) = &self.config.keys else {
            return self.of_machine().await.map_err(|why| {
                ServiceError::Unanswered(format!("who tells this machine its access keys of Alibaba's cloud: {why}"))
            });
        };
        let token = match token {
            Some(place) => Some(self.reach.secret(place).await?),
            None => None,
        };
        Ok(Keys { access_key: access_key.clone(), secret: self.reach.secret(secret).await?, token })
    }

    /// The keys of the machine's role; a token is asked for first, which nobody gets by making a program ask an address.
    async fn of_machine(&self) -> Result<Keys, String> {
        let at = |path: &str| format!("{}/{path}", self.config.machine);
        let ttl = ("x-aliyun-ecs-metadata-token-ttl-seconds", Zeroizing::new("60".to_owned()));
        let token = self.told(Ask::Put(Zeroizing::default()), at("latest/api/token"), ttl).await?;
        let shown = || ("x-aliyun-ecs-metadata-token", token.clone());
        let role = self.told(Ask::Get, at(ROLES), shown()).await?;
        let role = role.lines().next().unwrap_or_default().to_owned();
        let keys = self.told(Ask::Get, at(&format!("{ROLES}{}", escaped(&role))), shown()).await?;
        let keys = json::decode(keys.as_bytes(), &JsonLimits::default()).unwrap_or_default();
        let part = |name: &str| keys.text(name).filter(|text| !text.is_empty()).map(str::to_owned);
        let none = || "it told none".to_owned();
        Ok(Keys {
            access_key: part("AccessKeyId").ok_or_else(none)?,
            secret: Zeroizing::new(part("AccessKeySecret").ok_or_else(none)?),
            token: part("SecurityToken").map(Zeroizing::new),
        })
    }

    async fn told(
        &self,
        ask: Ask,
        url: String,
        (name, value): (&'static str, Zeroizing<String>),
    ) -> Result<Zeroizing<String>, String> {
        let headers = vec![(Cow::Borrowed(name), value)];
        let request = OutgoingRequest { ask, url, headers, time_max: TIME_MAX, body_bytes_max: BODY_BYTES_MAX };
        let answer = self.reach.doors.outgoing.ask(request).await.map_err(|error| error.to_string())?;
        match (answer.status, std::str::from_utf8(&answer.body)) {
            (200, Ok(text)) => Ok(Zeroizing::new(text.trim().to_owned())),
            (status, _) => Err(format!("it answered with status {status}")),
        }
    }

    async fn ask(&self, action: &str, given: &[(&str, &str)], withheld: &[&str]) -> Result<Map, ServiceError> {
        let keys = self.keys().await?;
        let (nonce, now) = (random_uuid(&*self.reach.doors.entropy), self.reach.doors.clock.wall());
        let form = signed(&keys, action, given, &nonce, now);
        let media = Zeroizing::new("application/x-www-form-urlencoded".to_owned());
        let headers = vec![(Cow::Borrowed("content-type"), media)];
        let url = format!("{}/", self.config.endpoint);
        let form = Ask::Post(Zeroizing::new(form.as_bytes().to_vec()));
        let Answered { status, body, .. } = self.reach.ask(form, url, headers).await?;
        if status == 200 {
            return Ok(body);
        }
        let code = body.text("Code").unwrap_or_default();
        let status = if PASSING.contains(&code) { 503 } else { status };
        let said = format!("{code} {}", body.text("Message").unwrap_or_default());
        let token = keys.token.as_ref().map(|token| token.as_str()).unwrap_or_default();
        Err(refusal(status, Some(&said), &[withheld, &[keys.secret.as_str(), token]].concat()))
    }
}

/// A form with its signature.
fn signed(keys: &Keys, action: &str, given: &[(&str, &str)], nonce: &str, now: Timestamp) -> Zeroizing<String> {
    let now = rfc3339(Timestamp::from_seconds(now.seconds()));
    let mut all = vec![
        ("AccessKeyId", keys.access_key.as_str()),
        ("Action", action),
        ("Format", "JSON"),
        ("SignatureMethod", "HMAC-SHA1"),
        ("SignatureNonce", nonce),
        ("SignatureVersion", "1.0"),
        ("Timestamp", now.as_str()),
        ("Version", API),
    ];
    all.extend(keys.token.iter().map(|token| ("SecurityToken", token.as_str())));
    all.extend(given);
    all.sort_unstable();
    let pairs: Vec<Zeroizing<String>> = all
        .iter()
        .map(|(name, value)| Zeroizing::new(format!("{}={}", escaped(name), &*Zeroizing::new(escaped(value)))))
        .collect();
    let mut form = Zeroizing::new(String::with_capacity(BODY_BYTES_MAX));
    for pair in &pairs {
        if !form.is_empty() {
            form.push('&');
        }
        form.push_str(pair);
    }
    let to_sign = Zeroizing::new(format!("POST&{}&{}", escaped("/"), &*Zeroizing::new(escaped(&form))));
    let key = Zeroizing::new(format!("{}&", keys.secret.as_str()));
    let signature = STANDARD.encode(hmac_sha1(key.as_bytes(), to_sign.as_bytes()));
    form.push_str("&Signature=");
    form.push_str(&escaped(&signature));
    form
}

/// What a ciphertext is bound to, as the service takes it.
fn bound_to(slot: &str) -> String {
    // A slot's id has no letters that JSON spells otherwise.
    format!("{{\"tresor-key-slot\":\"{}\"}}", escaped(slot))
}

impl KeyService for AliCloudKms {
    fn kind(&self) -> &'static str {
        "alicloudkms"
    }

    fn key_id(&self) -> &str {
        &self.config.key_id
    }

    fn seal<'k>(&'k self, key: &'k [u8; 32], name: &'k str) -> BoxFuture<'k, Result<Sealed, ServiceError>> {
        Box::pin(async move {
            let (plaintext, bound_to) = (Zeroizing::new(STANDARD.encode(key)), bound_to(name));
            let given = [
                ("KeyId", self.config.key_id.as_str()),
                ("Plaintext", plaintext.as_str()),
                ("EncryptionContext", bound_to.as_str()),
            ];
            let answer = self.ask("Encrypt", &given, &[&plaintext]).await?;
            let sealed = ciphertext(text_at(&answer, &["CiphertextBlob"]).unwrap_or_default().as_bytes().to_vec());
            // Which key an alias led to, and which version of it.
            let part = |name: &str| text_at(&answer, &[name]).filter(|text| !text.is_empty() && text.len() <= 512);
            match (sealed, part("KeyId"), part("KeyVersionId")) {
                (Some(sealed), Some(key), Some(version)) => Ok(Sealed { version: format!("{key}/{version}"), sealed }),
                _ => Err(ServiceError::Unexpected("without a ciphertext")),
            }
        })
    }

    fn open<'k>(&'k self, sealed: &'k SealedKey) -> BoxFuture<'k, Result<DataKey, ServiceError>> {
        Box::pin(async move {
            let ciphertext = std::str::from_utf8(&sealed.sealed);
            let ciphertext = ciphertext.map_err(|_| ServiceError::Unprepared("the key slot is damaged".to_owned()))?;
            let bound_to = bound_to(&sealed.slot);
            let answer = self
                .ask("Decrypt", &[("CiphertextBlob", ciphertext), ("EncryptionContext", bound_to.as_str())], &[])
                .await?;
            key_at(&answer, &["Plaintext"])
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]
    use std::sync::Arc;

    use serde_json::{Value, json};
    use tresor_env::doubles::TestDoors;
    use tresor_env::outgoing::OutgoingError;

    use super::*;
    use crate::config::KeyPlace;

    fn alibaba(doors: &TestDoors, keys: bool) -> AliCloudKms {
        let secret = |text: &str| KeyPlace::Literal(Arc::new(tresor_secret::SecretString::new(text.to_owned())));
        let config = AliCloudKmsConfig {
            key_id: "alias/unseal".to_owned(),
            endpoint: "https://kms.example".to_owned(),
            keys: keys.then(|| ("AKID".to_owned(), secret("canary-secret"), Some(secret("canary-token")))),
            machine: "http://machine".to_owned(),
        };
        AliCloudKms::new(config, doors.doors.clone())
    }

    fn stored(sealed: &[u8]) -> SealedKey {
        let [slot, service, key_id, version] = ["s1", "alicloudkms", "k", "v"].map(str::to_owned);
        SealedKey { slot, service, key_id, version, sealed: sealed.to_vec() }
    }

    /// A fake of Alibaba's servers, which answers as it is told; signatures are verified by the one of the binary's tests.
    fn fake_alibaba(doors: &TestDoors, answer: impl Fn(&str) -> (u16, Value) + Send + 'static) {
        doors.outgoing.answer(move |request| {
            let header = |name: &str| {
                let found = request.headers.iter().find(|(known, _)| *known == name);
                found.map_or(String::new(), |(_, value)| value.as_str().to_owned())
            };
            let keys =
                json!({ "AccessKeyId": "ROLE", "AccessKeySecret": "S", "SecurityToken": "T", "Code": "Success" });
            let (status, said) = match (&request.ask, request.url.as_str()) {
                (Ask::Put(_), "http://machine/latest/api/token") => {
                    assert_eq!(header("x-aliyun-ecs-metadata-token-ttl-seconds"), "60");
                    return Ok((200, b"session\n".to_vec()));
                }
                (Ask::Get, url) if header("x-aliyun-ecs-metadata-token") == "session" => {
                    match url.strip_prefix("http://machine/latest/meta-data/ram/security-credentials/") {
                        Some("") => return Ok((200, b"role one\n".to_vec())),
                        Some("role%20one") => (200, keys),
                        _ => (404, json!({})),
                    }
                }
                (Ask::Post(form), "https://kms.example/") => answer(std::str::from_utf8(form).unwrap()),
                _ => return Err(OutgoingError::Unsendable),
            };
            Ok((status, said.to_string().into_bytes()))
        });
    }

    #[test]
    fn a_signature_is_that_of_the_example_of_the_service() {
        // The example of the documentation of signatures, with another action.
        let keys =
            Keys { access_key: "testid".to_owned(), secret: Zeroizing::new("testsecret".to_owned()), token: None };
        let form = signed(&keys, "Encrypt", &[("KeyId", "a b*~")], "3ee8c1b8", Timestamp::from_seconds(1_456_227_504));
        let (before, signature) = form.split_once("&Signature=").unwrap();
        assert!(before.starts_with("AccessKeyId=testid&Action=Encrypt&Format=JSON&KeyId=a%20b%2A~&SignatureMethod="));
        assert!(before.ends_with("&Timestamp=2016-02-23T11%3A38%3A24Z&Version=2016-01-20"), "{before}");
        let to_sign = format!("POST&%2F&{}", escaped(before));
        assert_eq!(signature, escaped(&STANDARD.encode(hmac_sha1(b"testsecret&", to_sign.as_bytes()))));
    }

    #[tokio::test]
    async fn a_key_is_sealed_and_opened_by_alibaba_as_somebody_or_the_machine() {
        let doors = TestDoors::new(1);
        for (keys, who, token) in [(true, "AKID", "canary-token"), (false, "ROLE", "T")] {
            fake_alibaba(&doors, move |form| {
                assert!(form.contains(&format!("AccessKeyId={who}&")), "{form}");
                assert!(form.contains(&format!("&SecurityToken={token}&")), "{form}");
                assert!(form.contains("&EncryptionContext=%7B%22tresor-key-slot%22%3A%22s1%22%7D&"), "{form}");
                if form.contains("Action=Encrypt") {
                    assert!(form.contains("&KeyId=alias%2Funseal&"), "{form}");
                    (200, json!({ "CiphertextBlob": "made", "KeyId": "k-1", "KeyVersionId": "v-2" }))
                } else {
                    assert!(form.contains("Action=Decrypt&CiphertextBlob=made&"), "{form}");
                    (200, json!({ "Plaintext": STANDARD.encode([9; 32]) }))
                }
            });
            let alibaba = alibaba(&doors, keys);
            let made = alibaba.seal(&[9; 32], "s1").await.map_err(|error| error.to_string()).unwrap();
            assert_eq!((made.version.as_str(), made.sealed.as_slice()), ("k-1/v-2", b"made".as_slice()));
            let opened = alibaba.open(&stored(&made.sealed)).await.map_err(|error| error.to_string()).unwrap();
            assert!(opened.is_same(&DataKey::new([9; 32])));
        }
    }

    #[tokio::test]
    async fn sea_01_what_alibaba_refuses_or_answers_amiss_is_an_error_that_shows_no_secret() {
        let doors = TestDoors::new(1);
        let alibaba = alibaba(&doors, true);
        let plaintext = STANDARD.encode([9; 32]);
        for (status, said, words) in [
            (
                404,
                json!({ "Code": "Forbidden.KeyNotFound", "Message": "no" }),
                "it refuses: status 404, Forbidden.KeyNotFound no",
            ),
            (400, json!({ "Code": "Throttling.User" }), "it does not answer: status 503, Throttling.User"),
            (400, json!({ "Message": format!("no {plaintext}") }), "it refuses: status 400"),
            (400, json!({ "Message": "canary-secret" }), "it refuses: status 400"),
            (400, json!({ "Message": "canary-token" }), "it refuses: status 400"),
            (200, json!({}), "it answered without a ciphertext"),
            (
                200,
                json!({ "CiphertextBlob": "", "KeyId": "k", "KeyVersionId": "v" }),
                "it answered without a ciphertext",
            ),
            (200, json!({ "CiphertextBlob": "a", "KeyId": "k" }), "it answered without a ciphertext"),
        ] {
            fake_alibaba(&doors, move |_| (status, said.clone()));
            assert_eq!(alibaba.seal(&[9; 32], "s1").await.err().unwrap().to_string(), words);
        }
        for said in [json!({}), json!({ "Plaintext": "!" }), json!({ "Plaintext": "AAAA" })] {
            fake_alibaba(&doors, move |_| (200, said.clone()));
            let error = alibaba.open(&stored(b"made")).await.err().unwrap().to_string();
            assert_eq!(error, "it answered with something that is no key");
        }
    }
}
