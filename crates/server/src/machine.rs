//! The process and the machine, as operators look at them through the API.
//!
//! Read from what the kernel shows, when somebody asks. Deliberately absent: anything secret (of the configuration only what
//! says how the server is reached, what it keeps where, and its bounds), and how the kernel is read ([`host`]).

use std::collections::BTreeMap;
use std::sync::Arc;

use tresor_core::process::{LogChangeError, Process, Runtime};
use tresor_model::{Body, ByteStream, Map, map};

use crate::config::{Listener, LogFormat, ServerConfig};
use crate::host;
use crate::logging::Log;

/// What is asked for through the API.
pub(crate) struct Machine {
    log: Arc<Log>,
    config: ServerConfig,
}

impl Machine {
    pub(crate) fn new(log: Arc<Log>, config: &ServerConfig) -> Self {
        Self { log, config: config.clone() }
    }
}

impl Process for Machine {
    fn host(&self) -> Map {
        let disks =
            self.config.storage.path().and_then(|path| host::disk(path.into())).into_iter().collect::<Vec<Body>>();
        map! {
            "host" => host::host(),
            "memory" => host::memory(),
            "cpu" => host::processors(),
            "cpu_times" => host::times(),
            "disk" => disks,
        }
    }

    fn configuration(&self) -> Map {
        sanitized(&self.config)
    }

    fn runtime(&self) -> Runtime {
        let tasks = tokio::runtime::Handle::try_current().map_or(0, |runtime| runtime.metrics().num_alive_tasks());
        let status = host::lines("/proc/self/status");
        Runtime {
            resident_bytes: host::kilobytes(&status, "VmRSS").saturating_mul(1024),
            tasks: u64::try_from(tasks).unwrap_or(u64::MAX),
            threads: status.get("Threads").and_then(|text| text.parse().ok()).unwrap_or(0),
        }
    }

    fn log_levels(&self) -> BTreeMap<String, String> {
        self.log.levels()
    }

    fn set_log_level(&self, logger: Option<&str>, level: Option<&str>) -> Result<(), LogChangeError> {
        self.log.set(logger, level)
    }

    fn watch_log(&self, level: &str, format: &str) -> Result<ByteStream, LogChangeError> {
        self.log.watch(level, format)
    }
}

/// The configuration, key by key: what is not named here is not shown.
fn sanitized(config: &ServerConfig) -> Map {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let seal = config.seal.as_ref().map_or("shamir", |seal| seal.way.kind());
    map! {
        "administrative_namespace_path" => config.administrative_namespace.as_str(),
        "api_addr" => text(&config.api_address),
        "cluster_addr" => text(&config.cluster_address),
        "cluster_name" => config.cluster_name.as_str(),
        "default_lease_ttl" => config.default_lease_ttl.as_secs(),
        "max_lease_ttl" => config.max_lease_ttl.as_secs(),
        "disable_clustering" => config.disable_clustering,
        "disable_mlock" => config.disable_mlock,
        "enable_ui" => config.ui,
        "listeners" => config.listeners.iter().map(listener).collect::<Vec<Body>>(),
        "log_format" => if config.log_format == LogFormat::Json { "json" } else { "standard" },
        "log_level" => config.log_level.as_str(),
        "pid_file" => config.pid_file.as_ref().map(|path| path.display().to_string()).unwrap_or_default(),
        "seals" => vec![Body::from(map! { "type" => seal, "disabled" => false })],
        "storage" => map! {
            "type" => config.storage.kind(),
            "path" => config.storage.path().map(|path| path.display().to_string()).unwrap_or_default(),
        },
    }
}

fn listener(listener: &Listener) -> Body {
    let config = map! {
        "address" => listener.place.to_string(),
        "tls_disable" => listener.tls.is_none(),
        "max_request_size" => listener.request_bytes_max,
    };
    Body::from(map! { "type" => listener.place.kind(), "config" => config })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn the_configuration_is_shown_without_what_is_secret() {
        let text = "storage \"file\" {\n  path = \"data\"\n}\nlistener \"tcp\" {\n  tls_disable = true\n}\n\
                    seal \"static\" {\n  current_key_id = \"one\"\n  current_key = \"env://CANARY\"\n}\n\
                    api_addr = \"http://a:1\"\n";
        let config = crate::config::parse(&[(PathBuf::from("server.hcl"), text.to_owned())], &|_| None).unwrap();
        let mut bytes = Vec::new();
        tresor_wire::json::encode_map(&sanitized(&config), &mut bytes);
        let shown = String::from_utf8(bytes).unwrap();
        assert!(!shown.contains("CANARY") && !shown.contains("current_key"), "{shown}");
        for part in ["\"api_addr\":\"http://a:1\"", "\"type\":\"file\"", "\"tls_disable\":true", "\"type\":\"static\""]
        {
            assert!(shown.contains(part), "{part} is not in {shown}");
        }
    }
}
