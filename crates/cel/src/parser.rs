//! From words to a tree, in which every name is known and every function exists.

use crate::DEPTH_MAX;
use crate::TEXT_BYTES_MAX;
use crate::ast::{Each, Element, Entry, Kind, Macro, Node, Operator};
use crate::error::{CelError, Problem};
use crate::functions::{self, Style};
use crate::lexer::{self, Token};
use crate::value::Value;

/// Reads an expression that may name `known`.
pub(crate) fn parse(text: &str, known: &[&str]) -> Result<Node, CelError> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(Problem::TooLong.at(1));
    }
    let tokens = lexer::tokens(text)?;
    if tokens.len() == 1 {
        return Err(Problem::Empty.at(1));
    }
    let mut parser = Parser { tokens: tokens.into_iter().rev().collect(), depth: 0 };
    let node = parser.expression()?;
    let (at, token) = parser.next();
    if token != Token::End {
        return Err(Problem::Unexpected(token.word()).at(at));
    }
    let mut scope = known.to_vec();
    check_names(&node, &mut scope)?;
    Ok(node)
}

/// Refuses names that are not known where they stand.
fn check_names<'n>(node: &'n Node, scope: &mut Vec<&'n str>) -> Result<(), CelError> {
    match &node.kind {
        Kind::Name(name) if !scope.contains(&name.as_str()) => Err(Problem::UnknownName(name.clone()).at(node.at)),
        Kind::Macro(each) => {
            check_names(&each.range, scope)?;
            scope.push(&each.name);
            let inner = each.condition.iter().chain([&each.step]).try_for_each(|node| check_names(node, scope));
            scope.pop();
            inner
        }
        kind => kind.children().into_iter().try_for_each(|child| check_names(child, scope)),
    }
}

struct Parser {
    /// Those to come, the next one last.
    tokens: Vec<(usize, Token)>,
    depth: u8,
}

/// Operators between two values, by how closely they bind.
fn binary(token: &Token) -> Option<(u8, Operator)> {
    let sign = match token {
        Token::Sign(sign) => *sign,
        Token::Name(name) if name == "in" => "in",
        _ => return None,
    };
    Some(match sign {
        "==" => (1, Operator::Equal),
        "!=" => (1, Operator::Different),
        "<" => (1, Operator::Less),
        "<=" => (1, Operator::LessOrEqual),
        ">" => (1, Operator::Greater),
        ">=" => (1, Operator::GreaterOrEqual),
        "in" => (1, Operator::In),
        "+" => (2, Operator::Add),
        "-" => (2, Operator::Subtract),
        "*" => (3, Operator::Multiply),
        "/" => (3, Operator::Divide),
        "%" => (3, Operator::Remainder),
        _ => return None,
    })
}

impl Parser {
    fn peek(&self) -> &Token {
        self.tokens.last().map_or(&Token::End, |(_, token)| token)
    }

    fn at(&self) -> usize {
        self.tokens.last().map_or(1, |(at, _)| *at)
    }

    /// The next word; the end stays.
    fn next(&mut self) -> (usize, Token) {
        match self.tokens.last() {
            Some((at, Token::End)) => (*at, Token::End),
            _ => self.tokens.pop().unwrap_or((1, Token::End)),
        }
    }

    fn takes(&mut self, sign: &str) -> bool {
        let is_there = matches!(self.peek(), Token::Sign(next) if *next == sign);
        if is_there {
            self.next();
        }
        is_there
    }

    fn expect(&mut self, sign: &str) -> Result<(), CelError> {
        if self.takes(sign) { Ok(()) } else { Err(self.unexpected()) }
    }

    fn unexpected(&self) -> CelError {
        match self.peek() {
            Token::End => Problem::UnexpectedEnd.at(self.at()),
            token => Problem::Unexpected(token.word()).at(self.at()),
        }
    }

    /// Goes one deeper, as far as that is allowed.
    fn deeper<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T, CelError>) -> Result<T, CelError> {
        if self.depth >= DEPTH_MAX {
            return Err(Problem::TooDeep.at(self.at()));
        }
        self.depth += 1;
        let read = read(self);
        self.depth -= 1;
        read
    }

    fn expression(&mut self) -> Result<Node, CelError> {
        self.deeper(|parser| {
            let at = parser.at();
            let condition = parser.any()?;
            if !parser.takes("?") {
                return Ok(condition);
            }
            let then = parser.any()?;
            parser.expect(":")?;
            let otherwise = parser.expression()?;
            Node::new(at, Kind::Condition(Box::new((condition, then, otherwise))))
        })
    }

    /// What `||` is between.
    fn any(&mut self) -> Result<Node, CelError> {
        let at = self.at();
        let mut sides = vec![self.every()?];
        while self.takes("||") {
            sides.push(self.every()?);
        }
        one_or(sides, |sides| Node::new(at, Kind::Or(sides)))
    }

    /// What `&&` is between.
    fn every(&mut self) -> Result<Node, CelError> {
        let at = self.at();
        let mut sides = vec![self.operation(1)?];
        while self.takes("&&") {
            sides.push(self.operation(1)?);
        }
        one_or(sides, |sides| Node::new(at, Kind::And(sides)))
    }

    /// What operators are between that bind at least so closely.
    fn operation(&mut self, least: u8) -> Result<Node, CelError> {
        let mut left = self.unary()?;
        while let Some((binds, operator)) = binary(self.peek()).filter(|(binds, _)| *binds >= least) {
            let (at, _) = self.next();
            let right = if binds < 3 { self.operation(binds + 1)? } else { self.unary()? };
            left = Node::new(at, Kind::Binary { operator, sides: Box::new((left, right)) })?;
        }
        Ok(left)
    }

    fn unary(&mut self) -> Result<Node, CelError> {
        let at = self.at();
        if self.takes("!") {
            let operand = self.deeper(Self::unary)?;
            return Node::new(at, Kind::Not(Box::new(operand)));
        }
        if self.takes("-") {
            // The smallest number has no positive twin.
            let literal = match self.peek() {
                Token::Int(value) => 0_i64.checked_sub_unsigned(*value).map(Value::Int),
                Token::Double(value) => Some(Value::Double(-value)),
                _ => None,
            };
            if let Some(value) = literal {
                self.next();
                let node = Node::new(at, Kind::Literal(value))?;
                return self.members(node);
            }
            let operand = self.deeper(Self::unary)?;
            return Node::new(at, Kind::Negative(Box::new(operand)));
        }
        let primary = self.primary()?;
        self.members(primary)
    }

    /// What follows a value: fields, calls and indices.
    fn members(&mut self, mut node: Node) -> Result<Node, CelError> {
        loop {
            let at = self.at();
            if self.takes(".") {
                let is_optional = self.takes("?");
                let (at, field) = match self.next() {
                    (at, Token::Name(name) | Token::Quoted(name)) => (at, name),
                    (at, Token::End) => return Err(Problem::UnexpectedEnd.at(at)),
                    (at, token) => return Err(Problem::Unexpected(token.word()).at(at)),
                };
                if !is_optional && self.takes("(") {
                    node = self.method(at, node, field)?;
                } else {
                    node = Node::new(at, Kind::Select { operand: Box::new(node), field, is_optional })?;
                }
            } else if self.takes("[") {
                let is_optional = self.takes("?");
                let index = Box::new(self.expression()?);
                self.expect("]")?;
                node = Node::new(at, Kind::Index { operand: Box::new(node), index, is_optional })?;
            } else if matches!(self.peek(), Token::Sign("{")) {
                return match type_name(&node) {
                    Some(name) => Err(Problem::UnknownType(name).at(node.at)),
                    None => Err(self.unexpected()),
                };
            } else {
                return Ok(node);
            }
        }
    }

    fn primary(&mut self) -> Result<Node, CelError> {
        let (at, token) = self.next();
        let literal = match token {
            Token::Name(name) => match name.as_str() {
                "true" => Value::Bool(true),
                "false" => Value::Bool(false),
                "null" => Value::Null,
                _ if lexer::is_reserved(&name) => return Err(Problem::Reserved(name).at(at)),
                _ if self.takes("(") => return self.call(at, name),
                _ => return Node::new(at, Kind::Name(name)),
            },
            Token::Int(value) => Value::Int(i64::try_from(value).map_err(|_| Problem::OutOfRange.at(at))?),
            Token::Uint(value) => Value::Uint(value),
            Token::Double(value) => Value::Double(value),
            Token::Text(text) => Value::text(text),
            Token::Bytes(bytes) => Value::bytes(bytes),
            Token::Sign("(") => {
                let node = self.expression()?;
                self.expect(")")?;
                return Ok(node);
            }
            Token::Sign("[") => return self.list(at),
            Token::Sign("{") => return self.map(at),
            Token::End => return Err(Problem::UnexpectedEnd.at(at)),
            token => return Err(Problem::Unexpected(token.word()).at(at)),
        };
        Node::new(at, Kind::Literal(literal))
    }

    fn list(&mut self, at: usize) -> Result<Node, CelError> {
        let mut elements = Vec::new();
        while !self.takes("]") {
            let is_optional = self.takes("?");
            elements.push(Element { value: self.expression()?, is_optional });
            if !self.takes(",") {
                self.expect("]")?;
                break;
            }
        }
        Node::new(at, Kind::List(elements))
    }

    fn map(&mut self, at: usize) -> Result<Node, CelError> {
        let mut entries = Vec::new();
        while !self.takes("}") {
            let is_optional = self.takes("?");
            let key = self.expression()?;
            self.expect(":")?;
            entries.push(Entry { key, value: self.expression()?, is_optional });
            if !self.takes(",") {
                self.expect("}")?;
                break;
            }
        }
        Node::new(at, Kind::Map(entries))
    }

    /// Arguments, up to the end that closes them.
    fn arguments(&mut self) -> Result<Vec<Node>, CelError> {
        let mut arguments = Vec::new();
        while !self.takes(")") {
            arguments.push(self.expression()?);
            if !self.takes(",") {
                self.expect(")")?;
                break;
            }
        }
        Ok(arguments)
    }

    fn call(&mut self, at: usize, name: String) -> Result<Node, CelError> {
        let mut arguments = self.arguments()?;
        if name == "has" {
            let operand = arguments.pop().filter(|_| arguments.is_empty());
            return match operand.map(|node| node.kind) {
                Some(Kind::Select { operand, field, is_optional: false }) => {
                    Node::new(at, Kind::Has { operand, field })
                }
                _ => Err(Problem::Macro("has", "a field, as in `has(a.b)`").at(at)),
            };
        }
        called(at, name, Style::Function, arguments)
    }

    fn method(&mut self, at: usize, target: Node, name: String) -> Result<Node, CelError> {
        let arguments = self.arguments()?;
        if let Kind::Name(space) = &target.kind {
            let full = format!("{space}.{name}");
            if functions::is_known(&full, Style::Function) {
                return called(at, full, Style::Function, arguments);
            }
        }
        if let Some(what) = each(&name) {
            return for_each(at, what, target, arguments);
        }
        called(at, name, Style::Method, std::iter::once(target).chain(arguments).collect())
    }
}

/// A call of a function that there is.
fn called(at: usize, name: String, style: Style, arguments: Vec<Node>) -> Result<Node, CelError> {
    if !functions::is_known(&name, style) {
        return Err(Problem::UnknownFunction(name).at(at));
    }
    let function = functions::named(&name, style, arguments.len());
    let function = function.ok_or_else(|| Problem::ArgumentCount(name).at(at))?;
    Node::new(at, Kind::Call { function, arguments })
}

fn each(name: &str) -> Option<Each> {
    Some(match name {
        "all" => Each::All,
        "exists" => Each::Exists,
        "exists_one" | "existsOne" => Each::ExistsOne,
        "map" => Each::Map,
        "filter" => Each::Filter,
        "sortBy" => Each::SortBy,
        "optMap" => Each::OptMap,
        "optFlatMap" => Each::OptFlatMap,
        _ => return None,
    })
}

fn for_each(at: usize, what: Each, range: Node, arguments: Vec<Node>) -> Result<Node, CelError> {
    let wrong = || Problem::Macro(what.word(), "a name and an expression").at(at);
    let mut arguments = arguments.into_iter();
    let name = match arguments.next().ok_or_else(wrong)?.kind {
        Kind::Name(name) => name,
        _ => return Err(wrong()),
    };
    let first = arguments.next().ok_or_else(wrong)?;
    let (condition, step) = match arguments.next() {
        None => (None, first),
        Some(second) if what == Each::Map => (Some(first), second),
        Some(_) => return Err(wrong()),
    };
    if arguments.next().is_some() {
        return Err(wrong());
    }
    Node::new(at, Kind::Macro(Box::new(Macro { what, range, name, condition, step })))
}

impl Each {
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Exists => "exists",
            Self::ExistsOne => "exists_one",
            Self::Map => "map",
            Self::Filter => "filter",
            Self::SortBy => "sortBy",
            Self::OptMap => "optMap",
            Self::OptFlatMap => "optFlatMap",
        }
    }
}

/// The one there is, or what is made of all.
fn one_or(mut nodes: Vec<Node>, all: impl FnOnce(Vec<Node>) -> Result<Node, CelError>) -> Result<Node, CelError> {
    match nodes.pop() {
        Some(node) if nodes.is_empty() => Ok(node),
        Some(node) => {
            nodes.push(node);
            all(nodes)
        }
        None => all(nodes),
    }
}

/// The name that stands before the braces of a message.
fn type_name(node: &Node) -> Option<String> {
    match &node.kind {
        Kind::Name(name) => Some(name.clone()),
        Kind::Select { operand, field, .. } => Some(format!("{}.{field}", type_name(operand)?)),
        _ => None,
    }
}
