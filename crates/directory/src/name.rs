//! Distinguished names: the escape of a value that stands in one (RFC 4514).
//!
//! Deliberately absent: taking a name apart; the directory does that.

/// A value as it stands in a distinguished name: whatever it is, it stays one value (PWD-04).
#[must_use]
pub fn escaped(value: &str) -> String {
    let mut escaped = String::with_capacity(value.len());
    let last = value.chars().count().saturating_sub(1);
    for (at, letter) in value.chars().enumerate() {
        match letter {
            '"' | '+' | ',' | ';' | '<' | '>' | '=' | '\\' => {
                escaped.push('\\');
                escaped.push(letter);
            }
            '#' | ' ' if at == 0 => {
                escaped.push('\\');
                escaped.push(letter);
            }
            ' ' if at == last => escaped.push_str("\\ "),
            letter if letter.is_ascii_control() => escaped.push_str(&format!("\\{:02X}", u32::from(letter))),
            letter => escaped.push(letter),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use proptest::prelude::*;

    use super::*;

    /// A reader of its own of what a directory makes of an escaped value; `None` where the value ends early.
    fn read(escaped: &str) -> Option<String> {
        let mut letters = escaped.chars().peekable();
        let mut value = String::new();
        while let Some(letter) = letters.next() {
            match letter {
                '\\' => {
                    let next = letters.next()?;
                    let pair = letters.peek().copied().filter(|second| second.is_ascii_hexdigit());
                    match pair.filter(|_| next.is_ascii_hexdigit()) {
                        Some(second) => {
                            letters.next();
                            let code = u8::from_str_radix(&format!("{next}{second}"), 16).ok()?;
                            value.push(char::from(code));
                        }
                        None => value.push(next),
                    }
                }
                '"' | '+' | ',' | ';' | '<' | '>' | '=' => return None,
                letter => value.push(letter),
            }
        }
        Some(value)
    }

    proptest! {
        #[test]
        fn fz_09_an_escaped_value_is_one_value(value in ".{0,20}|[ #,+\"\\\\<>;=a\u{0}\n]{0,8}") {
            let escaped = escaped(&value);
            prop_assert_eq!(read(&escaped), Some(value));
            prop_assert!(!escaped.starts_with([' ', '#']));
            prop_assert!(!escaped.ends_with(' ') || escaped.ends_with("\\ "));
        }
    }

    #[test]
    fn pwd_04_what_would_leave_the_value_is_escaped() {
        for (value, expected) in [
            ("bob", "bob"),
            ("bob,ou=admins", "bob\\,ou\\=admins"),
            ("bob\\", "bob\\\\"),
            ("#1", "\\#1"),
            (" a ", "\\ a\\ "),
            (" ", "\\ "),
            ("a\nb", "a\\0Ab"),
            ("a\0", "a\\00"),
            ("", ""),
        ] {
            assert_eq!(escaped(value), expected);
        }
    }
}
