//! `seal "transit"`: the transit engine of another server keeps the key.
//!
//! The slot's id goes along as associated data, so what is moved to another slot does not open. The token is renewed in the
//! background when two thirds of its life are over; one that cannot be is looked at again later, as another may lie where it
//! lies. Deliberately absent: keys that derive or sign, which take no such data.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tresor_core::{KeyService, Sealed, SealedKey, ServiceError};
use tresor_env::outgoing::{Ask, Base, escaped};
use tresor_env::{BoxFuture, Clock, Doors};
use tresor_model::{Body, Map, map};
use tresor_secret::DataKey;
use zeroize::Zeroizing;

use super::{Answered, Reach, bytes_of, gathered, json_body, key_at, refusal, text_at};
use crate::config::TransitConfig;

/// The longest ciphertext of a key; one of RSA 4096 has some 700 letters.
const CIPHERTEXT_BYTES_MAX: usize = 4096;
/// How many random bytes it is asked for at once, so that an answer is within its bound.
const RANDOM_BYTES_MAX: usize = 32 * 1024;
/// How soon a renewal that got no answer is tried again at first, and at the latest.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// How often a token is looked at that cannot be renewed, or does not end.
const LATER: Duration = Duration::from_secs(600);

/// The transit engine of another server.
pub(super) struct Transit {
    config: TransitConfig,
    reach: Reach,
    /// The engine and its key, as operators know them.
    key_id: String,
}

/// What became of asking for a renewal.
enum Renewed {
    /// So long the token lives.
    Lives(Duration),
    /// It is not one that can be renewed.
    Stays(String),
}

impl Transit {
    pub(super) fn new(config: TransitConfig, doors: Doors) -> Self {
        let host = Base::parse(&config.address).map(|base| base.authority().to_owned()).unwrap_or_default();
        let reach = Reach { doors, tls: config.tls.clone(), host };
        let key_id = config.key_id();
        Self { config, reach, key_id }
    }

    async fn token(&self) -> Result<Zeroizing<String>, ServiceError> {
        match &self.config.token {
            Some(place) => self.reach.secret(place).await,
            None => Ok(Zeroizing::default()),
        }
    }

    async fn write(&self, path: &str, body: &Map, withheld: &[&str]) -> Result<Map, ServiceError> {
        let token = self.token().await?;
        let mut headers = vec![(Cow::Borrowed("x-vault-request"), Zeroizing::new("true".to_owned()))];
        if !token.is_empty() {
            headers.push((Cow::Borrowed("x-vault-token"), token.clone()));
        }
        if let Some(namespace) = &self.config.namespace {
            headers.push((Cow::Borrowed("x-vault-namespace"), Zeroizing::new(namespace.clone())));
        }
        headers.push((Cow::Borrowed("content-type"), Zeroizing::new("application/json".to_owned())));
        let url = format!("{}/v1/{path}", self.config.address);
        let Answered { status, body, .. } = self.reach.ask(Ask::Put(json_body(body)), url, headers).await?;
        if status == 200 {
            return Ok(body);
        }
        let errors = body.get("errors").and_then(Body::as_list).unwrap_or_default();
        let said: Vec<&str> = errors.iter().filter_map(Body::as_str).collect();
        Err(refusal(status, Some(&said.join("; ")), &[withheld, &[token.as_str()]].concat()))
    }

    /// Where the engine does something with the key.
    fn path(&self, doing: &str) -> String {
        format!("{}/{doing}/{}", self.mount(), escaped(&self.config.key_name))
    }

    fn mount(&self) -> String {
        let parts: Vec<String> = self.config.mount_path.split('/').map(escaped).collect();
        parts.join("/")
    }

    async fn renew(&self) -> Result<Renewed, ServiceError> {
        let answer = match self.write("auth/token/renew-self", &Map::new(), &[]).await {
            Ok(answer) => answer,
            Err(ServiceError::Refused(said)) => return Ok(Renewed::Stays(said)),
            Err(other) => return Err(other),
        };
        let auth = answer.get("auth").and_then(Body::as_map);
        let seconds = auth
            .and_then(|auth| auth.get("lease_duration"))
            .and_then(Body::as_i64)
            .and_then(|seconds| u64::try_from(seconds).ok())
            .unwrap_or(0);
        Ok(match seconds {
            0 => Renewed::Stays("it does not end".to_owned()),
            seconds => Renewed::Lives(Duration::from_secs(seconds)),
        })
    }

    /// Renews the token for as long as the server runs.
    pub(super) async fn keep_renewed(self: Arc<Self>) {
        let clock: Arc<dyn Clock> = Arc::clone(&self.reach.doors.clock);
        let (mut pause, mut told) = (PAUSES.0, String::new());
        loop {
            let (wait, said) = match self.renew().await {
                Ok(Renewed::Lives(life)) => {
                    pause = PAUSES.0;
                    ((life * 2 / 3).max(PAUSES.0), String::new())
                }
                Ok(Renewed::Stays(said)) => (LATER, format!("it is not renewed: {said}")),
                Err(error) => {
                    let wait = pause;
                    pause = (pause * 2).min(PAUSES.1);
                    (wait, error.to_string())
                }
            };
            if said != told && !said.is_empty() {
                tracing::warn!(said, "the token of the seal `transit`");
            }
            told = said;
            clock.sleep(wait).await;
        }
    }
}

/// What a ciphertext is bound to.
fn bound_to(slot: &str) -> String {
    STANDARD.encode(format!("tresor key slot {slot}"))
}

impl KeyService for Transit {
    fn kind(&self) -> &'static str {
        "transit"
    }

    fn key_id(&self) -> &str {
        &self.key_id
    }

    fn seal<'k>(&'k self, key: &'k [u8; 32], name: &'k str) -> BoxFuture<'k, Result<Sealed, ServiceError>> {
        Box::pin(async move {
            let plaintext = Zeroizing::new(STANDARD.encode(key));
            let body = map! { "plaintext" => plaintext.as_str(), "associated_data" => bound_to(name) };
            let answer = self.write(&self.path("encrypt"), &body, &[&plaintext]).await?;
            let text = text_at(&answer, &["data", "ciphertext"]).unwrap_or_default();
            let parts: Vec<&str> = text.split(':').collect();
            let [_, version, _] = *parts.as_slice() else {
                return Err(ServiceError::Unexpected("without a ciphertext"));
            };
            if text.len() > CIPHERTEXT_BYTES_MAX || version.is_empty() || version.len() > 16 {
                return Err(ServiceError::Unexpected("without a ciphertext"));
            }
            let version = format!("{}{version}", self.config.key_id_prefix);
            Ok(Sealed { version, sealed: text.as_bytes().to_vec() })
        })
    }

    fn open<'k>(&'k self, sealed: &'k SealedKey) -> BoxFuture<'k, Result<DataKey, ServiceError>> {
        Box::pin(async move {
            let ciphertext = std::str::from_utf8(&sealed.sealed);
            let ciphertext = ciphertext.map_err(|_| ServiceError::Unprepared("the key slot is damaged".to_owned()))?;
            let body = map! { "ciphertext" => ciphertext, "associated_data" => bound_to(&sealed.slot) };
            let answer = self.write(&self.path("decrypt"), &body, &[]).await?;
            key_at(&answer, &["data", "plaintext"])
        })
    }

    fn random(&self, count: usize) -> BoxFuture<'_, Result<Zeroizing<Vec<u8>>, ServiceError>> {
        Box::pin(gathered(count, RANDOM_BYTES_MAX, move |part| async move {
            let path = format!("{}/random/{part}", self.mount());
            bytes_of(text_at(&self.write(&path, &Map::new(), &[]).await?, &["data", "random_bytes"]))
        }))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]
    use std::path::Path;
    use std::sync::Mutex;

    use serde_json::{Value, json};
    use tresor_env::doubles::TestDoors;
    use tresor_env::outgoing::OutgoingError;

    use super::*;
    use crate::config::{KeyPlace, ServiceTls};

    /// What the fake got: path, token, namespace and body.
    type Asked = Arc<Mutex<Vec<(String, String, String, Value)>>>;

    /// A fake of another server's transit engine, which answers as it is told; it keeps what it was asked.
    fn fake_transit(doors: &TestDoors, answer: impl Fn(&str, &Value) -> (u16, Value) + Send + 'static) -> Asked {
        let asked = Asked::default();
        let seen = Arc::clone(&asked);
        doors.outgoing.answer(move |request| {
            let Ask::Put(body) = &request.ask else { return Err(OutgoingError::Unsendable) };
            let header = |name: &str| {
                let found = request.headers.iter().find(|(known, _)| *known == name);
                found.map_or(String::new(), |(_, value)| value.as_str().to_owned())
            };
            assert_eq!(header("x-vault-request"), "true");
            let path = request.url.strip_prefix("https://vault.example:8200/v1/").unwrap().to_owned();
            let body: Value = serde_json::from_slice(body).unwrap();
            let (status, said) = answer(&path, &body);
            seen.lock().unwrap().push((path, header("x-vault-token"), header("x-vault-namespace"), body));
            Ok((status, said.to_string().into_bytes()))
        });
        asked
    }

    fn transit(doors: &TestDoors, token: &Path) -> Transit {
        let config = TransitConfig {
            address: "https://vault.example:8200".to_owned(),
            token: Some(KeyPlace::File(token.to_owned())),
            key_name: "auto unseal".to_owned(),
            mount_path: "keys/transit".to_owned(),
            namespace: Some("team".to_owned()),
            renews: true,
            key_id_prefix: "a-".to_owned(),
            tls: ServiceTls::default(),
        };
        Transit::new(config, doors.doors.clone())
    }

    fn write(path: &Path, text: &str) {
        use std::os::unix::fs::PermissionsExt;
        std::fs::write(path, text).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn stored(sealed: &[u8]) -> SealedKey {
        let [slot, service, key_id, version] = ["s1", "transit", "k", "v1"].map(str::to_owned);
        SealedKey { slot, service, key_id, version, sealed: sealed.to_vec() }
    }

    #[tokio::test]
    async fn a_key_is_sealed_and_opened_by_the_engine_of_another_server_bound_to_its_slot() {
        let (doors, folder) = (TestDoors::new(1), tempfile::tempdir().unwrap());
        let token = folder.path().join("token");
        write(&token, "of-yesterday\n");
        let asked = fake_transit(&doors, |path, body| match path {
            "keys/transit/encrypt/auto%20unseal" => (200, json!({ "data": { "ciphertext": "vault:v3:abc" } })),
            _ => {
                assert_eq!(body["ciphertext"], "vault:v3:abc");
                (200, json!({ "data": { "plaintext": STANDARD.encode([9; 32]) } }))
            }
        });
        let transit = transit(&doors, &token);
        assert_eq!((transit.kind(), transit.key_id()), ("transit", "keys/transit/auto unseal"));
        let made = transit.seal(&[9; 32], "s1").await.map_err(|error| error.to_string()).unwrap();
        assert_eq!((made.version.as_str(), made.sealed.as_slice()), ("a-v3", b"vault:v3:abc".as_slice()));
        // The token is read each time.
        write(&token, "of-today");
        let opened = transit.open(&stored(&made.sealed)).await.map_err(|error| error.to_string()).unwrap();
        assert!(opened.is_same(&DataKey::new([9; 32])));
        let asked = asked.lock().unwrap().clone();
        let bound = STANDARD.encode("tresor key slot s1");
        let plaintext = STANDARD.encode([9; 32]);
        let path = |doing: &str| format!("keys/transit/{doing}/auto%20unseal");
        let expected = [
            (path("encrypt"), "of-yesterday", json!({ "plaintext": plaintext, "associated_data": bound })),
            (path("decrypt"), "of-today", json!({ "ciphertext": "vault:v3:abc", "associated_data": bound })),
        ];
        for (asked, (path, token, body)) in asked.iter().zip(expected) {
            assert_eq!(asked, &(path, token.to_owned(), "team".to_owned(), body));
        }
    }

    #[tokio::test]
    async fn sea_01_what_the_other_server_refuses_or_answers_amiss_is_an_error_that_shows_no_secret() {
        let (doors, folder) = (TestDoors::new(1), tempfile::tempdir().unwrap());
        let token = folder.path().join("token");
        write(&token, "canary-token");
        let transit = transit(&doors, &token);
        let plaintext = STANDARD.encode([9; 32]);
        let denied = json!({ "errors": ["1 error occurred:\n\t* permission denied\n\n"] });
        for (status, said, words) in [
            (403, denied, "it refuses: status 403, 1 error occurred: * permission denied"),
            (400, json!({ "errors": [format!("cannot use {plaintext}")] }), "it refuses: status 400"),
            (403, json!({ "errors": ["no token canary-token"] }), "it refuses: status 403"),
            (503, json!({ "errors": ["Vault is sealed"] }), "it does not answer: status 503, Vault is sealed"),
            (429, json!({}), "it does not answer: status 429"),
            (307, json!(null), "it refuses: status 307"),
            (200, json!([]), "it answered without a ciphertext"),
            (200, json!({ "data": { "ciphertext": "nonsense" } }), "it answered without a ciphertext"),
            (200, json!({ "data": { "ciphertext": "x".repeat(9000) } }), "it answered without a ciphertext"),
            (200, json!({ "data": { "ciphertext": 5 } }), "it answered without a ciphertext"),
        ] {
            drop(fake_transit(&doors, move |_, _| (status, said.clone())));
            let error = transit.seal(&[9; 32], "s1").await.err().unwrap().to_string();
            assert_eq!(error, words);
        }
        for said in [json!({}), json!({ "data": { "plaintext": "!" } }), json!({ "data": { "plaintext": "AAAA" } })] {
            drop(fake_transit(&doors, move |_, _| (200, said.clone())));
            let error = transit.open(&stored(b"vault:v1:a")).await.err().unwrap().to_string();
            assert_eq!(error, "it answered with something that is no key");
        }
        doors.outgoing.answer(|_| Err(OutgoingError::TooSlow));
        let error = transit.open(&stored(b"vault:v1:a")).await.err().unwrap();
        assert!(matches!(error, ServiceError::Unanswered(_)), "{error}");
        std::fs::remove_file(&token).unwrap();
        let error = transit.open(&stored(b"vault:v1:a")).await.err().unwrap().to_string();
        assert!(error.contains("cannot be read: No such file"), "{error}");
    }

    #[tokio::test]
    async fn random_bytes_are_asked_of_the_other_server() {
        let (doors, folder) = (TestDoors::new(1), tempfile::tempdir().unwrap());
        let token = folder.path().join("token");
        write(&token, "t");
        let asked = fake_transit(&doors, |path, _| {
            let count: usize = path.rsplit('/').next().unwrap().parse().unwrap();
            (200, json!({ "data": { "random_bytes": STANDARD.encode(vec![5; count]) } }))
        });
        let given = transit(&doors, &token).random(33_000).await.unwrap();
        assert_eq!(given.as_slice(), vec![5; 33_000]);
        let paths: Vec<String> = asked.lock().unwrap().iter().map(|(path, ..)| path.clone()).collect();
        assert_eq!(paths, ["keys/transit/random/32768", "keys/transit/random/232"]);
    }

    #[tokio::test]
    async fn a_token_is_renewed_before_it_ends_and_looked_at_again_when_it_cannot_be() {
        let (doors, folder) = (TestDoors::new(1), tempfile::tempdir().unwrap());
        let token = folder.path().join("token");
        write(&token, "t");
        let asked = fake_transit(&doors, |path, _| {
            assert_eq!(path, "auth/token/renew-self");
            (200, json!({ "auth": { "lease_duration": 300, "renewable": true } }))
        });
        let renewing = Arc::new(transit(&doors, &token)).keep_renewed();
        let count = |asked: &Asked| asked.lock().unwrap().len();
        let after = async |seconds: u64| {
            doors.clock.advance(Duration::from_secs(seconds));
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
        };
        let looked = async {
            after(0).await;
            assert_eq!(count(&asked), 1);
            after(199).await;
            assert_eq!(count(&asked), 1);
            after(1).await;
            assert_eq!(count(&asked), 2);
            let denied = fake_transit(&doors, |_, _| (403, json!({ "errors": ["permission denied"] })));
            after(200).await;
            assert_eq!(count(&denied), 1);
            after(599).await;
            assert_eq!(count(&denied), 1);
            after(1).await;
            assert_eq!(count(&denied), 2);
            // No answer is something else: that is tried again soon.
            let away = fake_transit(&doors, |_, _| (503, json!({})));
            after(600).await;
            for expected in [1, 2] {
                assert_eq!(count(&away), expected);
                after(1).await;
            }
        };
        tokio::select! {
            () = renewing => panic!("it goes on"),
            () = looked => {}
        }
    }
}
