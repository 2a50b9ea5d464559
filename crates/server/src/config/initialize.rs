//! The stanzas `initialize`: requests that are made once, when the store is initialised by the server itself. They are a profile,
//! whose values may come from variables and files of the machine.
//!
//! Deliberately absent: what a profile is (`tresor-profile`), and making the requests (`self_init.rs`).

use tresor_hcl::Block;
use tresor_profile::Profile;

use super::ConfigError;
use super::load::Source;

/// Reads one stanza.
pub(super) fn read_initialize(
    source: &mut Source<'_>,
    block: &Block<'_>,
    found: &mut Profile,
) -> Result<(), ConfigError> {
    found.read(block).map_err(|error| source.error(error.position.unwrap_or(block.position), error.text))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::path::PathBuf;

    use crate::config::{ConfigError, ServerConfig, parse};

    fn read(stanzas: &str) -> Result<ServerConfig, ConfigError> {
        let base = "storage \"inmem\" {}\nlistener \"tcp\" { tls_disable = true }\n".to_owned();
        parse(&[(PathBuf::from("a.hcl"), base), (PathBuf::from("b.hcl"), stanzas.to_owned())], &|_| None)
    }

    #[test]
    fn requests_come_in_order_over_all_stanzas() {
        let config = read(
            r#"initialize "identity" {
                 request "mount" {
                   operation = "update"
                   path = "sys/auth/userpass"
                   data = { "type" = "userpass" options = { a = 1 b = [true, "x"] } }
                 }
                 request "admin" {
                   operation = "create"
                   path = "auth/userpass/users/admin"
                   data = {
                     password = { eval_type = "string" eval_source = "env" env_var = "ADMIN" }
                     other = { eval_source = "file" path = "/run/secret" }
                   }
                   allow_failure = true
                 }
               }
               initialize "more" { request "mount" { operation = "list" path = "sys/policies/acl" token = "t" } }"#,
        )
        .unwrap();
        let of = |block: &str, name: &str| (block.to_owned(), name.to_owned());
        assert_eq!(
            config.initialize.requests(),
            [of("identity", "mount"), of("identity", "admin"), of("more", "mount")]
        );
        assert!(!format!("{:?}", config.initialize).contains("ADMIN"));
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_its_place() {
        let request = |inside: &str| format!("initialize \"a\" {{ request \"b\" {{ {inside} }} }}");
        for (stanzas, words) in [
            ("initialize \"a\" {}".to_owned(), "without a `request`"),
            ("initialize \"a\" { other = 1 }".to_owned(), "no `other`"),
            ("initialize \"1a\" { request \"b\" { operation = \"read\" path = \"x\" } }".to_owned(), "no name here"),
            (request("path = \"x\""), "needs `operation`"),
            (request("operation = \"read\""), "needs `path`"),
            (request("operation = \"brew\" path = \"x\""), "cannot be `brew`"),
            (request("operation = \"read\" path = \"x\" datum = 1"), "has no `datum`"),
            (request("operation = \"read\" path = \"x\" token = { eval_source = \"input\" }"), "cannot be \"input\""),
            (request("operation = \"read\" path = \"x\" token = { eval_source = \"env\" }"), "needs `env_var`"),
            (request("operation = \"read\" path = \"x\"").repeat(2), "two blocks `initialize`"),
        ] {
            let error = read(&stanzas).err().unwrap();
            assert!(error.text.contains(words) && error.position.is_some(), "{stanzas}: {error}");
        }
    }
}
