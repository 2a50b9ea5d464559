//! What the data of an answer is made of: a struct that derives [`Output`].
//!
//! The struct is the declaration: help, the OpenAPI document and the answer come from the same fields, so they cannot
//! differ. Deliberately absent: the envelope around the data (`tresor-http`), and answers that nobody declared.

use std::collections::BTreeMap;

pub use tresor_macros::Output;
use tresor_model::{Body, Map, Number};

use crate::input::{Kind, Millionths};

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

/// As it was sent: whole where it is.
impl Shown for Millionths {
    const KIND: Kind = Kind::Number;

    fn into_body(self) -> Body {
        let text = format!("{}.{:06}", self.0 / 1_000_000, self.0 % 1_000_000);
        let short = text.trim_end_matches('0').trim_end_matches('.');
        Number::parse(short).map_or(Body::Null, Body::Number)
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

    #[test]
    fn a_number_that_need_not_be_whole_comes_back_as_it_was_sent() {
        use crate::input::Form;
        for (sent, shown) in [("3.0", "3"), ("1000", "1000"), ("2.5", "2.5"), ("1e3", "1000"), ("0.000001", "0.000001")]
        {
            let read = Millionths::read(&Number::parse(sent).map_or(Body::Null, Body::Number));
            let body = read.map(Shown::into_body);
            assert!(body.is_ok_and(|body| matches!(body, Body::Number(number) if number.as_str() == shown)), "{sent}");
        }
        for wrong in ["0", "-1", "nan", "inf", "", "x", "1e300"] {
            assert!(Millionths::read(&Body::from(wrong)).is_err(), "{wrong}");
        }
    }

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
