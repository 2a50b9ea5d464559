//! `-output-policy`: the rule that a command's request needs, instead of the request.
//!
//! Which paths ask for `sudo` besides is a list, since the command line knows no server: the golden
//! of `crates/harness/tests/node/sudo.rs` is the same one, asked of the server.

use tresor_client::Method;
use tresor_policy::{Capability, rule_text};

/// Paths that ask for `sudo`, as patterns of policies.
pub const PROTECTED: &[&str] = &[
    "auth/token/accessors",
    "auth/token/accessors/",
    "auth/token/create-orphan",
    "auth/token/revoke-orphan",
    "sys/audit",
    "sys/audit/*",
    "sys/auth/*",
    "sys/config/auditing/request-headers",
    "sys/config/auditing/request-headers/*",
    "sys/config/cors",
    "sys/config/ui/headers",
    "sys/config/ui/headers/*",
    "sys/leases",
    "sys/leases/lookup/*",
    "sys/leases/revoke-force/*",
    "sys/leases/revoke-prefix/*",
    "sys/plugins/catalog/*",
    "sys/raw",
    "sys/raw/*",
    "sys/remount",
    "sys/revoke-force/*",
    "sys/revoke-prefix/*",
    "sys/rotate",
    "sys/rotate/keyring",
    "sys/rotate/root",
    "sys/seal",
    "sys/step-down",
];

/// Whether a path asks for `sudo`.
#[must_use]
pub fn is_protected(path: &str) -> bool {
    PROTECTED.iter().any(|pattern| match pattern.strip_suffix('*') {
        Some(prefix) => path.starts_with(prefix),
        None => *pattern == path,
    })
}

/// The rule that a request needs.
pub(crate) fn rule(method: Method, path: &str) -> String {
    let mut path = path.trim_start_matches('/').to_owned();
    let mut capabilities = match method {
        Method::Get => vec![Capability::Read],
        Method::List => vec![Capability::List],
        Method::Scan => vec![Capability::Scan],
        Method::Post | Method::Put => vec![Capability::Create, Capability::Update],
        Method::Patch => vec![Capability::Patch],
        Method::Delete => vec![Capability::Delete],
    };
    if matches!(method, Method::List | Method::Scan) && !path.ends_with('/') {
        path.push('/');
    }
    if is_protected(&path) {
        capabilities.push(Capability::Sudo);
    }
    rule_text(&path, &capabilities)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_says_which_rule_it_needs() {
        let read = rule(Method::Get, "/secret/data/a");
        assert_eq!(read, "path \"secret/data/a\" {\n  capabilities = [\"read\"]\n}\n");
        assert!(rule(Method::Put, "kv/a").contains("[\"create\", \"update\"]"));
        assert!(rule(Method::List, "secret/metadata").starts_with("path \"secret/metadata/\""));
        assert!(rule(Method::Get, "sys/audit").contains("[\"read\", \"sudo\"]"));
        assert!(rule(Method::List, "auth/token/accessors").contains("\"sudo\""));
        assert!(!rule(Method::Get, "sys/mounts").contains("sudo"));
    }
}
