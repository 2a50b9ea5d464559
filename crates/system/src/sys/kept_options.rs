//! What is sent to say where a key is: checked by name, kept where a change says nothing of it, and shown without its secrets.
//!
//! Shared by both spellings of keys that others keep. Deliberately absent: where they are written down (`tresor_core::kept_keys`).

use tresor_env::custody::{KeeperFacts, OptionFacts};
use tresor_model::{Body, Fault, Map};

/// A kind of keeper, by its name.
pub(super) fn keeper(keepers: &'static [KeeperFacts], kind: &str) -> Result<&'static KeeperFacts, Fault> {
    keepers.iter().find(|facts| facts.kind == kind).ok_or_else(|| {
        let kinds: Vec<&str> = keepers.iter().map(|facts| facts.kind).collect();
        Fault::invalid(format!("there is no keeper of keys of the type {kind:?}: there are {}", kinds.join(", ")))
    })
}

/// Refuses what no keeper of this kind is told: it could be a secret, and would be shown.
pub(super) fn check(sent: &Map, known: &[&[OptionFacts]], kind: &str) -> Result<(), Fault> {
    for (name, value) in sent.iter() {
        if !known.iter().copied().flatten().any(|option| option.name == name) {
            return Err(Fault::invalid(format!(
                "a keeper of keys of the type {kind:?} is told nothing of the name {name:?}"
            )));
        }
        if matches!(value, Body::List(_) | Body::Map(_)) {
            return Err(Fault::invalid(format!("`{name}` is a text, a number, or yes or no")));
        }
    }
    Ok(())
}

/// What is there, with what was sent; what is sent as nothing goes.
pub(super) fn merged(mut there: Map, sent: Map) -> Map {
    for (name, value) in sent {
        match value {
            Body::Null => drop(there.remove(&name)),
            value => drop(there.insert(name, value)),
        }
    }
    there
}

/// What becomes of secrets.
#[derive(Clone, Copy)]
pub(super) enum Secrets {
    /// They are not there.
    LeftOut,
    /// A word stands for them.
    Redacted,
}

/// What may be shown of it.
pub(super) fn shown(options: &Map, known: &[&[OptionFacts]], secrets: Secrets) -> Map {
    let mut shown = Map::new();
    for (name, value) in options.iter() {
        // What is not known by now was known when it was written: nobody can say what it is.
        let is_shown = known.iter().copied().flatten().any(|option| option.name == name && !option.is_secret);
        match secrets {
            _ if is_shown => drop(shown.insert(name, value.duplicate())),
            Secrets::Redacted => drop(shown.insert(name, "(redacted)")),
            Secrets::LeftOut => {}
        }
    }
    shown
}
