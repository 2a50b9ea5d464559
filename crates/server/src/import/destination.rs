//! Where secrets are imported to: a mount with versions of a server, asked as any client asks.
//!
//! What is written says which version it follows, so what somebody else wrote meanwhile is never overwritten. Deliberately
//! absent: making mounts and namespaces, which is an operator's.

use tresor_client::{Client, ClientConfig, ClientError, Method};
use tresor_env::BoxFuture;
use tresor_model::{Body, Map, map};
use tresor_wire::json::{self, JsonLimits};

use crate::config::DestinationConfig;
use crate::key_services::json_body;

/// What there is under a name.
pub(crate) struct Current {
    /// The newest version; 0 when there is none.
    pub(crate) version: u64,
    /// Its data; `None` when that is deleted, or there is none.
    pub(crate) data: Option<Map>,
}

/// Why something was not written.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NotWritten {
    /// Somebody wrote there since it was compared.
    Changed,
    /// Something else.
    Failed(String),
}

/// A place that secrets are imported to.
pub(crate) trait Destination: Send + Sync {
    /// Whether it is there, and keeps versions; or why not.
    fn check(&self) -> BoxFuture<'_, Result<(), String>>;
    /// What there is under a name.
    fn read<'d>(&'d self, name: &'d str) -> BoxFuture<'d, Result<Current, String>>;
    /// Writes the version that follows.
    fn write<'d>(&'d self, name: &'d str, data: Map, follows: u64) -> BoxFuture<'d, Result<(), NotWritten>>;
}

/// A mount of a server.
pub(crate) struct Mount {
    client: Client,
    mount: String,
}

impl Mount {
    pub(crate) async fn new(config: &DestinationConfig, usual: &ClientConfig) -> Result<Self, ClientError> {
        let own = ClientConfig {
            address: config.address.clone().unwrap_or_else(|| usual.address.clone()),
            namespace: config.namespace.clone().or_else(|| usual.namespace.clone()),
            token: usual.token.as_ref().map(tresor_secret::TokenSecret::duplicate),
            ca_certificate_file: usual.ca_certificate_file.clone(),
            ca_certificate: usual.ca_certificate.clone(),
            ca_certificate_directory: usual.ca_certificate_directory.clone(),
            client_certificate_file: usual.client_certificate_file.clone(),
            client_key_file: usual.client_key_file.clone(),
            client_identity: usual.client_identity.clone(),
            tls_server_name: usual.tls_server_name.clone(),
            verification: usual.verification,
            wrap_ttl: None,
            proxy: usual.proxy.clone(),
            speaks_http_1: usual.speaks_http_1,
            timeout: usual.timeout,
            follows_redirect: usual.follows_redirect,
            rate_limit: usual.rate_limit,
            retries_max: usual.retries_max,
            retry_wait: usual.retry_wait,
            answer_bytes_max: usual.answer_bytes_max,
            headers: usual.headers.clone(),
        };
        Ok(Self { client: Client::new(own).await?, mount: config.mount.clone() })
    }

    async fn ask(&self, path: &str) -> Result<Option<Map>, ClientError> {
        match self.client.request(Method::Get, path, &[], None).await {
            Ok(answer) => {
                let body = json::decode(answer.body(), &JsonLimits::default());
                body.map(Some).map_err(|_| ClientError::local(format!("GET {path}: the answer is no JSON")))
            }
            Err(error) if error.status() == Some(404) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl Destination for Mount {
    fn check(&self) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async {
            let path = format!("sys/internal/ui/mounts/{}/data", self.mount);
            let found = match self.ask(&path).await {
                Ok(found) => found,
                // One that is not there, and one that this token may not see.
                Err(error) if error.status() == Some(403) => None,
                Err(error) => return Err(error.to_string()),
            };
            let mount = found.as_ref().and_then(|found| found.get("data")).and_then(Body::as_map);
            let own = format!("{}/", self.mount);
            // What is found may be a mount that the path lies in.
            let mount = mount.filter(|mount| mount.text("path") == Some(own.as_str()));
            let mount = mount.ok_or("it is missing, or this token may not see it")?;
            let version = mount.get("options").and_then(Body::as_map).and_then(|options| options.text("version"));
            if mount.text("type") == Some("kv") && version == Some("2") {
                return Ok(());
            }
            Err("it is no secrets engine of type kv with versions".to_owned())
        })
    }

    fn read<'d>(&'d self, name: &'d str) -> BoxFuture<'d, Result<Current, String>> {
        Box::pin(async move {
            let answer = self.ask(&format!("{}/data/{name}", self.mount)).await.map_err(|error| error.to_string())?;
            let Some(mut answer) = answer else { return Ok(Current { version: 0, data: None }) };
            let Some(Body::Map(mut data)) = answer.remove("data") else {
                return Err("it answered without data".to_owned());
            };
            let version = data.get("metadata").and_then(Body::as_map).and_then(|of| of.get("version"));
            let version = version.and_then(Body::as_i64).and_then(|version| u64::try_from(version).ok());
            let version = version.ok_or("it answered without a version")?;
            let data = match data.remove("data") {
                Some(Body::Map(data)) => Some(data),
                _ => None,
            };
            Ok(Current { version, data })
        })
    }

    fn write<'d>(&'d self, name: &'d str, data: Map, follows: u64) -> BoxFuture<'d, Result<(), NotWritten>> {
        Box::pin(async move {
            let body = json_body(&map! { "options" => map! { "cas" => follows }, "data" => data });
            let text = std::str::from_utf8(&body).map_err(|error| NotWritten::Failed(error.to_string()))?;
            let written = self.client.write(&format!("{}/data/{name}", self.mount), text).await;
            written.map(drop).map_err(|error| match &error {
                ClientError::Server { status: 400, errors, .. }
                    if errors.iter().any(|error| error.contains("check-and-set")) =>
                {
                    NotWritten::Changed
                }
                error => NotWritten::Failed(error.to_string()),
            })
        })
    }
}
