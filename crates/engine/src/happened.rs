//! What an engine tells those who listen: words for an event, below its mount.
//!
//! The types and names are those that clients know. Deliberately absent: who listens, and values of any kind but numbers.

use tresor_model::{Audience, Event, EventMount};

use crate::context::MountFacts;

/// Something that happened below a mount.
pub struct Happened {
    kind: &'static str,
    path: String,
    data_path: Option<String>,
    has_changed: bool,
    more: Vec<(&'static str, String)>,
}

impl Happened {
    /// Something of this type (`kv-v2/data-write`), asked for at this path below the mount, that changed what is there.
    #[must_use]
    pub fn new(kind: &'static str, path: impl Into<String>) -> Self {
        Self { kind, path: path.into(), data_path: None, has_changed: true, more: Vec::new() }
    }

    /// The same to something by name, asked for at `asked/NAME`.
    #[must_use]
    pub fn named(kind: &'static str, asked: &str, name: &str) -> Self {
        Self::new(kind, format!("{asked}/{name}")).with("name", name)
    }

    /// Where what was changed is read, below the mount.
    #[must_use]
    pub fn read_at(self, path: impl Into<String>) -> Self {
        Self { data_path: Some(path.into()), ..self }
    }

    /// Nothing is different from before.
    #[must_use]
    pub fn without_change(self) -> Self {
        Self { has_changed: false, ..self }
    }

    /// What else is known.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl ToString) -> Self {
        self.more.push((name, value.to_string()));
        self
    }

    pub(crate) fn at(self, mount: &MountFacts) -> Event {
        let below = |path: &str| [mount.path.as_str(), path].concat();
        let path = below(&self.path);
        let operation = self.kind.rsplit_once('/').map_or(self.kind, |(_, operation)| operation);
        let mut metadata = vec![
            ("modified", self.has_changed.to_string()),
            ("operation", operation.to_owned()),
            ("path", path.clone()),
        ];
        metadata.extend(self.data_path.as_deref().map(|path| ("data_path", below(path))));
        metadata.extend(self.more);
        metadata.sort_unstable_by_key(|(name, _)| *name);
        let class = if mount.path.starts_with("auth/") { "auth" } else { "secret" };
        let mount = EventMount {
            namespace: mount.namespace.clone(),
            class,
            accessor: mount.accessor.clone(),
            path: mount.path.clone(),
            plugin: mount.kind.clone(),
            version: mount.options.get("version").cloned(),
        };
        Event { kind: self.kind, path, mount, metadata, audience: Audience::Everybody }
    }
}
