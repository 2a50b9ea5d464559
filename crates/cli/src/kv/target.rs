//! From the path that people type to a mount, a version of the engine, and the path inside it.

use serde_json::{Map, Value};

use crate::context::{Context, trim_path};
use crate::failure::Failure;
use crate::output::banner;
use crate::table::table;

/// Which engine is mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Engine {
    /// One value per path.
    Plain,
    /// A history per path.
    Versioned,
}

/// What a command is about.
pub(super) struct Target {
    /// The mount, without slashes at its ends; empty when the server does not say.
    pub(super) mount: String,
    /// The path inside the mount.
    pub(super) path: String,
    /// What is mounted there.
    pub(super) engine: Engine,
}

impl Target {
    /// Asks the server where the mount of a path ends.
    pub(super) fn find(context: &mut Context<'_, '_>, path: &str) -> Result<Self, Failure> {
        let path = trim_path(path);
        let given = context.flag("mount").map(trim_path);
        let whole = given.clone().unwrap_or_else(|| path.clone());
        let named = given.as_ref().map_or_else(|| path.clone(), |mount| format!("{mount}/{path}"));
        let answer = context.preflight(&format!("sys/internal/ui/mounts/{whole}"), &named)?;
        let Some(answer) = answer else {
            // A server without this endpoint has no versions either.
            let mount = given.unwrap_or_default();
            return Ok(Self { mount, path, engine: Engine::Plain });
        };
        let mount = trim_path(answer.data_field("path").and_then(Value::as_str).unwrap_or_default());
        let version = answer.data_field("options").and_then(|options| options.get("version")).and_then(Value::as_str);
        let engine = if version == Some("2") { Engine::Versioned } else { Engine::Plain };
        let path = if given.is_some() { path } else { inside(&path, &mount) };
        Ok(Self { mount, path, engine })
    }

    /// The same, but refusing an engine without versions.
    pub(super) fn find_versioned(context: &mut Context<'_, '_>, path: &str, wanted: &str) -> Result<Self, Failure> {
        let target = Self::find(context, path)?;
        match target.engine {
            Engine::Versioned => Ok(target),
            Engine::Plain => Err(Failure::local(format!("{wanted} not supported on KV Version 1"))),
        }
    }

    /// The path of the API below `prefix`, which an engine without versions has not.
    pub(super) fn api_path(&self, prefix: &str) -> String {
        let prefix = if self.engine == Engine::Versioned { prefix } else { "" };
        let parts = [self.mount.as_str(), prefix, self.path.as_str()];
        parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/")
    }
}

/// The rest of a path below its mount. Within a namespace the server may answer a longer mount than was typed.
fn inside(path: &str, mount: &str) -> String {
    let mut mount = mount;
    loop {
        if path == mount {
            return String::new();
        }
        if let Some(rest) = path.strip_prefix(mount).and_then(|rest| rest.strip_prefix('/')) {
            return rest.to_owned();
        }
        match mount.split_once('/') {
            Some((_, shorter)) => mount = shorter,
            None => return path.to_owned(),
        }
    }
}

/// A map as a table below its heading.
pub(super) fn section(title: &str, fields: &Map<String, Value>) -> String {
    let width = fields.keys().map(|key| key.chars().count()).max().unwrap_or(0);
    let rows = crate::envelope::data_rows(fields);
    // Four for the space between the columns, five for the word `Value`.
    format!("{}\n{}", banner(title, width + 4 + 5), table(&["Key", "Value"], &rows))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mount_is_taken_off_the_path_even_when_a_namespace_precedes_it() {
        for (path, mount, rest) in [
            ("secret/a/b", "secret", "a/b"),
            ("secret", "secret", ""),
            ("team/kv/a", "team/kv", "a"),
            ("kv/a", "team/kv", "a"),
            ("secretive/a", "secret", "secretive/a"),
        ] {
            assert_eq!(inside(path, mount), rest, "{path} in {mount}");
        }
    }

    #[test]
    fn only_an_engine_with_versions_has_a_prefix() {
        let target = |engine| Target { mount: "kv".to_owned(), path: "a/b".to_owned(), engine };
        assert_eq!(target(Engine::Versioned).api_path("data"), "kv/data/a/b");
        assert_eq!(target(Engine::Plain).api_path("data"), "kv/a/b");
    }
}
