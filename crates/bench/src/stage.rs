//! A server made ready over its API: initialised, unsealed, audited, with mounts, a policy, tokens and secrets; then
//! measured, one load after another.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::broker;
use crate::connection::Connection;
use crate::contender::Contender;
use crate::loads::{Audit, Load, NAMES, Prepared, Tokens, read_path, secret};
use crate::measure::{Measured, measure};
use crate::options::Options;

/// How long a server may take to become ready after it was unsealed.
const READY_BOUND: Duration = Duration::from_secs(30);
/// After how long without a request a server is idle.
const AT_REST: Duration = Duration::from_secs(12);
/// What the ordinary token may do.
const POLICY: &str = "path \"kv/data/*\" { capabilities = [\"create\", \"update\", \"read\"] }\n\
                      path \"kv/metadata/*\" { capabilities = [\"list\", \"read\"] }\n\
                      path \"other/data/+/config\" { capabilities = [\"read\"] }\n\
                      path \"rabbitmq/creds/bench\" { capabilities = [\"read\"] }\n";

/// A server that is ready.
pub(crate) struct Stage {
    /// Its process.
    pub(crate) contender: Contender,
    /// Its memory when it had just been unsealed.
    pub(crate) opened_mib: f64,
    /// Its memory when it has then done nothing for a while.
    pub(crate) idle_mib: f64,
    tokens: Tokens,
    audit: Audit,
}

impl Stage {
    /// Makes a server ready.
    pub(crate) async fn set(contender: Contender) -> Result<Self, String> {
        let mut connection = contender.connect().await?;
        let init = json!({ "secret_shares": 1, "secret_threshold": 1 });
        let made = connection.succeed("PUT", "sys/init", "", Some(&init)).await?;
        let root = text(&made, "/root_token")?;
        let key = json!({ "key": text(&made, "/keys_base64/0")? });
        connection.succeed("PUT", "sys/unseal", "", Some(&key)).await?;
        // A raft node has to elect itself first.
        until_accepted(&mut connection, "GET", "sys/health", "", None).await?;
        let opened_mib = contender.usage()?.resident_mib;
        tokio::time::sleep(AT_REST).await;
        let idle_mib = contender.usage()?.resident_mib;
        let tokens = Tokens { root, ..Tokens::default() };
        let mut stage = Self { contender, opened_mib, idle_mib, tokens, audit: Audit::Off };
        stage.audit_by(&mut connection, Audit::File).await?;
        stage.furnish(&mut connection).await?;
        Ok(stage)
    }

    /// The root token.
    pub(crate) fn root(&self) -> &str {
        &self.tokens.root
    }

    async fn furnish(&mut self, connection: &mut Connection) -> Result<(), String> {
        let root = self.tokens.root.clone();
        let mount = json!({ "type": "kv", "options": { "version": "2" } });
        connection.succeed("POST", "sys/mounts/kv", &root, Some(&mount)).await?;
        let policy = json!({ "policy": POLICY });
        connection.succeed("PUT", "sys/policies/acl/bench", &root, Some(&policy)).await?;
        let wanted = json!({ "policies": ["bench"], "ttl": "24h" });
        let made = connection.succeed("POST", "auth/token/create", &root, Some(&wanted)).await?;
        self.tokens.ordinary = text(&made, "/auth/client_token")?;
        for bytes in [256, 1024] {
            for at in 0..NAMES {
                let body: Value = serde_json::from_str(&secret(bytes, at)).map_err(|error| error.to_string())?;
                // A fresh mount of some servers refuses for a moment.
                let path = read_path(bytes, at);
                if at == 0 {
                    until_accepted(connection, "POST", &path, &root, Some(&body)).await?;
                } else {
                    connection.succeed("POST", &path, &root, Some(&body)).await?;
                }
            }
        }
        self.tokens.login = approle(connection, &root).await?;
        if let Err(refused) = rabbitmq(connection, &root).await {
            // Another server may not have that engine: its load has no result then, and says why.
            println!("{}: {refused}", self.contender.name);
        }
        Ok(())
    }

    /// Replaces the audit device when a load wants another one, or none.
    async fn audit_by(&mut self, connection: &mut Connection, wanted: Audit) -> Result<(), String> {
        if self.audit != Audit::Off {
            connection.succeed("DELETE", "sys/audit/bench", &self.tokens.root, None).await?;
            self.audit = Audit::Off;
        }
        if wanted != Audit::Off {
            let mut options = json!({ "file_path": self.contender.audit_file() });
            if wanted == Audit::Elided {
                options["elide_list_responses"] = json!("true");
            }
            let device = json!({ "type": "file", "options": options });
            connection.succeed("PUT", "sys/audit/bench", &self.tokens.root, Some(&device)).await?;
            self.audit = wanted;
        }
        Ok(())
    }

    async fn audit_for(&mut self, load: &Load) -> Result<(), String> {
        if self.audit == load.audit {
            return Ok(());
        }
        let mut connection = self.contender.connect().await?;
        let outcome = self.audit_by(&mut connection, load.audit).await;
        if outcome.is_err() {
            // Never unaudited: what follows would be measured without the cost of records.
            self.audit_by(&mut connection, Audit::File).await?;
        }
        outcome
    }

    /// Runs a load once.
    pub(crate) async fn measure(&mut self, load: &Load, options: &Options) -> Result<Measured, String> {
        if let Err(refused) = self.audit_for(load).await {
            return Ok(Measured { refused: Some(refused), ..Measured::default() });
        }
        let prepared = Prepared::new(load.kind, &self.tokens);
        if options.announce {
            println!("{} runs on {} (process {})", load.name, self.contender.name, self.contender.pid());
        }
        let pace = load.is_paced.then_some(options.pace);
        let measured = measure(&self.contender, load.clients, prepared, options.duration, pace).await?;
        self.contender.rotate_audit_file()?;
        Ok(measured)
    }
}

/// A role whose secret can be used without end; the body of a login by it.
async fn approle(connection: &mut Connection, root: &str) -> Result<String, String> {
    connection.succeed("POST", "sys/auth/approle", root, Some(&json!({ "type": "approle" }))).await?;
    let role = json!({ "token_policies": ["bench"], "token_ttl": "24h" });
    until_accepted(connection, "POST", "auth/approle/role/bench", root, Some(&role)).await?;
    let made = connection.succeed("GET", "auth/approle/role/bench/role-id", root, None).await?;
    let role_id = text(&made, "/data/role_id")?;
    let made = connection.succeed("POST", "auth/approle/role/bench/secret-id", root, Some(&json!({}))).await?;
    Ok(json!({ "role_id": role_id, "secret_id": text(&made, "/data/secret_id")? }).to_string())
}

/// A mount that makes users of a broker that answers at once.
async fn rabbitmq(connection: &mut Connection, root: &str) -> Result<(), String> {
    let broker = broker::start().await?;
    connection.succeed("POST", "sys/mounts/rabbitmq", root, Some(&json!({ "type": "rabbitmq" }))).await?;
    let place = json!({ "connection_uri": broker, "username": "a", "password": "b", "verify_connection": false });
    until_accepted(connection, "POST", "rabbitmq/config/connection", root, Some(&place)).await?;
    connection.succeed("POST", "rabbitmq/config/lease", root, Some(&json!({ "ttl": "24h" }))).await?;
    connection.succeed("POST", "rabbitmq/roles/bench", root, Some(&json!({ "tags": "none" }))).await?;
    Ok(())
}

/// Asks again until it is a success.
pub(crate) async fn until_accepted(
    connection: &mut Connection,
    method: &str,
    path: &str,
    token: &str,
    body: Option<&Value>,
) -> Result<(), String> {
    let started = Instant::now();
    loop {
        match connection.succeed(method, path, token, body).await {
            Ok(_) => return Ok(()),
            Err(refused) if started.elapsed() > READY_BOUND => return Err(refused),
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

pub(crate) fn text(value: &Value, pointer: &str) -> Result<String, String> {
    let found = value.pointer(pointer).and_then(Value::as_str);
    found.map(str::to_owned).ok_or_else(|| format!("no `{pointer}` in the answer"))
}
