//! The canonical request path: parsed once at the edge, then the same value routes, authorizes, audits and names.
//!
//! Invariants (DR-01): percent-decoded exactly once; valid UTF-8; no `.` or `..` segment, no control character, no
//! leading slash, bounded length and depth. A trailing slash is the directory flag and kept. Empty segments inside are kept
//! as literal names (clients store keys such as `http://test.com`): they are never collapsed, so one spelling still
//! names one resource. Deliberately absent: joining, normalising, and any way to build one unchecked.

use std::fmt;

/// The longest accepted path, in bytes after decoding, without the directory's slash.
pub const PATH_BYTES_MAX: usize = 4096;

/// The most segments of an accepted path, empty ones included: each may be a directory that a write has to make.
pub const PATH_SEGMENTS_MAX: usize = 64;

/// A canonical path below `/v1/`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Path(Box<str>);

/// Why a path was refused; always the caller's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// A percent sign that no two hexadecimal digits follow.
    #[error("malformed percent-encoding in path")]
    MalformedEncoding,
    /// Not UTF-8 after decoding.
    #[error("path is not valid UTF-8")]
    NotUtf8,
    /// A `.` or `..` segment, in whatever encoding.
    #[error("relative paths not supported")]
    Relative,
    /// A control character.
    #[error("path contains a control character")]
    ControlCharacter,
    /// Starts with a slash.
    #[error("path starts with an empty segment")]
    LeadingSlash,
    /// Longer than [`PATH_BYTES_MAX`].
    #[error("path is longer than {PATH_BYTES_MAX} bytes")]
    TooLong,
    /// More segments than [`PATH_SEGMENTS_MAX`].
    #[error("path has more than {PATH_SEGMENTS_MAX} segments")]
    TooDeep,
}

impl Path {
    /// Parses what follows `/v1/` in the raw request target (without the query).
    ///
    /// # Errors
    /// [`PathError`] when the target is not canonical.
    pub fn parse(raw: &str) -> Result<Self, PathError> {
        if raw.len() > (PATH_BYTES_MAX + 1) * 3 {
            return Err(PathError::TooLong);
        }
        let mut bytes = raw.bytes();
        let mut decoded = Vec::with_capacity(raw.len());
        while let Some(byte) = bytes.next() {
            if byte == b'%' {
                let digits = (bytes.next().and_then(hex_digit), bytes.next().and_then(hex_digit));
                let (Some(high), Some(low)) = digits else { return Err(PathError::MalformedEncoding) };
                decoded.push(high * 16 + low);
            } else {
                decoded.push(byte);
            }
        }
        Self::from_decoded(&String::from_utf8(decoded).map_err(|_| PathError::NotUtf8)?)
    }

    /// Checks text that is not percent-encoded, such as a path inside a request body.
    ///
    /// # Errors
    /// [`PathError`] when the text is not canonical.
    pub fn from_decoded(text: &str) -> Result<Self, PathError> {
        // The directory's slash does not count, so that every path can become one (LIST).
        let inner = text.strip_suffix('/').unwrap_or(text);
        if inner.len() > PATH_BYTES_MAX {
            return Err(PathError::TooLong);
        }
        if inner.split('/').count() > PATH_SEGMENTS_MAX {
            return Err(PathError::TooDeep);
        }
        if text.starts_with('/') {
            return Err(PathError::LeadingSlash);
        }
        if text.chars().any(char::is_control) {
            return Err(PathError::ControlCharacter);
        }
        if text.split('/').any(|segment| segment == "." || segment == "..") {
            return Err(PathError::Relative);
        }
        Ok(Self(text.into()))
    }

    /// The canonical text, without a leading slash.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the path ends in a slash (or is the empty root).
    #[must_use]
    pub fn is_directory(&self) -> bool {
        self.0.is_empty() || self.0.ends_with('/')
    }

    /// The same path with the directory flag set, as LIST uses it.
    #[must_use]
    pub fn into_directory(self) -> Self {
        if self.is_directory() { self } else { Self(format!("{}/", self.0).into()) }
    }

    /// The text without its directory slash.
    #[must_use]
    pub fn trimmed(&self) -> &str {
        self.0.strip_suffix('/').unwrap_or(&self.0)
    }

    /// The segments, the directory flag left out.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.trimmed().split('/').filter(|_| !self.0.is_empty())
    }
}

/// The empty path, which nothing is at.
impl Default for Path {
    fn default() -> Self {
        Self(Box::default())
    }
}

impl fmt::Debug for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn hex_digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

/// Where something is mounted: a canonical path that always ends in a slash and is never empty, such as `secret/` or
/// `auth/userpass/`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MountPath(Box<str>);

impl MountPath {
    /// Checks and completes (with the slash) a mount path as clients send it; a leading slash is forgiven.
    ///
    /// # Errors
    /// [`PathError`] when it is not canonical; an empty path is [`PathError::LeadingSlash`].
    pub fn parse(text: &str) -> Result<Self, PathError> {
        let trimmed = text.trim_matches('/');
        if trimmed.is_empty() || trimmed.split('/').any(str::is_empty) {
            return Err(PathError::LeadingSlash);
        }
        Ok(Self(Path::from_decoded(trimmed)?.into_directory().0))
    }

    /// The text, ending in a slash.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether one of the two paths lies inside the other (or they are equal), so that both cannot be mounted.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.0.starts_with(&*other.0) || other.0.starts_with(&*self.0)
    }
}

impl fmt::Debug for MountPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for MountPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn acl_01_relative_segments_are_refused_in_every_encoding() {
        for raw in ["kv/../x", "kv/%2e%2e/x", "kv/..%2fx", "kv/./x", "kv/a/..", "kv/%2E/x", ".", ".."] {
            assert_eq!(Path::parse(raw), Err(PathError::Relative), "{raw}");
        }
        // Encoded twice it is a literal name.
        assert_eq!(Path::parse("kv/%252e%252e/x").unwrap().as_str(), "kv/%2e%2e/x");
    }

    #[test]
    fn keys_that_look_like_addresses_survive() {
        assert_eq!(Path::parse("secret/http://test.com").unwrap().as_str(), "secret/http://test.com");
        assert_eq!(Path::parse("secret/a%20b%27%22@:%25").unwrap().as_str(), "secret/a b'\"@:%");
    }

    #[test]
    fn malformed_targets_are_refused() {
        assert_eq!(Path::parse("a%2"), Err(PathError::MalformedEncoding));
        assert_eq!(Path::parse("a%zz"), Err(PathError::MalformedEncoding));
        assert_eq!(Path::parse("a%00b"), Err(PathError::ControlCharacter));
        assert_eq!(Path::parse("a%ff"), Err(PathError::NotUtf8));
        assert_eq!(Path::parse("/a"), Err(PathError::LeadingSlash));
        assert_eq!(Path::parse(&"a".repeat(5000)), Err(PathError::TooLong));
    }

    #[test]
    fn the_longest_path_can_be_listed() {
        let longest = Path::parse(&"a".repeat(PATH_BYTES_MAX)).unwrap();
        let directory = longest.into_directory();
        assert_eq!(Path::from_decoded(directory.as_str()), Ok(directory));
        assert_eq!(Path::parse(&"a".repeat(PATH_BYTES_MAX + 1)), Err(PathError::TooLong));
    }

    #[test]
    fn a_path_has_a_bounded_number_of_segments() {
        for segment in ["a", "", "%61"] {
            let deepest = format!("a/{}", vec![segment; PATH_SEGMENTS_MAX - 1].join("/"));
            if !segment.is_empty() {
                let directory = Path::parse(&deepest).unwrap().into_directory();
                assert_eq!(Path::from_decoded(directory.as_str()), Ok(directory));
            }
            assert_eq!(Path::parse(&format!("{deepest}/b/c")), Err(PathError::TooDeep));
        }
        assert_eq!(Path::parse(&"a/".repeat(2000)), Err(PathError::TooDeep));
        assert!(MountPath::parse(&"a/".repeat(2000)).is_err());
    }

    #[test]
    fn mount_paths_end_in_a_slash_and_know_their_overlaps() {
        let team = MountPath::parse("/team/kv").unwrap();
        assert_eq!(team.as_str(), "team/kv/");
        assert!(team.overlaps(&MountPath::parse("team/").unwrap()));
        assert!(!team.overlaps(&MountPath::parse("team/kv2").unwrap()));
        assert!(MountPath::parse("/").is_err());
        assert!(MountPath::parse("a//b").is_err());
    }

    proptest! {
        #[test]
        fn fz_02_an_accepted_path_has_one_spelling(raw in "[a-c./%0-9 ]{0,24}") {
            if let Ok(path) = Path::parse(&raw) {
                let encoded = path.as_str().replace('%', "%25");
                prop_assert_eq!(Path::parse(&encoded).unwrap(), path.clone());
                prop_assert!(path.segments().all(|segment| segment != "." && segment != ".."));
            }
        }
    }
}
