//! What a handler gives back, as a type: the declaration of its answer and the answer itself are the same thing.
//!
//! Each type here is one shape that an answer can have on the wire; the data inside is a struct that derives
//! `tresor_wire::output::Output`. Deliberately absent: any way to answer with something that was not declared; a
//! [`Reply`] is made here only, out of these types.

use tresor_model::ids::Accessor;
use tresor_model::{Auth, ByteStream, LeaseTerms, Map, MessageStream, Shape, WrapInfo};
use tresor_wire::input::Kind;
use tresor_wire::output::{Output, OutputSpec};

use crate::outside::{Outside, UnderLease, What};
use crate::reply::{Afterwards, LeaseClaim, Login, Reply};
use crate::view::Widened;

/// The shape of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerShape {
    /// No body.
    Nothing,
    /// The usual envelope with `data`.
    Data,
    /// The same, and every field of `data` at top level too.
    Mirrored,
    /// The usual envelope with `auth`: a token that was made or renewed.
    Token,
    /// Bytes of another media type.
    Raw,
    /// The same, part by part.
    Stream,
    /// Messages over the connection, from a client that takes them.
    Messages,
    /// An answer of before, as it was: what was wrapped.
    Unwrapped,
}

/// What an operation declares of its answer.
#[derive(Clone, Copy, Debug)]
pub struct AnswerFacts {
    /// The shape.
    pub shape: AnswerShape,
    /// The fields of its data.
    pub fields: &'static [OutputSpec],
    /// Whether the thing asked for may not be there (404).
    pub may_be_absent: bool,
    /// Whether something is handed out that is taken back later.
    pub leases: bool,
    /// Whether something is done outside the server before.
    pub acts: bool,
}

impl AnswerFacts {
    const fn new(shape: AnswerShape, fields: &'static [OutputSpec]) -> Self {
        Self { shape, fields, may_be_absent: false, leases: false, acts: false }
    }

    const fn or_absent(self) -> Self {
        Self { may_be_absent: true, ..self }
    }
}

/// What a handler can give back: the types of this file, and no others.
pub trait Answer: Send + sealed::Sealed {
    /// The declaration.
    const FACTS: AnswerFacts;

    /// The reply to the pipeline.
    fn into_reply(self) -> Reply;
}

mod sealed {
    /// Only this file says what is an answer.
    pub trait Sealed {}
}

macro_rules! seal {
    ($($answer:ident $(<$inner:ident>)?),* $(,)?) => {$(
        impl $(<$inner>)? sealed::Sealed for $answer $(<$inner>)? {}
    )*};
}

seal!(
    Nothing,
    Data<T>,
    Mirrored<T>,
    Option<T>,
    OrNothing<T>,
    Keys,
    Found<T>,
    Login,
    Token,
    Raw,
    Streamed,
    Lines,
    Told,
    Advised<T>,
    Secret<T>,
    Renewed,
    Accepted,
    Handled<T>,
    Wrapped<T>,
    Rewrapped,
    Unwrapped,
    Warned<T>,
    Headed<T>,
    Then<T>,
    Outside<A>,
    UnderLease<A>
);

/// No body (204).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nothing;

impl Answer for Nothing {
    const FACTS: AnswerFacts = AnswerFacts::new(AnswerShape::Nothing, &[]);

    fn into_reply(self) -> Reply {
        Reply::default()
    }
}

/// The usual envelope with `data`.
pub struct Data<T>(pub T);

impl<T: Output> Answer for Data<T> {
    const FACTS: AnswerFacts = AnswerFacts::new(AnswerShape::Data, T::SPEC);

    fn into_reply(self) -> Reply {
        Reply { shape: Shape::Enveloped(self.0.into_map()), ..Reply::default() }
    }
}

/// `data` in the envelope and at top level too, as old clients read mounts, policies and their kin.
pub struct Mirrored<T>(pub T);

impl<T: Output> Answer for Mirrored<T> {
    const FACTS: AnswerFacts = AnswerFacts::new(AnswerShape::Mirrored, T::SPEC);

    fn into_reply(self) -> Reply {
        Reply { shape: Shape::Mirrored(self.0.into_map()), ..Reply::default() }
    }
}

/// The thing asked for, or 404.
impl<T: Answer> Answer for Option<T> {
    const FACTS: AnswerFacts = T::FACTS.or_absent();

    fn into_reply(self) -> Reply {
        match self {
            Some(there) => there.into_reply(),
            None => Reply { shape: Shape::Absent(None), ..Reply::default() },
        }
    }
}

/// The thing asked for, or no body (204).
pub struct OrNothing<T>(pub Option<T>);

impl<T: Answer> Answer for OrNothing<T> {
    const FACTS: AnswerFacts = T::FACTS;

    fn into_reply(self) -> Reply {
        self.0.map_or_else(Reply::default, T::into_reply)
    }
}

/// A list of names; none is 404.
pub struct Keys(pub Vec<String>);

impl Answer for Keys {
    const FACTS: AnswerFacts = AnswerFacts::new(
        AnswerShape::Data,
        &[OutputSpec {
            name: "keys",
            kind: Kind::List,
            description: "The names in order; those of directories end in a slash.",
            optional: false,
            secret: false,
        }],
    )
    .or_absent();

    fn into_reply(self) -> Reply {
        let there = (!self.0.is_empty()).then(|| Data(Map::new().with("keys", self.0)));
        there.into_reply()
    }
}

/// The thing asked for, what is left to say of it when it is gone (404 with data), or nothing (404).
pub enum Found<T> {
    /// It is there.
    There(T),
    /// It was; this is known of it.
    Gone(T),
    /// It never was.
    Nothing,
}

impl<T: Output> Answer for Found<T> {
    const FACTS: AnswerFacts = Data::<T>::FACTS.or_absent();

    fn into_reply(self) -> Reply {
        let shape = match self {
            Self::There(there) => Shape::Enveloped(there.into_map()),
            Self::Gone(known) => Shape::Absent(Some(known.into_map())),
            Self::Nothing => Shape::Absent(None),
        };
        Reply { shape, ..Reply::default() }
    }
}

/// A claim that somebody proved who they are; the core mints the token.
impl Answer for Login {
    const FACTS: AnswerFacts = AnswerFacts::new(AnswerShape::Token, &[]);

    fn into_reply(self) -> Reply {
        Reply { login: Some(self), ..Reply::default() }
    }
}

/// A token that the server's own token engine made or renewed.
pub struct Token(Auth);

impl Token {
    /// Shows a token, for a system engine: nobody else mints any.
    #[must_use]
    pub const fn new(auth: Auth, _right: Widened) -> Self {
        Self(auth)
    }
}

impl Answer for Token {
    const FACTS: AnswerFacts = AnswerFacts::new(AnswerShape::Token, &[]);

    fn into_reply(self) -> Reply {
        Reply { auth: Some(self.0), ..Reply::default() }
    }
}

/// Bytes of another media type, or JSON without an envelope.
pub struct Raw {
    /// The media type.
    pub content_type: &'static str,
    /// The bytes.
    pub bytes: Vec<u8>,
}

impl Answer for Raw {
    const FACTS: AnswerFacts = AnswerFacts::new(AnswerShape::Raw, &[]);

    fn into_reply(self) -> Reply {
        let shape = Shape::Raw { content_type: self.content_type.into(), bytes: self.bytes };
        Reply { shape, ..Reply::default() }
    }
}

/// Bytes of another media type that are never all in memory.
pub struct Streamed(pub ByteStream);

impl Answer for Streamed {
    const FACTS: AnswerFacts = AnswerFacts::new(AnswerShape::Stream, &[]);

    fn into_reply(self) -> Reply {
        let shape = Shape::Stream { content_type: "application/octet-stream", stream: self.0 };
        Reply { shape, ..Reply::default() }
    }
}

/// Lines of text that come as they are made.
pub struct Lines(pub ByteStream);

impl Answer for Lines {
    const FACTS: AnswerFacts = AnswerFacts::new(AnswerShape::Stream, &[]);

    fn into_reply(self) -> Reply {
        Reply { shape: Shape::Stream { content_type: "text/plain; charset=utf-8", stream: self.0 }, ..Reply::default() }
    }
}

/// Messages that go over the connection once it is answered, for as long as both ends want.
pub struct Told(pub MessageStream);

impl Answer for Told {
    const FACTS: AnswerFacts = AnswerFacts::new(AnswerShape::Messages, &[]);

    fn into_reply(self) -> Reply {
        Reply { shape: Shape::Messages(self.0), ..Reply::default() }
    }
}

/// An answer, and advice how long it may be kept, without a lease (KV version 1).
pub struct Advised<T>(pub T, pub LeaseTerms);

impl<T: Answer> Answer for Advised<T> {
    const FACTS: AnswerFacts = T::FACTS;

    fn into_reply(self) -> Reply {
        Reply { advice: Some(self.1), ..self.0.into_reply() }
    }
}

/// Something that is handed out and taken back when its lease ends.
pub struct Secret<T>(pub T, pub LeaseClaim);

impl<T: Output> Answer for Secret<T> {
    const FACTS: AnswerFacts = AnswerFacts { leases: true, ..Data::<T>::FACTS };

    fn into_reply(self) -> Reply {
        Reply { lease: Some(self.1), ..Data(self.0).into_reply() }
    }
}

/// An answer that comes after something was done outside the server.
impl<A: Answer> Answer for Outside<A> {
    const FACTS: AnswerFacts = AnswerFacts { acts: true, ..A::FACTS };

    fn into_reply(self) -> Reply {
        match self.into_what() {
            What::Planned(plan) => Reply { outside: Some(plan), ..Reply::default() },
            What::Done(reply) => *reply,
        }
    }
}

impl<A: Answer> Answer for UnderLease<A> {
    const FACTS: AnswerFacts = AnswerFacts { leases: true, ..A::FACTS };

    fn into_reply(self) -> Reply {
        self.reply()
    }
}

/// A lease that the server renewed; an answer without data.
pub struct Renewed(LeaseTerms);

impl Renewed {
    /// Shows the new terms of a lease, for a system engine.
    #[must_use]
    pub const fn new(terms: LeaseTerms, _right: Widened) -> Self {
        Self(terms)
    }
}

impl Answer for Renewed {
    const FACTS: AnswerFacts = AnswerFacts::new(AnswerShape::Data, &[]);

    fn into_reply(self) -> Reply {
        Reply { advice: Some(self.0), ..Reply::default() }
    }
}

/// Work that goes on after the answer (202).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted;

impl Answer for Accepted {
    const FACTS: AnswerFacts = AnswerFacts::new(AnswerShape::Data, &[]);

    fn into_reply(self) -> Reply {
        Reply { shape: Shape::Accepted(None), ..Reply::default() }
    }
}

/// An answer that shows something to log in with, and the handle of that: whoever has the answer wrapped is told the handle.
pub struct Handled<T>(pub T, pub Accessor);

impl<T: Answer> Answer for Handled<T> {
    const FACTS: AnswerFacts = T::FACTS;

    fn into_reply(self) -> Reply {
        Reply { handle: Some(self.1), ..self.0.into_reply() }
    }
}

/// An answer that leaves wrapped or not at all.
pub struct Wrapped<T>(pub T);

impl<T: Answer> Answer for Wrapped<T> {
    const FACTS: AnswerFacts = T::FACTS;

    fn into_reply(self) -> Reply {
        Reply { must_be_wrapped: true, ..self.0.into_reply() }
    }
}

/// A wrapped answer behind another token.
pub struct Rewrapped(WrapInfo);

impl Rewrapped {
    /// Shows how it is opened, for a system engine.
    #[must_use]
    pub const fn new(info: WrapInfo, _right: Widened) -> Self {
        Self(info)
    }
}

impl Answer for Rewrapped {
    const FACTS: AnswerFacts = AnswerFacts::new(AnswerShape::Nothing, &[]);

    fn into_reply(self) -> Reply {
        Reply { wrap_info: Some(self.0), ..Reply::default() }
    }
}

/// An answer that was wrapped, as it was spelled then.
pub struct Unwrapped(Vec<u8>);

impl Unwrapped {
    /// Shows it, for a system engine.
    #[must_use]
    pub const fn new(answer: Vec<u8>, _right: Widened) -> Self {
        Self(answer)
    }
}

impl Answer for Unwrapped {
    const FACTS: AnswerFacts = AnswerFacts::new(AnswerShape::Unwrapped, &[]);

    fn into_reply(self) -> Reply {
        Reply { shape: Shape::Raw { content_type: "application/json".into(), bytes: self.0 }, ..Reply::default() }
    }
}

/// An answer, and hints for the caller.
pub struct Warned<T>(pub T, pub Vec<String>);

impl<T: Answer> Answer for Warned<T> {
    const FACTS: AnswerFacts = T::FACTS;

    fn into_reply(self) -> Reply {
        let mut reply = self.0.into_reply();
        reply.warnings.extend(self.1);
        reply
    }
}

/// An answer, and headers for it, names in lower case: those leave that the mount lets out. A wrapped answer has none.
pub struct Headed<T>(pub T, pub Vec<(&'static str, String)>);

impl<T: Answer> Answer for Headed<T> {
    const FACTS: AnswerFacts = T::FACTS;

    fn into_reply(self) -> Reply {
        let mut reply = self.0.into_reply();
        reply.headers.extend(self.1);
        reply
    }
}

/// An answer, and what else the node does.
pub struct Then<T>(T, Option<Afterwards>);

impl<T> Then<T> {
    /// Asks the node for something, for a system engine.
    #[must_use]
    pub const fn new(answer: T, afterwards: Afterwards, _right: Widened) -> Self {
        Self(answer, Some(afterwards))
    }

    /// Asks for nothing.
    #[must_use]
    pub const fn no_more(answer: T) -> Self {
        Self(answer, None)
    }
}

impl<T: Answer> Answer for Then<T> {
    const FACTS: AnswerFacts = T::FACTS;

    fn into_reply(self) -> Reply {
        Reply { afterwards: self.1, ..self.0.into_reply() }
    }
}
