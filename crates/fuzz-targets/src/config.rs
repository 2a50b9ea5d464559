//! A server's configuration file. Total; an error names a place that is there, and what is accepted can be started.

use std::path::PathBuf;

use tresor_server::config::parse;

use crate::document::within;

pub(crate) const WORDS: &[&str] = &[
    "storage \"raft\" {",
    "storage \"file\" { path = \"d\" }",
    "backend \"inmem\" {}",
    "listener \"tcp\" {",
    "}",
    "address = \"",
    "[::1]:8200\"",
    "localhost\"",
    ":0\"",
    "tls_disable = ",
    "1",
    "\"true\"",
    "tls_min_version = \"tls13\"",
    "max_request_size = ",
    "-1",
    "0",
    "http_read_timeout = \"1h\"",
    "default_lease_ttl = ",
    "\"768h\"",
    "max_lease_ttl = \"1s\"",
    "log_level = \"WARN\"",
    "api_addr = \"x\"",
    "ui = true",
    "seal \"shamir\" {}",
    "seal \"static\" {",
    "current_key_id = \"k\"",
    "current_key = \"env://K\"",
    "previous_key_id = \"j\"",
    "previous_key = \"file:///j\"",
    "\n",
    "disable_mlock = []",
    "pid_file = {}",
    "unknown = null",
];

/// A configuration file.
pub fn config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match parse(&[(PathBuf::from("server.hcl"), text.to_owned())], &|_| None) {
        Ok(config) => {
            assert!(!config.listeners.is_empty() && config.default_lease_ttl <= config.max_lease_ttl);
            for listener in &config.listeners {
                assert!(listener.request_bytes_max > 0, "a listener that takes no body at all");
                assert!(listener.tls.as_ref().is_none_or(|tls| tls.version_min <= tls.version_max));
            }
            assert!(config.warnings.iter().all(|warning| warning.starts_with("server.hcl:")));
        }
        Err(error) => {
            if let Some(position) = error.position {
                within(position, text);
            }
            assert!(error.to_string().starts_with("server.hcl"), "{error}");
        }
    }
}
