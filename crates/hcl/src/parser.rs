//! Tokens to the tree, for the HCL form.

use crate::error::{ParseError, Problem};
use crate::lexer::{Lexer, Token, TokenKind};
use crate::{DEPTH_MAX, Item, Key, Object, Value, ValueKind};

pub(crate) struct Parser<'t> {
    lexer: Lexer<'t>,
    ahead: Token,
    depth: usize,
}

pub(crate) fn parse(text: &str) -> Result<Object, ParseError> {
    let mut parser = Parser::new(text)?;
    parser.items(&TokenKind::End)
}

impl<'t> Parser<'t> {
    pub(crate) fn new(text: &'t str) -> Result<Self, ParseError> {
        let mut lexer = Lexer::new(text);
        let ahead = lexer.next()?;
        Ok(Self { lexer, ahead, depth: 0 })
    }

    pub(crate) fn take(&mut self) -> Result<Token, ParseError> {
        let next = self.lexer.next()?;
        Ok(std::mem::replace(&mut self.ahead, next))
    }

    pub(crate) fn is_at(&self, kind: &TokenKind) -> bool {
        self.ahead.kind == *kind
    }

    pub(crate) fn expected<T>(&self, what: &'static str) -> Result<T, ParseError> {
        Err(ParseError { position: self.ahead.position, problem: Problem::Expected(what) })
    }

    pub(crate) fn deeper<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T, ParseError>) -> Result<T, ParseError> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(ParseError { position: self.ahead.position, problem: Problem::TooDeep });
        }
        let read = read(self);
        self.depth -= 1;
        read
    }

    /// Items up to (not including) the end.
    fn items(&mut self, end: &TokenKind) -> Result<Object, ParseError> {
        let mut object = Object::default();
        while !self.is_at(end) {
            object.items.push(self.item()?);
            if self.is_at(&TokenKind::Comma) {
                self.take()?;
            }
        }
        Ok(object)
    }

    fn item(&mut self) -> Result<Item, ParseError> {
        let mut keys = Vec::new();
        loop {
            let Token { kind, position } = self.ahead.clone();
            match kind {
                TokenKind::Word(name) | TokenKind::Literal(ValueKind::String(name)) => {
                    self.take()?;
                    keys.push(Key { name, position });
                }
                TokenKind::Equals | TokenKind::Colon if keys.len() == 1 => {
                    self.take()?;
                    return Ok(Item { keys, value: self.value()? });
                }
                TokenKind::Open if !keys.is_empty() => return Ok(Item { keys, value: self.value()? }),
                _ if keys.is_empty() => return self.expected("a key"),
                _ => return self.expected("`=` or `{`"),
            }
        }
    }

    fn value(&mut self) -> Result<Value, ParseError> {
        let Token { kind, position } = self.ahead.clone();
        let kind = match kind {
            TokenKind::Literal(literal) => {
                self.take()?;
                literal
            }
            TokenKind::Word(word) => {
                let value = match word.as_str() {
                    "true" => true,
                    "false" => false,
                    _ => return self.expected("a value"),
                };
                self.take()?;
                ValueKind::Bool(value)
            }
            TokenKind::Open => {
                self.take()?;
                let object = self.deeper(|parser| parser.items(&TokenKind::Close))?;
                self.take()?;
                ValueKind::Object(object)
            }
            TokenKind::ListOpen => {
                self.take()?;
                let list = self.deeper(Self::list)?;
                ValueKind::List(list)
            }
            _ => return self.expected("a value"),
        };
        Ok(Value { kind, position })
    }

    fn list(&mut self) -> Result<Vec<Value>, ParseError> {
        let mut list = Vec::new();
        while !self.is_at(&TokenKind::ListClose) {
            list.push(self.value()?);
            if self.is_at(&TokenKind::Comma) {
                self.take()?;
            } else if !self.is_at(&TokenKind::ListClose) {
                return self.expected("`,` or `]`");
            }
        }
        self.take()?;
        Ok(list)
    }
}
