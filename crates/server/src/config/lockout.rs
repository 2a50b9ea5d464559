//! `user_lockout`: when names are locked after wrong passwords, by type of auth method.
//!
//! Deliberately absent: what a mount says of itself, which is tuned.

use std::collections::BTreeMap;

use tresor_core::lockout::{KINDS, Rules};
use tresor_hcl::Block;

use super::ConfigError;
use super::load::Source;

/// Reads a `user_lockout` stanza. What it leaves out is as the stanza for `all` has it, where that comes first.
pub(super) fn read_lockout(
    source: &mut Source<'_>,
    block: &Block<'_>,
    rules: &mut BTreeMap<String, Rules>,
) -> Result<(), ConfigError> {
    let kind = block.labels.first().copied().unwrap_or("all").to_lowercase();
    if kind != "all" && !KINDS.contains(&kind.as_str()) {
        let text = format!("`user_lockout` is for all, {}", KINDS.join(", "));
        return Err(source.error(block.position, text));
    }
    let mut read = rules.get("all").copied().unwrap_or_default();
    for item in &block.object.items {
        let Some(key) = item.keys.first() else { continue };
        let value = &item.value;
        match key.name.as_str() {
            "lockout_threshold" => {
                let text = source.text("lockout_threshold", value)?;
                let threshold = text.parse().ok().filter(|threshold| *threshold > 0);
                read.threshold = threshold
                    .ok_or_else(|| source.error(value.position, "`lockout_threshold` is a number, at least 1"))?;
            }
            "lockout_duration" => read.duration = source.duration("lockout_duration", value)?,
            "lockout_counter_reset" => read.counter_reset = source.duration("lockout_counter_reset", value)?,
            "disable_lockout" => read.is_disabled = source.flag("disable_lockout", value)?,
            unknown => source.unknown(unknown, key.position),
        }
    }
    rules.insert(kind, read);
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::path::PathBuf;
    use std::time::Duration;

    use super::*;
    use crate::config::{ServerConfig, parse};

    fn read(stanzas: &str, variable: Option<&str>) -> Result<ServerConfig, ConfigError> {
        let text =
            format!("storage \"file\" {{ path = \"data\" }}\nlistener \"tcp\" {{ tls_disable = true }}\n{stanzas}");
        let variable = variable.map(str::to_owned);
        parse(&[(PathBuf::from("a.hcl"), text)], &|name| {
            variable.clone().filter(|_| name == "VAULT_DISABLE_USER_LOCKOUT")
        })
    }

    #[test]
    fn names_are_locked_as_the_stanza_of_their_type_says() {
        assert!(read("", None).unwrap().lockout.is_empty());
        let config = read(
            "user_lockout \"all\" {\n lockout_threshold = \"3\"\n lockout_duration = \"10m\"\n}\nuser_lockout \"userpass\" {\n lockout_counter_reset = \"5m\"\n disable_lockout = true\n}",
            None,
        )
        .unwrap();
        let all = Rules { threshold: 3, duration: Duration::from_secs(600), ..Rules::default() };
        assert_eq!(config.lockout.get("all"), Some(&all));
        let own = Rules { counter_reset: Duration::from_secs(300), is_disabled: true, ..all };
        assert_eq!(config.lockout.get("userpass"), Some(&own));
        let disabled = read("", Some("true")).unwrap();
        assert!(disabled.lockout.get("all").is_some_and(|rules| rules.is_disabled));
        for (wrong, said) in [
            ("user_lockout \"token\" {}", "`user_lockout` is for all, userpass, ldap, approle"),
            ("user_lockout \"all\" {\n lockout_threshold = 0\n}", "`lockout_threshold` is a number, at least 1"),
        ] {
            let error = read(wrong, None).unwrap_err().to_string();
            assert!(error.contains(said), "{wrong}: {error}");
        }
    }
}
