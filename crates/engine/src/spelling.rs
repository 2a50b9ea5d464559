//! Which spellings of a parameter of a path are one, and how patterns say so.
//!
//! Deliberately absent: the patterns themselves.

/// The end of a folded parameter in a pattern.
pub(crate) const FOLDED: &str = ":folded}";
/// The end of a rest whose outer slashes do not matter.
pub(crate) const TRIMMED: &str = "...:trimmed}";
/// The end of a rest whose segments are folded.
const FOLDED_REST: &str = "...:folded}";

/// The end of a rest whose outer slashes do not matter, and whose segments are folded.
const FOLDED_TRIMMED: &str = "...:trimmed:folded}";

/// The name of a rest in a pattern, and how it is spelled.
pub(crate) fn rest_name(segment: &'static str) -> Option<(&'static str, Spelling)> {
    let inner = segment.strip_prefix('{')?;
    let ends = [
        ("...}", Spelling::Exact),
        (TRIMMED, Spelling::Trimmed),
        (FOLDED_REST, Spelling::Folded),
        (FOLDED_TRIMMED, Spelling::FoldedTrimmed),
    ];
    ends.into_iter().find_map(|(end, spelling)| Some((inner.strip_suffix(end)?, spelling)))
}

/// Which spellings of a rest are one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spelling {
    /// Each is itself.
    Exact,
    /// Outer slashes do not matter.
    Trimmed,
    /// Neither do case and outer blanks of its segments.
    Folded,
    /// Neither do outer slashes, nor case and outer blanks of its segments.
    FoldedTrimmed,
}

impl Spelling {
    /// The one spelling.
    pub(crate) fn of(self, rest: &str) -> String {
        match self {
            Self::Exact => rest.to_owned(),
            Self::Trimmed => rest.trim_matches('/').to_owned(),
            Self::FoldedTrimmed => Self::Folded.of(rest.trim_matches('/')),
            Self::Folded => rest.split('/').map(fold_name).collect::<Vec<_>>().join("/"),
        }
    }
}

/// A name whose case and outer blanks do not matter.
pub(crate) fn fold_name(name: &str) -> String {
    name.trim().to_lowercase()
}
