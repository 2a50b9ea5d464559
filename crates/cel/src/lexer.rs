//! From text to words. Deliberately absent: what words mean together.

use std::iter::Peekable;
use std::str::Chars;

use crate::error::{CelError, Problem};

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Token {
    /// A name or keyword.
    Name(String),
    /// A name between backticks: it can be a field only.
    Quoted(String),
    Int(u64),
    Uint(u64),
    Double(f64),
    Text(String),
    Bytes(Vec<u8>),
    Sign(&'static str),
    End,
}

impl Token {
    /// How it is named in an error; what is in a text is not.
    pub(crate) fn word(&self) -> String {
        match self {
            Self::Name(name) | Self::Quoted(name) => name.clone(),
            Self::Int(_) | Self::Uint(_) | Self::Double(_) => "number".to_owned(),
            Self::Text(_) => "text".to_owned(),
            Self::Bytes(_) => "bytes".to_owned(),
            Self::Sign(sign) => (*sign).to_owned(),
            Self::End => "end".to_owned(),
        }
    }
}

/// The longer ones first.
const SIGNS: [&str; 25] = [
    "==", "!=", "<=", ">=", "&&", "||", "[", "]", "{", "}", "(", ")", ".", ",", "-", "+", "*", "/", "%", "?", ":", "!",
    "<", ">", "=",
];

const RESERVED: [&str; 21] = [
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
    "true",
    "false",
    "null",
    "in",
];

pub(crate) fn is_reserved(name: &str) -> bool {
    RESERVED.contains(&name)
}

pub(crate) fn is_name(text: &str) -> bool {
    text.starts_with(begins_name) && text.chars().all(continues_name)
}

fn begins_name(letter: char) -> bool {
    letter.is_ascii_alphabetic() || letter == '_'
}

fn continues_name(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || letter == '_'
}

/// The words of a text, each with its place.
pub(crate) fn tokens(text: &str) -> Result<Vec<(usize, Token)>, CelError> {
    let mut lexer = Lexer { letters: text.chars().peekable(), at: 1 };
    let mut tokens = Vec::new();
    loop {
        lexer.skip_blanks();
        let at = lexer.at;
        let token = lexer.token().map_err(|problem| problem.at(at))?;
        let is_end = token == Token::End;
        tokens.push((at, token));
        if is_end {
            return Ok(tokens);
        }
    }
}

struct Lexer<'t> {
    letters: Peekable<Chars<'t>>,
    at: usize,
}

impl Lexer<'_> {
    fn next(&mut self) -> Option<char> {
        let letter = self.letters.next()?;
        self.at += 1;
        Some(letter)
    }

    /// What comes after the next letter, without moving.
    fn second(&self) -> Option<char> {
        self.letters.clone().nth(1)
    }

    fn takes(&mut self, wanted: char) -> bool {
        let is_there = self.letters.peek() == Some(&wanted);
        if is_there {
            self.next();
        }
        is_there
    }

    fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> String {
        let mut taken = String::new();
        while let Some(letter) = self.letters.peek().copied().filter(|letter| wanted(*letter)) {
            self.next();
            taken.push(letter);
        }
        taken
    }

    fn skip_blanks(&mut self) {
        loop {
            self.take_while(char::is_whitespace);
            if self.letters.peek() != Some(&'/') || self.second() != Some('/') {
                return;
            }
            self.take_while(|letter| letter != '\n');
        }
    }

    fn token(&mut self) -> Result<Token, Problem> {
        let Some(first) = self.letters.peek().copied() else { return Ok(Token::End) };
        if matches!(first, '"' | '\'') {
            return self.text(false).map(|bytes| Token::Text(bytes.0));
        }
        if let Some((prefix, is_raw, is_bytes)) = self.prefix() {
            (0..prefix).for_each(|_| {
                self.next();
            });
            let (text, bytes) = self.text_or_bytes(is_raw, is_bytes)?;
            return Ok(if is_bytes { Token::Bytes(bytes) } else { Token::Text(text) });
        }
        if begins_name(first) {
            return Ok(Token::Name(self.take_while(continues_name)));
        }
        if first == '`' {
            self.next();
            let name = self.take_while(|letter| continues_name(letter) || "-./ ".contains(letter));
            return if self.takes('`') { Ok(Token::Quoted(name)) } else { Err(Problem::Unclosed) };
        }
        if first.is_ascii_digit() || (first == '.' && self.second().is_some_and(|next| next.is_ascii_digit())) {
            return self.number();
        }
        let begins = |sign: &&&str| {
            let mut letters = self.letters.clone();
            sign.chars().all(|wanted| letters.next() == Some(wanted))
        };
        let Some(sign) = SIGNS.iter().find(begins) else { return Err(Problem::Unexpected(first.to_string())) };
        (0..sign.len()).for_each(|_| {
            self.next();
        });
        Ok(Token::Sign(sign))
    }

    /// The prefix of a text: how long it is, whether the text is raw, and whether it is bytes.
    fn prefix(&self) -> Option<(usize, bool, bool)> {
        let mut letters = self.letters.clone();
        let (mut length, mut is_raw, mut is_bytes) = (0, false, false);
        loop {
            match letters.next()? {
                '"' | '\'' => return (length > 0).then_some((length, is_raw, is_bytes)),
                'r' | 'R' if !is_raw => is_raw = true,
                'b' | 'B' if !is_bytes => is_bytes = true,
                _ => return None,
            }
            length += 1;
        }
    }

    fn number(&mut self) -> Result<Token, Problem> {
        let unreadable = || Problem::Unreadable("a number");
        if self.letters.peek() == Some(&'0') && matches!(self.second(), Some('x' | 'X')) {
            self.next();
            self.next();
            let digits = self.take_while(|letter| letter.is_ascii_hexdigit());
            let value = u64::from_str_radix(&digits, 16).map_err(|_| unreadable())?;
            return Ok(if self.takes('u') || self.takes('U') { Token::Uint(value) } else { Token::Int(value) });
        }
        let mut digits = self.take_while(|letter| letter.is_ascii_digit());
        let mut is_double = false;
        if self.letters.peek() == Some(&'.') && self.second().is_some_and(|next| next.is_ascii_digit()) {
            self.next();
            is_double = true;
            digits.push('.');
            digits += &self.take_while(|letter| letter.is_ascii_digit());
        }
        if self.takes('e') || self.takes('E') {
            is_double = true;
            digits.push('e');
            if self.takes('-') {
                digits.push('-');
            } else {
                self.takes('+');
            }
            digits += &self.take_while(|letter| letter.is_ascii_digit());
        }
        if is_double {
            return digits.parse().map(Token::Double).map_err(|_| unreadable());
        }
        let value = digits.parse().map_err(|_| unreadable())?;
        Ok(if self.takes('u') || self.takes('U') { Token::Uint(value) } else { Token::Int(value) })
    }

    fn text(&mut self, is_raw: bool) -> Result<(String, Vec<u8>), Problem> {
        self.text_or_bytes(is_raw, false)
    }

    fn text_or_bytes(&mut self, is_raw: bool, is_bytes: bool) -> Result<(String, Vec<u8>), Problem> {
        let quote = self.next().ok_or(Problem::Unclosed)?;
        let is_long = self.letters.peek() == Some(&quote) && self.second() == Some(quote);
        if is_long {
            self.next();
            self.next();
        }
        let (mut text, mut bytes) = (String::new(), Vec::new());
        loop {
            let letter = self.next().ok_or(Problem::Unclosed)?;
            if letter == quote {
                if !is_long {
                    return Ok((text, bytes));
                }
                if self.letters.peek() == Some(&quote) && self.second() == Some(quote) {
                    self.next();
                    self.next();
                    return Ok((text, bytes));
                }
            } else if letter == '\n' && !is_long {
                return Err(Problem::Unclosed);
            }
            let piece = if letter == '\\' && !is_raw { self.escape(is_bytes)? } else { Piece::Letter(letter) };
            match piece {
                Piece::Byte(byte) => bytes.push(byte),
                Piece::Letter(letter) if is_bytes => {
                    bytes.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
                }
                Piece::Letter(letter) => text.push(letter),
            }
        }
    }

    fn escape(&mut self, is_bytes: bool) -> Result<Piece, Problem> {
        let unreadable = || Problem::Unreadable("an escape");
        let code = match self.next().ok_or(Problem::Unclosed)? {
            'a' => 0x07,
            'b' => 0x08,
            'f' => 0x0c,
            'n' => 0x0a,
            'r' => 0x0d,
            't' => 0x09,
            'v' => 0x0b,
            same @ ('\\' | '?' | '"' | '\'' | '`') => u32::from(same),
            'x' | 'X' => self.digits(2, 16)?,
            'u' if !is_bytes => self.digits(4, 16)?,
            'U' if !is_bytes => self.digits(8, 16)?,
            first @ '0'..='3' => {
                let first = first.to_digit(8).ok_or_else(unreadable)?;
                first * 64 + self.digits(2, 8)?
            }
            _ => return Err(unreadable()),
        };
        if is_bytes {
            return u8::try_from(code).map(Piece::Byte).map_err(|_| unreadable());
        }
        char::from_u32(code).map(Piece::Letter).ok_or_else(unreadable)
    }

    fn digits(&mut self, count: usize, radix: u32) -> Result<u32, Problem> {
        let mut code: u32 = 0;
        for _ in 0..count {
            let digit = self.next().and_then(|letter| letter.to_digit(radix));
            let digit = digit.ok_or(Problem::Unreadable("an escape"))?;
            code = code.checked_mul(radix).and_then(|code| code.checked_add(digit)).ok_or(Problem::OutOfRange)?;
        }
        Ok(code)
    }
}

enum Piece {
    Letter(char),
    Byte(u8),
}
