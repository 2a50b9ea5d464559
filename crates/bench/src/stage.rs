//! A server made ready over its API: initialised, unsealed, audited, with mounts, a policy, tokens and secrets; then
//! measured, one load after another.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::connection::Connection;
use crate::contender::Contender;
use crate::drive::drive;
use crate::loads::{Load, NAMES, Prepared, Tokens, read_path, secret};
use crate::machine::Usage;
use crate::options::Options;

/// How long a server may take to become ready after it was unsealed.
const READY_BOUND: Duration = Duration::from_secs(30);
/// What the ordinary token may do.
const POLICY: &str = "path \"kv/data/*\" { capabilities = [\"create\", \"update\", \"read\"] }\n\
                      path \"kv/metadata/*\" { capabilities = [\"list\", \"read\"] }\n\
                      path \"other/data/+/config\" { capabilities = [\"read\"] }\n";

/// A server that is ready.
pub(crate) struct Stage {
    /// Its process.
    pub(crate) contender: Contender,
    /// Its memory when it had just been unsealed.
    pub(crate) idle_mib: f64,
    tokens: Tokens,
    is_elided: bool,
}

/// What one run of a load came to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Measured {
    /// Answers per second.
    pub(crate) rate: f64,
    /// The median latency in milliseconds.
    pub(crate) p50: f64,
    /// The latency that 99 of 100 do not exceed, in milliseconds.
    pub(crate) p99: f64,
    /// CPU time of the server per answer, in microseconds.
    pub(crate) cpu_us: f64,
    /// How busy the server's core was with it, of 1.
    pub(crate) busy: f64,
    /// Memory at the end, in MiB.
    pub(crate) resident_mib: f64,
    /// Stored data at the end, in MiB.
    pub(crate) disk_mib: f64,
    /// Why there is no result.
    pub(crate) refused: Option<String>,
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
        let idle_mib = contender.usage()?.resident_mib;
        let tokens = Tokens { root, ordinary: String::new() };
        let mut stage = Self { contender, idle_mib, tokens, is_elided: false };
        stage.enable_audit(&mut connection, false).await?;
        stage.furnish(&mut connection).await?;
        Ok(stage)
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
        Ok(())
    }

    async fn enable_audit(&mut self, connection: &mut Connection, is_elided: bool) -> Result<(), String> {
        let mut options = json!({ "file_path": self.contender.audit_file() });
        if is_elided {
            options["elide_list_responses"] = json!("true");
        }
        let device = json!({ "type": "file", "options": options });
        connection.succeed("PUT", "sys/audit/bench", &self.tokens.root, Some(&device)).await?;
        self.is_elided = is_elided;
        Ok(())
    }

    /// Replaces the audit device when a load wants another one.
    async fn audit_for(&mut self, load: &Load) -> Result<(), String> {
        if self.is_elided == load.is_elided {
            return Ok(());
        }
        let mut connection = self.contender.connect().await?;
        connection.succeed("DELETE", "sys/audit/bench", &self.tokens.root, None).await?;
        let outcome = self.enable_audit(&mut connection, load.is_elided).await;
        if outcome.is_err() {
            // Never unaudited: what follows would be measured without the cost of records.
            self.enable_audit(&mut connection, false).await?;
        }
        outcome
    }

    /// Waits until the server has nothing more to do, within bounds.
    async fn until_idle(&self) -> Result<Usage, String> {
        const BOUND: Duration = Duration::from_secs(20);
        const LOOK_EACH: Duration = Duration::from_millis(200);
        let (started, mut before) = (Instant::now(), self.contender.usage()?);
        loop {
            tokio::time::sleep(LOOK_EACH).await;
            let now = self.contender.usage()?;
            if now.cpu - before.cpu < LOOK_EACH / 10 || started.elapsed() > BOUND {
                return Ok(now);
            }
            before = now;
        }
    }

    /// Runs a load once.
    pub(crate) async fn measure(&mut self, load: &Load, options: &Options) -> Result<Measured, String> {
        if let Err(refused) = self.audit_for(load).await {
            return Ok(Measured { refused: Some(refused), ..Measured::default() });
        }
        let mut connections = Vec::with_capacity(load.clients);
        for _ in 0..load.clients {
            connections.push(self.contender.connect().await?);
        }
        let prepared = Prepared::new(load.kind, &self.tokens);
        let pace = load.is_paced.then_some(options.pace);
        if options.announce {
            println!("{} runs on {} (process {})", load.name, self.contender.name, self.contender.pid());
        }
        let mut before = Usage::default();
        let seen = drive(connections, prepared, options.duration, pace, || {
            before = self.contender.usage()?;
            Ok(())
        })
        .await?;
        let ended = self.contender.usage()?;
        // What a server puts off (lines of its audit device, its index) is part of what the load costs.
        let after = self.until_idle().await?;
        if seen.failures > 0 || seen.latencies.total() == 0 {
            let why = seen.first_failure.unwrap_or_else(|| "no answer".to_owned());
            return Ok(Measured { refused: Some(format!("{} failed: {why}", seen.failures)), ..Measured::default() });
        }
        #[expect(clippy::cast_precision_loss, reason = "shown rounded")]
        let answers = seen.latencies.total() as f64;
        let (cpu, took) = ((after.cpu - before.cpu).as_secs_f64(), seen.took.as_secs_f64());
        let measured = Measured {
            rate: answers / took,
            p50: seen.latencies.quantile(500),
            p99: seen.latencies.quantile(990),
            cpu_us: cpu * 1e6 / answers,
            busy: (ended.cpu - before.cpu).as_secs_f64() / took,
            resident_mib: after.resident_mib,
            disk_mib: self.contender.disk_mib(),
            refused: None,
        };
        self.contender.rotate_audit_file()?;
        Ok(measured)
    }
}

/// Asks again until it is a success.
async fn until_accepted(
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

fn text(value: &Value, pointer: &str) -> Result<String, String> {
    let found = value.pointer(pointer).and_then(Value::as_str);
    found.map(str::to_owned).ok_or_else(|| format!("no `{pointer}` in the answer"))
}
