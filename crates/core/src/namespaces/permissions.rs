//! What a token may do in a namespace: the policies of the namespace that it belongs to, and the way from there.
//!
//! A token acts in its own namespace and in those below it. There its policies decide on the path with the names of the
//! namespaces on the way before it, so a rule reaches a namespace by naming it, and none reaches upwards or sideways.
//! Of a policy that was written before a namespace was made only the rules reach it that mean whatever is there (`*`, `+/...`):
//! what was meant for a mount of that name is not given away with the tenant that takes it (NS-10). Enforcement, `capabilities` and `explain` ask the same value.

use std::borrow::Cow;
use std::sync::Arc;

use tresor_model::Timestamp;
use tresor_model::ids::NamespaceId;
use tresor_policy::PolicySet;

use super::record::NamespaceRecord;
use super::{Space, Spaces};
use crate::clients::Mark;
use crate::mounts::PolicyPath;
use crate::policies::{Compiled, OLDER};

/// What the policies of a token come to in a namespace.
#[derive(Clone)]
pub struct Permissions {
    compiled: Arc<Compiled>,
    /// The path from the token's namespace to the one that is asked: empty, or ending in a slash.
    way: String,
}

impl Permissions {
    /// The policies; they decide on paths as [`Permissions::asked`] spells them.
    #[must_use]
    pub fn set(&self) -> &PolicySet {
        &self.compiled.set
    }

    /// Whether whoever has these policies was counted.
    pub(crate) fn mark(&self) -> &Mark {
        &self.compiled.mark
    }

    /// The path from the token's namespace to the one that is asked: empty, or ending in a slash.
    #[must_use]
    pub fn way(&self) -> &str {
        &self.way
    }

    /// A path of the namespace as it is seen from the token's own.
    #[must_use]
    pub fn asked<'p>(&self, path: &'p PolicyPath) -> Cow<'p, PolicyPath> {
        if self.way.is_empty() {
            return Cow::Borrowed(path);
        }
        let above = self.way.matches('/').count();
        Cow::Owned(PolicyPath {
            text: [self.way.as_str(), &path.text].concat(),
            folds_after: path.folds_after.map(|after| after + above),
        })
    }

    /// A path that is seen from the token's namespace as it is called in the one that is asked; `None` when it is not in it.
    #[must_use]
    pub fn within<'p>(&self, seen: &'p str) -> Option<&'p str> {
        seen.strip_prefix(self.way.as_str())
    }

    /// Whether anything may be done at or below a path of the namespace.
    #[must_use]
    pub fn reaches_below(&self, path: &str) -> bool {
        self.compiled.set.reaches_below(&[self.way.as_str(), path].concat())
    }
}

impl Spaces {
    /// The policies of the namespaces above one that would lead into it and do not, because they are older: each with the
    /// path of its namespace before it.
    #[must_use]
    pub fn outdated(&self, record: &NamespaceRecord) -> Vec<String> {
        let mut found = Vec::new();
        for (at, above) in record.line.iter().enumerate() {
            let Some(above) = self.with_id(above).filter(|above| above.id != record.id) else { continue };
            let Some(way) = record.path.strip_prefix(above.path.as_str()) else { continue };
            // What counts is the first namespace on the way.
            let next = record.line.get(at + 1).and_then(|id| self.with_id(id)).and_then(|next| next.record.clone());
            let made = next.map_or(record.created, |next| next.created);
            found.extend(above.policies.table().outdated(way, made).map(|name| format!("{}{name}", above.path)));
        }
        found
    }

    /// What these policies of a namespace may do in `space`, which is that one or lies below it.
    #[must_use]
    pub fn permissions(&self, space: &Space, home: &NamespaceId, names: &[String], now: Timestamp) -> Permissions {
        if *home == space.id {
            return Permissions { compiled: space.policies.table().compile(names, now), way: String::new() };
        }
        let nothing = || Permissions { compiled: space.policies.table().compile(&[], now), way: space.path.clone() };
        let above = space.line.iter().position(|id| id == home);
        let (Some(own), Some(above)) = (self.with_id(home), above) else { return nothing() };
        // The first namespace on the way: what is older than that did not mean it, or what is below it.
        let next = space.line.get(above + 1).and_then(|id| self.with_id(id));
        let made = next.and_then(|next| next.record.as_ref().map(|record| record.created));
        let (Some(made), Some(way)) = (made, space.path.strip_prefix(own.path.as_str())) else { return nothing() };
        let table = own.policies.table();
        let reaching = |name: &String| if table.is_since(name, made) { name.clone() } else { format!("{OLDER}{name}") };
        let names: Vec<String> = names.iter().map(reaching).collect();
        Permissions { compiled: table.compile(&names, now), way: way.to_owned() }
    }
}
