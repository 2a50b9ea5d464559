//! Whose pages may ask through a listener, where its configuration says it: `cors_enabled` and its kin.
//!
//! Deliberately absent: what is stored for all listeners (`sys/config/cors`), which such a listener does not look at.

use tresor_hcl::{Key, Position, Value};
use tresor_http::ListenerOrigins;

use super::ConfigError;
use super::load::Source;

/// What was read so far.
#[derive(Default)]
pub(super) struct Pages {
    is_enabled: bool,
    origins: ListenerOrigins,
}

impl Pages {
    /// Reads a key that begins with `cors_`.
    pub(super) fn read(&mut self, source: &mut Source<'_>, key: &Key, value: &Value) -> Result<(), ConfigError> {
        let name = key.name.as_str();
        let list = |source: &Source<'_>| value.as_string_list(name).map_err(|error| source.wrong(&error));
        match name {
            "cors_enabled" => self.is_enabled = source.flag(name, value)?,
            "cors_allow_credentials" => self.origins.with_credentials = source.flag(name, value)?,
            "cors_allowed_origins" => self.origins.allowed = list(source)?,
            "cors_allowed_headers" => self.origins.headers = list(source)?,
            unknown => source.unknown(unknown, key.position),
        }
        Ok(())
    }

    /// What all of it says; nothing, unless it is enabled.
    pub(super) fn judged(self, source: &Source<'_>, at: Position) -> Result<Option<ListenerOrigins>, ConfigError> {
        if !self.is_enabled {
            return Ok(None);
        }
        let allowed = &self.origins.allowed;
        let says = |text: &str| Err(source.error(at, text));
        if allowed.is_empty() {
            return says("`cors_enabled` needs `cors_allowed_origins`: a list of origins, or `[\"*\"]`");
        }
        if allowed.iter().any(|origin| origin == "*") && (allowed.len() > 1 || self.origins.with_credentials) {
            return says("`cors_allowed_origins` has `*` alone, and without `cors_allow_credentials`");
        }
        Ok(Some(self.origins))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::parse;

    fn read(keys: &str) -> Result<Option<ListenerOrigins>, String> {
        let text = format!("storage \"inmem\" {{}}\nlistener \"tcp\" {{\n tls_disable = true\n{keys}\n}}\n");
        let parsed = parse(&[("a.hcl".into(), text)], &|_| None).map_err(|error| error.to_string());
        parsed.map(|mut config| config.listeners.remove(0).origins)
    }

    #[test]
    fn a_listener_says_whose_pages_may_ask_or_leaves_it_to_what_is_stored() {
        assert_eq!(read("").unwrap(), None);
        assert_eq!(read("cors_allowed_origins = [\"https://a\"]").unwrap(), None);
        let read_one =
            read("cors_enabled = true\ncors_allowed_origins = [\"https://a\"]\ncors_allow_credentials = true");
        let (allowed, headers) = (vec!["https://a".to_owned()], Vec::new());
        assert_eq!(read_one.unwrap(), Some(ListenerOrigins { allowed, headers, with_credentials: true }));
        for (wrong, said) in [
            ("cors_enabled = true", "needs `cors_allowed_origins`"),
            ("cors_enabled = true\ncors_allowed_origins = [\"*\", \"https://a\"]", "has `*` alone"),
            ("cors_enabled = true\ncors_allowed_origins = [\"*\"]\ncors_allow_credentials = true", "has `*` alone"),
        ] {
            let refused = read(wrong).unwrap_err();
            assert!(refused.contains(said), "{wrong}: {refused}");
        }
    }
}
