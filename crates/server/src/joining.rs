//! The doors to leaders that a node asks to let it join: their API, over HTTP.
//!
//! Certificates in files are read at each attempt, so that one that was renewed is used. Deliberately absent: what is asked
//! (`tresor-core`), and other nodes' cluster ports.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tresor_client::{Client, ClientConfig, ClientError};
use tresor_core::cluster::joining::{Joining, LeaderAddress, LeaderDoor, LeaderDoors};
use tresor_env::tasks::run_blocking;
use tresor_env::{BoxFuture, Workers};
use tresor_model::Map;
use tresor_secret::SecretString;
use tresor_wire::json::{self, JsonLimits};

use crate::config::{JoinConfig, LeaderConfig, Pem};

/// How long a leader may take: it waits for its followers, and their disks.
const ANSWER_BOUND: Duration = Duration::from_secs(15);
/// The longest answer: key slots and members.
const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Whom a node is to join.
pub(crate) fn joining(config: &JoinConfig, workers: &Arc<dyn Workers>) -> Joining {
    let doors = Doors { workers: Arc::clone(workers) };
    let retry_join = config.leaders.iter().map(|leader| doors.door(leader.clone())).collect();
    Joining { doors: Arc::new(doors), retry_join, non_voter: config.non_voter }
}

struct Doors {
    workers: Arc<dyn Workers>,
}

impl Doors {
    fn door(&self, leader: LeaderConfig) -> Arc<dyn LeaderDoor> {
        Arc::new(Door { leader, workers: Arc::clone(&self.workers) })
    }
}

impl LeaderDoors for Doors {
    fn open(&self, leader: LeaderAddress) -> Result<Arc<dyn LeaderDoor>, String> {
        let LeaderAddress { api_address, ca_certificate, client_certificate, client_key, tls_server_name } = leader;
        if !api_address.starts_with("https://") && !api_address.starts_with("http://") {
            return Err("`leader_api_addr` is an address with its scheme, such as https://a.example:8200".to_owned());
        }
        let client = match (client_certificate, client_key) {
            (None, None) => None,
            (Some(certificate), Some(key)) => Some((Pem::Text(certificate), Pem::Text(Arc::new(key)))),
            _ => return Err("`leader_client_cert` and `leader_client_key` go together".to_owned()),
        };
        let ca_certificate = ca_certificate.map(Pem::Text);
        Ok(self.door(LeaderConfig { api_address, ca_certificate, client, tls_server_name }))
    }
}

/// A leader's API.
struct Door {
    leader: LeaderConfig,
    workers: Arc<dyn Workers>,
}

impl LeaderDoor for Door {
    fn address(&self) -> &str {
        &self.leader.api_address
    }

    fn ask(&self, path: &'static str, body: Map) -> BoxFuture<'_, Result<Map, String>> {
        Box::pin(async move {
            let leader = self.leader.clone();
            let config = run_blocking(&*self.workers, move || client_config(&leader));
            let config = config.await.map_err(|error| error.to_string())??;
            let client = Client::new(config).await.map_err(said)?;
            let mut bytes = Vec::new();
            json::encode_map(&body, &mut bytes);
            let text = String::from_utf8(bytes).map_err(|error| error.to_string())?;
            let answer = client.write(path, &text).await.map_err(said)?;
            json::decode(answer.body(), &JsonLimits::default()).map_err(|error| format!("its answer: {error}"))
        })
    }
}

/// How a leader is reached, with certificates from where they are. Blocking.
pub(crate) fn client_config(leader: &LeaderConfig) -> Result<ClientConfig, String> {
    let client_identity = match &leader.client {
        None => None,
        Some((certificate, Pem::Text(key))) => Some((read(certificate)?, Arc::clone(key))),
        Some((certificate, Pem::File(key))) => Some((read(certificate)?, Arc::new(SecretString::new(read_file(key)?)))),
    };
    Ok(ClientConfig {
        address: leader.api_address.clone(),
        ca_certificate: leader.ca_certificate.as_ref().map(read).transpose()?,
        client_identity,
        tls_server_name: leader.tls_server_name.clone(),
        timeout: ANSWER_BOUND,
        answer_bytes_max: ANSWER_BYTES_MAX,
        ..ClientConfig::default()
    })
}

fn read(certificate: &Pem<String>) -> Result<String, String> {
    match certificate {
        Pem::File(path) => read_file(path),
        Pem::Text(text) => Ok(text.clone()),
    }
}

fn read_file(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|error| format!("`{}` cannot be read: {error}", path.display()))
}

/// What an operator wants to know of an attempt that failed.
fn said(error: ClientError) -> String {
    match error {
        ClientError::Local { message } => message,
        ClientError::Server { status, errors, .. } => format!("{status}: {}", errors.join("; ")),
    }
}
