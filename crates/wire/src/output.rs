//! What the data of an answer is made of: a struct that derives [`Output`].
//!
//! The struct is the declaration: help, the OpenAPI document and the answer come from the same fields, so they cannot
//! differ. Deliberately absent: the envelope around the data (`tresor-http`), and answers that nobody declared.

use std::collections::BTreeMap;

pub use tresor_macros::Output;
use tresor_model::{Body, Map};

use crate::input::Kind;

/// What one field of an answer declares.
#[derive(Clone, Copy, Debug)]
pub struct OutputSpec {
    /// Its name on the wire; `*` stands for names that are not known beforehand.
    pub name: &'static str,
    /// Its kind.
    pub kind: Kind,
    /// One line of help.
    pub description: &'static str,
    /// Left out, instead of `null`, when there is none.
    pub optional: bool,
    /// Holds a secret.
    pub secret: bool,
}

impl OutputSpec {
    /// One that declares nothing: what a list of them is filled with before it is made.
    pub const BLANK: Self = Self { name: "", kind: Kind::Any, description: "", optional: false, secret: false };
}

/// A struct that is the data of an answer.
pub trait Output: Send {
    /// Its fields.
    const SPEC: &'static [OutputSpec];

    /// The data.
    fn into_map(self) -> Map;
}

/// Data whose names are the client's own, or one entry for each of many things.
impl Output for Map {
    const SPEC: &'static [OutputSpec] = &[OutputSpec {
        name: "*",
        kind: Kind::Any,
        description: "One entry for each name there is.",
        optional: true,
        secret: false,
    }];

    fn into_map(self) -> Map {
        self
    }
}

/// A type that a field of an answer can have.
pub trait Shown {
    /// Its kind in help.
    const KIND: Kind;

    /// The value on the wire.
    fn into_body(self) -> Body;
}

macro_rules! shown {
    ($($type:ty => $kind:ident),* $(,)?) => {$(
        impl Shown for $type {
            const KIND: Kind = Kind::$kind;

            fn into_body(self) -> Body {
                Body::from(self)
            }
        }
    )*};
}

shown! {
    bool => Boolean,
    u64 => Integer,
    i64 => Integer,
    &'static str => String,
    String => String,
    Vec<String> => List,
    Vec<Body> => List,
    Map => Map,
}

impl Shown for Body {
    const KIND: Kind = Kind::Any;

    fn into_body(self) -> Body {
        self
    }
}

/// Whole seconds.
impl Shown for std::time::Duration {
    const KIND: Kind = Kind::Integer;

    fn into_body(self) -> Body {
        Body::from(self.as_secs())
    }
}

impl Shown for BTreeMap<String, String> {
    const KIND: Kind = Kind::Map;

    fn into_body(self) -> Body {
        self.into_iter().map(|(name, value)| (name, Body::from(value))).collect::<Map>().into()
    }
}

/// `null` when there is none.
impl<T: Shown> Shown for Option<T> {
    const KIND: Kind = T::KIND;

    fn into_body(self) -> Body {
        self.map_or(Body::Null, T::into_body)
    }
}

#[cfg(test)]
mod tests {
    use tresor_model::map;

    use super::*;

    #[derive(Output)]
    struct Ugly {
        /// How it is called.
        name: String,
        /// How long it lives.
        #[output(name = "ttl")]
        life: std::time::Duration,
        /// When it was seen.
        seen: Option<String>,
        /// Only where there is one.
        #[output(optional)]
        period: Option<u64>,
        /// What opens it.
        #[output(secret)]
        key: String,
        /// One entry for each path.
        #[output(rest)]
        others: Map,
    }

    #[test]
    fn a_struct_declares_and_becomes_the_data() {
        let ugly = |period| Ugly {
            name: "a".to_owned(),
            life: std::time::Duration::from_millis(61_500),
            seen: None,
            period,
            key: "k".to_owned(),
            others: map! { "x" => 1_u64 },
        };
        let bare = map! { "name" => "a", "ttl" => 61_u64, "seen" => Body::Null, "key" => "k", "x" => 1_u64 };
        assert!(ugly(None).into_map() == bare);
        assert!(ugly(Some(5)).into_map() == bare.with("period", 5_u64));
        let names: Vec<&str> = Ugly::SPEC.iter().map(|field| field.name).collect();
        assert_eq!(names, ["name", "ttl", "seen", "period", "key", "*"]);
        let secrets: Vec<&str> = Ugly::SPEC.iter().filter(|field| field.secret).map(|field| field.name).collect();
        assert_eq!(secrets, ["key"]);
        assert_eq!(Ugly::SPEC.iter().filter(|field| field.optional).count(), 2);
        assert_eq!(Ugly::SPEC.first().map(|field| field.description), Some("How it is called."));
    }
}
