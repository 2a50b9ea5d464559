//! Characters to tokens, with positions; shared by both forms.

use crate::error::{ParseError, Problem};
use crate::{Position, ValueKind};

/// A token and where it starts.
#[derive(Clone, PartialEq)]
pub(crate) struct Token {
    pub(crate) kind: TokenKind,
    pub(crate) position: Position,
}

#[derive(Clone, PartialEq)]
pub(crate) enum TokenKind {
    /// A bare word; `true` and `false` become literals when used as values.
    Word(String),
    /// A string, number, heredoc.
    Literal(ValueKind),
    Open,
    Close,
    ListOpen,
    ListClose,
    Comma,
    Equals,
    Colon,
    End,
}

pub(crate) struct Lexer<'t> {
    rest: std::str::Chars<'t>,
    position: Position,
}

impl<'t> Lexer<'t> {
    pub(crate) fn new(text: &'t str) -> Self {
        Self { rest: text.chars(), position: Position { line: 1, column: 1 } }
    }

    fn peek(&self) -> Option<char> {
        self.rest.clone().next()
    }

    fn bump(&mut self) -> Option<char> {
        let letter = self.rest.next()?;
        if letter == '\n' {
            self.position = Position { line: self.position.line + 1, column: 1 };
        } else {
            self.position.column += 1;
        }
        Some(letter)
    }

    fn error<T>(&self, position: Position, problem: Problem) -> Result<T, ParseError> {
        Err(ParseError { position, problem })
    }

    fn skip_blank(&mut self) -> Result<(), ParseError> {
        loop {
            let start = self.position;
            match self.peek() {
                Some(letter) if letter.is_whitespace() => {
                    self.bump();
                }
                Some('#') => self.skip_line(),
                Some('/') => match self.rest.clone().nth(1) {
                    Some('/') => self.skip_line(),
                    Some('*') => {
                        self.bump();
                        self.bump();
                        let mut before = ' ';
                        loop {
                            match self.bump() {
                                Some('/') if before == '*' => break,
                                Some(letter) => before = letter,
                                None => return self.error(start, Problem::UnterminatedComment),
                            }
                        }
                    }
                    _ => return self.error(start, Problem::UnexpectedCharacter),
                },
                _ => return Ok(()),
            }
        }
    }

    fn skip_line(&mut self) {
        while self.peek().is_some_and(|letter| letter != '\n') {
            self.bump();
        }
    }

    pub(crate) fn next(&mut self) -> Result<Token, ParseError> {
        self.skip_blank()?;
        let position = self.position;
        let Some(letter) = self.peek() else { return Ok(Token { kind: TokenKind::End, position }) };
        let single = match letter {
            '{' => Some(TokenKind::Open),
            '}' => Some(TokenKind::Close),
            '[' => Some(TokenKind::ListOpen),
            ']' => Some(TokenKind::ListClose),
            ',' => Some(TokenKind::Comma),
            '=' => Some(TokenKind::Equals),
            ':' => Some(TokenKind::Colon),
            _ => None,
        };
        let kind = match (single, letter) {
            (Some(kind), _) => {
                self.bump();
                kind
            }
            (None, '"') => TokenKind::Literal(ValueKind::String(self.string(position)?)),
            (None, '<') => TokenKind::Literal(ValueKind::String(self.heredoc(position)?)),
            (None, '-' | '0'..='9') => TokenKind::Literal(self.number(position)?),
            (None, letter) if letter.is_alphabetic() || letter == '_' => TokenKind::Word(self.word()),
            _ => return self.error(position, Problem::UnexpectedCharacter),
        };
        Ok(Token { kind, position })
    }

    fn word(&mut self) -> String {
        let mut word = String::new();
        while let Some(letter) =
            self.peek().filter(|letter| letter.is_alphanumeric() || matches!(letter, '_' | '-' | '.'))
        {
            word.push(letter);
            self.bump();
        }
        word
    }

    fn string(&mut self, start: Position) -> Result<String, ParseError> {
        self.bump();
        let mut text = String::new();
        // Within `${ }` a quote does not end the string; the text is kept as it is.
        let mut braces = 0_usize;
        loop {
            let position = self.position;
            match self.bump() {
                None | Some('\n') if braces == 0 => return self.error(start, Problem::UnterminatedString),
                None => return self.error(start, Problem::UnterminatedString),
                Some('"') if braces == 0 => return Ok(text),
                Some('$') if self.peek() == Some('{') => {
                    text.push('$');
                    text.push('{');
                    self.bump();
                    braces += 1;
                }
                Some('{') if braces > 0 => {
                    braces += 1;
                    text.push('{');
                }
                Some('}') if braces > 0 => {
                    braces -= 1;
                    text.push('}');
                }
                Some('\\') if braces == 0 => text.push(self.escape(position)?),
                Some(letter) => text.push(letter),
            }
        }
    }

    fn escape(&mut self, position: Position) -> Result<char, ParseError> {
        let digits = |lexer: &mut Self, count: usize| {
            let mut value = 0_u32;
            for _ in 0..count {
                let digit = lexer.bump().and_then(|letter| letter.to_digit(16));
                value = value.checked_mul(16)?.checked_add(digit?)?;
            }
            char::from_u32(value)
        };
        let letter = match self.bump() {
            Some('n') => Some('\n'),
            Some('r') => Some('\r'),
            Some('t') => Some('\t'),
            Some('b') => Some('\u{8}'),
            Some('f') => Some('\u{c}'),
            Some('a') => Some('\u{7}'),
            Some('v') => Some('\u{b}'),
            Some(same @ ('"' | '\\' | '/' | '\'')) => Some(same),
            Some('x') => digits(self, 2),
            Some('u') => digits(self, 4),
            Some('U') => digits(self, 8),
            _ => None,
        };
        letter.ok_or(ParseError { position, problem: Problem::UnknownEscape })
    }

    fn heredoc(&mut self, start: Position) -> Result<String, ParseError> {
        let malformed = Problem::MalformedHeredoc;
        self.bump();
        if self.bump() != Some('<') {
            return self.error(start, malformed);
        }
        let indented = self.peek() == Some('-');
        if indented {
            self.bump();
        }
        let marker = self.word();
        let mut after = String::new();
        while let Some(letter) = self.bump().filter(|letter| *letter != '\n') {
            after.push(letter);
        }
        if marker.is_empty() || !after.trim().is_empty() {
            return self.error(start, malformed);
        }
        let mut lines: Vec<String> = Vec::new();
        loop {
            let mut line = String::new();
            let mut ended = true;
            while let Some(letter) = self.bump() {
                if letter == '\n' {
                    ended = false;
                    break;
                }
                line.push(letter);
            }
            let bare = line.strip_suffix('\r').unwrap_or(&line);
            if bare.trim() == marker && (indented || bare == marker || bare.trim_start() == marker) {
                break;
            }
            if ended {
                return self.error(start, malformed);
            }
            lines.push(line);
        }
        if indented {
            let indent = |line: &String| line.len() - line.trim_start_matches([' ', '\t']).len();
            let least = lines.iter().filter(|line| !line.trim().is_empty()).map(indent).min().unwrap_or(0);
            for line in &mut lines {
                let cut = least.min(indent(line));
                line.drain(..cut);
            }
        }
        Ok(lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect())
    }

    fn number(&mut self, start: Position) -> Result<ValueKind, ParseError> {
        let mut text = String::new();
        while let Some(letter) =
            self.peek().filter(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '+' | '.'))
        {
            text.push(letter);
            self.bump();
        }
        number(&text).ok_or(ParseError { position: start, problem: Problem::MalformedNumber })
    }
}

/// Decimal, octal (`0640`), hexadecimal (`0x10`) and floating-point numbers.
fn number(text: &str) -> Option<ValueKind> {
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |digits| (true, digits));
    let signed = |value: i64| ValueKind::Integer(if negative { -value } else { value });
    if let Some(hex) = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        // A sign within the digits is none of theirs, though the standard library would take one.
        let all_digits = hex.bytes().all(|byte| byte.is_ascii_hexdigit());
        return i64::from_str_radix(hex, 16).ok().filter(|_| all_digits).map(signed);
    }
    if digits.bytes().all(|byte| byte.is_ascii_digit()) {
        let radix = if digits.len() > 1 && digits.starts_with('0') { 8 } else { 10 };
        return i64::from_str_radix(digits, radix).ok().map(signed);
    }
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte));
    let float: f64 = text.parse().ok().filter(|_| plain)?;
    float.is_finite().then_some(ValueKind::Float(float))
}
