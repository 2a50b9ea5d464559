//! `seal "gcpckms"`: the key management service of Google's cloud keeps the key.
//!
//! The slot's id goes along as additional authenticated data, so what is moved to another slot does not open. Who asks is a
//! service account: that of a file with its key, by which a token is signed for, or that of the machine. Deliberately absent: a memory
//! of tokens, and accounts of people.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;
use tresor_core::{KeyService, Sealed, SealedKey, ServiceError};
use tresor_crypto::rsa::RsaKey;
use tresor_env::outgoing::{Ask, Base, escaped};
use tresor_env::{BoxFuture, Doors};
use tresor_model::{Map, map};
use tresor_secret::DataKey;
use tresor_wire::json::{self, JsonLimits};
use zeroize::Zeroizing;

use super::{Answered, Reach, bytes_of, ciphertext, gathered, json_body, key_at, refusal, text_at};
use crate::config::{GcpKmsConfig, KeyPlace, ServiceTls};

/// Where the service is.
const ENDPOINT: &str = "https://cloudkms.googleapis.com/v1";
/// What a token is asked for.
const SCOPE: &str = "https://www.googleapis.com/auth/cloudkms";
/// Where tokens are had, when the file of an account does not say it.
const TOKENS: &str = "https://oauth2.googleapis.com/token";
/// Where a machine asks for the token of its account.
const OF_MACHINE: &str = "/computeMetadata/v1/instance/service-accounts/default/token";
/// How few and how many random bytes it gives at once.
const RANDOM_BYTES: (usize, usize) = (8, 1024);
/// How many seconds what is signed for a token is good for.
const SIGNED_FOR: i64 = 600;

/// The key management service of Google's cloud.
pub(crate) struct GcpKms {
    config: GcpKmsConfig,
    reach: Reach,
    /// The key of an account by its text, where it lies in no file.
    account: Option<KeyPlace>,
}

impl GcpKms {
    pub(crate) fn new(config: GcpKmsConfig, doors: Doors) -> Self {
        let account = config.credentials.clone().map(KeyPlace::File);
        Self { config, reach: Reach { doors, tls: ServiceTls::default(), host: String::new() }, account }
    }

    /// The same as an account whose key is given.
    pub(crate) fn of_account(config: GcpKmsConfig, account: KeyPlace, doors: Doors) -> Self {
        Self { account: Some(account), ..Self::new(config, doors) }
    }

    async fn token(&self) -> Result<Zeroizing<String>, ServiceError> {
        token(&self.reach, self.account.as_ref(), &self.config.machine, SCOPE).await
    }

    async fn ask(&self, doing: &str, body: &Map, withheld: &[&str]) -> Result<Map, ServiceError> {
        self.ask_of(&self.config.key, doing, body, withheld).await
    }

    /// What the service shows of something.
    pub(crate) async fn shown(&self, what: &str) -> Result<Map, ServiceError> {
        let token = self.token().await?;
        let headers = vec![(Cow::Borrowed("authorization"), Zeroizing::new(format!("Bearer {}", token.as_str())))];
        let Answered { status, body, .. } = self.reach.ask(Ask::Get, format!("{ENDPOINT}/{what}"), headers).await?;
        if status == 200 {
            return Ok(body);
        }
        Err(refusal(status, text_at(&body, &["error", "message"]), &[&token]))
    }

    pub(crate) async fn ask_of(
        &self,
        what: &str,
        doing: &str,
        body: &Map,
        withheld: &[&str],
    ) -> Result<Map, ServiceError> {
        let token = self.token().await?;
        let headers = vec![
            (Cow::Borrowed("authorization"), Zeroizing::new(format!("Bearer {}", token.as_str()))),
            (Cow::Borrowed("content-type"), Zeroizing::new("application/json".to_owned())),
        ];
        let url = format!("{ENDPOINT}/{what}:{doing}");
        let Answered { status, body, .. } = self.reach.ask(Ask::Post(json_body(body)), url, headers).await?;
        if status == 200 {
            return Ok(body);
        }
        let withheld = [withheld, &[token.as_str()]].concat();
        Err(refusal(status, text_at(&body, &["error", "message"]), &withheld))
    }
}

/// The token of an account by the place of its key, or of the machine's without one.
pub(crate) async fn token(
    reach: &Reach,
    account: Option<&KeyPlace>,
    machine: &str,
    scope: &str,
) -> Result<Zeroizing<String>, ServiceError> {
    let answer = match account {
        Some(place) => by_account(reach, place, scope).await?,
        None => {
            let headers = vec![(Cow::Borrowed("metadata-flavor"), Zeroizing::new("Google".to_owned()))];
            reach.ask(Ask::Get, format!("{machine}{OF_MACHINE}"), headers).await?
        }
    };
    match (answer.status, text_at(&answer.body, &["access_token"])) {
        (200, Some(token)) => Ok(Zeroizing::new(token.to_owned())),
        (200, None) => Err(ServiceError::Unexpected("without a token")),
        (status, _) => Err(refusal(status, text_at(&answer.body, &["error_description"]), &[])),
    }
}

/// The project of an account, as its key says it.
pub(crate) async fn project_of(reach: &Reach, place: &KeyPlace) -> Result<String, ServiceError> {
    let text = reach.secret(place).await?;
    let account = json::decode(text.as_bytes(), &JsonLimits::default()).unwrap_or_default();
    let none = || ServiceError::Unprepared(format!("`{place}` names no project"));
    account.text("project_id").map(str::to_owned).ok_or_else(none)
}

/// Asks for a token by what the key of an account signs.
async fn by_account(reach: &Reach, place: &KeyPlace, scope: &str) -> Result<Answered, ServiceError> {
    let text = reach.secret(place).await?;
    let account = json::decode(text.as_bytes(), &JsonLimits::default()).unwrap_or_default();
    let unusable = || ServiceError::Unprepared(format!("`{place}` is no key of a service account"));
    let url = account.text("token_uri").unwrap_or(TOKENS);
    Base::parse(url).filter(|base| base.is_private()).ok_or_else(unusable)?;
    let (name, pem) = (account.text("client_email"), account.text("private_key"));
    let (name, pem) = name.zip(pem).ok_or_else(unusable)?;
    let der = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| unusable())?;
    let key = RsaKey::from_pkcs8(der.secret_pkcs8_der()).map_err(|_| unusable())?;
    let now = reach.doors.clock.wall().seconds();
    let claims = map! { "iss" => name, "scope" => scope, "aud" => url, "iat" => now, "exp" => now + SIGNED_FOR };
    let header = map! { "alg" => "RS256", "typ" => "JWT", "kid" => account.text("private_key_id").unwrap_or_default() };
    let spelled = |part: &Map| URL_SAFE_NO_PAD.encode(&*json_body(part));
    let signed = format!("{}.{}", spelled(&header), spelled(&claims));
    let signature = URL_SAFE_NO_PAD.encode(key.sign(signed.as_bytes()).map_err(|_| unusable())?);
    let grant = escaped("urn:ietf:params:oauth:grant-type:jwt-bearer");
    let form = Zeroizing::new(format!("grant_type={grant}&assertion={signed}.{signature}").into_bytes());
    let media = Zeroizing::new("application/x-www-form-urlencoded".to_owned());
    reach.ask(Ask::Post(form), url.to_owned(), vec![(Cow::Borrowed("content-type"), media)]).await
}

/// What a ciphertext is bound to.
fn bound_to(slot: &str) -> String {
    STANDARD.encode(format!("tresor key slot {slot}"))
}

impl KeyService for GcpKms {
    fn kind(&self) -> &'static str {
        "gcpckms"
    }

    fn key_id(&self) -> &str {
        &self.config.key
    }

    fn seal<'k>(&'k self, key: &'k [u8; 32], name: &'k str) -> BoxFuture<'k, Result<Sealed, ServiceError>> {
        Box::pin(async move {
            let plaintext = Zeroizing::new(STANDARD.encode(key));
            let body = map! { "plaintext" => plaintext.as_str(), "additionalAuthenticatedData" => bound_to(name) };
            let answer = self.ask("encrypt", &body, &[&plaintext]).await?;
            let sealed = STANDARD.decode(text_at(&answer, &["ciphertext"]).unwrap_or_default());
            let sealed = sealed.ok().and_then(ciphertext);
            // The name of the version that sealed it.
            let version = text_at(&answer, &["name"]).and_then(|name| name.rsplit('/').next());
            match (sealed, version.filter(|version| version.len() <= 64)) {
                (Some(sealed), Some(version)) => Ok(Sealed { version: version.to_owned(), sealed }),
                _ => Err(ServiceError::Unexpected("without a ciphertext")),
            }
        })
    }

    fn open<'k>(&'k self, sealed: &'k SealedKey) -> BoxFuture<'k, Result<DataKey, ServiceError>> {
        Box::pin(async move {
            let ciphertext = STANDARD.encode(&sealed.sealed);
            let bound = bound_to(&sealed.slot);
            let body = map! { "ciphertext" => ciphertext, "additionalAuthenticatedData" => bound };
            let answer = self.ask("decrypt", &body, &[]).await?;
            key_at(&answer, &["plaintext"])
        })
    }

    fn random(&self, count: usize) -> BoxFuture<'_, Result<Zeroizing<Vec<u8>>, ServiceError>> {
        // The place of the key: its project, and where its ring is.
        let place = self.config.key.split("/keyRings/").next().unwrap_or_default();
        Box::pin(gathered(count, RANDOM_BYTES.1, move |part| async move {
            // It gives no fewer than these.
            let length = part.max(RANDOM_BYTES.0);
            let body = map! { "lengthBytes" => length, "protectionLevel" => "HSM" };
            let answer = self.ask_of(place, "generateRandomBytes", &body, &[]).await?;
            let mut bytes = bytes_of(text_at(&answer, &["data"]))?;
            if bytes.len() == length {
                bytes.truncate(part);
            }
            Ok(bytes)
        }))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use serde_json::{Value, json};
    use tresor_env::doubles::TestDoors;
    use tresor_env::outgoing::OutgoingError;

    use super::*;

    const KEY: &str = "projects/p/locations/l/keyRings/r/cryptoKeys/k";

    fn stored(sealed: &[u8]) -> SealedKey {
        let [slot, service, key_id, version] = ["s1", "gcpckms", "k", "3"].map(str::to_owned);
        SealedKey { slot, service, key_id, version, sealed: sealed.to_vec() }
    }

    fn gcp(doors: &TestDoors, credentials: Option<&Path>) -> GcpKms {
        let credentials = credentials.map(Path::to_owned);
        let config = GcpKmsConfig { key: KEY.to_owned(), credentials, machine: "http://machine".to_owned() };
        GcpKms::new(config, doors.doors.clone())
    }

    /// A fake of Google's servers: tokens, and the service, which answers as it is told.
    fn fake_google(doors: &TestDoors, answer: impl Fn(&str, &Value) -> (u16, Value) + Send + 'static) {
        doors.outgoing.answer(move |request| {
            let header = |name: &str| {
                let found = request.headers.iter().find(|(known, _)| *known == name);
                found.map_or(String::new(), |(_, value)| value.as_str().to_owned())
            };
            let (status, said) = match (&request.ask, request.url.as_str()) {
                (Ask::Get, "http://machine/computeMetadata/v1/instance/service-accounts/default/token") => {
                    assert_eq!(header("metadata-flavor"), "Google");
                    (200, json!({ "access_token": "of-the-machine", "expires_in": 3600 }))
                }
                (Ask::Post(form), "https://oauth2.example/token") => {
                    let form = std::str::from_utf8(form).unwrap();
                    let jwt = form
                        .strip_prefix("grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=");
                    let parts: Vec<&str> = jwt.unwrap().split('.').collect();
                    let part = |at: usize| -> Value {
                        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(parts[at]).unwrap()).unwrap()
                    };
                    assert_eq!(part(0), json!({ "alg": "RS256", "typ": "JWT", "kid": "one" }));
                    let claims = part(1);
                    assert_eq!(
                        (&claims["iss"], &claims["aud"]),
                        (&json!("a@p"), &json!("https://oauth2.example/token"))
                    );
                    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), SIGNED_FOR);
                    // That others verify such signatures is tested where they are made.
                    assert_eq!(URL_SAFE_NO_PAD.decode(parts[2]).unwrap().len(), 256);
                    (200, json!({ "access_token": "of-the-account" }))
                }
                (Ask::Post(body), url) => {
                    let doing = url.strip_prefix("https://cloudkms.googleapis.com/v1/").unwrap();
                    let body: Value = serde_json::from_slice(body).unwrap();
                    let is_bound = body["additionalAuthenticatedData"] == json!(bound_to("s1"));
                    assert!(is_bound || doing.ends_with(":generateRandomBytes"), "{body}");
                    answer(&format!("{} {doing}", header("authorization")), &body)
                }
                _ => return Err(OutgoingError::Unsendable),
            };
            Ok((status, said.to_string().into_bytes()))
        });
    }

    #[tokio::test]
    async fn a_key_is_sealed_and_opened_by_google_as_an_account_or_the_machine() {
        let (doors, folder) = (TestDoors::new(1), tempfile::tempdir().unwrap());
        let file = folder.path().join("account.json");
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
        let account = json!({
            "type": "service_account", "client_email": "a@p", "private_key_id": "one", "private_key": pair.serialize_pem(),
            "token_uri": "https://oauth2.example/token",
        });
        std::fs::write(&file, account.to_string()).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        for (credentials, token) in [(None, "of-the-machine"), (Some(file.as_path()), "of-the-account")] {
            fake_google(&doors, move |asked, body| {
                let made = STANDARD.encode(b"made");
                if asked == format!("Bearer {token} {KEY}:encrypt") {
                    assert_eq!(body["plaintext"], json!(STANDARD.encode([9; 32])));
                    (200, json!({ "name": format!("{KEY}/cryptoKeyVersions/3"), "ciphertext": made }))
                } else {
                    assert_eq!(asked, format!("Bearer {token} {KEY}:decrypt"));
                    assert_eq!(body["ciphertext"], json!(made));
                    (200, json!({ "plaintext": STANDARD.encode([9; 32]) }))
                }
            });
            let gcp = gcp(&doors, credentials);
            let made = gcp.seal(&[9; 32], "s1").await.map_err(|error| error.to_string()).unwrap();
            assert_eq!((made.version.as_str(), made.sealed.as_slice()), ("3", b"made".as_slice()));
            let opened = gcp.open(&stored(&made.sealed)).await.map_err(|error| error.to_string()).unwrap();
            assert!(opened.is_same(&DataKey::new([9; 32])));
        }
        std::fs::write(&file, "{}").unwrap();
        let error = gcp(&doors, Some(&file)).seal(&[9; 32], "s1").await.err().unwrap().to_string();
        assert!(error.ends_with("is no key of a service account"), "{error}");
    }

    #[tokio::test]
    async fn google_gives_random_bytes_of_its_modules() {
        let doors = TestDoors::new(1);
        fake_google(&doors, |asked, body| {
            assert_eq!(asked, "Bearer of-the-machine projects/p/locations/l:generateRandomBytes");
            assert_eq!(body["protectionLevel"], json!("HSM"));
            let count = usize::try_from(body["lengthBytes"].as_u64().unwrap()).unwrap();
            assert!((8..=1024).contains(&count));
            (200, json!({ "data": STANDARD.encode(vec![3; count]) }))
        });
        // It gives no fewer than eight.
        for count in [1, 8, 1025] {
            assert_eq!(gcp(&doors, None).random(count).await.unwrap().as_slice(), vec![3; count]);
        }
    }

    #[tokio::test]
    async fn sea_01_what_google_refuses_or_answers_amiss_is_an_error_that_shows_no_secret() {
        let doors = TestDoors::new(1);
        let gcp = gcp(&doors, None);
        let plaintext = STANDARD.encode([9; 32]);
        for (status, said, words) in [
            (403, json!({ "error": { "message": "Permission denied" } }), "it refuses: status 403, Permission denied"),
            (400, json!({ "error": { "message": format!("no {plaintext}") } }), "it refuses: status 400"),
            (401, json!({ "error": { "message": "no of-the-machine" } }), "it refuses: status 401"),
            (503, json!({}), "it does not answer: status 503"),
            (200, json!({}), "it answered without a ciphertext"),
            (200, json!({ "name": "x", "ciphertext": "!" }), "it answered without a ciphertext"),
        ] {
            fake_google(&doors, move |_, _| (status, said.clone()));
            assert_eq!(gcp.seal(&[9; 32], "s1").await.err().unwrap().to_string(), words);
        }
        for said in [json!({}), json!({ "plaintext": "AAAA" })] {
            fake_google(&doors, move |_, _| (200, said.clone()));
            let error = gcp.open(&stored(b"made")).await.err().unwrap().to_string();
            assert_eq!(error, "it answered with something that is no key");
        }
    }
}
