//! The arguments of `server`, parsed; what they mean is the server's affair.

use std::path::PathBuf;

use crate::environment::Environment;
use crate::failure::Failure;
use crate::flags::{Flag, Parsed, repeated, switch, text};

pub(crate) const FLAGS: &[Flag] = &[
    repeated("config", "Configuration file (HCL or JSON) or directory of them; may be given several times."),
    switch("dev", "Development mode: in memory, initialised and unsealed. Never for production."),
    text("dev-root-token-id", "Root token of development mode (VAULT_DEV_ROOT_TOKEN_ID)."),
    text(
        "dev-listen-address",
        "Address of development mode, 127.0.0.1:8200 when not given (VAULT_DEV_LISTEN_ADDRESS).",
    ),
    switch("dev-no-store-token", "Do not keep the root token of development mode in the home directory."),
    switch("dev-tls", "Development mode with a certificate made at start."),
    text("dev-tls-cert-dir", "Directory for the certificates of -dev-tls."),
    switch("dev-kv-v1", "Mount version 1 of the key/value engine in development mode."),
    switch("dev-allow-non-loopback", "Allow development mode on addresses that others can reach."),
    text("dev-plugin-dir", "Accepted for compatibility; there are no plugins."),
    text("log-level", "Least severity that is logged: trace, debug, info, warn or error (VAULT_LOG_LEVEL)."),
    text("log-format", "Form of log lines: standard or json (VAULT_LOG_FORMAT)."),
];

/// How a server was asked to start.
///
/// Not printable, because the root token of development mode may be among it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ServerArguments {
    /// Configuration files and directories, in order.
    pub config: Vec<PathBuf>,
    /// Development mode.
    pub dev: bool,
    /// The root token of development mode.
    pub dev_root_token_id: Option<String>,
    /// The address of development mode, `host:port`.
    pub dev_listen_address: Option<String>,
    /// Whether the root token of development mode is not to be kept in the home directory.
    pub dev_no_store_token: bool,
    /// Development mode over TLS; implies development mode.
    pub dev_tls: bool,
    /// Where its certificates go.
    pub dev_tls_cert_dir: Option<PathBuf>,
    /// Version 1 of the key/value engine instead of 2 in development mode.
    pub dev_kv_v1: bool,
    /// Whether development mode may listen where others can reach it.
    pub dev_allow_non_loopback: bool,
    /// The least severity that is logged.
    pub log_level: Option<String>,
    /// The form of log lines.
    pub log_format: Option<String>,
}

pub(crate) fn arguments(parsed: &Parsed, environment: &Environment) -> Result<ServerArguments, Failure> {
    if let Some(extra) = parsed.arguments.first() {
        return Err(Failure::Usage(format!("unexpected argument `{extra}`")));
    }
    let value = |flag: &str, variable: &str| {
        parsed
            .text(flag)
            .filter(|value| !value.is_empty())
            .or_else(|| environment.variable(variable))
            .map(str::to_owned)
    };
    Ok(ServerArguments {
        config: parsed.texts("config").iter().map(PathBuf::from).collect(),
        dev: parsed.switch("dev") || parsed.switch("dev-tls"),
        dev_root_token_id: value("dev-root-token-id", "VAULT_DEV_ROOT_TOKEN_ID"),
        dev_listen_address: value("dev-listen-address", "VAULT_DEV_LISTEN_ADDRESS"),
        dev_no_store_token: parsed.switch("dev-no-store-token"),
        dev_tls: parsed.switch("dev-tls"),
        dev_tls_cert_dir: parsed.text("dev-tls-cert-dir").filter(|value| !value.is_empty()).map(PathBuf::from),
        dev_kv_v1: parsed.switch("dev-kv-v1"),
        dev_allow_non_loopback: parsed.switch("dev-allow-non-loopback"),
        log_level: value("log-level", "VAULT_LOG_LEVEL"),
        log_format: value("log-format", "VAULT_LOG_FORMAT"),
    })
}
