//! Why a document is none, and why running one ended. Neither shows a value.

use tresor_cel::{CelError, Problem};
use tresor_credential::TemplateError;
use tresor_hcl::{AccessError, ParseError, Position};
use tresor_model::Fault;

/// Why a document is no profile.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{text}", .position.map(|at| format!("{}:{}: ", at.line, at.column)).unwrap_or_default())]
pub struct DocumentError {
    /// Where.
    pub position: Option<Position>,
    /// What.
    pub text: String,
}

impl DocumentError {
    pub(crate) fn at(position: Position, text: impl Into<String>) -> Self {
        Self { position: Some(position), text: text.into() }
    }
}

impl From<ParseError> for DocumentError {
    fn from(error: ParseError) -> Self {
        let text = error.to_string();
        let text = text.split_once(": ").map_or(text.as_str(), |(_, text)| text).to_owned();
        Self { position: Some(error.position), text }
    }
}

impl From<AccessError> for DocumentError {
    fn from(error: AccessError) -> Self {
        let text = error.to_string();
        let text = text.split_once(": ").map_or(text.as_str(), |(_, text)| text).to_owned();
        Self { position: Some(error.position), text }
    }
}

/// Why running a profile ended before its end, and where.
#[derive(Debug, thiserror::Error)]
#[error("{place}: {trouble}")]
pub struct ProfileError {
    /// Which request, or what else.
    pub place: String,
    /// Why.
    pub trouble: Trouble,
}

/// Why running a profile ended.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// What a value is made from is not there, or is something else.
    #[error("`{field}`: {why}")]
    Value {
        /// Which of its values.
        field: String,
        /// Why.
        why: ValueError,
    },
    /// What is asked is not one of the operations.
    #[error("`operation` is none: create, read, update, patch, delete, list or scan")]
    Operation,
    /// The request failed.
    #[error("{0}")]
    Failed(Fault),
}

/// Why a value cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// It is of another kind than wanted.
    #[error("it is a {is}, and no {wanted}")]
    Kind {
        /// What it is.
        is: &'static str,
        /// What it must be.
        wanted: &'static str,
    },
    /// A request that was not made, or has no answer.
    #[error("there is nothing of `{0}`")]
    NotMade(String),
    /// A field that is not there.
    #[error("there is no `{0}`")]
    NoField(String),
    /// A variable that is not set.
    #[error("the variable `{0}` is not set")]
    NoVariable(String),
    /// A file that cannot be read.
    #[error("{0}")]
    NoFile(String),
    /// A template that cannot be rendered.
    #[error("{0}")]
    Template(#[from] TemplateError),
    /// A program that came to nothing.
    #[error("CEL: {0}")]
    Cel(#[from] CelError),
    /// What it works on, or came to, is too much for a program.
    #[error("CEL: {0}")]
    CelValue(Problem),
    /// A header that is to be one duration.
    #[error("`{0}` is no duration, as `5m` is one")]
    Duration(&'static str),
    /// Too much.
    #[error("it is larger than a value may be")]
    TooLarge,
    /// What is kept of all requests is too much.
    #[error("requests and answers of this run are more than what is kept")]
    TooMuch,
    /// An input field, with what it must be.
    #[error("{0}")]
    Input(&'static str),
}
