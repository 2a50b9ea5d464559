//! Statements of operators, with names and passwords put in.
//!
//! What is put in stays what it is: inside quotes it is escaped as those quotes want it, and where there are none only
//! small letters, digits and underscores may stand (TRN-07, DYN-01, DYN-03). What quotes are is the language's. Deliberately
//! absent: taking statements apart; the server that gets them does that.

use zeroize::Zeroizing;

/// Why a statement cannot be filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unfit {
    /// A value with other characters where there are no quotes around it.
    #[error("`{{{{{0}}}}}` stands in a statement without quotes, and its value needs some")]
    Bare(&'static str),
    /// A value that would end the quotes of its function's body.
    #[error("`{{{{{0}}}}}` stands between dollar quotes, and its value has a dollar sign")]
    Dollar(&'static str),
}

/// Which language statements are in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Language {
    /// SQL as PostgreSQL reads it.
    PostgreSql,
    /// SQL as MySQL and MariaDB read it where neither `ANSI_QUOTES` nor `NO_BACKSLASH_ESCAPES` is on.
    MySql,
    /// InfluxQL, as versions 1 read it.
    InfluxQl,
}

/// What is put in: the name between the braces, and its value.
pub(crate) type Fill<'f> = (&'static str, &'f str);

/// Whether there is a place where something of this name is put in.
pub(crate) fn put_in(statements: &[String], name: &str) -> bool {
    let inner = |text: &str| text.split("}}").next().is_some_and(|inner| inner.trim() == name);
    statements.iter().any(|statement| statement.split("{{").skip(1).any(inner))
}

/// Whether there is nothing to run: such statements mean the default ones (TOK-11).
pub(crate) fn are_blank(statements: &[String]) -> bool {
    statements.iter().all(|statement| is_blank(statement))
}

fn is_blank(statement: &str) -> bool {
    statement.chars().all(|letter| letter.is_whitespace() || letter == ';')
}

/// Every statement that says something, filled.
pub(crate) fn filled(
    language: Language,
    statements: &[String],
    fills: &[Fill<'_>],
) -> Result<Vec<Zeroizing<String>>, Unfit> {
    let say_something = statements.iter().filter(|statement| !is_blank(statement));
    say_something.map(|statement| fill(language, statement, fills)).collect()
}

/// An identifier, quoted.
pub(crate) fn identifier(name: &str) -> String {
    // Nothing after a NUL would be seen.
    format!("\"{}\"", name.split('\0').next().unwrap_or_default().replace('"', "\"\""))
}

/// A text, quoted.
pub(crate) fn literal(text: &str) -> String {
    format!("'{}'", text.split('\0').next().unwrap_or_default().replace('\'', "''"))
}

/// Several texts of PostgreSQL as one message, which is a transaction. Nothing where one of them is not over when it ends, or
/// may not be: then the next one would be something else.
pub(crate) fn in_one_transaction(texts: &[Zeroizing<String>]) -> Option<Zeroizing<String>> {
    if texts.len() > 1 && !texts.iter().all(|text| is_whole(text)) {
        return None;
    }
    let room = texts.iter().map(|text| text.len() + 3).sum::<usize>() + 16;
    let mut whole = Zeroizing::new(String::with_capacity(room));
    whole.push_str("BEGIN");
    for text in texts {
        whole.push_str(";\n");
        whole.push_str(text);
        // It may end in a comment.
        whole.push('\n');
    }
    whole.push_str(";COMMIT");
    Some(whole)
}

/// Whether a text of PostgreSQL ends outside of quotes and comments.
fn is_whole(text: &str) -> bool {
    let (mut around, mut at) = (Around::Nothing, 0);
    while let Some((before, rest)) = text.split_at_checked(at)
        && let Some(letter) = rest.chars().next()
    {
        at += step(Language::PostgreSql, &mut around, rest, letter, before);
    }
    matches!(around, Around::Nothing | Around::Line) && !has_dollar_quotes(text)
}

/// Where a place of a statement is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Around {
    Nothing,
    /// `"`, or the backticks of MySQL: an identifier.
    Identifier(char),
    /// `'`: a text.
    Single,
    /// `E'`, or either quote of MySQL: a text in which a backslash escapes.
    Escaped(char),
    /// Either quote of InfluxQL: a text or a name in which nothing but a backslash escapes, and that has no lines.
    Backslashed(char),
    /// `--`, or the `#` of MySQL, to the end of the line.
    Line,
    /// `/*`, so deep.
    Block(u32),
}

fn fill(language: Language, statement: &str, fills: &[Fill<'_>]) -> Result<Zeroizing<String>, Unfit> {
    let room = statement.len() + fills.iter().map(|(_, value)| value.len() * 4).sum::<usize>();
    let mut out = Zeroizing::new(String::with_capacity(room));
    let (mut around, mut rest) = (Around::Nothing, statement);
    // The tag of the body that we are in: what stands there is read like a statement of its own.
    let mut body: Option<&str> = None;
    'letters: while let Some(letter) = rest.chars().next() {
        for (name, value) in fills {
            let marker = rest.strip_prefix("{{").and_then(|inner| inner.trim_start().strip_prefix(name));
            let Some(after) = marker.and_then(|inner| inner.trim_start().strip_prefix("}}")) else { continue };
            if body.is_some() && value.contains('$') {
                return Err(Unfit::Dollar(name));
            }
            put(&mut out, around, name, value)?;
            rest = after;
            continue 'letters;
        }
        if language == Language::PostgreSql
            && let Some(tag) = turned(rest, body, around, &out)
        {
            (around, body) = (Around::Nothing, if body.is_some() { None } else { Some(tag) });
            out.push_str(tag);
            rest = rest.get(tag.len()..).unwrap_or_default();
            continue;
        }
        let taken = step(language, &mut around, rest, letter, &out);
        out.push_str(rest.get(..taken).unwrap_or_default());
        rest = rest.get(taken..).unwrap_or_default();
    }
    Ok(out)
}

/// Notes what the next letter does to where we are; how many bytes belong together.
fn step(language: Language, around: &mut Around, rest: &str, letter: char, before: &str) -> usize {
    let pair = rest.get(..2);
    let is_mysql = language == Language::MySql;
    let (next, taken) = match (*around, letter) {
        (Around::Nothing, '\'' | '"') if language == Language::InfluxQl => (Around::Backslashed(letter), 1),
        (Around::Nothing, '\'' | '"') if is_mysql => (Around::Escaped(letter), 1),
        (Around::Nothing, '`') if is_mysql => (Around::Identifier('`'), 1),
        (Around::Nothing, '#') if is_mysql => (Around::Line, 1),
        // It takes two minus signs for a comment only before a space, and runs what some comments say.
        (Around::Nothing, '-') if is_mysql && !begins_line(rest) => (Around::Nothing, 1),
        (Around::Nothing, '/') if is_mysql && (rest.starts_with("/*!") || rest.starts_with("/*M!")) => {
            (Around::Nothing, 2)
        }
        // These comments do not nest.
        (Around::Block(deep), '/') if language != Language::PostgreSql => (Around::Block(deep), 1),
        (Around::Nothing, '"') => (Around::Identifier('"'), 1),
        (Around::Nothing, '\'') if is_e(before) => (Around::Escaped('\''), 1),
        (Around::Nothing, '\'') => (Around::Single, 1),
        (Around::Nothing, '-') if pair == Some("--") => (Around::Line, 2),
        (Around::Nothing, '/') if pair == Some("/*") => (Around::Block(1), 2),
        (Around::Block(deep), '/') if pair == Some("/*") => (Around::Block(deep.saturating_add(1)), 2),
        (Around::Block(1), '*') if pair == Some("*/") => (Around::Nothing, 2),
        (Around::Block(deep), '*') if pair == Some("*/") => (Around::Block(deep - 1), 2),
        (Around::Line, '\n') | (Around::Single, '\'') => (Around::Nothing, 1),
        (Around::Identifier(end) | Around::Escaped(end) | Around::Backslashed(end), letter) if letter == end => {
            (Around::Nothing, 1)
        }
        (same @ (Around::Escaped(_) | Around::Backslashed(_)), '\\') => {
            (same, 1 + rest.chars().nth(1).map_or(0, char::len_utf8))
        }
        (same, _) => (same, letter.len_utf8()),
    };
    *around = next;
    taken
}

/// Whether a comment to the end of the line begins there, as MySQL sees it.
fn begins_line(rest: &str) -> bool {
    let after = rest.strip_prefix("--").map(|after| after.chars().next());
    after.is_some_and(|next| next.is_none_or(|letter| letter.is_whitespace() || letter.is_control()))
}

/// Whether what stands before a quote is the letter E, by itself.
fn is_e(before: &str) -> bool {
    let mut letters = before.chars().rev();
    let is_word = |letter: char| letter.is_alphanumeric() || matches!(letter, '_' | '$');
    matches!(letters.next(), Some('e' | 'E')) && !letters.next().is_some_and(is_word)
}

fn put(out: &mut String, around: Around, name: &'static str, value: &str) -> Result<(), Unfit> {
    let doubled = |out: &mut String, quote: char| {
        for letter in value.chars().filter(|letter| *letter != '\0') {
            if letter == quote || (letter == '\\' && matches!(around, Around::Escaped(_))) {
                out.push(letter);
            }
            out.push(letter);
        }
    };
    match around {
        Around::Identifier(quote) | Around::Escaped(quote) => doubled(out, quote),
        Around::Single => doubled(out, '\''),
        Around::Backslashed(quote) => {
            for letter in value.chars().filter(|letter| *letter != '\0') {
                match letter {
                    '\n' => out.push_str("\\n"),
                    letter if letter == quote || letter == '\\' => out.extend(['\\', letter]),
                    letter => out.push(letter),
                }
            }
        }
        // Capitals would be folded there, and the name that comes of it would not be known.
        Around::Nothing if value.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_')) => {
            out.push_str(value);
        }
        Around::Nothing => return Err(Unfit::Bare(name)),
        // Nobody needs it there.
        Around::Line | Around::Block(_) => {}
    }
    Ok(())
}

/// Whether there is a body between dollar quotes (`$$`, `$tag$`): it is read like the statement around it.
fn has_dollar_quotes(statement: &str) -> bool {
    statement.match_indices('$').any(|(at, _)| statement.get(at..).and_then(dollar_quote).is_some())
}

/// The dollar quote that a text begins with.
fn dollar_quote(rest: &str) -> Option<&str> {
    let name = rest.strip_prefix('$')?.split('$').next()?;
    let is_name = name.chars().all(|letter| letter.is_alphanumeric() || letter == '_');
    rest.get(..name.len() + 2).filter(|tag| is_name && tag.ends_with('$'))
}

/// Whether a dollar sign that follows belongs to a name.
fn ends_in_a_word(before: &str) -> bool {
    before.chars().next_back().is_some_and(|letter| letter.is_alphanumeric() || matches!(letter, '_' | '$'))
}

/// Whether a text of PostgreSQL may end the transaction that it runs in, which no body between dollar quotes can.
pub(crate) fn may_end_its_transaction(text: &str) -> bool {
    const ENDS: &[&str] = &["ABORT", "COMMIT", "END", "PREPARE", "ROLLBACK"];
    let (mut around, mut at, mut word) = (Around::Nothing, 0, String::new());
    let mut body: Option<&str> = None;
    while let Some((before, rest)) = text.split_at_checked(at)
        && let Some(letter) = rest.chars().next()
    {
        if let Some(tag) = turned(rest, body, around, before) {
            (around, body) = (Around::Nothing, if body.is_some() { None } else { Some(tag) });
            at += tag.len();
            continue;
        }
        let is_bare = around == Around::Nothing && body.is_none();
        at += step(Language::PostgreSql, &mut around, rest, letter, before);
        if is_bare && (letter.is_alphanumeric() || matches!(letter, '_' | '$')) {
            word.extend(letter.to_uppercase());
        } else {
            if ENDS.contains(&word.as_str()) {
                return true;
            }
            word.clear();
        }
    }
    ENDS.contains(&word.as_str())
}

/// The dollar quote that a text begins with, where it begins a body or ends the one that we are in.
fn turned<'t>(rest: &'t str, body: Option<&str>, around: Around, before: &str) -> Option<&'t str> {
    dollar_quote(rest).filter(|tag| match body {
        Some(body) => body == *tag,
        None => around == Around::Nothing && !ends_in_a_word(before),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn with(statement: &str, value: &str) -> Result<String, Unfit> {
        in_language(Language::PostgreSql, statement, value)
    }

    fn in_language(language: Language, statement: &str, value: &str) -> Result<String, Unfit> {
        fill(language, statement, &[("name", value), ("password", "p'\"\\")]).map(|text| text.to_string())
    }

    #[test]
    fn only_what_stands_between_dollar_quotes_may_have_no_dollar_sign() {
        for (statement, expected) in [
            ("SELECT '{{name}}'; DO $$ BEGIN PERFORM 1; END $$", "SELECT 'a$b'; DO $$ BEGIN PERFORM 1; END $$"),
            ("DO $x$ it's $x$; SELECT '{{name}}'", "DO $x$ it's $x$; SELECT 'a$b'"),
            ("SELECT '$$', '{{name}}', a$$, '{{name}}'", "SELECT '$$', 'a$b', a$$, 'a$b'"),
            ("SELECT $$ $y$ $$, '{{name}}'", "SELECT $$ $y$ $$, 'a$b'"),
        ] {
            assert_eq!(with(statement, "a$b").as_deref(), Ok(expected), "{statement}");
        }
        for statement in ["DO $$ SELECT '{{name}}' $$", "DO $x$ $$ '{{name}}' $$ $x$", "DO $$ '{{name}}'"] {
            assert_eq!(with(statement, "a$b"), Err(Unfit::Dollar("name")), "{statement}");
        }
    }

    #[test]
    fn words_that_end_a_transaction_are_seen_where_they_are_words() {
        for text in
            ["COMMIT", "a; end;", "SELECT 1;Rollback", "/* x */ABORT", "DO $$ $$; END", "PREPARE TRANSACTION 'x'"]
        {
            assert!(may_end_its_transaction(text), "{text}");
        }
        for text in [
            "SELECT 'COMMIT'",
            "-- end\nSELECT 1",
            "CREATE ROLE \"end\"",
            "SELECT commits, the_end, end_1, endés",
            "DO $$ BEGIN END $$",
            "",
        ] {
            assert!(!may_end_its_transaction(text), "{text}");
        }
    }

    #[test]
    fn trn_07_what_is_put_in_stays_what_it_is() {
        for (statement, value, expected) in [
            (r#"CREATE ROLE "{{name}}""#, r#"a"b"#, r#"CREATE ROLE "a""b""#),
            ("SELECT '{{name}}'", "a'b", "SELECT 'a''b'"),
            ("SELECT E'{{name}}'", r"a\'b", r"SELECT E'a\\''b'"),
            ("SELECT date'{{name}}'", "a\\", "SELECT date'a\\'"),
            (r"SELECT E'\'{{ name }}'", "a'b", r"SELECT E'\'a''b'"),
            ("DROP ROLE {{name}};", "plain_1", "DROP ROLE plain_1;"),
            (r#"x "''{{name}}" '"{{name}}'"#, r#"'""#, r#"x "'''""" '"''"'"#),
            ("a -- it's\n'{{name}}'", "b'c", "a -- it's\n'b''c'"),
            ("a /* ' /* ' */ ' */ '{{name}}'", "b'c", "a /* ' /* ' */ ' */ 'b''c'"),
            (
                "DO $$ BEGIN EXECUTE format('DROP ROLE %I', '{{name}}'); END $$",
                "a'b",
                "DO $$ BEGIN EXECUTE format('DROP ROLE %I', 'a''b'); END $$",
            ),
            ("{{other}} '{{name}}'", "n", "{{other}} 'n'"),
            ("'{{password}}'", "", "'p''\"\\'"),
            ("'{{name}}'", "{{password}}", "'{{password}}'"),
            ("'{{name}}'", "nul\0here\n%", "'nulhere\n%'"),
        ] {
            assert_eq!(with(statement, value).unwrap(), expected, "{statement}");
        }
        assert_eq!(with("DROP ROLE {{name}}", "a; DROP ROLE b"), Err(Unfit::Bare("name")));
        assert_eq!(with("DROP ROLE {{name}}", "a--"), Err(Unfit::Bare("name")));
        assert_eq!(with("CREATE ROLE {{name}}", "Folded"), Err(Unfit::Bare("name")));
        assert_eq!(with("DO $x$ BEGIN '{{name}}' END $x$", "a$x$"), Err(Unfit::Dollar("name")));
    }

    #[test]
    fn trn_07_what_is_put_in_stays_what_it_is_for_mysql_too() {
        let with = |statement: &str, value: &str| in_language(Language::MySql, statement, value);
        for (statement, value, expected) in [
            ("CREATE USER '{{name}}'@'%'", r"a'b\", r"CREATE USER 'a''b\\'@'%'"),
            (r#"SELECT "{{name}}", '"{{name}}'"#, r#"a"'"#, r#"SELECT "a""'", '"a"'''"#),
            ("GRANT ALL ON `{{name}}`.*", r"a`b\", r"GRANT ALL ON `a``b\`.*"),
            (r"SELECT '\'{{ name }}'", "a'b", r"SELECT '\'a''b'"),
            ("a -- it's\n'{{name}}'", "b'c", "a -- it's\n'b''c'"),
            ("a # it's\n'{{name}}'", "b'c", "a # it's\n'b''c'"),
            // No comment, so the quote opens a text.
            ("SELECT 1--1, '{{name}}'", "b'c", "SELECT 1--1, 'b''c'"),
            ("a /* ' /* ' */ '{{name}}'", "b'c", "a /* ' /* ' */ 'b''c'"),
            ("/*!50000 DROP USER '{{name}}' */", "b'c", "/*!50000 DROP USER 'b''c' */"),
            ("/*M!100000 DROP USER '{{name}}' */", "b'c", "/*M!100000 DROP USER 'b''c' */"),
            ("SELECT '$$', '{{name}}', '$$'", "a$", "SELECT '$$', 'a$', '$$'"),
            ("DROP USER {{name}};", "plain_1", "DROP USER plain_1;"),
        ] {
            assert_eq!(with(statement, value).unwrap(), expected, "{statement}");
        }
        assert_eq!(with("DROP USER {{name}}", "a b"), Err(Unfit::Bare("name")));
        // What stands in a comment is not put in.
        assert_eq!(with("a /* {{name}} */ -- {{name}}", "*/").unwrap(), "a /*  */ -- ");
    }

    #[test]
    fn trn_07_what_is_put_in_stays_what_it_is_for_influxdb_too() {
        let with = |statement: &str, value: &str| in_language(Language::InfluxQl, statement, value);
        for (statement, value, expected) in [
            (r#"CREATE USER "{{name}}""#, r#"a"b\c'd"#, r#"CREATE USER "a\"b\\c'd""#),
            ("SET PASSWORD FOR x = '{{name}}'", "a'b\"", r#"SET PASSWORD FOR x = 'a\'b"'"#),
            (r#"SELECT 'it\'s', '{{name}}'"#, "b'c", r#"SELECT 'it\'s', 'b\'c'"#),
            ("DROP USER \"{{name}}\"", "a\nb", "DROP USER \"a\\nb\""),
            ("a -- it's\n'{{name}}'", "b'c", "a -- it's\n'b\\'c'"),
            ("a /* ' /* ' */ '{{name}}'", "b'c", "a /* ' /* ' */ 'b\\'c'"),
            ("SELECT '$$', '{{name}}', '$$'", "a$", "SELECT '$$', 'a$', '$$'"),
            ("DROP USER {{name}};", "plain_1", "DROP USER plain_1;"),
        ] {
            assert_eq!(with(statement, value).unwrap(), expected, "{statement}");
        }
        assert_eq!(with("DROP USER {{name}}", "a b"), Err(Unfit::Bare("name")));
    }

    #[test]
    fn texts_are_one_transaction_unless_one_could_reach_into_the_next() {
        let joined = |texts: &[&str]| {
            let texts: Vec<_> = texts.iter().map(|text| Zeroizing::new((*text).to_owned())).collect();
            in_one_transaction(&texts).map(|whole| whole.to_string())
        };
        assert_eq!(joined(&["A '1';", "B -- it's"]).unwrap(), "BEGIN;\nA '1';\n;\nB -- it's\n;COMMIT");
        // By itself it is refused as it stands.
        assert_eq!(joined(&["A 'x"]).unwrap(), "BEGIN;\nA 'x\n;COMMIT");
        for open in ["A 'x", "A \"x", r"A E'x\'", "A /* /* */", "DO $$ BEGIN END $$", "DO $x$"] {
            assert_eq!(joined(&[open, "B"]), None, "{open}");
            assert_eq!(joined(&["B", open]), None, "{open}");
        }
        assert!(joined(&["A 'x''', \"y\"\"\", E'\\''", "B /* ' /* ' */ ' */"]).is_some());
    }

    #[test]
    fn tok_11_blank_statements_are_none() {
        let blank =
            |statements: &[&str]| are_blank(&statements.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>());
        assert!(blank(&[]) && blank(&[""]) && blank(&[" ;", "\n;; "]));
        assert!(!blank(&["", "SELECT 1"]));
    }

    #[test]
    fn what_is_put_in_is_known_before() {
        let names = |statement: &str| put_in(&["SELECT 1".to_owned(), statement.to_owned()], "password");
        assert!(names("PASSWORD '{{password}}'") && names("{{name}} '{{ password }}'") && names("{{{{password}}"));
        assert!(!names("PASSWORD NULL") && !names("'{{name}}' password }}") && !names("{{passwords}}"));
    }

    proptest! {
        /// What follows a whole text is read as it stands: a quote opens, and a second one closes.
        #[test]
        fn of_a_whole_text_nothing_reaches_into_the_next(text in "[a-z'\"/*\\\\ E\n-]{0,24}") {
            if is_whole(&text) {
                let open = format!("{text}\n;'");
                prop_assert!(!is_whole(&open), "{open}");
                let closed = format!("{open}'");
                prop_assert!(is_whole(&closed), "{closed}");
            }
        }

        /// Between quotes a value ends nothing: what comes out has the same quotes, and the value between them.
        #[test]
        fn quotes_hold_whatever_is_put_in(value in ".{0,40}") {
            let filled = with("('{{name}}')", &value).unwrap();
            let inner = filled.strip_prefix("('").and_then(|text| text.strip_suffix("')")).unwrap();
            prop_assert!(!inner.replace("''", "").contains('\''));
            prop_assert_eq!(inner.replace("''", "'"), value.replace('\0', ""));
        }

        /// The same for either quote of MySQL, whose own escapes are read again.
        #[test]
        fn quotes_hold_for_mysql(value in "[^\\x00]{0,40}", quote in prop_oneof![Just('\''), Just('"')]) {
            let filled = in_language(Language::MySql, &format!("({quote}{{{{name}}}}{quote})"), &value).unwrap();
            let inner = filled.strip_prefix('(').and_then(|text| text.strip_suffix(')')).unwrap();
            let inner = inner.strip_prefix(quote).and_then(|text| text.strip_suffix(quote)).unwrap();
            let (mut letters, mut read) = (inner.chars(), String::new());
            while let Some(letter) = letters.next() {
                if letter == quote || letter == '\\' {
                    prop_assert_eq!(letters.next(), Some(letter), "it is doubled");
                }
                read.push(letter);
            }
            prop_assert_eq!(read, value);
        }

        /// The same for InfluxDB, whose own escapes are read again.
        #[test]
        fn quotes_hold_for_influxdb(value in "[^\\x00]{0,40}", quote in prop_oneof![Just('\''), Just('"')]) {
            let filled = in_language(Language::InfluxQl, &format!("({quote}{{{{name}}}}{quote})"), &value).unwrap();
            let inner = filled.strip_prefix('(').and_then(|text| text.strip_suffix(')')).unwrap();
            let inner = inner.strip_prefix(quote).and_then(|text| text.strip_suffix(quote)).unwrap();
            let (mut letters, mut read) = (inner.chars(), String::new());
            while let Some(letter) = letters.next() {
                prop_assert!(letter != quote && letter != '\n', "it would end there");
                read.push(match letter {
                    '\\' => match letters.next() {
                        Some('n') => '\n',
                        Some(escaped) => escaped,
                        None => panic!("an escape of nothing"),
                    },
                    letter => letter,
                });
            }
            prop_assert_eq!(read, value);
        }

        #[test]
        fn no_statement_makes_it_stumble(statement in "[-'\"$/*!#`\\\\{}name E\\n;]{0,60}", value in ".{0,20}") {
            drop(with(&statement, &value));
            drop(in_language(Language::MySql, &statement, &value));
            drop(in_language(Language::InfluxQl, &statement, &value));
        }
    }
}
