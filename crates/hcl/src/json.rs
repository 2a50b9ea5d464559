//! The JSON form, to the same tree: duplicate keys survive, every value has its position.
//!
//! Strict where JSON is strict: no comments, no bare words, nothing after the document.

use crate::error::{ParseError, Problem};
use crate::lexer::{Token, TokenKind};
use crate::parser::Parser;
use crate::{Item, Key, Object, Value, ValueKind};

pub(crate) fn parse(text: &str) -> Result<Object, ParseError> {
    let mut parser = Parser::new(text)?;
    let value = value(&mut parser)?;
    if !parser.is_at(&TokenKind::End) {
        return parser.expected("the end of the document");
    }
    match value.kind {
        ValueKind::Object(object) => Ok(object),
        _ => Err(ParseError { position: value.position, problem: Problem::Expected("an object") }),
    }
}

fn value(parser: &mut Parser<'_>) -> Result<Value, ParseError> {
    let Token { kind, position } = parser.take()?;
    let kind = match kind {
        TokenKind::Literal(literal) => literal,
        TokenKind::Word(word) => match word.as_str() {
            "true" => ValueKind::Bool(true),
            "false" => ValueKind::Bool(false),
            "null" => ValueKind::Null,
            _ => return Err(ParseError { position, problem: Problem::Expected("a value") }),
        },
        TokenKind::Open => ValueKind::Object(parser.deeper(object)?),
        TokenKind::ListOpen => ValueKind::List(parser.deeper(list)?),
        _ => return Err(ParseError { position, problem: Problem::Expected("a value") }),
    };
    Ok(Value { kind, position })
}

fn object(parser: &mut Parser<'_>) -> Result<Object, ParseError> {
    let mut object = Object::default();
    if parser.is_at(&TokenKind::Close) {
        parser.take()?;
        return Ok(object);
    }
    loop {
        let Token { kind: TokenKind::Literal(ValueKind::String(name)), position } = parser.take()? else {
            return parser.expected("a key in quotes");
        };
        if !parser.is_at(&TokenKind::Colon) {
            return parser.expected("`:`");
        }
        parser.take()?;
        object.items.push(Item { keys: vec![Key { name, position }], value: value(parser)? });
        match parser.take()?.kind {
            TokenKind::Comma => {}
            TokenKind::Close => return Ok(object),
            _ => return parser.expected("`,` or `}`"),
        }
    }
}

fn list(parser: &mut Parser<'_>) -> Result<Vec<Value>, ParseError> {
    let mut list = Vec::new();
    if parser.is_at(&TokenKind::ListClose) {
        parser.take()?;
        return Ok(list);
    }
    loop {
        list.push(value(parser)?);
        match parser.take()?.kind {
            TokenKind::Comma => {}
            TokenKind::ListClose => return Ok(list),
            _ => return parser.expected("`,` or `]`"),
        }
    }
}
