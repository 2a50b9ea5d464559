//! `snapshots`: how often one is taken without anybody asking, where they are kept, and how many.
//!
//! Deliberately absent: other places than a directory, and several schedules.

use std::path::PathBuf;
use std::time::Duration;

use tresor_hcl::Item;

use super::ConfigError;
use super::load::Source;

/// How many are kept where nobody says it.
const RETAIN: usize = 24;
/// The shortest time between two; names have seconds.
const INTERVAL_MIN: Duration = Duration::from_secs(1);

/// A `snapshots` stanza.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotsConfig {
    /// Where they are kept.
    pub directory: PathBuf,
    /// How often.
    pub interval: Duration,
    /// How many are kept.
    pub retain: usize,
}

/// Reads a `snapshots` stanza.
pub(super) fn read_snapshots(source: &mut Source<'_>, stanza: &Item) -> Result<SnapshotsConfig, ConfigError> {
    if let [_, label, ..] = stanza.keys.as_slice() {
        return Err(source.error(label.position, "`snapshots` takes no type"));
    }
    let object = stanza.value.as_object("snapshots").map_err(|error| source.wrong(&error))?;
    let (mut directory, mut interval, mut retain) = (None, None, RETAIN);
    for item in &object.items {
        let Some(key) = item.keys.first() else { continue };
        let value = &item.value;
        match key.name.as_str() {
            "directory" => directory = Some(source.text("directory", value)?).filter(|path| !path.is_empty()),
            "interval" => {
                let read = source.duration("interval", value)?;
                if read < INTERVAL_MIN {
                    return Err(source.error(value.position, "`interval` is at least one second"));
                }
                interval = Some(read);
            }
            "retain" => {
                let read = source.text("retain", value)?.parse().ok().filter(|count| *count > 0);
                retain = read.ok_or_else(|| source.error(value.position, "`retain` is a number, at least 1"))?;
            }
            unknown => source.unknown(unknown, key.position),
        }
    }
    let needs = |what| source.error(stanza.value.position, format!("`snapshots` needs {what}"));
    let directory = directory.ok_or_else(|| needs("a `directory`"))?;
    let interval = interval.ok_or_else(|| needs("an `interval`, such as \"1h\""))?;
    Ok(SnapshotsConfig { directory: PathBuf::from(directory), interval, retain })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::config::{ServerConfig, parse};

    fn read(stanzas: &str) -> Result<ServerConfig, ConfigError> {
        let text =
            format!("storage \"file\" {{ path = \"data\" }}\nlistener \"tcp\" {{ tls_disable = true }}\n{stanzas}");
        parse(&[(PathBuf::from("a.hcl"), text)], &|_| None)
    }

    #[test]
    fn a_schedule_has_a_place_an_interval_and_a_number() {
        assert_eq!(read("").unwrap().snapshots, None);
        let config = read("snapshots {\n directory = \"/backup\"\n interval = \"1h\"\n}").unwrap();
        let expected = SnapshotsConfig { directory: "/backup".into(), interval: Duration::from_secs(3600), retain: 24 };
        assert_eq!(config.snapshots, Some(expected));
        let config =
            read("snapshots {\n directory = \"b\"\n interval = \"60s\"\n retain = 3\n often = true\n}").unwrap();
        assert_eq!(config.snapshots.map(|read| (read.interval.as_secs(), read.retain)), Some((60, 3)));
        assert!(config.warnings.iter().any(|warning| warning.contains("often")), "{:?}", config.warnings);
        for (wrong, said) in [
            ("snapshots {\n interval = \"1h\"\n}", "`snapshots` needs a `directory`"),
            ("snapshots {\n directory = \"b\"\n}", "`snapshots` needs an `interval`, such as \"1h\""),
            ("snapshots {\n directory = \"b\"\n interval = \"0s\"\n}", "a.hcl:5:13: `interval` is at least one second"),
            ("snapshots {\n directory = \"b\"\n interval = \"often\"\n}", "`interval` must be a duration"),
            ("snapshots {\n directory = \"b\"\n interval = \"1h\"\n retain = 0\n}", "`retain` is a number, at least 1"),
            ("snapshots \"file\" {\n directory = \"b\"\n interval = \"1h\"\n}", "`snapshots` takes no type"),
            ("snapshots {\n directory = \"data\"\n interval = \"1h\"\n}", "`snapshots` needs a directory of its own"),
        ] {
            let error = read(wrong).unwrap_err().to_string();
            assert!(error.contains(said), "{wrong}: {error}");
        }
    }
}
