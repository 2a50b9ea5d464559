//! From the text of a template to its pieces.
//!
//! Deliberately absent: any value; what a function takes is checked where it is called.

use super::functions::Function;
use super::{Command, DEPTH_MAX, Operand, Piece, TemplateError};

/// An `if` that waits for its end.
struct Waiting {
    at: usize,
    condition: Vec<Command>,
    /// What stood before it.
    before: Vec<Piece>,
    /// What stands between it and its `else`, once that has come.
    then: Option<Vec<Piece>>,
    /// Whether it is the `if` of an `else if`: one end closes both.
    is_chained: bool,
}

/// The pieces of a template.
pub(super) fn pieces(text: &str) -> Result<Vec<Piece>, TemplateError> {
    let (mut pieces, mut waiting) = (Vec::new(), Vec::<Waiting>::new());
    let (mut place, mut trims) = (0, false);
    loop {
        let rest = text.get(place..).unwrap_or_default();
        let open = rest.find("{{");
        let mut literal = rest.get(..open.unwrap_or(rest.len())).unwrap_or_default();
        if trims {
            literal = literal.trim_start();
        }
        let inner = open.map(|open| place + open + 2);
        let begins_trimmed = inner.is_some_and(|inner| {
            let mut after = text.get(inner..).unwrap_or_default().chars();
            after.next() == Some('-') && after.next().is_some_and(char::is_whitespace)
        });
        if begins_trimmed {
            literal = literal.trim_end();
        }
        if !literal.is_empty() {
            pieces.push(Piece::Literal(literal.to_owned()));
        }
        let Some(inner) = inner else { break };
        let mut scanner = Scanner { text, place: inner + usize::from(begins_trimmed) };
        let begin = inner - 2;
        if let Some(end) = scanner.comment()? {
            (place, trims) = end;
            continue;
        }
        scanner.action(begin, &mut pieces, &mut waiting)?;
        match scanner.next(begin)? {
            (_, Token::Close { trims: trims_after }) => (place, trims) = (scanner.place, trims_after),
            (at, token) => return Err(TemplateError::Unexpected { word: token.word(), at }),
        }
    }
    match waiting.pop() {
        None => Ok(pieces),
        Some(open) => Err(TemplateError::Unclosed { what: "{{ if }}", at: open.at }),
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Text(String),
    Number(i64),
    Field(Vec<String>),
    Name(String),
    Pipe,
    Open,
    Shut,
    Close { trims: bool },
    Other(String),
}

impl Token {
    fn word(self) -> String {
        match self {
            Self::Text(text) | Self::Name(text) | Self::Other(text) => text,
            Self::Number(number) => number.to_string(),
            Self::Field(path) => format!(".{}", path.join(".")),
            Self::Pipe => "|".into(),
            Self::Open => "(".into(),
            Self::Shut => ")".into(),
            Self::Close { .. } => "}}".into(),
        }
    }
}

struct Scanner<'t> {
    text: &'t str,
    place: usize,
}

impl Scanner<'_> {
    fn rest(&self) -> &str {
        self.text.get(self.place..).unwrap_or_default()
    }

    fn skip_blanks(&mut self) {
        self.place += self.rest().len() - self.rest().trim_start().len();
    }

    /// The end of a comment, if one stands here, and whether it trims what follows.
    fn comment(&mut self) -> Result<Option<(usize, bool)>, TemplateError> {
        let at = self.place;
        self.skip_blanks();
        if !self.rest().starts_with("/*") {
            return Ok(None);
        }
        let unclosed = TemplateError::Unclosed { what: "/*", at };
        let Some(end) = self.rest().find("*/") else { return Err(unclosed) };
        self.place += end + 2;
        match self.next(at)? {
            (_, Token::Close { trims }) => Ok(Some((self.place, trims))),
            _ => Err(unclosed),
        }
    }

    /// What stands between braces, up to those that close it.
    fn action(
        &mut self,
        begin: usize,
        pieces: &mut Vec<Piece>,
        waiting: &mut Vec<Waiting>,
    ) -> Result<(), TemplateError> {
        let place = self.place;
        let (at, first) = self.next(begin)?;
        let word = if let Token::Name(name) = first { name } else { String::new() };
        let unexpected = || TemplateError::Unexpected { word: word.clone(), at };
        match word.as_str() {
            "if" => self.condition(begin, false, pieces, waiting),
            "else" => {
                let open = waiting.last_mut().filter(|open| open.then.is_none()).ok_or_else(unexpected)?;
                open.then = Some(std::mem::take(pieces));
                let place = self.place;
                if self.next(begin)?.1 == Token::Name("if".into()) {
                    return self.condition(begin, true, pieces, waiting);
                }
                self.place = place;
                Ok(())
            }
            "end" => loop {
                let open = waiting.pop().ok_or_else(unexpected)?;
                let last = std::mem::replace(pieces, open.before);
                let (then, otherwise) = match open.then {
                    Some(then) => (then, last),
                    None => (last, Vec::new()),
                };
                pieces.push(Piece::If { condition: open.condition, then, otherwise });
                if !open.is_chained {
                    return Ok(());
                }
            },
            _ => {
                self.place = place;
                pieces.push(Piece::Pipeline(self.pipeline(0, begin)?));
                Ok(())
            }
        }
    }

    fn condition(
        &mut self,
        at: usize,
        is_chained: bool,
        pieces: &mut Vec<Piece>,
        waiting: &mut Vec<Waiting>,
    ) -> Result<(), TemplateError> {
        if waiting.len() > DEPTH_MAX {
            return Err(TemplateError::TooLong("its nesting"));
        }
        let condition = self.pipeline(0, at)?;
        waiting.push(Waiting { at, condition, before: std::mem::take(pieces), then: None, is_chained });
        Ok(())
    }

    /// The next token and where it begins; `begin` is where the braces opened.
    fn next(&mut self, begin: usize) -> Result<(usize, Token), TemplateError> {
        let before = self.place;
        self.skip_blanks();
        let (at, had_blank) = (self.place, self.place > before);
        let rest = self.rest();
        let Some(first) = rest.chars().next() else { return Err(TemplateError::Unclosed { what: "{{", at: begin }) };
        let (length, token) = match first {
            '|' => (1, Token::Pipe),
            '(' => (1, Token::Open),
            ')' => (1, Token::Shut),
            '"' => return self.quoted(at),
            '`' => {
                let end = rest.get(1..).and_then(|inner| inner.find('`'));
                let end = end.ok_or(TemplateError::Unclosed { what: "`", at })?;
                (end + 2, Token::Text(rest.get(1..=end).unwrap_or_default().to_owned()))
            }
            _ if rest.starts_with("}}") => (2, Token::Close { trims: false }),
            '-' if had_blank && rest.starts_with("-}}") => (3, Token::Close { trims: true }),
            _ => {
                let ends = |letter: char| letter.is_whitespace() || "|()\"`}".contains(letter);
                let length = rest.find(ends).unwrap_or(rest.len()).max(first.len_utf8());
                (length, word(rest.get(..length).unwrap_or_default()))
            }
        };
        self.place += length;
        Ok((at, token))
    }

    fn quoted(&mut self, at: usize) -> Result<(usize, Token), TemplateError> {
        let unclosed = TemplateError::Unclosed { what: "\"", at };
        let mut text = String::new();
        let rest = self.text.get(at + 1..).unwrap_or_default();
        let mut letters = rest.char_indices();
        while let Some((place, letter)) = letters.next() {
            match letter {
                '"' => {
                    self.place = at + 1 + place + 1;
                    return Ok((at, Token::Text(text)));
                }
                '\n' => return Err(unclosed),
                '\\' => {
                    let (_, escape) = letters.next().ok_or_else(|| unclosed.clone())?;
                    let wrong = || TemplateError::Unexpected { word: format!("\\{escape}"), at: at + 1 + place };
                    text.push(match escape {
                        'n' => '\n',
                        't' => '\t',
                        'r' => '\r',
                        '\\' | '"' => escape,
                        'u' => {
                            let digits: String = letters.by_ref().take(4).map(|(_, digit)| digit).collect();
                            let code = u32::from_str_radix(&digits, 16).ok();
                            code.and_then(char::from_u32).ok_or_else(wrong)?
                        }
                        _ => return Err(wrong()),
                    });
                }
                _ => text.push(letter),
            }
        }
        Err(unclosed)
    }

    /// Commands between pipes, up to the end that closes them, which is left.
    fn pipeline(&mut self, depth: usize, begin: usize) -> Result<Vec<Command>, TemplateError> {
        if depth > DEPTH_MAX {
            return Err(TemplateError::TooLong("its nesting"));
        }
        let mut commands = Vec::new();
        let mut pipe = None;
        loop {
            let command = self.command(depth, begin)?;
            let takes_what_came = matches!(command, Some(Command::Call(..)));
            match (command, pipe) {
                (Some(_), Some(at)) if !takes_what_came => {
                    return Err(TemplateError::Unexpected { word: "|".into(), at });
                }
                (Some(command), _) => commands.push(command),
                (None, Some(at)) => return Err(TemplateError::Unexpected { word: "|".into(), at }),
                (None, None) => {
                    let (_, token) = self.next(begin)?;
                    return Err(TemplateError::Unexpected { word: token.word(), at: begin });
                }
            }
            let place = self.place;
            match self.next(begin)? {
                (at, Token::Pipe) => pipe = Some(at),
                _ => {
                    self.place = place;
                    return Ok(commands);
                }
            }
        }
    }

    /// One command, up to a pipe or an end, which are left.
    fn command(&mut self, depth: usize, begin: usize) -> Result<Option<Command>, TemplateError> {
        let mut head = None;
        let mut operands = Vec::new();
        let first = self.place;
        loop {
            let place = self.place;
            let (at, token) = self.next(begin)?;
            let is_first = head.is_none() && operands.is_empty();
            let operand = match token {
                Token::Pipe | Token::Shut | Token::Close { .. } => {
                    self.place = place;
                    break;
                }
                Token::Name(name) if name == "index" && is_first => {
                    return self.index(begin, at).map(Some);
                }
                Token::Name(name) => {
                    let function = Function::named(&name).ok_or(TemplateError::UnknownFunction { name, at })?;
                    if is_first {
                        head = Some(function);
                        continue;
                    }
                    Operand::Group(vec![Command::Call(function, Vec::new())])
                }
                Token::Text(text) => Operand::Text(text),
                Token::Number(number) => Operand::Number(number),
                Token::Field(path) => Operand::Field(path),
                Token::Open => {
                    let commands = self.pipeline(depth + 1, begin)?;
                    match self.next(begin)? {
                        (_, Token::Shut) => Operand::Group(commands),
                        _ => return Err(TemplateError::Unclosed { what: "(", at }),
                    }
                }
                Token::Other(word) => return Err(TemplateError::Unexpected { word, at }),
            };
            operands.push(operand);
        }
        match (head, operands.len()) {
            (Some(function), _) => Ok(Some(Command::Call(function, operands))),
            (None, 0) => Ok(None),
            (None, 1) => Ok(operands.pop().map(Command::Operand)),
            // A value takes no arguments.
            (None, _) => {
                self.place = first;
                let (at, token) = self.next(begin)?;
                Err(TemplateError::Unexpected { word: token.word(), at })
            }
        }
    }
}

impl Scanner<'_> {
    /// What follows `index`: a field, and the names of what is in it, which may be any text.
    fn index(&mut self, begin: usize, at: usize) -> Result<Command, TemplateError> {
        let unexpected = || TemplateError::Unexpected { word: "index".into(), at };
        let (_, Token::Field(mut path)) = self.next(begin)? else { return Err(unexpected()) };
        loop {
            let place = self.place;
            match self.next(begin)? {
                (_, Token::Text(name)) => path.push(name),
                (_, Token::Pipe | Token::Shut | Token::Close { .. }) => {
                    self.place = place;
                    return Ok(Command::Operand(Operand::Field(path)));
                }
                _ => return Err(unexpected()),
            }
        }
    }
}

fn word(text: &str) -> Token {
    let is_name = |text: &str| {
        let begins = text.starts_with(|letter: char| letter.is_ascii_alphabetic() || letter == '_');
        begins && text.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
    };
    // Names of what is in fields may have dashes, too.
    let is_inner = |text: &str| is_name(&text.replace('-', "_"));
    match text.strip_prefix('.') {
        Some(path) if path.split('.').all(is_inner) && path.split('.').take(1).all(is_name) => {
            Token::Field(path.split('.').map(str::to_owned).collect())
        }
        None if is_name(text) => Token::Name(text.to_owned()),
        _ => text.parse().map_or_else(|_| Token::Other(text.to_owned()), Token::Number),
    }
}
