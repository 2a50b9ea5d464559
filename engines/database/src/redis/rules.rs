//! What users may do, as roles say it: rules of an ACL, as JSON or as a list.
//!
//! Names and rules are parts of a command, so they cannot begin another one; but the server writes both into its file as they
//! are, where spaces part words and quotes need an end. What it could not read there again is refused before it is told.
//! Deliberately absent: what rules mean, which the server knows.

use tresor_wire::json::{JsonLimits, decode_value};

use super::Keeping;
use crate::target::Trouble;

/// What users may do when nobody says what: read everything.
const USUAL: &[&str] = &["~*", "+@read"];

/// The rules of a user: each statement is a JSON array of some, or one.
pub(super) fn rules(statements: &[String], keeping: Keeping) -> Result<Vec<String>, Trouble> {
    let mut rules = Vec::new();
    for statement in statements.iter().map(|statement| statement.trim()).filter(|statement| !statement.is_empty()) {
        if statement.starts_with('[') {
            rules.extend(of_json(statement)?);
        } else {
            rules.push(statement.to_owned());
        }
    }
    if rules.is_empty() {
        rules = USUAL.iter().map(|rule| (*rule).to_owned()).collect();
    }
    match rules.iter().find(|rule| !is_readable_again(rule, keeping)) {
        Some(_) => Err(Trouble::Senseless(
            "a rule has quotes or control characters, which the server's file cannot hold".into(),
        )),
        None => Ok(rules),
    }
}

fn of_json(text: &str) -> Result<Vec<String>, Trouble> {
    let wrong = || Trouble::Senseless("creation_statements hold rules of an ACL as a JSON array of strings".into());
    let read = decode_value(text.as_bytes(), &JsonLimits::default()).map_err(|_| wrong())?;
    let items = read.as_list().ok_or_else(wrong)?;
    items.iter().map(|item| item.as_str().map(str::to_owned).ok_or_else(wrong)).collect()
}

/// A name, if it can be that of a user.
pub(super) fn name(name: &str, keeping: Keeping) -> Result<&str, Trouble> {
    let has_spaces = name.chars().any(char::is_whitespace);
    if name.is_empty() || has_spaces || !is_readable_again(name, keeping) {
        return Err(Trouble::Senseless("a name of a user has no spaces, quotes or control characters".into()));
    }
    Ok(name)
}

fn is_readable_again(part: &str, keeping: Keeping) -> bool {
    // Where nothing is kept nothing is read again.
    let has_quotes = keeping != Keeping::Nowhere && part.contains(['"', '\'']);
    !has_quotes && !part.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn of(statements: &[&str], keeping: Keeping) -> Result<Vec<String>, Trouble> {
        rules(&statements.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>(), keeping)
    }

    #[test]
    fn rules_are_json_or_a_list() {
        for (statements, expected) in [
            (&[r#"["~app:*", "+@read"]"#][..], &["~app:*", "+@read"][..]),
            (&["~app:*", " +@read "], &["~app:*", "+@read"]),
            (&[r#"["~a"]"#, "+get"], &["~a", "+get"]),
            (&[r#"["(+get ~b)"]"#], &["(+get ~b)"]),
            (&["", " "], USUAL),
            (&["[]"], USUAL),
            (&[r#"["~it's"]"#], &["~it's"]),
        ] {
            assert_eq!(of(statements, Keeping::Nowhere).unwrap(), expected, "{statements:?}");
        }
        for wrong in ["[1]", "[\"a\"", "[\"a\"] x", "[\"a\\u0000\"]", "[\"~a\\nuser x on nopass\"]"] {
            assert!(matches!(of(&[wrong], Keeping::Nowhere), Err(Trouble::Senseless(_))), "{wrong}");
        }
        assert!(matches!(of(&[r#"["~it's"]"#], Keeping::InAclFile), Err(Trouble::Senseless(_))));
    }

    #[test]
    fn dyn_03_names_are_one_word_of_the_servers_file() {
        for (text, nowhere, kept) in [
            ("V_ROOT_APP-1.x", true, true),
            ("it's", true, false),
            ("a\"b", true, false),
            ("", false, false),
            ("a b", false, false),
            ("a\nuser b on nopass", false, false),
            ("a\u{a0}b", false, false),
            ("a\0", false, false),
        ] {
            assert_eq!(name(text, Keeping::Nowhere).is_ok(), nowhere, "{text:?}");
            assert_eq!(name(text, Keeping::InAclFile).is_ok(), kept, "{text:?}");
            assert_eq!(name(text, Keeping::InConfig).is_ok(), kept, "{text:?}");
        }
    }
}
