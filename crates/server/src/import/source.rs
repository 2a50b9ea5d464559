//! The secret managers of clouds: which secrets each has, and the newest value of one.
//!
//! A value is read when it is compared, one at a time, and nothing that a cloud says is repeated with one in it. Deliberately
//! absent: older versions, and writing.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tresor_core::ServiceError;
use tresor_env::Doors;
use tresor_env::outgoing::{Ask, Base, escaped};
use tresor_model::{Body, Map, map};
use tresor_sigv4::{Posted, Scope};
use tresor_wire::json::{self, JsonLimits};
use zeroize::Zeroizing;

use crate::config::{AwsKeysConfig, AzureIdentity, KeyPlace, ServiceTls, SourceConfig};
use crate::key_services::{
    Answered, AwsKeys, Reach, azure_token, google_project, google_token, json_body, refusal, text_at,
};

/// How many secrets one source may have.
const SECRETS_MAX: usize = 20_000;
/// The largest answer: a page of a listing, or a value.
const ANSWER_BYTES_MAX: usize = 4 << 20;
/// What a text is called that is no object.
const VALUE: &str = "value";
/// What bytes are called, in base64.
const BYTES: &str = "value_base64";

/// What a token of Google is asked for.
const GOOGLE_SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";
/// What a token of Microsoft is asked for, and where.
const AZURE: (&str, &str) = ("login.microsoftonline.com", "vault.azure.net");
const AZURE_API: &str = "api-version=7.4";

/// A secret that a source has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    /// Its name there, by which it is imported.
    pub(crate) name: String,
    /// What it is asked for by.
    id: String,
    /// Its tags or labels.
    pub(crate) metadata: BTreeMap<String, String>,
}

/// A secret manager.
pub(crate) enum Source {
    /// AWS Secrets Manager.
    Aws { region: String, endpoint: String, keys: Box<AwsKeys>, reach: Arc<Reach> },
    /// GCP Secret Manager.
    Gcp { project: Option<String>, credentials: Option<KeyPlace>, endpoint: String, machine: String, reach: Reach },
    /// Azure Key Vault.
    Azure { vault: String, identity: AzureIdentity, reach: Reach },
}

impl Source {
    pub(crate) fn new(config: SourceConfig, doors: &Doors) -> Self {
        let reach = |host: &str| Reach { doors: doors.clone(), tls: ServiceTls::default(), host: host.to_owned() };
        match config {
            SourceConfig::Aws { region, endpoint, keys } => Self::aws(region, endpoint, *keys, reach),
            SourceConfig::Gcp { project, credentials, endpoint, machine } => {
                let credentials = credentials.map(KeyPlace::File);
                Self::Gcp { project, credentials, endpoint, machine, reach: reach("") }
            }
            SourceConfig::Azure { vault, identity } => Self::Azure { vault, identity, reach: reach("") },
        }
    }

    fn aws(region: String, endpoint: String, keys: AwsKeysConfig, reach: impl Fn(&str) -> Reach) -> Self {
        let host = Base::parse(&endpoint).map(|base| base.authority().to_owned()).unwrap_or_default();
        let reach = Arc::new(reach(&host));
        Self::Aws { region, endpoint, keys: Box::new(AwsKeys::new(keys, Arc::clone(&reach))), reach }
    }

    /// All its secrets, by name.
    pub(crate) async fn list(&self) -> Result<Vec<Listed>, ServiceError> {
        let mut found = Vec::new();
        let mut next = None;
        loop {
            next = match self {
                Self::Aws { .. } => self.aws_page(next.as_deref(), &mut found).await?,
                Self::Gcp { .. } => self.gcp_page(next.as_deref(), &mut found).await?,
                Self::Azure { .. } => self.azure_page(next, &mut found).await?,
            };
            if found.len() > SECRETS_MAX {
                return Err(ServiceError::Unexpected("more secrets than can be imported at once"));
            }
            if next.is_none() {
                found.sort_unstable_by(|one, other| one.name.cmp(&other.name));
                return Ok(found);
            }
        }
    }

    /// The newest value of a secret, as fields; `None` where there is none to be had.
    pub(crate) async fn value(&self, secret: &Listed) -> Result<Option<Map>, ServiceError> {
        match self {
            Self::Aws { .. } => self.aws_value(secret).await,
            Self::Gcp { endpoint, .. } => {
                let url = format!("{endpoint}/v1/{}/versions/latest:access", secret.id);
                let answer = self.google(url).await?;
                let Some(answer) = found(answer)? else { return Ok(None) };
                let data = text_at(&answer, &["payload", "data"]).unwrap_or_default();
                let bytes = STANDARD.decode(data).map(Zeroizing::new);
                let bytes = bytes.map_err(|_| ServiceError::Unexpected("with something that is no value"))?;
                Ok(Some(of_bytes(&bytes)))
            }
            Self::Azure { vault, .. } => {
                let answer = self.azure(format!("{vault}/secrets/{}?{AZURE_API}", escaped(&secret.id))).await?;
                let Some(answer) = found(answer)? else { return Ok(None) };
                let value = answer.text("value").ok_or(ServiceError::Unexpected("without a value"))?;
                Ok(Some(of_text(value)))
            }
        }
    }

    async fn aws_ask(&self, target: &'static str, body: &Map) -> Result<Answered, ServiceError> {
        let Self::Aws { region, endpoint, keys, reach } = self else { return Err(elsewhere()) };
        let keys = keys.find().await?;
        let body = json_body(body);
        let posted = Posted { media: "application/x-amz-json-1.1", target: Some(target), body: &body };
        let now = reach.doors.clock.wall();
        let headers =
            tresor_sigv4::headers(&keys, Scope { region, service: "secretsmanager" }, &reach.host, posted, now);
        reach.ask_for(Ask::Post(body), format!("{endpoint}/"), headers, ANSWER_BYTES_MAX).await
    }

    async fn aws_page(&self, next: Option<&str>, found: &mut Vec<Listed>) -> Result<Option<String>, ServiceError> {
        let mut body = map! { "MaxResults" => 100 };
        if let Some(next) = next {
            body.insert("NextToken", next);
        }
        let answer = self.aws_ask("secretsmanager.ListSecrets", &body).await?;
        let answer = done(answer, aws_said)?;
        for secret in answer.get("SecretList").and_then(Body::as_list).unwrap_or_default() {
            // One that is there may say `null`.
            let is_there = |secret: &&Map| secret.get("DeletedDate").is_none_or(|date| matches!(date, Body::Null));
            let Some(secret) = secret.as_map().filter(is_there) else { continue };
            let (name, id) = (secret.text("Name"), secret.text("ARN").or(secret.text("Name")));
            let tags = secret.get("Tags").and_then(Body::as_list).unwrap_or_default().iter().filter_map(Body::as_map);
            let tag = |tag: &Map| Some((tag.text("Key")?.to_owned(), tag.text("Value").unwrap_or_default().to_owned()));
            if let (Some(name), Some(id)) = (name, id) {
                found.push(Listed {
                    name: name.to_owned(),
                    id: id.to_owned(),
                    metadata: tags.filter_map(tag).collect(),
                });
            }
        }
        Ok(answer.text("NextToken").filter(|next| !next.is_empty()).map(str::to_owned))
    }

    async fn aws_value(&self, secret: &Listed) -> Result<Option<Map>, ServiceError> {
        let answer = self.aws_ask("secretsmanager.GetSecretValue", &map! { "SecretId" => secret.id.as_str() }).await?;
        if answer.status == 400 && aws_code(&answer.body) == "ResourceNotFoundException" {
            return Ok(None);
        }
        let answer = done(answer, aws_said)?;
        if let Some(text) = answer.text("SecretString") {
            return Ok(Some(of_text(text)));
        }
        let bytes = answer.text("SecretBinary").ok_or(ServiceError::Unexpected("without a value"))?;
        Ok(Some(map! { BYTES => bytes }))
    }

    async fn google(&self, url: String) -> Result<Answered, ServiceError> {
        let Self::Gcp { credentials, machine, reach, .. } = self else { return Err(elsewhere()) };
        let token = google_token(reach, credentials.as_ref(), machine, GOOGLE_SCOPE).await?;
        get(reach, url, &token).await
    }

    async fn gcp_page(&self, next: Option<&str>, found: &mut Vec<Listed>) -> Result<Option<String>, ServiceError> {
        let Self::Gcp { project, credentials, endpoint, reach, .. } = self else { return Err(elsewhere()) };
        let project = match (project, credentials) {
            (Some(project), _) => project.clone(),
            (None, Some(place)) => google_project(reach, place).await?,
            (None, None) => return Err(ServiceError::Unprepared("nobody says which `project`".to_owned())),
        };
        let page = next.map_or(String::new(), |next| format!("&pageToken={}", escaped(next)));
        let url = format!("{endpoint}/v1/projects/{}/secrets?pageSize=500{page}", escaped(&project));
        let answer = done(self.google(url).await?, google_said)?;
        for secret in answer.get("secrets").and_then(Body::as_list).unwrap_or_default().iter().filter_map(Body::as_map)
        {
            let Some(id) = secret.text("name") else { continue };
            let name = id.rsplit('/').next().unwrap_or(id);
            let metadata = pairs(secret.get("labels"));
            found.push(Listed { name: name.to_owned(), id: id.to_owned(), metadata });
        }
        Ok(answer.text("nextPageToken").filter(|next| !next.is_empty()).map(str::to_owned))
    }

    async fn azure(&self, url: String) -> Result<Answered, ServiceError> {
        let Self::Azure { identity, reach, .. } = self else { return Err(elsewhere()) };
        let token = azure_token(reach, identity, AZURE.0, AZURE.1).await?;
        get(reach, url, &token).await
    }

    async fn azure_page(&self, next: Option<String>, found: &mut Vec<Listed>) -> Result<Option<String>, ServiceError> {
        let Self::Azure { vault, .. } = self else { return Err(elsewhere()) };
        let url = match next {
            // The token must reach nobody else, whatever an answer says. It names the port, too.
            Some(next) => {
                let rest = next.strip_prefix(vault.as_str()).map(|rest| rest.strip_prefix(":443").unwrap_or(rest));
                let rest = rest.filter(|rest| rest.starts_with('/'));
                let rest = rest.ok_or(ServiceError::Unexpected("with a page that lies elsewhere"))?;
                format!("{vault}{rest}")
            }
            None => format!("{vault}/secrets?{AZURE_API}&maxresults=25"),
        };
        let answer = done(self.azure(url).await?, google_said)?;
        for secret in answer.get("value").and_then(Body::as_list).unwrap_or_default().iter().filter_map(Body::as_map) {
            let is_enabled = |of: &Map| of.get("enabled").and_then(Body::as_bool).unwrap_or(true);
            if !secret.get("attributes").and_then(Body::as_map).is_none_or(is_enabled) {
                continue;
            }
            let Some(id) = secret.text("id").and_then(|id| id.rsplit('/').next()) else { continue };
            found.push(Listed { name: id.to_owned(), id: id.to_owned(), metadata: pairs(secret.get("tags")) });
        }
        Ok(answer.text("nextLink").filter(|next| !next.is_empty()).map(str::to_owned))
    }
}

fn elsewhere() -> ServiceError {
    ServiceError::Unexpected("for another cloud")
}

async fn get(reach: &Reach, url: String, token: &str) -> Result<Answered, ServiceError> {
    let headers = vec![(Cow::Borrowed("authorization"), Zeroizing::new(format!("Bearer {token}")))];
    reach.ask_for(Ask::Get, url, headers, ANSWER_BYTES_MAX).await
}

/// What was asked for, or why not; nothing that was answered besides is repeated.
fn done(answer: Answered, said: impl Fn(&Map) -> Option<String>) -> Result<Map, ServiceError> {
    match answer.status {
        200 if answer.is_json => Ok(answer.body),
        200 => Err(ServiceError::Unexpected("with something that is not JSON")),
        status => Err(refusal(status, said(&answer.body).as_deref(), &[])),
    }
}

/// The same of a single thing, which may be gone.
fn found(answer: Answered) -> Result<Option<Map>, ServiceError> {
    // Of Google, a newest version that is disabled or destroyed.
    let is_spent = answer.status == 400 && text_at(&answer.body, &["error", "status"]) == Some("FAILED_PRECONDITION");
    if answer.status == 404 || is_spent { Ok(None) } else { done(answer, google_said).map(Some) }
}

fn google_said(body: &Map) -> Option<String> {
    text_at(body, &["error", "message"]).map(str::to_owned)
}

fn aws_code(body: &Map) -> &str {
    body.text("__type").map(|code| code.rsplit('#').next().unwrap_or(code)).unwrap_or_default()
}

fn aws_said(body: &Map) -> Option<String> {
    let said = body.text("message").or_else(|| body.text("Message")).unwrap_or_default();
    Some(format!("{} {said}", aws_code(body)))
}

fn pairs(of: Option<&Body>) -> BTreeMap<String, String> {
    let of = of.and_then(Body::as_map);
    of.into_iter()
        .flat_map(Map::iter)
        .filter_map(|(name, value)| Some((name.to_owned(), value.as_str()?.to_owned())))
        .collect()
}

/// An object in JSON is its fields; any other text is one.
fn of_text(text: &str) -> Map {
    let object = text.trim_start().starts_with('{').then(|| json::decode(text.as_bytes(), &JsonLimits::default()).ok());
    object.flatten().filter(|object| !object.is_empty()).unwrap_or_else(|| map! { VALUE => text })
}

fn of_bytes(bytes: &[u8]) -> Map {
    match std::str::from_utf8(bytes) {
        Ok(text) => of_text(text),
        Err(_) => map! { BYTES => Zeroizing::new(STANDARD.encode(bytes)).as_str() },
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]
    use serde_json::{Value, json};
    use tresor_env::doubles::TestDoors;
    use tresor_env::outgoing::{OutgoingError, OutgoingRequest};
    use tresor_secret::SecretString;

    use super::*;
    use crate::config::KeyPlace;

    fn header(request: &OutgoingRequest, name: &str) -> String {
        let found = request.headers.iter().find(|(known, _)| *known == name);
        found.map_or(String::new(), |(_, value)| value.as_str().to_owned())
    }

    fn names(listed: &[Listed]) -> Vec<&str> {
        listed.iter().map(|secret| secret.name.as_str()).collect()
    }

    fn shown(value: &Map) -> Value {
        serde_json::from_slice(&json_body(value)).unwrap()
    }

    /// A fake of Google's secret manager, which lets in whoever shows the token that the fake machine gives.
    fn fake_secret_manager(doors: &TestDoors) {
        doors.outgoing.answer(|request| {
            let base = "https://secretmanager.googleapis.com/v1/";
            if request.url.starts_with("http://machine/") {
                return Ok((200, json!({ "access_token": "of-the-machine" }).to_string().into_bytes()));
            }
            if header(request, "authorization") != "Bearer of-the-machine" {
                return Ok((401, json!({ "error": { "message": "no credentials" } }).to_string().into_bytes()));
            }
            let (status, said) = match request.url.strip_prefix(base).unwrap() {
                "projects/p/secrets?pageSize=500" => (
                    200,
                    json!({ "secrets": [{ "name": "projects/1/secrets/b", "labels": { "team": "a" } }], "nextPageToken": "n x" }),
                ),
                "projects/p/secrets?pageSize=500&pageToken=n%20x" => {
                    (200, json!({ "secrets": [{ "name": "projects/1/secrets/a" }] }))
                }
                "projects/1/secrets/a/versions/latest:access" => {
                    (200, json!({ "payload": { "data": STANDARD.encode(r#"{"user":"u","n":1}"#) } }))
                }
                "projects/1/secrets/b/versions/latest:access" => {
                    (200, json!({ "payload": { "data": STANDARD.encode([0xff, 0]) } }))
                }
                "projects/1/secrets/spent/versions/latest:access" => {
                    (400, json!({ "error": { "status": "FAILED_PRECONDITION", "message": "is DESTROYED" } }))
                }
                _ => (404, json!({ "error": { "message": "not found" } })),
            };
            Ok((status, said.to_string().into_bytes()))
        });
    }

    #[tokio::test]
    async fn sys_32_secrets_of_google_are_listed_page_by_page_and_read_by_the_token_of_the_machine() {
        let doors = TestDoors::new(1);
        fake_secret_manager(&doors);
        let config = SourceConfig::Gcp {
            project: Some("p".to_owned()),
            credentials: None,
            endpoint: "https://secretmanager.googleapis.com".to_owned(),
            machine: "http://machine".to_owned(),
        };
        let source = Source::new(config, &doors.doors);
        let listed = source.list().await.unwrap();
        assert_eq!(names(&listed), ["a", "b"]);
        assert_eq!(listed[1].metadata, BTreeMap::from([("team".to_owned(), "a".to_owned())]));
        assert_eq!(shown(&source.value(&listed[0]).await.unwrap().unwrap()), json!({ "user": "u", "n": 1 }));
        assert_eq!(shown(&source.value(&listed[1]).await.unwrap().unwrap()), json!({ "value_base64": "/wA=" }));
        for name in ["spent", "gone"] {
            let none = Listed { id: format!("projects/1/secrets/{name}"), ..listed[0].clone() };
            assert_eq!(source.value(&none).await.unwrap(), None, "{name}");
        }
    }

    /// A fake of a vault of Microsoft's, which lets in the application with its secret.
    fn fake_vault(doors: &TestDoors, next: &'static str) {
        doors.outgoing.answer(move |request| {
            let (status, said) = match (&request.ask, request.url.as_str()) {
                (Ask::Post(form), "https://login.microsoftonline.com/t/oauth2/v2.0/token") => {
                    let form = String::from_utf8_lossy(form).into_owned();
                    match form.contains("client_id=app&") && form.ends_with("client_secret=canary-secret") {
                        true => (200, json!({ "access_token": "of-the-application" })),
                        false => (401, json!({ "error_description": "invalid client secret" })),
                    }
                }
                (Ask::Get, _) if header(request, "authorization") != "Bearer of-the-application" => (401, json!({})),
                (Ask::Get, "https://v.vault.azure.net/secrets?api-version=7.4&maxresults=25") => {
                    let one = json!({ "id": "https://v.vault.azure.net/secrets/one", "tags": { "team": "a" } });
                    let off =
                        json!({ "id": "https://v.vault.azure.net/secrets/off", "attributes": { "enabled": false } });
                    (200, json!({ "value": [one, off], "nextLink": next }))
                }
                (Ask::Get, "https://v.vault.azure.net/secrets?page=2") => {
                    (200, json!({ "value": [{ "id": "https://v.vault.azure.net/secrets/two" }], "nextLink": null }))
                }
                (Ask::Get, "https://v.vault.azure.net/secrets/one?api-version=7.4") => {
                    (200, json!({ "value": "plain" }))
                }
                (Ask::Get, "https://v.vault.azure.net/secrets/two?api-version=7.4") => {
                    (403, json!({ "error": { "message": "no permission" } }))
                }
                _ => return Err(OutgoingError::Unsendable),
            };
            Ok((status, said.to_string().into_bytes()))
        });
    }

    fn azure(doors: &TestDoors, secret: &str) -> Source {
        let secret = KeyPlace::Literal(Arc::new(SecretString::new(secret.to_owned())));
        let identity = AzureIdentity::Secret { tenant: "t".to_owned(), client_id: "app".to_owned(), secret };
        Source::new(SourceConfig::Azure { vault: "https://v.vault.azure.net".to_owned(), identity }, &doors.doors)
    }

    #[tokio::test]
    async fn sys_32_secrets_of_a_vault_of_microsofts_are_read_as_an_application() {
        let doors = TestDoors::new(1);
        fake_vault(&doors, "https://v.vault.azure.net:443/secrets?page=2");
        let source = azure(&doors, "canary-secret");
        let listed = source.list().await.unwrap();
        // What is disabled cannot be read.
        assert_eq!(names(&listed), ["one", "two"]);
        assert_eq!(listed[0].metadata, BTreeMap::from([("team".to_owned(), "a".to_owned())]));
        assert_eq!(shown(&source.value(&listed[0]).await.unwrap().unwrap()), json!({ "value": "plain" }));
        let refused = source.value(&listed[1]).await.err().unwrap().to_string();
        assert_eq!(refused, "it refuses: status 403, no permission");
        let unknown = azure(&doors, "canary-wrong").list().await.err().unwrap().to_string();
        assert_eq!(unknown, "it refuses: status 401, invalid client secret");
        // The token goes to nobody else.
        for next in ["https://elsewhere.example/secrets?page=2", "https://v.vault.azure.net.example/secrets"] {
            fake_vault(&doors, next);
            let lured = azure(&doors, "canary-secret").list().await.err().unwrap().to_string();
            assert_eq!(lured, "it answered with a page that lies elsewhere");
        }
    }

    #[test]
    fn sys_32_an_object_is_its_fields_and_any_other_text_is_one() {
        for (text, fields) in [
            (r#"{"a":"b","c":{"d":1}}"#, json!({ "a": "b", "c": { "d": 1 } })),
            ("plain", json!({ "value": "plain" })),
            (r#"["a"]"#, json!({ "value": "[\"a\"]" })),
            ("{not json", json!({ "value": "{not json" })),
            ("{}", json!({ "value": "{}" })),
            ("", json!({ "value": "" })),
        ] {
            assert_eq!(shown(&of_text(text)), fields);
        }
    }
}
