//! Why a text is no document: a place and a problem, never a value.

use std::fmt;

use crate::Position;

/// Why a text is no document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// Where.
    pub position: Position,
    /// What.
    pub problem: Problem,
}

/// What is wrong at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// The document is larger than it may be.
    TooLarge,
    /// Objects or lists nest too deep.
    TooDeep,
    /// A character that begins nothing.
    UnexpectedCharacter,
    /// Something else should stand here.
    Expected(&'static str),
    /// The text ends within a string.
    UnterminatedString,
    /// The text ends within a comment.
    UnterminatedComment,
    /// The text ends within a heredoc, or its marker is malformed.
    MalformedHeredoc,
    /// An escape that does not exist.
    UnknownEscape,
    /// A number that cannot be read.
    MalformedNumber,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.position, self.problem)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge => f.write_str("the document is too large"),
            Self::TooDeep => f.write_str("nested too deep"),
            Self::UnexpectedCharacter => f.write_str("unexpected character"),
            Self::Expected(what) => write!(f, "expected {what}"),
            Self::UnterminatedString => f.write_str("unterminated string"),
            Self::UnterminatedComment => f.write_str("unterminated comment"),
            Self::MalformedHeredoc => f.write_str("malformed or unterminated heredoc"),
            Self::UnknownEscape => f.write_str("unknown escape in string"),
            Self::MalformedNumber => f.write_str("malformed number"),
        }
    }
}

impl std::error::Error for ParseError {}
