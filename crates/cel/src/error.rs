//! Why a program is none, or came to no value. Errors name words of the program and kinds of values, never values.

/// Why a program is none, or came to no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}character {at}: {problem}", .part.as_ref().map(|part| format!("{part}: ")).unwrap_or_default())]
pub struct CelError {
    /// In which part of a program: the name of a variable. Nothing in its expression.
    pub part: Option<String>,
    /// Where in that part, in characters from 1.
    pub at: usize,
    /// What.
    pub problem: Problem,
}

/// What is wrong with a program, or with what it came upon.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The text has more bytes than it may.
    #[error("the program is too long")]
    TooLong,
    /// It is nested deeper than it may be, or what it makes is.
    #[error("it is nested too deeply")]
    TooDeep,
    /// It has more variables than it may.
    #[error("there are too many variables")]
    TooManyVariables,
    /// There is nothing.
    #[error("an expression is missing")]
    Empty,
    /// A text has no end.
    #[error("a text is not closed")]
    Unclosed,
    /// A text or number that cannot be read.
    #[error("this cannot be read: {0}")]
    Unreadable(&'static str),
    /// A word that makes no sense there.
    #[error("unexpected `{0}`")]
    Unexpected(String),
    /// The text ends where something is missing.
    #[error("unexpected end")]
    UnexpectedEnd,
    /// A name that cannot be one.
    #[error("`{0}` cannot be a name")]
    Reserved(String),
    /// Two variables of one name.
    #[error("there are two variables `{0}`")]
    Twice(String),
    /// A name that nothing has.
    #[error("there is no `{0}`")]
    UnknownName(String),
    /// A function that there is not.
    #[error("there is no function `{0}`")]
    UnknownFunction(String),
    /// A function with another number of arguments.
    #[error("`{0}` takes another number of arguments")]
    ArgumentCount(String),
    /// A message of a type that there is not.
    #[error("there is no message type `{0}`")]
    UnknownType(String),
    /// A macro with what it does not take.
    #[error("`{0}` takes {1}")]
    Macro(&'static str, &'static str),
    /// Values of these kinds do not go together.
    #[error("`{what}` does not take {kinds}")]
    Kinds {
        /// The function or operator.
        what: &'static str,
        /// The kinds that it was given.
        kinds: String,
    },
    /// A field that a map does not have.
    #[error("there is no field `{0}`")]
    NoField(String),
    /// A key that a map does not have.
    #[error("there is no such key")]
    NoKey,
    /// A place that a list or text does not have.
    #[error("the index is out of bounds")]
    NoIndex,
    /// A key twice.
    #[error("a key is there twice")]
    RepeatedKey,
    /// A number that does not fit.
    #[error("a number, time or duration is out of range")]
    OutOfRange,
    /// Division by zero.
    #[error("division by zero")]
    DivisionByZero,
    /// A text that is not what it is to be.
    #[error("a text is no {0}")]
    NotA(&'static str),
    /// An optional value that is none.
    #[error("an optional value is none")]
    NoValue,
    /// A regular expression that is none.
    #[error("it is no regular expression, or too large a one")]
    Pattern,
    /// What it does takes too long.
    #[error("it takes too many steps")]
    TooManySteps,
    /// What it makes is too much.
    #[error("it makes too much")]
    TooMuch,
    /// A value that has no place in JSON.
    #[error("the result cannot be shown: {0}")]
    NotShown(&'static str),
}

impl Problem {
    /// It, at a place.
    pub(crate) fn at(self, at: usize) -> CelError {
        CelError { part: None, at, problem: self }
    }
}
