//! What a request brings to a route, decoded into a struct that derives [`Input`].
//!
//! The decoding is the reference's: lenient in form (`"5"` is a number, `"a,b"` a list), an explicit `null` is the
//! same as an absent field, and unknown fields are ignored and reported back. Deliberately absent: defaults and
//! coercions in handlers; a handler sees only what its struct says.

mod forms;

use std::collections::BTreeMap;

pub use tresor_macros::Input;
use tresor_model::{Body, Map};

pub use forms::{Bytes, Change, Cidrs, CommaList, Limit, LowerName, Millionths, Seconds, SignedSeconds, StringList};

/// Parameters of a path, by name.
pub type PathParameters = BTreeMap<&'static str, String>;

/// What a request brings to a route.
pub struct Fields {
    /// Parameters of the path.
    pub path: PathParameters,
    /// Fields of the body and of the query.
    pub body: Map,
    /// Which of them came from the query.
    pub from_query: Vec<String>,
}

/// Where a field comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A parameter of the path.
    Path,
    /// The body (or the query, where [`FieldSpec::query`] says so).
    Body,
    /// Everything in the body that no other field took.
    Rest,
}

/// The kind of a field, in help and in the OpenAPI document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Text.
    String,
    /// A whole number.
    Integer,
    /// A number that need not be whole.
    Number,
    /// True or false.
    Boolean,
    /// A duration.
    Duration,
    /// A list of texts.
    List,
    /// Names to values.
    Map,
    /// Anything.
    Any,
}

/// What one field declares.
#[derive(Clone, Copy, Debug)]
pub struct FieldSpec {
    /// Its name on the wire.
    pub name: &'static str,
    /// Its kind.
    pub kind: Kind,
    /// Read as if the client had sent it, when it sent nothing.
    pub default: Option<&'static str>,
    /// One line of help.
    pub description: &'static str,
    /// Older names, still read.
    pub aliases: &'static [&'static str],
    /// May come from the query string.
    pub query: bool,
    /// Holds a secret: its type is one for secrets, or its declaration says so.
    pub secret: bool,
    /// Must be sent: there is no default, and the type has no value for "not sent".
    pub required: bool,
    /// Where it comes from.
    pub place: Place,
}

impl FieldSpec {
    /// One that declares nothing: what a list of them is filled with before it is made.
    pub const BLANK: Self = Self {
        name: "",
        kind: Kind::Any,
        default: None,
        description: "",
        aliases: &[],
        query: false,
        secret: false,
        required: false,
        place: Place::Body,
    };
}

/// Why a request's fields make no sense; always the caller's fault, and never with a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InputError {
    /// A required field was not sent.
    #[error("missing required field `{name}`")]
    Missing {
        /// The field.
        name: &'static str,
    },
    /// A field cannot be read as what it is.
    #[error("field `{name}` {reason}")]
    Wrong {
        /// The field.
        name: &'static str,
        /// What it should be.
        reason: &'static str,
    },
}

/// A struct that is decoded from a request.
pub trait Input: Sized {
    /// Its fields.
    const SPEC: &'static [FieldSpec];

    /// Takes its fields out of what was sent.
    ///
    /// # Errors
    /// [`InputError`], always the caller's fault.
    fn take(fields: &mut Fields) -> Result<Self, InputError>;

    /// Decodes; the second part names the fields that nobody took.
    ///
    /// # Errors
    /// As [`Input::take`].
    fn decode(mut fields: Fields) -> Result<(Self, Vec<String>), InputError> {
        let input = Self::take(&mut fields)?;
        Ok((input, fields.unrecognized()))
    }
}

/// A type that a field can have.
pub trait Form: Sized {
    /// Its kind in help.
    const KIND: Kind;
    /// Whether it holds secrets.
    const SECRET: bool = false;
    /// Whether something must be sent.
    const REQUIRED: bool = true;
    /// Whether `null` means something, and is not the same as nothing.
    const TAKES_NULL: bool = false;

    /// Reads what was sent; the error says what it should be.
    ///
    /// # Errors
    /// A reason such as `must be a boolean`.
    fn read(body: &Body) -> Result<Self, &'static str>;

    /// The value when nothing was sent; `None` makes the field required.
    #[must_use]
    fn absent() -> Option<Self> {
        None
    }
}

impl Fields {
    /// Takes one field out.
    ///
    /// # Errors
    /// [`InputError`] when it is missing or cannot be read.
    pub fn take<T: Form>(&mut self, spec: &FieldSpec) -> Result<T, InputError> {
        let wrong = |reason| InputError::Wrong { name: spec.name, reason };
        let sent = match spec.place {
            Place::Path => self.path.remove(spec.name).map(Body::from),
            Place::Body | Place::Rest => self.take_body(spec, T::TAKES_NULL),
        };
        match (sent, spec.default) {
            (Some(body), _) => T::read(&body).map_err(wrong),
            (None, Some(default)) => T::read(&Body::from(default)).map_err(wrong),
            (None, None) => T::absent().ok_or(InputError::Missing { name: spec.name }),
        }
    }

    /// Takes everything that is left.
    pub fn take_rest(&mut self) -> Map {
        std::mem::take(&mut self.body)
    }

    /// The names that nobody took; `null` was never sent.
    #[must_use]
    pub fn unrecognized(&self) -> Vec<String> {
        self.body.iter().filter(|(_, body)| **body != Body::Null).map(|(name, _)| name.to_owned()).collect()
    }

    /// The newest name wins when a client sends an older one beside it.
    fn take_body(&mut self, spec: &FieldSpec, takes_null: bool) -> Option<Body> {
        let mut taken = None;
        for name in std::iter::once(&spec.name).chain(spec.aliases) {
            let from_query = self.from_query.iter().any(|sent| sent == name);
            if from_query && !spec.query {
                continue;
            }
            let sent = self.body.remove(name).filter(|body| takes_null || *body != Body::Null);
            taken = taken.or(sent);
        }
        taken
    }
}

/// A route that takes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EmptyInput;

impl Input for EmptyInput {
    const SPEC: &'static [FieldSpec] = &[];

    fn take(_fields: &mut Fields) -> Result<Self, InputError> {
        Ok(Self)
    }
}
