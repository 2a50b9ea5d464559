//! Expressions that say yes or no to an entry or an event: what a `filter`, and the condition of an exclusion, is written in.
//!
//! The language is the one that filters of the reference are written in, as far as entries have a use for it: `==`, `!=`,
//! `contains`, `in`, `matches`, `is empty`, each with `not`, and `and`, `or`, `not` and parentheses; and, of our own, `in` a list
//! of values. A filter speaks of properties by name (five of a request, others of an event), a condition of what stands in a line. Deliberately absent:
//! failure while an expression is asked: what is not there is empty.

mod parse;

#[cfg(feature = "fuzz")]
pub(crate) use parse::BYTES_MAX;

use std::borrow::Cow;
use std::fmt;

use regex::Regex;

use crate::document::Pointer;

/// An expression.
pub(crate) struct Expression(Node);

enum Node {
    Either(Vec<Node>),
    Both(Vec<Node>),
    Not(Box<Node>),
    Match { selector: Selector, is_negated: bool, test: Test },
}

enum Test {
    Equals(String),
    /// Equals one of these, of which there is one at least.
    IsAmong(Vec<String>),
    Contains(String),
    Matches(Regex),
    IsEmpty,
}

/// What an expression may speak of.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Subject {
    /// Of properties with these names.
    Properties(&'static [&'static str]),
    /// Of places in a line.
    Lines,
}

/// What a test is about.
pub(crate) enum Selector {
    Property(&'static str),
    Pointer(Pointer),
}

/// The properties of a request.
pub(crate) const OF_A_REQUEST: Subject =
    Subject::Properties(&["mount_point", "mount_type", "namespace", "operation", "path"]);

/// What is called by its name with or without the slash at its end.
const WITH_OR_WITHOUT_SLASH: [&str; 2] = ["mount_point", "source_plugin_mount"];

/// What a selector leads to.
pub(crate) enum Found<'a> {
    Text(Cow<'a, str>),
    /// The items of a list, or the names in an object.
    Several(Vec<Cow<'a, str>>),
}

impl Found<'_> {
    /// Nothing is there.
    pub(crate) const NOTHING: Self = Self::Text(Cow::Borrowed(""));
}

/// Where an expression cannot be understood, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("at character {at}: {problem}")]
pub(crate) struct Misunderstood {
    at: usize,
    problem: Cow<'static, str>,
}

impl Expression {
    /// Reads an expression that speaks of this.
    pub(crate) fn parse(text: &str, subject: Subject) -> Result<Self, Misunderstood> {
        parse::expression(text, subject).map(Self)
    }

    /// Whether it says yes, where `find` says what selectors lead to.
    pub(crate) fn holds<'a>(&self, find: &dyn Fn(&Selector) -> Found<'a>) -> bool {
        self.0.holds(find)
    }
}

impl Node {
    fn holds<'a>(&self, find: &dyn Fn(&Selector) -> Found<'a>) -> bool {
        match self {
            Self::Either(nodes) => nodes.iter().any(|node| node.holds(find)),
            Self::Both(nodes) => nodes.iter().all(|node| node.holds(find)),
            Self::Not(node) => !node.holds(find),
            Self::Match { selector, is_negated, test } => *is_negated != test.holds(selector, &find(selector)),
        }
    }
}

impl Test {
    fn holds(&self, selector: &Selector, found: &Found<'_>) -> bool {
        let equals = |text: &str, wanted: &str| match selector {
            Selector::Property(name) if WITH_OR_WITHOUT_SLASH.contains(name) => {
                text.trim_end_matches('/') == wanted.trim_end_matches('/')
            }
            _ => text == wanted,
        };
        match (self, found) {
            (Self::Equals(wanted), Found::Text(text)) => equals(text, wanted),
            (Self::IsAmong(all), Found::Text(text)) => all.iter().any(|wanted| equals(text, wanted)),
            (Self::Contains(wanted), Found::Text(text)) => text.contains(wanted.as_str()),
            (Self::Contains(wanted), Found::Several(texts)) => texts.iter().any(|text| text == wanted),
            (Self::Matches(pattern), Found::Text(text)) => pattern.is_match(text),
            (Self::IsEmpty, Found::Text(text)) => text.is_empty(),
            (Self::IsEmpty, Found::Several(texts)) => texts.is_empty(),
            (Self::Equals(_) | Self::IsAmong(_) | Self::Matches(_), Found::Several(_)) => false,
        }
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // No parentheses that nobody wrote: what is printed nests no deeper.
        let part = |f: &mut fmt::Formatter<'_>, node: &Self| match (self, node) {
            (Self::Either(_), Self::Both(_)) | (_, Self::Not(_) | Self::Match { .. }) => node.fmt(f),
            _ => write!(f, "({node})"),
        };
        let joined = |f: &mut fmt::Formatter<'_>, nodes: &[Self], word: &str| {
            for (number, node) in nodes.iter().enumerate() {
                if number > 0 {
                    f.write_str(word)?;
                }
                part(f, node)?;
            }
            Ok(())
        };
        match self {
            Self::Either(nodes) => joined(f, nodes, " or "),
            Self::Both(nodes) => joined(f, nodes, " and "),
            Self::Not(node) => {
                f.write_str("not ")?;
                part(f, node)
            }
            Self::Match { selector, is_negated, test } => {
                let not = if *is_negated { "not " } else { "" };
                match test {
                    Test::Equals(text) => {
                        write!(f, "{selector} {}= {}", if *is_negated { "!" } else { "=" }, Quoted(text))
                    }
                    Test::IsAmong(texts) => {
                        write!(f, "{selector} {not}in [")?;
                        for (number, text) in texts.iter().enumerate() {
                            write!(f, "{}{}", if number > 0 { ", " } else { "" }, Quoted(text))?;
                        }
                        f.write_str("]")
                    }
                    Test::Contains(text) => write!(f, "{selector} {not}contains {}", Quoted(text)),
                    Test::Matches(pattern) => write!(f, "{selector} {not}matches {}", Quoted(pattern.as_str())),
                    Test::IsEmpty => write!(f, "{selector} is {not}empty"),
                }
            }
        }
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Property(name) => f.write_str(name),
            Self::Pointer(pointer) => Quoted(&pointer.to_string()).fmt(f),
        }
    }
}

/// A text as a value.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"")?;
        for character in self.0.chars() {
            match character {
                '"' => f.write_str("\\x22")?,
                '\\' => f.write_str("\\\\")?,
                '\n' => f.write_str("\\n")?,
                other => write!(f, "{other}")?,
            }
        }
        f.write_str("\"")
    }
}

/// What expressions are made of, for whoever tries many of them.
#[cfg(any(test, feature = "fuzz"))]
pub(crate) const WORDS: &[&str] = &[
    "mount_point",
    "mount_type",
    "namespace",
    "operation",
    "path",
    "==",
    "!=",
    "contains",
    "in",
    "not",
    "matches",
    "is",
    "empty",
    "and",
    "or",
    "(",
    ")",
    "[",
    "]",
    ",",
    " ",
    "\"",
    "`",
    "\"kv\"",
    "`a\\`",
    "\"/request/path\"",
    "kv",
    "5",
    "-1.5",
    "\"\\x22\"",
    "\\",
    "\"a.*\"",
    "[a-z]+",
    "{1000}",
    "[\"kv\",path]",
    "\u{2028}",
];

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn property(selector: &Selector) -> Found<'static> {
        let Selector::Property(property) = selector else { return Found::NOTHING };
        Found::Text(Cow::Borrowed(match *property {
            "mount_point" => "secret/",
            "mount_type" => "kv",
            "operation" => "read",
            "path" => "secret/data/a",
            _ => "",
        }))
    }

    fn says(text: &str) -> bool {
        let parsed = Expression::parse(text, OF_A_REQUEST).unwrap_or_else(|error| panic!("{text}: {error}"));
        let again = Expression::parse(&parsed.to_string(), OF_A_REQUEST).unwrap();
        assert_eq!(again.to_string(), parsed.to_string(), "{text}");
        let said = parsed.holds(&property);
        assert_eq!(again.holds(&property), said, "{text} and {parsed} differ");
        said
    }

    fn problem(text: &str) -> String {
        Expression::parse(text, OF_A_REQUEST).err().unwrap_or_else(|| panic!("{text} was understood")).to_string()
    }

    #[test]
    fn each_test_is_asked_of_the_property_that_it_names() {
        for yes in [
            "mount_type == kv",
            "mount_type == \"kv\"",
            "mount_type==`kv`",
            "mount_point == \"secret\"",
            "mount_point == \"secret/\"",
            "mount_point == secret/",
            "namespace == \"\"",
            "namespace is empty",
            "operation is not empty",
            "operation != \"write\"",
            "path contains \"data\"",
            "path not contains \"metadata\"",
            "\"data\" in path",
            "\"sys\" not in path",
            "path matches \"^secret/.*/a$\"",
            "path matches \"\\\\w+\"",
            "path not matches \"^sys/\"",
            "not path == \"x\"",
            "not not operation == read",
            "( mount_type == \"kv\" )",
            "mount_type == \"kv\" and operation == \"read\"",
            "mount_type == \"x\" or operation == \"read\" and path contains a",
            "not (mount_type == x or operation == x)",
            "(operation == x or operation == read) and not (path is empty)",
            "mount_type in [kv]",
            "mount_type in [\"transit\", \"kv\"]",
            "mount_point in [ sys , secret ]",
            "operation not in [write,\"delete\"] and mount_type == kv",
        ] {
            assert!(says(yes), "{yes}");
            assert!(!says(&format!("not ({yes})")), "{yes}");
        }
        for no in [
            "mount_type == \"KV\"",
            "mount_type == \"kv-v2\"",
            "namespace != \"\"",
            "operation == 5",
            "mount_type == x and operation == read or path is empty",
            "(mount_type == x or operation == read) and path is empty",
            "mount_type in [k, v]",
            "mount_type not in [kv]",
        ] {
            assert!(!says(no), "{no}");
        }
    }

    #[test]
    fn what_is_no_expression_is_refused_with_its_place() {
        for (text, said) in [
            ("", "at character 1: a property, a value or `(` is missing"),
            ("mount_type", "at character 11: an operator such as `==` is missing"),
            ("mount_type = \"kv\"", "at character 12: `=` is no operator; `==` is"),
            ("mount_type == kv-v2", "at character 17: `-` was not expected; texts stand in quotes"),
            (
                "mount == \"kv\"",
                "at character 1: `mount` is none of mount_point, mount_type, namespace, operation, path",
            ),
            (
                "\"/request/path\" == a",
                "at character 1: `/request/path` is none of mount_point, mount_type, namespace, operation, path",
            ),
            ("mount_type == \"kv\" and", "at character 23: a property, a value or `(` is missing"),
            ("mount_type == \"kv\" mount_type == \"x\"", "at character 20: `and`, `or` or the end was expected"),
            ("(mount_type == kv", "at character 18: `)` is missing"),
            ("mount_type == \"kv", "at character 15: a text has no end"),
            ("path matches \"(\"", "at character 14: not a pattern"),
            ("path is full", "at character 9: `empty` or `not empty` is missing"),
            ("path == \"\\q\"", "at character 9: an escape is none"),
            ("mount_type in []", "at character 16: a property, a value or `(` is missing"),
            ("mount_type in [kv", "at character 18: `,` or `]` is missing"),
            ("mount_type in [kv pki]", "at character 19: `,` or `]` is missing"),
            ("\"kv\" in [kv]", "at character 1: `kv` is none of mount_point, mount_type, namespace, operation, path"),
        ] {
            assert_eq!(problem(text), said, "{text}");
        }
        assert!(problem(&"(".repeat(100)).contains("nested too deeply"));
        assert!(problem(&format!("path == \"{}\"", "x".repeat(5_000))).contains("longer than 4096 bytes"));
        assert!(problem("path matches \"(\\\\w{100}){100}{100}\"").contains("not a pattern"));
    }

    #[test]
    fn places_in_a_line_are_named_by_pointers() {
        let find = |selector: &Selector| match selector {
            Selector::Pointer(pointer) if pointer.to_string() == "/a~1b/0" => Found::Text("x".into()),
            Selector::Pointer(pointer) if pointer.to_string() == "/list" => {
                Found::Several(vec!["x".into(), "y".into()])
            }
            _ => Found::NOTHING,
        };
        let says = |text: &str| Expression::parse(text, Subject::Lines).unwrap().holds(&find);
        assert!(says("\"/a~1b/0\" == x") && says("\"x\" in \"/list\"") && says("\"/list\" contains y"));
        assert!(says("\"/gone\" is empty") && says("\"/gone\" == \"\"") && says("\"/list\" != \"x\""));
        assert!(!says("\"/list\" contains z") && !says("\"/list\" is empty") && !says("\"/list\" matches \"x\""));
        assert!(Expression::parse("path == x", Subject::Lines).is_err());
    }

    fn texts() -> impl Strategy<Value = String> {
        let word = prop::sample::select(WORDS);
        prop::collection::vec(word, 0..14).prop_map(|words| words.join(" "))
    }

    proptest! {
        #[test]
        fn what_is_understood_is_printed_and_understood_again(text in texts(), subject in prop::bool::ANY) {
            let subject = if subject { Subject::Lines } else { OF_A_REQUEST };
            if let Ok(parsed) = Expression::parse(&text, subject) {
                let printed = parsed.to_string();
                let again = Expression::parse(&printed, subject).unwrap();
                prop_assert_eq!(&again.to_string(), &printed);
                prop_assert_eq!(again.holds(&property), parsed.holds(&property));
            }
        }

        #[test]
        fn not_is_the_contrary_and_and_or_are_what_they_are(one in texts(), other in texts()) {
            let subject = OF_A_REQUEST;
            let (Ok(a), Ok(b)) = (Expression::parse(&one, subject), Expression::parse(&other, subject)) else { return Ok(()) };
            let says = |text: String| Expression::parse(&text, subject).unwrap().holds(&property);
            let (a, b) = (a.holds(&property), b.holds(&property));
            prop_assert_eq!(says(format!("not ({one})")), !a);
            prop_assert_eq!(says(format!("({one}) and ({other})")), a && b);
            prop_assert_eq!(says(format!("({one}) or ({other})")), a || b);
        }
    }
}
