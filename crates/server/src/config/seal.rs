//! `seal "static"`: which key opens the store by itself, and where it lies.
//!
//! Only the references are read here; the keys behind them are read when they are needed (`static_seal.rs`). A key that
//! stands in the file itself is taken, with a warning. Deliberately absent: other kinds of seals. An unknown one is
//! refused: ignoring it would leave data sealed in another way than its operator believes.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use tresor_core::SealChecks;
use tresor_hcl::Block;
use tresor_secret::SecretString;

use super::ConfigError;
use super::load::Source;

/// The longest id of a key; it is stored, logged and shown.
const KEY_ID_BYTES_MAX: usize = 128;

/// A `seal "static"` stanza.
#[derive(Clone, Debug)]
pub struct StaticSealConfig {
    /// The key that is to open the store.
    pub current: KeyReference,
    /// The one before, while keys are changed.
    pub previous: Option<KeyReference>,
    /// When it is looked at while nobody needs it; never, without.
    pub checks: Option<SealChecks>,
}

/// A key: its id, and where it lies.
#[derive(Clone, Debug)]
pub struct KeyReference {
    /// What never names another key.
    pub id: String,
    /// Where it lies.
    pub place: KeyPlace,
}

/// Where a key lies; what stands in the configuration itself is not shown.
#[derive(Clone)]
pub enum KeyPlace {
    /// In a variable of the environment.
    Variable(String),
    /// In a file.
    File(PathBuf),
    /// In a file that the service manager hands to this service alone.
    Credential(String),
    /// In the configuration.
    Literal(Arc<SecretString>),
}

impl fmt::Display for KeyPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Variable(name) => write!(f, "env://{name}"),
            Self::File(path) => write!(f, "file://{}", path.display()),
            Self::Credential(name) => write!(f, "credential://{name}"),
            Self::Literal(_) => f.write_str("the configuration"),
        }
    }
}

impl fmt::Debug for KeyPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl KeyPlace {
    /// Reads a reference; nothing when it names no place.
    fn parse(text: &str) -> Option<Self> {
        let is_name = |name: &str| !name.is_empty() && !name.contains(['/', '\0', '=']) && name != "." && name != "..";
        if let Some(name) = text.strip_prefix("env://") {
            is_name(name).then(|| Self::Variable(name.to_owned()))
        } else if let Some(path) = text.strip_prefix("file://") {
            (!path.is_empty() && !path.contains('\0')).then(|| Self::File(PathBuf::from(path)))
        } else if let Some(name) = text.strip_prefix("credential://") {
            is_name(name).then(|| Self::Credential(name.to_owned()))
        } else {
            Some(Self::Literal(Arc::new(SecretString::new(text.to_owned()))))
        }
    }
}

/// Reads a `seal` stanza; one that is disabled, or that asks for shares alone, is none.
pub(super) fn read_seal(source: &mut Source<'_>, block: &Block<'_>) -> Result<Option<StaticSealConfig>, ConfigError> {
    match block.labels.as_slice() {
        ["static"] => {}
        ["shamir"] => return Ok(None),
        [other] => {
            let text = format!("seal `{other}` is not available: `static` is, and `shamir`, which every store has");
            return Err(source.error(block.position, text));
        }
        _ => return Err(source.error(block.position, "`seal` takes one type")),
    }
    let (mut disabled, mut is_checked, mut checks) = (false, true, SealChecks::default());
    let [mut current_id, mut current, mut previous_id, mut previous] = [const { None }; 4];
    for item in &block.object.items {
        let Some(key) = item.keys.first() else { continue };
        let name = key.name.as_str();
        let place = match name {
            "disabled" => {
                disabled = source.flag("disabled", &item.value)?;
                continue;
            }
            "health_check_enabled" => {
                is_checked = source.flag(name, &item.value)?;
                continue;
            }
            "health_check_timeout" | "health_check_interval" | "health_check_interval_unhealthy" => {
                let duration = source.duration(name, &item.value)?;
                if duration.is_zero() {
                    return Err(source.error(item.value.position, format!("`{name}` must be longer than nothing")));
                }
                *match name {
                    "health_check_timeout" => &mut checks.timeout,
                    "health_check_interval" => &mut checks.interval,
                    _ => &mut checks.interval_unhealthy,
                } = duration;
                continue;
            }
            "current_key_id" => &mut current_id,
            "current_key" => &mut current,
            "previous_key_id" => &mut previous_id,
            "previous_key" => &mut previous,
            unknown => {
                source.unknown(unknown, key.position);
                continue;
            }
        };
        let text = source.text(name, &item.value)?;
        *place = Some((text, item.value.position)).filter(|(text, _)| !text.is_empty());
    }
    if disabled {
        return Ok(None);
    }
    let mut reference = |which: &str, id: Option<(String, _)>, key: Option<(String, _)>| {
        let ((id, id_at), (key, key_at)) = match (id, key) {
            (None, None) => return Ok(None),
            (Some(id), Some(key)) => (id, key),
            (id, _) => {
                let missing = if id.is_none() { format!("{which}_key_id") } else { format!("{which}_key") };
                return Err(source.error(block.position, format!("seal `static` needs a `{missing}`")));
            }
        };
        if id.len() > KEY_ID_BYTES_MAX || id.chars().any(char::is_control) {
            let text = format!("`{which}_key_id` is a name of at most {KEY_ID_BYTES_MAX} bytes");
            return Err(source.error(id_at, text));
        }
        let text = format!(
            "`{which}_key` is env://VARIABLE, file:///PATH, credential://NAME, or, which is not advised, the key itself"
        );
        let place = KeyPlace::parse(&key).ok_or_else(|| source.error(key_at, text))?;
        if matches!(place, KeyPlace::Literal(_)) {
            let (file, line) = (source.file.display().to_string(), key_at.line);
            source.warnings.push(format!(
                "{file}:{line}: `{which}_key` is the key itself: whoever reads this file opens every copy of the store"
            ));
        }
        Ok(Some(KeyReference { id, place }))
    };
    let current = reference("current", current_id, current)?;
    let previous = reference("previous", previous_id, previous)?;
    let needed = "seal `static` needs a `current_key_id` and a `current_key`";
    let current = current.ok_or_else(|| source.error(block.position, needed))?;
    if previous.as_ref().is_some_and(|previous| previous.id == current.id) {
        let text = "`previous_key_id` and `current_key_id` must differ: an id never names another key";
        return Err(source.error(block.position, text));
    }
    Ok(Some(StaticSealConfig { current, previous, checks: is_checked.then_some(checks) }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use crate::config::{ServerConfig, parse};

    fn read(seal: &str) -> Result<ServerConfig, String> {
        let text = format!("storage \"inmem\" {{}}\nlistener \"tcp\" {{\n  tls_disable = true\n}}\n{seal}\n");
        parse(&[(PathBuf::from("server.hcl"), text)], &|_| None).map_err(|error| error.to_string())
    }

    #[test]
    fn a_key_is_named_and_its_place_is_read_as_the_reference_spells_it() {
        let config = read(
            r#"seal "static" {
              current_key_id  = "b"
              current_key     = "file:///keys/b"
              previous_key_id = "a"
              previous_key    = "env://KEY_A"
            }"#,
        );
        let seal = config.unwrap().static_seal.unwrap();
        assert_eq!((seal.current.id.as_str(), format!("{}", seal.current.place)), ("b", "file:///keys/b".to_owned()));
        let previous = seal.previous.unwrap();
        assert_eq!((previous.id.as_str(), format!("{}", previous.place)), ("a", "env://KEY_A".to_owned()));
        let config = read(r#"seal "static" { current_key_id = "b", current_key = "credential://unseal" }"#).unwrap();
        assert_eq!(format!("{:?}", config.static_seal.unwrap().current.place), "credential://unseal");
        assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    }

    #[test]
    fn a_key_in_the_file_itself_is_taken_with_a_warning_and_never_shown() {
        let key = "542a91c2aff86797e8dfa16adf86dcbea5706410791b319798936a1b08e4ef8b";
        let text = format!("seal \"static\" {{\n  current_key_id = \"x\"\n  current_key = \"{key}\"\n}}");
        let config = read(&text).unwrap();
        assert!(matches!(&config.warnings[..], [warning] if warning.starts_with("server.hcl:7: `current_key` is")));
        assert!(!format!("{config:?}").contains(key));
        assert!(config.static_seal.is_some());
    }

    #[test]
    fn a_stanza_that_asks_for_nothing_is_none() {
        for text in [
            "",
            "seal \"shamir\" {}",
            "seal \"static\" { disabled = \"true\" }",
            "seal \"static\" {\n current_key_id = \"x\"\n current_key = \"env://X\"\n disabled = true\n}",
        ] {
            assert!(read(text).unwrap().static_seal.is_none(), "{text}");
        }
    }

    #[test]
    fn a_stanza_that_makes_no_sense_is_refused_without_its_keys() {
        for (inside, words) in [
            ("", "needs a `current_key_id` and a `current_key`"),
            ("current_key_id = \"x\"", "needs a `current_key`"),
            ("current_key = \"canary\"", "needs a `current_key_id`"),
            ("current_key_id = \"\"\ncurrent_key = \"canary\"", "needs a `current_key_id`"),
            ("current_key_id = \"x\"\ncurrent_key = \"env://X\"\nprevious_key = \"canary\"", "`previous_key_id`"),
            ("current_key_id = \"x\"\ncurrent_key = \"env://X\"\nprevious_key_id = \"y\"", "`previous_key`"),
            (
                "current_key_id = \"x\"\ncurrent_key = \"env://X\"\nprevious_key_id = \"x\"\nprevious_key = \"env://Y\"",
                "must differ",
            ),
            ("current_key_id = \"a\\nb\"\ncurrent_key = \"env://X\"", "`current_key_id` is a name"),
            ("current_key_id = \"x\"\ncurrent_key = \"env://\"", "`current_key` is env://"),
            ("current_key_id = \"x\"\ncurrent_key = \"credential://../key\"", "`current_key` is env://"),
            ("current_key_id = \"x\"\ncurrent_key = [\"canary\"]", "`current_key` must be a string"),
        ] {
            let error = read(&format!("seal \"static\" {{\n{inside}\n}}")).unwrap_err();
            assert!(error.contains(words) && !error.contains("canary"), "{inside}: {error}");
        }
        assert!(read("seal \"transit\" {}").unwrap_err().contains("`transit` is not available"));
        let twice = "seal \"static\" {\n current_key_id = \"x\"\n current_key = \"env://X\"\n}\n";
        assert!(read(&format!("{twice}{twice}")).unwrap_err().contains("only one `seal`"));
    }
}
