//! A text to an expression, by descent: `or` binds less than `and`, `and` less than `not`.
//!
//! Bounded in length, depth, and what a pattern may cost. Deliberately absent: recovery after a mistake.

use std::borrow::Cow;
use std::str::Chars;

use regex::RegexBuilder;

use super::{Misunderstood, Node, Selector, Subject, Test};
use crate::document::Pointer;

/// The longest expression, in bytes.
pub(crate) const BYTES_MAX: usize = 4096;
/// How deep `not` and parentheses may nest.
const DEPTH_MAX: usize = 32;
/// How large a pattern may be once it is made ready, in bytes.
const PATTERN_BYTES_MAX: usize = 256 * 1024;

/// The root of an expression.
pub(super) fn expression(text: &str, subject: Subject) -> Result<Node, Misunderstood> {
    if text.len() > BYTES_MAX {
        return Err(Misunderstood { at: 1, problem: format!("longer than {BYTES_MAX} bytes").into() });
    }
    let mut parser = Parser { text, at: 0, subject };
    let root = parser.either(DEPTH_MAX)?;
    parser.skip_blanks();
    if !parser.rest().is_empty() {
        return Err(parser.unexpected());
    }
    Ok(root)
}

struct Parser<'a> {
    text: &'a str,
    /// In bytes.
    at: usize,
    subject: Subject,
}

/// A word, a number or a text, and where it begins.
struct Operand<'a> {
    at: usize,
    text: Cow<'a, str>,
    is_quoted: bool,
}

impl<'a> Parser<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or("")
    }

    fn wrong(&self, at: usize, problem: impl Into<Cow<'static, str>>) -> Misunderstood {
        let before = self.text.get(..at).map_or(0, |before| before.chars().count());
        Misunderstood { at: before + 1, problem: problem.into() }
    }

    fn unexpected(&self) -> Misunderstood {
        match self.rest().chars().next() {
            Some(character) if !character.is_alphanumeric() && !matches!(character, '"' | '`' | '(' | ')') => {
                self.wrong(self.at, format!("`{}` was not expected; texts stand in quotes", character.escape_default()))
            }
            _ => self.wrong(self.at, "`and`, `or` or the end was expected"),
        }
    }

    fn skip_blanks(&mut self) {
        self.at = self.text.len() - self.rest().trim_start_matches([' ', '\t', '\r', '\n']).len();
    }

    /// Goes past a sign, if it is next.
    fn sign(&mut self, sign: &str) -> bool {
        self.skip_blanks();
        let is_next = self.rest().starts_with(sign);
        self.at += if is_next { sign.len() } else { 0 };
        is_next
    }

    /// Goes past a word, if it is next.
    fn word(&mut self, word: &str) -> bool {
        self.skip_blanks();
        let after = self.rest().strip_prefix(word);
        let is_next = after.is_some_and(|after| !after.starts_with(is_of_word));
        self.at += if is_next { word.len() } else { 0 };
        is_next
    }

    fn either(&mut self, depth: usize) -> Result<Node, Misunderstood> {
        self.joined("or", Node::Either, |parser| parser.joined("and", Node::Both, |parser| parser.negated(depth)))
    }

    /// One, or several with this word between them.
    fn joined(
        &mut self,
        word: &str,
        join: fn(Vec<Node>) -> Node,
        mut read: impl FnMut(&mut Self) -> Result<Node, Misunderstood>,
    ) -> Result<Node, Misunderstood> {
        let first = read(self)?;
        let mut all = vec![first];
        while self.word(word) {
            all.push(read(self)?);
        }
        Ok(if all.len() == 1 { all.swap_remove(0) } else { join(all) })
    }

    fn negated(&mut self, depth: usize) -> Result<Node, Misunderstood> {
        self.skip_blanks();
        let Some(deeper) = depth.checked_sub(1) else { return Err(self.wrong(self.at, "nested too deeply")) };
        if self.word("not") {
            return Ok(Node::Not(Box::new(self.negated(deeper)?)));
        }
        if self.sign("(") {
            let inner = self.either(deeper)?;
            return if self.sign(")") { Ok(inner) } else { Err(self.missing_end()) };
        }
        self.test()
    }

    fn missing_end(&self) -> Misunderstood {
        if self.rest().is_empty() { self.wrong(self.at, "`)` is missing") } else { self.unexpected() }
    }

    fn test(&mut self) -> Result<Node, Misunderstood> {
        let first = self.operand()?;
        if self.sign("==") {
            return self.compared(first, false, |text| Ok(Test::Equals(text)));
        }
        if self.sign("!=") {
            return self.compared(first, true, |text| Ok(Test::Equals(text)));
        }
        if self.word("is") {
            let is_negated = self.word("not");
            if !self.word("empty") {
                self.skip_blanks();
                return Err(self.wrong(self.at, "`empty` or `not empty` is missing"));
            }
            return Ok(Node::Match { selector: self.selector(first)?, is_negated, test: Test::IsEmpty });
        }
        let is_negated = self.word("not");
        if self.word("contains") {
            return self.compared(first, is_negated, |text| Ok(Test::Contains(text)));
        }
        if self.word("matches") {
            return self.compared(first, is_negated, pattern);
        }
        if self.word("in") {
            if self.sign("[") {
                let selector = self.selector(first)?;
                return Ok(Node::Match { selector, is_negated, test: Test::IsAmong(self.values()?) });
            }
            let place = self.operand()?;
            let test = Test::Contains(first.text.into_owned());
            return Ok(Node::Match { selector: self.selector(place)?, is_negated, test });
        }
        self.skip_blanks();
        let problem = if self.rest().starts_with('=') {
            "`=` is no operator; `==` is"
        } else {
            "an operator such as `==` is missing"
        };
        Err(self.wrong(self.at, problem))
    }

    /// What a list has behind its `[`.
    fn values(&mut self) -> Result<Vec<String>, Misunderstood> {
        let mut values = vec![self.operand()?.text.into_owned()];
        while self.sign(",") {
            values.push(self.operand()?.text.into_owned());
        }
        if self.sign("]") { Ok(values) } else { Err(self.wrong(self.at, "`,` or `]` is missing")) }
    }

    fn compared(
        &mut self,
        first: Operand<'a>,
        is_negated: bool,
        test: impl FnOnce(String) -> Result<Test, &'static str>,
    ) -> Result<Node, Misunderstood> {
        let selector = self.selector(first)?;
        let value = self.operand()?;
        let test = test(value.text.into_owned()).map_err(|problem| self.wrong(value.at, problem))?;
        Ok(Node::Match { selector, is_negated, test })
    }

    fn selector(&self, operand: Operand<'_>) -> Result<Selector, Misunderstood> {
        match self.subject {
            Subject::Properties(names) => {
                if let Some(name) = names.iter().find(|name| **name == operand.text && !operand.is_quoted) {
                    return Ok(Selector::Property(name));
                }
            }
            Subject::Lines => {
                if let Some(pointer) = Pointer::parse(&operand.text).filter(|_| operand.is_quoted) {
                    return Ok(Selector::Pointer(pointer));
                }
            }
        }
        let named: String = operand.text.chars().take(64).flat_map(char::escape_default).collect();
        let problem = match self.subject {
            Subject::Properties(names) => format!("`{named}` is none of {}", names.join(", ")),
            Subject::Lines => format!("`{named}` is no quoted JSON pointer such as \"/request/path\""),
        };
        Err(self.wrong(operand.at, problem))
    }

    fn operand(&mut self) -> Result<Operand<'a>, Misunderstood> {
        self.skip_blanks();
        let (at, rest) = (self.at, self.rest());
        let first = rest.chars().next();
        if let Some(quote @ ('"' | '`')) = first {
            let inner = rest.get(1..).unwrap_or("");
            let (inner, _) = inner.split_once(quote).ok_or_else(|| self.wrong(at, "a text has no end"))?;
            self.at += inner.len() + 2;
            let text = if quote == '`' { Some(Cow::Borrowed(inner)) } else { unescaped(inner) };
            let text = text.ok_or_else(|| self.wrong(at, "an escape is none"))?;
            return Ok(Operand { at, text, is_quoted: true });
        }
        let length = match first {
            Some(letter) if letter.is_ascii_alphabetic() => rest.find(|other| !is_of_word(other)).unwrap_or(rest.len()),
            Some(digit) if digit.is_ascii_digit() || digit == '-' => {
                rest.find(|other: char| !matches!(other, '0'..='9' | '.' | '-')).unwrap_or(rest.len())
            }
            _ => return Err(self.wrong(at, "a property, a value or `(` is missing")),
        };
        let (text, after) = rest.split_at_checked(length).unwrap_or((rest, ""));
        self.at += length;
        if after
            .starts_with(|next: char| !next.is_whitespace() && !matches!(next, '(' | ')' | '=' | '!' | '[' | ']' | ','))
        {
            return Err(self.unexpected());
        }
        Ok(Operand { at, text: Cow::Borrowed(text), is_quoted: false })
    }
}

fn is_of_word(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '_' | '/' | '.')
}

fn pattern(text: String) -> Result<Test, &'static str> {
    let built = RegexBuilder::new(&text).size_limit(PATTERN_BYTES_MAX).dfa_size_limit(PATTERN_BYTES_MAX).build();
    built.map(Test::Matches).map_err(|_| "not a pattern")
}

/// A text between quotes without its escapes.
fn unescaped(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains('\\') {
        return Some(Cow::Borrowed(text));
    }
    let mut plain = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(character) = rest.next() {
        if character != '\\' {
            plain.push(character);
            continue;
        }
        plain.push(match rest.next()? {
            '\\' => '\\',
            'n' => '\n',
            't' => '\t',
            'r' => '\r',
            'x' => coded(&mut rest, 2)?,
            'u' => coded(&mut rest, 4)?,
            'U' => coded(&mut rest, 8)?,
            _ => return None,
        });
    }
    Some(Cow::Owned(plain))
}

/// A character by the hexadecimal digits that come next.
fn coded(rest: &mut Chars<'_>, digits: usize) -> Option<char> {
    let mut code = 0_u32;
    for _ in 0..digits {
        code = code.checked_mul(16)?.checked_add(rest.next()?.to_digit(16)?)?;
    }
    char::from_u32(code)
}
