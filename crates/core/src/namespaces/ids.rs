//! The namespace in an id: what belongs to a child namespace has ids that end in a dot and its namespace's id.
//!
//! So every index that all namespaces share (what ends when, what is collected) says with each name where the rest lies.
//! Invariant: this is for ids that the server itself wrote. What a client sends is compared with the namespace that the
//! request resolved to, and leads nowhere else (DR-12).

use tresor_model::ids::NamespaceId;

/// The namespace of an id, and the id without it.
fn split(id: &str) -> (&str, Option<&str>) {
    match id.rsplit_once('.') {
        Some((bare, namespace)) if !namespace.is_empty() => (bare, Some(namespace)),
        _ => (id, None),
    }
}

/// The namespace that what has this id lies in.
pub(crate) fn home(id: &str) -> NamespaceId {
    split(id).1.map_or_else(NamespaceId::root, NamespaceId::new)
}

/// The id without its namespace.
pub(crate) fn bare(id: &str) -> &str {
    split(id).0
}

/// The namespace part of an id, with its dot; empty in the root namespace.
pub(crate) fn suffix(id: &str) -> &str {
    id.get(bare(id).len()..).unwrap_or("")
}

/// The id of something in a namespace.
pub(crate) fn within(namespace: &NamespaceId, mut bare: String) -> String {
    if !namespace.is_root() {
        bare.push('.');
        bare.push_str(namespace.as_str());
    }
    bare
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_gives_its_namespace_back() {
        for (namespace, whole) in [(NamespaceId::root(), "abc"), (NamespaceId::new("aB3xYz"), "abc.aB3xYz")] {
            assert_eq!(within(&namespace, "abc".to_owned()), whole);
            assert_eq!((home(whole), bare(whole)), (namespace, "abc"));
            assert_eq!(format!("{}{}", bare(whole), suffix(whole)), whole);
        }
        assert_eq!(home("abc."), NamespaceId::root());
    }
}
