//! What the server gives the audit devices that its configuration declares: a check before anything starts, its own output,
//! and what their options refer to.
//!
//! Deliberately absent: the devices themselves.

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use tresor_audit::{Options, StandardOutput};
use tresor_core::audits::DeclaredDevice;
use zeroize::Zeroizing;

use crate::config::ServerConfig;

/// Checks what is declared, so that a mistake in it is said at once and by its place.
pub(crate) fn check(config: &ServerConfig, protected_directories: Vec<PathBuf>) -> Result<(), String> {
    let options = Options {
        standard_output: Some(standard_output()),
        standard_error: Some(standard_error()),
        protected_directories,
        prefix_allowed: config.allow_audit_log_prefixing,
        ..Options::default()
    };
    config.audit_devices.iter().try_for_each(|device| device.check(&options))
}

/// The devices that are declared.
pub(crate) fn declared(config: &ServerConfig) -> Vec<DeclaredDevice> {
    config.audit_devices.iter().map(|declared| declared.device.clone()).collect()
}

pub(crate) fn standard_output() -> StandardOutput {
    Arc::new(|bytes| std::io::stdout().write_all(bytes))
}

pub(crate) fn standard_error() -> StandardOutput {
    Arc::new(|bytes| std::io::stderr().write_all(bytes))
}

/// What an option refers to: a variable, or the first line of a file.
pub(crate) fn referred_to(place: &str) -> Option<Zeroizing<String>> {
    if let Some(name) = place.strip_prefix("env://") {
        return std::env::var(name).ok().map(Zeroizing::new);
    }
    std::fs::read_to_string(place.strip_prefix("file://")?).ok().map(Zeroizing::new)
}
