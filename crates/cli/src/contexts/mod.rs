//! Contexts: servers by name, each with its address, namespace, TLS files and token, so that nobody types a production
//! server's address or sends it another one's token.
//!
//! They are one file below the user's configuration directory, and a token file each, of mode 0600; a listing shows no token.
//! Settings go by the names of their flags. Deliberately absent: other programs' keyrings (see `token_helper.rs`).

mod commands;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;

use serde_json::{Map, Value, json};

use crate::environment::Environment;
use crate::failure::Failure;
use crate::flags::Parsed;
use crate::token_helper::write_privately;

pub(crate) use commands::COMMANDS;

/// What a context says, by the flag that says the same, and the variable.
pub(crate) const SETTINGS: &[(&str, &str)] = &[
    ("address", "VAULT_ADDR"),
    ("namespace", "VAULT_NAMESPACE"),
    ("ca-cert", "VAULT_CACERT"),
    ("ca-path", "VAULT_CAPATH"),
    ("client-cert", "VAULT_CLIENT_CERT"),
    ("client-key", "VAULT_CLIENT_KEY"),
    ("tls-server-name", "VAULT_TLS_SERVER_NAME"),
    ("tls-skip-verify", "VAULT_SKIP_VERIFY"),
];

/// The settings of one context.
pub(crate) type Settings = BTreeMap<String, String>;

/// The context that a command uses.
pub(crate) struct InUse {
    pub(crate) name: String,
    pub(crate) settings: Settings,
    /// Whether a flag of this command names it: then it wins over variables.
    pub(crate) by_flag: bool,
    /// Where its token lies.
    pub(crate) token_file: PathBuf,
}

/// The context that flags, variable or an earlier `context use` choose.
pub(crate) fn in_use(environment: &Environment, flags: &Parsed) -> Result<Option<InUse>, Failure> {
    let by_flag = flags.text("context").filter(|name| !name.is_empty());
    let named = by_flag.or_else(|| environment.variable("TRESOR_CONTEXT"));
    let Some(place) = Place::of(environment) else {
        return match named {
            None => Ok(None),
            Some(_) => Err(Failure::local("contexts are kept in the home directory: HOME is not set")),
        };
    };
    let kept = place.load()?;
    let Some(name) = named.or(kept.current.as_deref()).map(str::to_owned) else { return Ok(None) };
    let settings = kept.settings_of(&name)?;
    Ok(Some(InUse { token_file: place.token_file(&name), name, settings, by_flag: by_flag.is_some() }))
}

/// All contexts.
#[derive(Default)]
pub(crate) struct Contexts {
    /// The one in use where nothing else is said.
    pub(crate) current: Option<String>,
    /// Each by its name.
    pub(crate) by_name: BTreeMap<String, Settings>,
}

impl Contexts {
    pub(crate) fn settings_of(&self, name: &str) -> Result<Settings, Failure> {
        self.by_name.get(name).cloned().ok_or_else(|| {
            let known: Vec<&str> = self.by_name.keys().map(String::as_str).collect();
            let meant = crate::similar::nearest(name, known).map(|known| format!(": did you mean `{known}`?"));
            Failure::local(format!("there is no context `{name}`{}", meant.unwrap_or_default()))
        })
    }
}

/// Where contexts are kept.
pub(crate) struct Place(PathBuf);

impl Place {
    /// `$XDG_CONFIG_HOME/tresor`, or `~/.config/tresor`.
    pub(crate) fn of(environment: &Environment) -> Option<Self> {
        let own = environment.variable("XDG_CONFIG_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
        let configuration = own.or_else(|| Some(environment.home()?.join(".config")))?;
        Some(Self(configuration.join("tresor")))
    }

    fn file(&self) -> PathBuf {
        self.0.join("contexts.json")
    }

    /// Where a context's token lies.
    pub(crate) fn token_file(&self, name: &str) -> PathBuf {
        self.0.join("tokens").join(name)
    }

    /// Every context; none where there is no file.
    pub(crate) fn load(&self) -> Result<Contexts, Failure> {
        let file = self.file();
        let text = match fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Contexts::default()),
            Err(error) => return Err(Failure::local(format!("Error reading {}: {error}", file.display()))),
        };
        parse(&text).ok_or_else(|| Failure::local(format!("Error: {} holds no contexts", file.display())))
    }

    /// Keeps these contexts instead of those of before, in one step.
    pub(crate) fn store(&self, contexts: &Contexts) -> Result<(), Failure> {
        let text = format!("{:#}\n", json!({ "current": contexts.current, "contexts": contexts.by_name }));
        let file = self.file();
        write_privately(&file, text.as_bytes())
            .map_err(|error| Failure::local(format!("Error writing {}: {error}", file.display())))
    }
}

fn parse(text: &str) -> Option<Contexts> {
    let Ok(Value::Object(whole)) = serde_json::from_str(text) else { return None };
    let settings = |fields: &Map<String, Value>| {
        fields
            .iter()
            .map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
            .collect::<Option<Settings>>()
    };
    let by_name = whole.get("contexts")?.as_object()?.iter();
    let by_name = by_name
        .map(|(name, fields)| Some((name.clone(), settings(fields.as_object()?)?)).filter(|(name, _)| is_name(name)));
    Some(Contexts {
        current: whole.get("current").and_then(Value::as_str).map(str::to_owned),
        by_name: by_name.collect::<Option<BTreeMap<_, _>>>()?,
    })
}

/// Names are those of files, too.
pub(crate) fn is_name(name: &str) -> bool {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "._-".contains(letter);
    (1..=64).contains(&name.len()) && name.chars().all(is_plain) && !name.starts_with(['.', '-'])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_file_of_contexts_is_read_as_it_was_written_and_anything_else_is_refused() {
        let home = tempfile::tempdir().unwrap();
        let environment = Environment::of_pairs([("HOME", home.path().to_str().unwrap())]);
        let place = Place::of(&environment).unwrap();
        assert!(place.load().ok().unwrap().by_name.is_empty());
        let settings = Settings::from([("address".to_owned(), "https://a:1".to_owned())]);
        let contexts =
            Contexts { current: Some("a".to_owned()), by_name: BTreeMap::from([("a".to_owned(), settings)]) };
        place.store(&contexts).ok().unwrap();
        let read = place.load().ok().unwrap();
        assert_eq!((read.current, read.by_name), (contexts.current, contexts.by_name));
        assert!(home.path().join(".config/tresor/contexts.json").exists());
        for text in [
            "",
            "[]",
            "{}",
            r#"{"contexts":{"a":1}}"#,
            r#"{"contexts":{"../a":{}}}"#,
            r#"{"contexts":{"a":{"address":1}}}"#,
        ] {
            assert!(parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn names_are_safe_as_those_of_files() {
        for (name, expected) in
            [("prod-1.eu", true), ("", false), (".", false), ("..", false), ("a/b", false), ("-x", false)]
        {
            assert_eq!(is_name(name), expected, "{name}");
        }
    }
}
