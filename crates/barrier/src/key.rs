//! Names of records above the barrier: a namespace, an area, and the rest, in segments.
//!
//! Invariants: every name starts with a namespace's id (DR-12); a record's name does not end in a slash, a prefix
//! does; no control characters; bounded. Empty segments inside are literal names.

use std::fmt;

use tresor_model::ids::NamespaceId;

use crate::barrier::BarrierError;

/// The longest name, in bytes.
pub const NAME_BYTES_MAX: usize = 8 * 1024;

/// The most segments of a name: those of the longest request path, and what is put before and behind it. Each may be a
/// directory that a commit has to make or remove, and a level that a walk has to go down.
pub const NAME_SEGMENTS_MAX: usize = 80;

/// What kind of record a name belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Area {
    /// The core's own tables.
    Core,
    /// The data of mounts.
    Logical,
    /// Tokens and their indices.
    Tokens,
    /// What ends, by time.
    Leases,
    /// Policies.
    Policies,
    /// Audit devices.
    Audit,
}

impl Area {
    const fn segment(self) -> &'static str {
        match self {
            Self::Core => "core",
            Self::Logical => "logical",
            Self::Tokens => "tokens",
            Self::Leases => "leases",
            Self::Policies => "policies",
            Self::Audit => "audit",
        }
    }
}

/// Stands where a namespace does in what means all of them; none has it for its id.
const EVERYWHERE: &str = "*/";

/// Why a text is no name; the caller's fault when the text came from a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Longer than [`NAME_BYTES_MAX`].
    #[error("the name is too long to be stored")]
    TooLong,
    /// More segments than [`NAME_SEGMENTS_MAX`].
    #[error("the name has too many segments to be stored")]
    TooDeep,
    /// Holds a control character.
    #[error("the name contains a control character")]
    ControlCharacter,
    /// Empty, or ends in a slash where a record is meant (or does not, where a directory is).
    #[error("the name does not name a record")]
    Shape,
}

/// The name of one record.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StorageKey(Box<str>);

impl std::borrow::Borrow<str> for StorageKey {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// The names below one directory; ends in a slash.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyPrefix(Box<str>);

/// The name of a record that no directory lists: it is found by whoever knows it, and making it changes nothing but
/// itself. What is made often and never listed lies here. What is made at the same time may name a *neighbourhood*, and
/// then lies side by side: an index of very many is changed in one place, and not in as many as there are records.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PointKey {
    name: Box<str>,
    neighbourhood: Option<Box<str>>,
}

/// A name of either kind.
#[derive(Clone, Copy)]
pub enum RecordName<'k> {
    /// One that its directory lists.
    Listed(&'k StorageKey),
    /// One that no directory lists.
    Point(&'k PointKey),
}

impl RecordName<'_> {
    /// The whole name.
    pub(crate) fn as_str(&self) -> &str {
        match self {
            Self::Listed(key) => key.as_str(),
            Self::Point(key) => key.as_str(),
        }
    }
}

impl<'k> From<&'k StorageKey> for RecordName<'k> {
    fn from(key: &'k StorageKey) -> Self {
        Self::Listed(key)
    }
}

impl<'k> From<&'k PointKey> for RecordName<'k> {
    fn from(key: &'k PointKey) -> Self {
        Self::Point(key)
    }
}

fn checked(text: String) -> Result<Box<str>, BarrierError> {
    if text.len() > NAME_BYTES_MAX {
        return Err(KeyError::TooLong.into());
    }
    if text.bytes().filter(|byte| *byte == b'/').count() >= NAME_SEGMENTS_MAX {
        return Err(KeyError::TooDeep.into());
    }
    // A byte of a control character is below the blank, 0x7f, or 0xc2, which begins the rest of them.
    // Every byte is looked at, so that many are at once.
    let may_be_control = |any, byte| any | (byte < b' ') | (byte == 0x7f) | (byte == 0xc2);
    if text.bytes().fold(false, may_be_control) && text.chars().any(char::is_control) {
        return Err(KeyError::ControlCharacter.into());
    }
    Ok(text.into())
}

/// The whole name of a record.
fn record_name(namespace: &NamespaceId, area: Area, rest: &str) -> Result<Box<str>, BarrierError> {
    if rest.is_empty() || rest.ends_with('/') {
        return Err(KeyError::Shape.into());
    }
    checked([namespace.as_str(), "/", area.segment(), "/", rest].concat())
}

impl StorageKey {
    /// A record of an area of a namespace.
    ///
    /// # Errors
    /// [`BarrierError::Key`] when `rest` is no name.
    pub fn new(namespace: &NamespaceId, area: Area, rest: &str) -> Result<Self, BarrierError> {
        record_name(namespace, area, rest).map(Self)
    }

    /// A record by its whole name, as operators name it who repair what is stored.
    ///
    /// # Errors
    /// [`BarrierError::Key`] when it is no name.
    pub fn whole(name: &str) -> Result<Self, BarrierError> {
        let segments = name.split('/').take(3).filter(|segment| !segment.is_empty()).count();
        if segments < 3 || name.ends_with('/') {
            return Err(KeyError::Shape.into());
        }
        checked(name.to_owned()).map(Self)
    }

    /// The whole name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it lies below a directory.
    #[must_use]
    pub fn is_below(&self, prefix: &KeyPrefix) -> bool {
        match prefix.0.strip_prefix(EVERYWHERE) {
            Some(rest) => self.0.split_once('/').is_some_and(|(_, own)| own.starts_with(rest)),
            None => self.0.starts_with(prefix.as_str()),
        }
    }

    /// The namespace that it begins with.
    #[must_use]
    pub fn namespace(&self) -> NamespaceId {
        NamespaceId::new(self.0.split_once('/').map_or(&*self.0, |(namespace, _)| namespace))
    }

    /// A name that another node noted.
    pub(crate) fn noted(name: String) -> Result<Self, BarrierError> {
        checked(name).map(Self)
    }

    /// The directory (ending in a slash) and the name within it.
    pub(crate) fn split(&self) -> (&str, &str) {
        let at = self.0.rfind('/').map_or(0, |at| at + 1);
        self.0.split_at(at)
    }
}

impl PointKey {
    /// A record of an area of a namespace.
    ///
    /// # Errors
    /// [`BarrierError::Key`] when `rest` is no name.
    pub fn new(namespace: &NamespaceId, area: Area, rest: &str) -> Result<Self, BarrierError> {
        Ok(Self { name: record_name(namespace, area, rest)?, neighbourhood: None })
    }

    /// A record by its whole name; see [`StorageKey::whole`].
    ///
    /// # Errors
    /// [`BarrierError::Key`] when it is no name.
    pub fn whole(name: &str) -> Result<Self, BarrierError> {
        Ok(Self { name: StorageKey::whole(name)?.0, neighbourhood: None })
    }

    /// The same record, beside the others of a neighbourhood. Whoever looks for it must name the same one.
    #[must_use]
    pub fn beside(self, neighbourhood: &str) -> Self {
        Self { neighbourhood: Some(neighbourhood.into()), ..self }
    }

    /// The whole name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.name
    }

    pub(crate) fn neighbourhood(&self) -> Option<&str> {
        self.neighbourhood.as_deref()
    }
}

impl KeyPrefix {
    /// A directory of an area of a namespace; `rest` is empty or ends in a slash.
    ///
    /// # Errors
    /// [`BarrierError::Key`] when `rest` is no directory.
    pub fn new(namespace: &NamespaceId, area: Area, rest: &str) -> Result<Self, BarrierError> {
        if !rest.is_empty() && !rest.ends_with('/') {
            return Err(KeyError::Shape.into());
        }
        checked([namespace.as_str(), "/", area.segment(), "/", rest].concat()).map(Self)
    }

    /// A directory of an area of every namespace: for who follows what changes there. Nothing lies at it.
    ///
    /// # Errors
    /// As [`KeyPrefix::new`].
    pub fn everywhere(area: Area, rest: &str) -> Result<Self, BarrierError> {
        if !rest.is_empty() && !rest.ends_with('/') {
            return Err(KeyError::Shape.into());
        }
        checked([EVERYWHERE, area.segment(), "/", rest].concat()).map(Self)
    }

    /// A directory by its whole name; see [`StorageKey::whole`].
    ///
    /// # Errors
    /// [`BarrierError::Key`] when it is no directory.
    pub fn whole(name: &str) -> Result<Self, BarrierError> {
        if name.starts_with('/') || !name.ends_with('/') {
            return Err(KeyError::Shape.into());
        }
        checked(name.to_owned()).map(Self)
    }

    /// A record below this directory; the name may have slashes inside.
    ///
    /// # Errors
    /// [`BarrierError::Key`] when `name` is no name.
    pub fn key(&self, name: &str) -> Result<StorageKey, BarrierError> {
        if name.is_empty() || name.ends_with('/') {
            return Err(KeyError::Shape.into());
        }
        checked([&*self.0, name].concat()).map(StorageKey)
    }

    /// A record that this directory does not list; its name is none of those that it does.
    ///
    /// # Errors
    /// As [`KeyPrefix::key`].
    pub fn point(&self, name: &str) -> Result<PointKey, BarrierError> {
        self.key(name).map(|key| PointKey { name: key.0, neighbourhood: None })
    }

    /// A directory below this one; `directory` is empty or ends in a slash.
    ///
    /// # Errors
    /// [`BarrierError::Key`] when it is no directory.
    pub fn below(&self, directory: &str) -> Result<Self, BarrierError> {
        if !directory.is_empty() && !directory.ends_with('/') {
            return Err(KeyError::Shape.into());
        }
        checked([&*self.0, directory].concat()).map(Self)
    }

    /// The whole prefix.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for StorageKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Names may be as telling as values: the length is enough to debug with.
        write!(f, "StorageKey({} bytes)", self.0.len())
    }
}

impl fmt::Debug for PointKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PointKey({} bytes)", self.name.len())
    }
}

impl fmt::Debug for KeyPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyPrefix({} bytes)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn control_characters_of_every_length_are_found(text in "(\\PC|[\u{0}-\u{20}\u{7e}-\u{a1}ÂÃ]){0,12}") {
            let is_refused = matches!(checked(text.clone()), Err(BarrierError::Key(KeyError::ControlCharacter)));
            prop_assert_eq!(is_refused, text.chars().any(char::is_control));
        }
    }

    #[test]
    fn segments_are_bounded() {
        assert!(checked("/".repeat(NAME_SEGMENTS_MAX - 1)).is_ok());
        assert!(checked("/".repeat(NAME_SEGMENTS_MAX)).is_err());
    }
}
