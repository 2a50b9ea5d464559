//! Placeholders in patterns: what they may name, and what becomes of them for somebody.
//!
//! A template is parsed once, into texts and placeholders; a value is put between them and never read as a pattern
//! (DR-11). A value that could widen what a rule grants, or that is not there, makes the rule vanish. A rule that denies
//! keeps such a value: it can only deny more. Deliberately absent: where identities come from; they are data here.

use std::collections::BTreeMap;

/// The longest value.
const VALUE_BYTES_MAX: usize = 1024;

/// What is known of who holds the policies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// The entity's id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its metadata.
    pub metadata: BTreeMap<String, String>,
    /// Its aliases by the accessor of their mount; of several on one mount, the one that logged in (ACL-07).
    pub aliases: BTreeMap<String, Alias>,
    /// The groups that it is in.
    pub groups: Vec<Group>,
}

/// An alias.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Alias {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// What the auth method says of it.
    pub metadata: BTreeMap<String, String>,
    /// What operators say of it.
    pub custom_metadata: BTreeMap<String, String>,
}

/// A group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Group {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its metadata.
    pub metadata: BTreeMap<String, String>,
}

/// What the values of placeholders may have in them, as whoever wrote the policy says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trusted {
    /// `/`, which leaves the segment that the placeholder stands in.
    pub slashes: bool,
    /// `*` and `+`, which match more than they say.
    pub wildcards: bool,
}

/// A pattern with placeholders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Value(Placeholder),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Placeholder {
    Entity(Field),
    Alias {
        accessor: String,
        field: Field,
    },
    GroupById {
        id: String,
        field: Field,
    },
    GroupByName {
        name: String,
        field: Field,
    },
    /// Of nothing that exists; kept as it was written.
    Unknown(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Field {
    Id,
    Name,
    Metadata(String),
    CustomMetadata(String),
}

/// The braces do not match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unbalanced;

impl Template {
    /// Takes a pattern apart; `None` when it has no placeholders.
    ///
    /// # Errors
    /// [`Unbalanced`].
    pub fn parse(pattern: &str) -> Result<Option<Self>, Unbalanced> {
        let mut parts = Vec::new();
        let mut rest = pattern;
        while let Some((text, deeper)) = rest.split_once("{{") {
            let (inner, after) = deeper.split_once("}}").ok_or(Unbalanced)?;
            if text.contains("}}") || inner.contains("{{") {
                return Err(Unbalanced);
            }
            parts.push(Part::Text(text.to_owned()));
            parts.push(Part::Value(Placeholder::parse(inner.trim())));
            rest = after;
        }
        if rest.contains("}}") {
            return Err(Unbalanced);
        }
        let is_plain = parts.is_empty();
        parts.push(Part::Text(rest.to_owned()));
        Ok((!is_plain).then_some(Self(parts)))
    }

    /// The placeholders that name nothing that exists.
    pub fn unknown(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|part| match part {
            Part::Value(Placeholder::Unknown(written)) => Some(written.as_str()),
            _ => None,
        })
    }

    /// The pattern for somebody; `None` when a value is not there or must not be put in. Of a rule that `denies`, every
    /// value is put in.
    pub(crate) fn fill(&self, identity: &Identity, trusted: Trusted, denies: bool) -> Option<String> {
        let mut pattern = String::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => pattern.push_str(text),
                Part::Value(placeholder) => {
                    let value = placeholder.value(identity)?;
                    if !denies && !is_atom(value, trusted) {
                        return None;
                    }
                    pattern.push_str(value);
                }
            }
        }
        Some(pattern)
    }
}

/// Whether a value stands for itself within the segment that it is put in.
fn is_atom(value: &str, trusted: Trusted) -> bool {
    let is_harmless = |letter: char| match letter {
        '/' => trusted.slashes,
        '*' | '+' => trusted.wildcards,
        letter => letter != ',' && !letter.is_control(),
    };
    let is_step = value.split('/').any(|segment| matches!(segment, "" | "." | ".."));
    value.len() <= VALUE_BYTES_MAX && !is_step && value.chars().all(is_harmless)
}

impl Placeholder {
    fn parse(text: &str) -> Self {
        Self::known(text).unwrap_or_else(|| Self::Unknown(text.to_owned()))
    }

    fn known(text: &str) -> Option<Self> {
        if let Some(field) = text.strip_prefix("identity.entity.") {
            if let Some(alias) = field.strip_prefix("aliases.") {
                let (accessor, field) = alias.split_once('.')?;
                let field = Field::parse(field)?;
                return (!accessor.is_empty()).then(|| Self::Alias { accessor: accessor.to_owned(), field });
            }
            return Field::parse(field).filter(|field| !matches!(field, Field::CustomMetadata(_))).map(Self::Entity);
        }
        let group = text.strip_prefix("identity.groups.")?;
        let (by, rest) = group.split_once('.')?;
        let (which, field) = rest.split_once('.')?;
        let field = Field::parse(field).filter(|field| !matches!(field, Field::CustomMetadata(_)))?;
        match by {
            "ids" if !which.is_empty() => Some(Self::GroupById { id: which.to_owned(), field }),
            "names" if !which.is_empty() => Some(Self::GroupByName { name: which.to_owned(), field }),
            _ => None,
        }
    }

    fn value<'i>(&self, identity: &'i Identity) -> Option<&'i str> {
        let value = match self {
            Self::Entity(field) => field.of(&identity.id, &identity.name, &identity.metadata, None)?,
            Self::Alias { accessor, field } => {
                let alias = identity.aliases.get(accessor)?;
                field.of(&alias.id, &alias.name, &alias.metadata, Some(&alias.custom_metadata))?
            }
            Self::GroupById { id, field } => {
                let group = identity.groups.iter().find(|group| group.id == *id)?;
                field.of(&group.id, &group.name, &group.metadata, None)?
            }
            Self::GroupByName { name, field } => {
                let group = identity.groups.iter().find(|group| group.name == *name)?;
                field.of(&group.id, &group.name, &group.metadata, None)?
            }
            Self::Unknown(_) => return None,
        };
        (!value.is_empty()).then_some(value)
    }
}

impl Field {
    fn parse(text: &str) -> Option<Self> {
        let key = |prefix: &str| text.strip_prefix(prefix).filter(|key| !key.is_empty()).map(str::to_owned);
        match text {
            "id" => Some(Self::Id),
            "name" => Some(Self::Name),
            _ => key("metadata.").map(Self::Metadata).or_else(|| key("custom_metadata.").map(Self::CustomMetadata)),
        }
    }

    fn of<'i>(
        &self,
        id: &'i str,
        name: &'i str,
        metadata: &'i BTreeMap<String, String>,
        custom: Option<&'i BTreeMap<String, String>>,
    ) -> Option<&'i str> {
        match self {
            Self::Id => Some(id),
            Self::Name => Some(name),
            Self::Metadata(key) => metadata.get(key).map(String::as_str),
            Self::CustomMetadata(key) => custom?.get(key).map(String::as_str),
        }
    }
}
