//! `seal "azurekeyvault"`: a vault of keys in Microsoft's cloud keeps the key.
//!
//! The vault wraps by RSA, which binds to nothing: a wrapped key that is moved to another slot opens there no root key, which is
//! bound to its slot. Who asks is an application with a secret, one that shows the token of its pod, or the machine. Deliberately
//! absent: certificates of applications, accounts of people, and a memory of tokens.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tresor_core::{KeyService, Sealed, SealedKey, ServiceError};
use tresor_env::outgoing::{Ask, escaped};
use tresor_env::{BoxFuture, Doors};
use tresor_model::{Map, map};
use tresor_secret::DataKey;
use zeroize::Zeroizing;

use super::{Answered, Reach, json_body, key_of, refusal, text_at};
use crate::config::{AzureIdentity, AzureKeyVaultConfig, ServiceTls};

/// The version of the API.
const API: &str = "api-version=7.4";
/// How the vault wraps.
const ALGORITHM: &str = "RSA-OAEP-256";
/// The longest wrapped key: of RSA 8192.
const WRAPPED_BYTES_MAX: usize = 1024;
/// What the token of a pod is called.
const ASSERTION: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// A vault of keys in Microsoft's cloud.
pub(crate) struct AzureKeyVault {
    config: AzureKeyVaultConfig,
    reach: Reach,
    /// The vault and the key, as operators know them.
    key_id: String,
}

impl AzureKeyVault {
    pub(crate) fn new(config: AzureKeyVaultConfig, doors: Doors) -> Self {
        let key_id = config.key_id();
        Self { config, reach: Reach { doors, tls: ServiceTls::default(), host: String::new() }, key_id }
    }

    async fn token(&self) -> Result<Zeroizing<String>, ServiceError> {
        token(&self.reach, &self.config.identity, self.config.login, &self.config.resource).await
    }

    /// Where a version of the key is; the newest, without one.
    fn place(&self, version: &str) -> String {
        format!("{}/keys/{}/{}", self.config.vault, escaped(&self.config.key_name), escaped(version))
    }

    async fn headers(&self) -> Result<(Headers, Zeroizing<String>), ServiceError> {
        let token = self.token().await?;
        let headers = vec![
            (Cow::Borrowed("authorization"), Zeroizing::new(format!("Bearer {}", token.as_str()))),
            (Cow::Borrowed("content-type"), Zeroizing::new("application/json".to_owned())),
        ];
        Ok((headers, token))
    }

    /// What the vault shows of a version of the key.
    pub(crate) async fn shown(&self, version: &str) -> Result<Map, ServiceError> {
        let (headers, token) = self.headers().await?;
        let url = format!("{}?{API}", self.place(version).trim_end_matches('/'));
        let Answered { status, body, .. } = self.reach.ask(Ask::Get, url, headers).await?;
        if status == 200 {
            return Ok(body);
        }
        Err(refusal(status, text_at(&body, &["error", "message"]), &[&token]))
    }

    /// Asks the vault to do something with a version of the key; with the newest, without one.
    pub(crate) async fn ask(&self, version: &str, doing: &str, body: Map, withheld: &str) -> Result<Map, ServiceError> {
        let (headers, token) = self.headers().await?;
        let url = format!("{}/{doing}?{API}", self.place(version));
        let Answered { status, body, .. } = self.reach.ask(Ask::Post(json_body(&body)), url, headers).await?;
        if status == 200 {
            return Ok(body);
        }
        Err(refusal(status, text_at(&body, &["error", "message"]), &[withheld, &token]))
    }
}

/// What goes along with what is asked.
type Headers = Vec<(Cow<'static, str>, Zeroizing<String>)>;

/// A value to wrap or unwrap.
fn wrapping(value: &str) -> Map {
    map! { "alg" => ALGORITHM, "value" => value }
}

/// The token of whoever asks, for a resource of Microsoft's cloud.
pub(crate) async fn token(
    reach: &Reach,
    identity: &AzureIdentity,
    login: &str,
    resource: &str,
) -> Result<Zeroizing<String>, ServiceError> {
    let answer = match identity {
        AzureIdentity::Machine { client_id, address } => {
            let client = client_id.as_ref().map_or(String::new(), |id| format!("&client_id={}", escaped(id)));
            let url = format!(
                "{address}/metadata/identity/oauth2/token?api-version=2018-02-01&resource={}{client}",
                escaped(&format!("https://{resource}"))
            );
            let headers = vec![(Cow::Borrowed("metadata"), Zeroizing::new("true".to_owned()))];
            reach.ask(Ask::Get, url, headers).await?
        }
        AzureIdentity::Secret { tenant, client_id, secret } => {
            let secret = reach.secret(secret).await?;
            let proof = Zeroizing::new(format!("client_secret={}", &*Zeroizing::new(escaped(&secret))));
            by_application(reach, (login, resource), (tenant, client_id), &proof).await?
        }
        AzureIdentity::Pod { tenant, client_id, token } => {
            let token = reach.file(token).await?;
            let kind = escaped(ASSERTION);
            let proof = format!("client_assertion_type={kind}&client_assertion={}", escaped(&token));
            by_application(reach, (login, resource), (tenant, client_id), &Zeroizing::new(proof)).await?
        }
    };
    match (answer.status, text_at(&answer.body, &["access_token"])) {
        (200, Some(token)) => Ok(Zeroizing::new(token.to_owned())),
        (200, None) => Err(ServiceError::Unexpected("without a token")),
        (status, _) => Err(refusal(status, text_at(&answer.body, &["error_description"]), &[])),
    }
}

async fn by_application(
    reach: &Reach,
    (login, resource): (&str, &str),
    (tenant, client_id): (&str, &str),
    proof: &str,
) -> Result<Answered, ServiceError> {
    let url = format!("https://{login}/{}/oauth2/v2.0/token", escaped(tenant));
    let scope = escaped(&format!("https://{resource}/.default"));
    let form = format!("grant_type=client_credentials&client_id={}&scope={scope}&{proof}", escaped(client_id));
    let media = Zeroizing::new("application/x-www-form-urlencoded".to_owned());
    let form = Ask::Post(Zeroizing::new(form.into_bytes()));
    reach.ask(form, url, vec![(Cow::Borrowed("content-type"), media)]).await
}

impl KeyService for AzureKeyVault {
    fn kind(&self) -> &'static str {
        "azurekeyvault"
    }

    fn key_id(&self) -> &str {
        &self.key_id
    }

    fn seal<'k>(&'k self, key: &'k [u8; 32], _name: &'k str) -> BoxFuture<'k, Result<Sealed, ServiceError>> {
        Box::pin(async move {
            let value = Zeroizing::new(URL_SAFE_NO_PAD.encode(key));
            let answer = self.ask("", "wrapkey", wrapping(&value), &value).await?;
            let sealed = URL_SAFE_NO_PAD.decode(text_at(&answer, &["value"]).unwrap_or_default());
            let sealed = sealed.ok().filter(|sealed| !sealed.is_empty() && sealed.len() <= WRAPPED_BYTES_MAX);
            let version = text_at(&answer, &["kid"]).and_then(|kid| kid.rsplit('/').next());
            match (sealed, version.filter(|version| !version.is_empty() && version.len() <= 64)) {
                (Some(sealed), Some(version)) => Ok(Sealed { version: version.to_owned(), sealed }),
                _ => Err(ServiceError::Unexpected("without a wrapped key")),
            }
        })
    }

    fn open<'k>(&'k self, sealed: &'k SealedKey) -> BoxFuture<'k, Result<DataKey, ServiceError>> {
        Box::pin(async move {
            let value = URL_SAFE_NO_PAD.encode(&sealed.sealed);
            let answer = self.ask(&sealed.version, "unwrapkey", wrapping(&value), &value).await?;
            let bytes = URL_SAFE_NO_PAD.decode(text_at(&answer, &["value"]).unwrap_or_default()).map(Zeroizing::new);
            key_of(&bytes.map_err(|_| ServiceError::Unexpected("with something that is no key"))?)
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

    const ACROSS: &str = "https%3A%2F%2Fvault.azure.net";

    fn stored(sealed: &[u8]) -> SealedKey {
        let [slot, service, key_id, version] = ["s1", "azurekeyvault", "k", "v3"].map(str::to_owned);
        SealedKey { slot, service, key_id, version, sealed: sealed.to_vec() }
    }

    fn azure(doors: &TestDoors, identity: AzureIdentity) -> AzureKeyVault {
        let config = AzureKeyVaultConfig {
            vault: "https://safe.vault.azure.net".to_owned(),
            vault_name: "safe".to_owned(),
            key_name: "unseal".to_owned(),
            resource: "vault.azure.net".to_owned(),
            login: "login.microsoftonline.com",
            identity,
        };
        AzureKeyVault::new(config, doors.doors.clone())
    }

    fn machine() -> AzureIdentity {
        AzureIdentity::Machine { client_id: Some("me".to_owned()), address: "http://machine".to_owned() }
    }

    /// A fake of Microsoft's servers: tokens, and the vault, which answers as it is told.
    fn fake_azure(doors: &TestDoors, answer: impl Fn(&str, &Value) -> (u16, Value) + Send + 'static) {
        doors.outgoing.answer(move |request| {
            let header = |name: &str| {
                let found = request.headers.iter().find(|(known, _)| *known == name);
                found.map_or(String::new(), |(_, value)| value.as_str().to_owned())
            };
            let (status, said) = match (&request.ask, request.url.as_str()) {
                (Ask::Get, url) => {
                    let query = format!("api-version=2018-02-01&resource={ACROSS}&client_id=me");
                    assert_eq!(url, format!("http://machine/metadata/identity/oauth2/token?{query}"));
                    assert_eq!(header("metadata"), "true");
                    (200, json!({ "access_token": "token" }))
                }
                (Ask::Post(form), "https://login.microsoftonline.com/t/oauth2/v2.0/token") => {
                    let form = std::str::from_utf8(form).unwrap();
                    let begin = format!("grant_type=client_credentials&client_id=app&scope={ACROSS}%2F.default&");
                    match form.strip_prefix(&begin).unwrap() {
                        "client_secret=canary%2Bsecret" => (200, json!({ "access_token": "token" })),
                        proof if proof.ends_with("&client_assertion=of.the.pod") => {
                            (200, json!({ "access_token": "token" }))
                        }
                        _ => (401, json!({ "error_description": "AADSTS7000215: Invalid client secret" })),
                    }
                }
                (Ask::Post(body), url) => {
                    assert_eq!(header("authorization"), "Bearer token");
                    let doing = url.strip_prefix("https://safe.vault.azure.net/keys/unseal/").unwrap();
                    let body: Value = serde_json::from_slice(body).unwrap();
                    assert_eq!(body["alg"], json!("RSA-OAEP-256"));
                    answer(doing, &body)
                }
                _ => return Err(OutgoingError::Unsendable),
            };
            Ok((status, said.to_string().into_bytes()))
        });
    }

    fn secret(text: &str) -> AzureIdentity {
        let secret = KeyPlace::Literal(Arc::new(tresor_secret::SecretString::new(text.to_owned())));
        AzureIdentity::Secret { tenant: "t".to_owned(), client_id: "app".to_owned(), secret }
    }

    #[tokio::test]
    async fn a_key_is_wrapped_and_unwrapped_by_a_vault_as_whoever_asks() {
        let (doors, folder) = (TestDoors::new(1), tempfile::tempdir().unwrap());
        let token = folder.path().join("token");
        std::fs::write(&token, "of.the.pod\n").unwrap();
        fake_azure(&doors, |doing, body| match doing {
            "/wrapkey?api-version=7.4" => {
                assert_eq!(body["value"], json!(URL_SAFE_NO_PAD.encode([9; 32])));
                let kid = "https://safe.vault.azure.net/keys/unseal/v3";
                (200, json!({ "kid": kid, "value": URL_SAFE_NO_PAD.encode(b"made") }))
            }
            "v3/unwrapkey?api-version=7.4" => {
                assert_eq!(body["value"], json!(URL_SAFE_NO_PAD.encode(b"made")));
                (200, json!({ "value": URL_SAFE_NO_PAD.encode([9; 32]) }))
            }
            other => panic!("{other}"),
        });
        let pod = AzureIdentity::Pod { tenant: "t".to_owned(), client_id: "app".to_owned(), token };
        for identity in [machine(), secret("canary+secret"), pod] {
            let azure = azure(&doors, identity);
            assert_eq!(azure.key_id(), "safe/unseal");
            let made = azure.seal(&[9; 32], "s1").await.map_err(|error| error.to_string()).unwrap();
            assert_eq!((made.version.as_str(), made.sealed.as_slice()), ("v3", b"made".as_slice()));
            let opened = azure.open(&stored(&made.sealed)).await.map_err(|error| error.to_string()).unwrap();
            assert!(opened.is_same(&DataKey::new([9; 32])));
        }
        let error = azure(&doors, secret("canary-wrong")).seal(&[9; 32], "s1").await.err().unwrap().to_string();
        assert_eq!(error, "it refuses: status 401, AADSTS7000215: Invalid client secret");
    }

    #[tokio::test]
    async fn sea_01_what_a_vault_refuses_or_answers_amiss_is_an_error_that_shows_no_secret() {
        let doors = TestDoors::new(1);
        let azure = azure(&doors, machine());
        let value = URL_SAFE_NO_PAD.encode([9; 32]);
        for (status, said, words) in [
            (
                403,
                json!({ "error": { "code": "Forbidden", "message": "no permission" } }),
                "it refuses: status 403, no permission",
            ),
            (400, json!({ "error": { "message": format!("no {value}") } }), "it refuses: status 400"),
            (429, json!({}), "it does not answer: status 429"),
            (200, json!({ "value": "AA" }), "it answered without a wrapped key"),
            (200, json!({ "kid": "k/v", "value": "" }), "it answered without a wrapped key"),
        ] {
            fake_azure(&doors, move |_, _| (status, said.clone()));
            assert_eq!(azure.seal(&[9; 32], "s1").await.err().unwrap().to_string(), words);
        }
        for said in [json!({}), json!({ "value": "AAAA" })] {
            fake_azure(&doors, move |_, _| (200, said.clone()));
            let error = azure.open(&stored(b"made")).await.err().unwrap().to_string();
            assert_eq!(error, "it answered with something that is no key");
        }
    }
}
