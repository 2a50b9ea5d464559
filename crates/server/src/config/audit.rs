//! `audit "TYPE" "PATH"`: audit devices that the configuration declares.
//!
//! In JSON, and with fewer labels, what is missing stands inside, as `type`, `path`, or a block of that name. Deliberately
//! absent: what the options of a device mean, which is the device's to say (`tresor_audit::check`).

use std::collections::BTreeMap;

use tresor_audit::{DeviceConfig, DeviceSalt, Options};
use tresor_core::audits::DeclaredDevice;
use tresor_hcl::{Block, Object, Position, Value, ValueKind};

use super::ConfigError;
use super::load::Source;

/// A device, and where it is declared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditConfig {
    /// The device.
    pub device: DeclaredDevice,
    /// File and line, for messages.
    pub place: String,
}

impl AuditConfig {
    /// Checks the options of the device.
    pub(crate) fn check(&self, options: &Options) -> Result<(), String> {
        let DeclaredDevice { path, kind, description, options: own, local } = self.device.clone();
        let salt = DeviceSalt::from_bytes([0; tresor_audit::device::SALT_BYTES]);
        let config = DeviceConfig { path, kind, description, options: own, local, declared: true, salt };
        tresor_audit::check(&config, options)
            .map_err(|error| format!("{}: audit device `{}`: {error}", self.place, self.device.path))
    }
}

/// Reads one stanza, which in JSON may hold several devices of one type.
pub(super) fn read_audit(
    source: &mut Source<'_>,
    block: &Block<'_>,
    found: &mut Vec<AuditConfig>,
) -> Result<(), ConfigError> {
    match block.labels.as_slice() {
        [kind, path] => read_device(source, Some(kind), Some(path), block.object, block.position, found),
        [kind] if !is_device(block.object) => block.object.items.iter().try_for_each(|item| {
            let [path] = item.keys.as_slice() else {
                return Err(source.error(block.position, NEEDS_BOTH));
            };
            let object = inner(&item.value).ok_or_else(|| source.error(item.value.position, NEEDS_BOTH))?;
            read_device(source, Some(kind), Some(&path.name), object, item.value.position, found)
        }),
        [kind] => read_device(source, Some(kind), None, block.object, block.position, found),
        _ => Err(source.error(block.position, NEEDS_BOTH)),
    }
}

const NEEDS_BOTH: &str = "`audit` needs the type and the path of a device: audit \"file\" \"name\" { .. }";

/// The object that a value is, or holds as the only item of a list.
fn inner(value: &Value) -> Option<&Object> {
    match &value.kind {
        ValueKind::Object(object) => Some(object),
        ValueKind::List(items) => match items.as_slice() {
            [only] => inner(only),
            _ => None,
        },
        _ => None,
    }
}

/// Whether this is what is said of a device, and not devices by their paths.
fn is_device(object: &Object) -> bool {
    const KEYS: [&str; 5] = ["type", "path", "description", "options", "local"];
    object.items.iter().filter_map(|item| item.keys.first()).any(|key| KEYS.contains(&key.name.as_str()))
}

fn read_device(
    source: &mut Source<'_>,
    kind: Option<&str>,
    path: Option<&str>,
    object: &Object,
    position: Position,
    found: &mut Vec<AuditConfig>,
) -> Result<(), ConfigError> {
    let (mut kind, mut path) = (kind.map(str::to_owned), path.map(str::to_owned));
    let (mut description, mut options, mut local) = (String::new(), BTreeMap::new(), false);
    for item in &object.items {
        let Some(key) = item.keys.first() else { continue };
        let value = &item.value;
        match key.name.as_str() {
            "type" => kind = Some(source.text("type", value)?),
            "path" => path = Some(source.text("path", value)?),
            "description" => description = source.text("description", value)?,
            "local" => local = source.flag("local", value)?,
            "options" => {
                let given = inner(value).ok_or_else(|| source.error(value.position, "`options` must be a block"))?;
                for option in &given.items {
                    let Some(name) = option.keys.first() else { continue };
                    options.insert(name.name.clone(), source.text(&name.name, &option.value)?);
                }
            }
            unknown => source.unknown(unknown, key.position),
        }
    }
    let path = path.unwrap_or_default().trim_matches('/').to_owned();
    let (Some(kind), false) = (kind, path.is_empty() || path.split('/').any(str::is_empty)) else {
        return Err(source.error(position, NEEDS_BOTH));
    };
    let path = format!("{path}/");
    if found.iter().any(|other| other.device.path == path) {
        return Err(source.error(position, format!("two audit devices are declared at `{path}`")));
    }
    let place = format!("{}:{}", source.file.display(), position.line);
    found.push(AuditConfig { device: DeclaredDevice { path, kind, description, options, local }, place });
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use std::path::PathBuf;

    use super::*;
    use crate::config::{ServerConfig, parse};

    fn read(name: &str, stanzas: &str) -> Result<ServerConfig, ConfigError> {
        let base = "storage \"inmem\" {}\nlistener \"tcp\" { tls_disable = true }\n".to_owned();
        parse(&[(PathBuf::from("a.hcl"), base), (PathBuf::from(name), stanzas.to_owned())], &|_| None)
    }

    fn devices(name: &str, stanzas: &str) -> Vec<AuditConfig> {
        read(name, stanzas).unwrap_or_else(|error| panic!("{error}")).audit_devices
    }

    #[test]
    fn a_device_is_declared_in_every_spelling() {
        let hcl = r#"
            audit "file" "to-stdout" {
              description = "For the collector."
              options {
                file_path = "stdout"
                log_raw   = true
              }
            }
            audit "socket" "net/one" {
              local = true
              options = { address = "127.0.0.1:1" }
            }
        "#;
        let json = r#"{ "audit": [
            { "file": { "to-stdout": {
                "description": "For the collector.", "options": { "file_path": "stdout", "log_raw": "true" } } } },
            { "socket": [ { "net/one": [ { "local": true, "options": [ { "address": "127.0.0.1:1" } ] } ] } ] }
        ] }"#;
        let (hcl, json) = (devices("b.hcl", hcl), devices("b.json", json));
        let shown = |all: &[AuditConfig]| all.iter().map(|each| each.device.clone()).collect::<Vec<_>>();
        assert_eq!(shown(&hcl), shown(&json));
        assert_eq!(hcl[0].place, "b.hcl:2");
        assert_eq!((hcl[0].device.path.as_str(), hcl[0].device.kind.as_str()), ("to-stdout/", "file"));
        assert_eq!(hcl[0].device.options["log_raw"], "true");
        assert!(hcl[1].device.local && hcl[1].device.path == "net/one/");
        let named = devices("c.hcl", "audit \"file\" { path = \"x\"\n options { file_path = \"discard\" } }");
        assert_eq!(named[0].device.path, "x/");
    }

    #[test]
    fn what_is_declared_wrong_is_refused_with_its_place() {
        for (stanza, said) in [
            ("audit \"file\" {\n options { file_path = \"discard\" }\n}", "`audit` needs the type and the path"),
            ("audit \"file\" \"/\" {}", "`audit` needs the type and the path"),
            ("audit \"file\" \"a\" {}\naudit \"socket\" \"a/\" {}", "two audit devices are declared at `a/`"),
            ("audit \"file\" \"a\" { options = \"x\" }", "`options` must be a block"),
            ("audit = 5", "`audit` must be a block"),
        ] {
            let error = read("b.hcl", stanza).unwrap_err().to_string();
            assert!(error.contains(said) && error.starts_with("b.hcl:"), "{stanza}: {error}");
        }
        let wrong = devices("b.hcl", "\n\naudit \"file\" \"a\" { options { file = \"x\" } }").remove(0);
        let error = wrong.check(&Options::default()).unwrap_err();
        assert_eq!(error, "b.hcl:3: audit device `a/`: unknown option `file`");
    }
}
