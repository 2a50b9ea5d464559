//! A uniform layout for policy files: one item on a line, two spaces per level, equal signs of neighbours aligned, one blank line
//! around what takes more than a line.
//!
//! Works on tokens as they are written, so that comments, texts and the order of things stay. A list stays on one line where it
//! was. Deliberately absent: understanding the policy, which the server does; the JSON form.

use std::fmt::Write as _;

/// How deep objects and lists may nest.
const DEPTH_MAX: usize = 64;

/// Lays out a file.
///
/// # Errors
/// When brackets or quotes do not match, or an item has no value: with its line.
pub(crate) fn format(text: &str) -> Result<String, String> {
    let tokens = tokens(text)?;
    if let Some(Token { kind: Kind::Open, line, .. }) = tokens.iter().find(|token| !token.is_comment()) {
        return Err(format!("line {line}: the JSON form is not laid out"));
    }
    let mut parser = Parser { rest: tokens.into_iter().peekable(), line: 0 };
    let body = parser.body(None)?;
    if let Some(token) = parser.rest.next() {
        return Err(format!("line {}: closing bracket without an opening one", token.line));
    }
    let mut out = String::new();
    body.write(&mut out, 0);
    Ok(out)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A word, number or quoted text.
    Text,
    Heredoc,
    Open,
    Close,
    ListOpen,
    ListClose,
    Comma,
    Equals,
    /// To the end of its line.
    Comment,
    /// Between its own ends, on one line or more.
    BlockComment,
}

/// A part of the file as it is written.
#[derive(Clone, Copy)]
struct Token<'t> {
    kind: Kind,
    text: &'t str,
    line: usize,
    last_line: usize,
}

impl Token<'_> {
    fn is_comment(&self) -> bool {
        matches!(self.kind, Kind::Comment | Kind::BlockComment)
    }
}

fn tokens(text: &str) -> Result<Vec<Token<'_>>, String> {
    let (mut tokens, mut rest, mut line) = (Vec::new(), text, 1);
    loop {
        let trimmed = rest.trim_start();
        line += rest.get(..rest.len() - trimmed.len()).unwrap_or_default().matches('\n').count();
        rest = trimmed;
        let Some(first) = rest.chars().next() else { return Ok(tokens) };
        let wrong = |problem: &str| format!("line {line}: {problem}");
        let (kind, length) = match first {
            '{' => (Kind::Open, 1),
            '}' => (Kind::Close, 1),
            '[' => (Kind::ListOpen, 1),
            ']' => (Kind::ListClose, 1),
            ',' => (Kind::Comma, 1),
            '=' => (Kind::Equals, 1),
            '"' => (Kind::Text, quoted(rest).ok_or_else(|| wrong("text without an end"))?),
            '#' => (Kind::Comment, rest.find('\n').unwrap_or(rest.len())),
            _ if rest.starts_with("//") => (Kind::Comment, rest.find('\n').unwrap_or(rest.len())),
            _ if rest.starts_with("/*") => {
                let end = rest.get(2..).and_then(|inside| inside.find("*/"));
                (Kind::BlockComment, end.ok_or_else(|| wrong("comment without an end"))? + 4)
            }
            _ if rest.starts_with("<<") => {
                (Kind::Heredoc, heredoc(rest).ok_or_else(|| wrong("something is still open at the end"))?)
            }
            _ => {
                let ends = |one: char| one.is_whitespace() || "{}[],=\"#".contains(one);
                (Kind::Text, rest.find(ends).unwrap_or(rest.len()))
            }
        };
        let (token, after) = rest.split_at_checked(length).ok_or_else(|| wrong("text without an end"))?;
        let last_line = line + token.matches('\n').count();
        tokens.push(Token { kind, text: token.trim_end(), line, last_line });
        (rest, line) = (after, last_line);
    }
}

/// How long a quoted text is; a quote within `${ }` does not end it.
fn quoted(text: &str) -> Option<usize> {
    let mut characters = text.char_indices().skip(1).peekable();
    let mut braces = 0_usize;
    while let Some((at, character)) = characters.next() {
        match character {
            '"' if braces == 0 => return Some(at + 1),
            '\n' if braces == 0 => return None,
            '\\' => {
                characters.next();
            }
            '$' if characters.next_if(|&(_, next)| next == '{').is_some() => braces += 1,
            '{' if braces > 0 => braces += 1,
            '}' if braces > 0 => braces -= 1,
            _ => {}
        }
    }
    None
}

/// How long a text is that ends with a line of its own.
fn heredoc(text: &str) -> Option<usize> {
    let mut length = 0;
    let mut lines = text.split_inclusive('\n');
    let first = lines.next()?;
    let end = first.trim_start_matches('<').trim_start_matches('-').trim();
    length += first.len();
    for line in lines {
        if !end.is_empty() && line.trim() == end {
            return Some(length + line.trim_end().len());
        }
        length += line.len();
    }
    None
}

/// What stands between brackets, or in the whole file.
#[derive(Default)]
struct Body<'t> {
    /// The comment behind the opening bracket.
    behind_open: Option<&'t str>,
    units: Vec<Unit<'t>>,
}

/// An item with the comments above it; or comments alone.
#[derive(Default)]
struct Unit<'t> {
    has_blank_above: bool,
    comments: Vec<&'t str>,
    item: Option<Item<'t>>,
    behind: Option<&'t str>,
}

struct Item<'t> {
    keys: Vec<&'t str>,
    has_equals: bool,
    value: Value<'t>,
}

enum Value<'t> {
    Text(&'t str),
    Heredoc(&'t str),
    List(List<'t>),
    Object(Body<'t>),
}

struct List<'t> {
    behind_open: Option<&'t str>,
    /// Of the author's: its brackets are on one line.
    is_on_one_line: bool,
    elements: Vec<Element<'t>>,
}

/// A value with the comments above it; or comments alone.
struct Element<'t> {
    comments: Vec<&'t str>,
    value: Option<Value<'t>>,
    behind: Option<&'t str>,
}

struct Parser<'t> {
    rest: std::iter::Peekable<std::vec::IntoIter<Token<'t>>>,
    /// The last line of what was taken last.
    line: usize,
}

impl<'t> Parser<'t> {
    fn take(&mut self) -> Option<Token<'t>> {
        let token = self.rest.next()?;
        self.line = token.last_line;
        Some(token)
    }

    fn take_if(&mut self, kind: Kind) -> bool {
        self.rest.peek().is_some_and(|token| token.kind == kind) && self.take().is_some()
    }

    /// The comment that goes on behind what was taken last.
    fn behind(&mut self) -> Option<&'t str> {
        let line = self.line;
        let is_behind = |token: &Token<'_>| token.is_comment() && token.line == line && token.last_line == line;
        self.rest.peek().is_some_and(is_behind).then(|| self.take())?.map(|token| token.text)
    }

    /// Comments in a place of no meaning: they go above.
    fn comments(&mut self, above: &mut Vec<&'t str>) {
        while self.rest.peek().is_some_and(Token::is_comment) {
            above.extend(self.take().map(|token| token.text));
        }
    }

    /// Items up to a closing bracket, which is not taken; `depth` is none for the whole file.
    fn body(&mut self, depth: Option<usize>) -> Result<Body<'t>, String> {
        let mut body = Body { behind_open: depth.and_then(|_| self.behind()), units: Vec::new() };
        let mut unit = Unit::default();
        while let Some(&token) = self.rest.peek() {
            let has_blank_above = token.line > self.line + 1;
            if has_blank_above && !unit.comments.is_empty() {
                body.units.push(std::mem::take(&mut unit));
            }
            unit.has_blank_above |= has_blank_above && unit.comments.is_empty();
            match token.kind {
                Kind::Comment | Kind::BlockComment => {
                    self.take();
                    unit.comments.push(token.text);
                }
                Kind::Comma => {
                    self.take();
                }
                Kind::Text => {
                    unit.item = Some(self.item(&mut unit.comments, depth.unwrap_or(0))?);
                    self.take_if(Kind::Comma);
                    unit.behind = self.behind();
                    body.units.push(std::mem::take(&mut unit));
                }
                Kind::Close => break,
                Kind::ListClose => return Err(format!("line {}: closing bracket without an opening one", token.line)),
                Kind::Open | Kind::ListOpen | Kind::Equals | Kind::Heredoc => {
                    return Err(format!("line {}: a value without a name", token.line));
                }
            }
        }
        if !unit.comments.is_empty() {
            body.units.push(unit);
        }
        Ok(body)
    }

    fn item(&mut self, above: &mut Vec<&'t str>, depth: usize) -> Result<Item<'t>, String> {
        let mut keys = Vec::new();
        loop {
            self.comments(above);
            let line = self.line;
            match self.rest.peek().map(|token| token.kind) {
                Some(Kind::Text) => keys.extend(self.take().map(|token| token.text)),
                Some(Kind::Equals) => {
                    self.take();
                    self.comments(above);
                    return Ok(Item { keys, has_equals: true, value: self.value(depth)? });
                }
                Some(Kind::Open) => return Ok(Item { keys, has_equals: false, value: self.value(depth)? }),
                _ => return Err(format!("line {line}: a name without a value")),
            }
        }
    }

    fn value(&mut self, depth: usize) -> Result<Value<'t>, String> {
        let line = self.line;
        if depth >= DEPTH_MAX {
            return Err(format!("line {line}: nested too deep"));
        }
        let still_open = || "something is still open at the end".to_owned();
        let token = self.take().ok_or_else(still_open)?;
        match token.kind {
            Kind::Text => Ok(Value::Text(token.text)),
            Kind::Heredoc => Ok(Value::Heredoc(token.text)),
            Kind::Open => {
                let body = self.body(Some(depth + 1))?;
                self.take_if(Kind::Close).then_some(Value::Object(body)).ok_or_else(still_open)
            }
            Kind::ListOpen => self.list(token.line, depth + 1).map(Value::List),
            _ => Err(format!("line {line}: a name without a value")),
        }
    }

    fn list(&mut self, first_line: usize, depth: usize) -> Result<List<'t>, String> {
        let (behind_open, mut elements, mut comments) = (self.behind(), Vec::new(), Vec::new());
        loop {
            self.comments(&mut comments);
            match self.rest.peek().map(|token| token.kind) {
                None => return Err("something is still open at the end".to_owned()),
                Some(Kind::Comma) => {
                    self.take();
                }
                Some(Kind::ListClose) => break,
                Some(_) => {
                    let value = Some(self.value(depth)?);
                    let mut behind = self.behind();
                    if self.take_if(Kind::Comma) && behind.is_none() {
                        behind = self.behind();
                    }
                    elements.push(Element { comments: std::mem::take(&mut comments), value, behind });
                }
            }
        }
        self.take();
        if !comments.is_empty() {
            elements.push(Element { comments, value: None, behind: None });
        }
        Ok(List { behind_open, is_on_one_line: self.line == first_line, elements })
    }
}

fn indent(out: &mut String, level: usize) {
    out.push_str(&"  ".repeat(level));
}

fn write_behind(out: &mut String, comment: Option<&str>) {
    if let Some(comment) = comment {
        let _ = write!(out, " {comment}");
    }
}

fn write_comments(out: &mut String, comments: &[&str], level: usize) {
    for comment in comments {
        indent(out, level);
        let _ = writeln!(out, "{comment}");
    }
}

impl Unit<'_> {
    /// The value of an item of one line.
    fn assigned(&self) -> Option<String> {
        self.item.as_ref().filter(|item| item.has_equals)?.value.on_one_line()
    }

    /// Whether a blank line is to be around it: a block, or what takes more than a line.
    fn stands_alone(&self) -> bool {
        self.item.is_some() && self.assigned().is_none()
    }
}

impl Body<'_> {
    fn write(&self, out: &mut String, level: usize) {
        let mut width = 0;
        for (at, unit) in self.units.iter().enumerate() {
            let above = at.checked_sub(1).and_then(|before| self.units.get(before));
            let is_apart =
                above.is_some_and(|above| unit.has_blank_above || unit.stands_alone() || above.stands_alone());
            if is_apart {
                out.push('\n');
            }
            if is_apart || !unit.comments.is_empty() || above.is_none_or(|above| above.item.is_none()) {
                width = self.width_from(at);
            }
            write_comments(out, &unit.comments, level);
            let Some(item) = &unit.item else { continue };
            indent(out, level);
            let name = item.keys.join(" ");
            let _ = match (item.has_equals, unit.stands_alone()) {
                (true, false) => write!(out, "{name:width$} = "),
                (true, true) => write!(out, "{name} = "),
                (false, _) => write!(out, "{name} "),
            };
            item.value.write(out, level);
            write_behind(out, unit.behind);
            out.push('\n');
        }
    }

    /// How wide the longest name is of the assignments that follow each other from here.
    fn width_from(&self, first: usize) -> usize {
        let neighbours = self.units.iter().skip(first).enumerate().take_while(|(at, unit)| {
            unit.assigned().is_some() && (*at == 0 || !unit.has_blank_above && unit.comments.is_empty())
        });
        let names = neighbours.filter_map(|(_, unit)| unit.item.as_ref());
        names.map(|item| item.keys.join(" ").chars().count()).max().unwrap_or(0)
    }
}

impl Value<'_> {
    fn on_one_line(&self) -> Option<String> {
        match self {
            Self::Text(text) => Some((*text).to_owned()),
            Self::Heredoc(_) => None,
            Self::Object(body) => (body.behind_open.is_none() && body.units.is_empty()).then(|| "{}".to_owned()),
            Self::List(list) if list.is_on_one_line && list.behind_open.is_none() => {
                let bare = |element: &Element<'_>| element.comments.is_empty() && element.behind.is_none();
                let shown = |element: &Element<'_>| element.value.as_ref().filter(|_| bare(element))?.on_one_line();
                Some(format!("[{}]", list.elements.iter().map(shown).collect::<Option<Vec<_>>>()?.join(", ")))
            }
            Self::List(_) => None,
        }
    }

    fn write(&self, out: &mut String, level: usize) {
        if let Some(text) = self.on_one_line() {
            out.push_str(&text);
            return;
        }
        match self {
            Self::Text(text) | Self::Heredoc(text) => out.push_str(text),
            Self::Object(body) => {
                out.push('{');
                write_behind(out, body.behind_open);
                out.push('\n');
                body.write(out, level + 1);
                indent(out, level);
                out.push('}');
            }
            Self::List(list) => {
                out.push('[');
                write_behind(out, list.behind_open);
                out.push('\n');
                list.elements.iter().for_each(|element| element.write(out, level + 1));
                indent(out, level);
                out.push(']');
            }
        }
    }
}

impl Element<'_> {
    fn write(&self, out: &mut String, level: usize) {
        write_comments(out, &self.comments, level);
        let Some(value) = &self.value else { return };
        indent(out, level);
        value.write(out, level);
        if matches!(value, Value::Heredoc(_)) {
            // Nothing stands behind its last line.
            out.push('\n');
            indent(out, level);
        }
        out.push(',');
        write_behind(out, self.behind);
        out.push('\n');
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Lays out, and does it again to no effect.
    fn check(messy: &str, tidy: &str) {
        assert_eq!(format(messy).unwrap(), tidy, "of {messy}");
        assert_eq!(format(tidy).unwrap(), tidy);
    }

    #[test]
    fn blocks_take_lines_and_tokens_one_blank() {
        check("path \"x\" {capabilities=[\"read\"]}", "path \"x\" {\n  capabilities = [\"read\"]\n}\n");
        check(
            "path   \"a\"{ capabilities = [ \"read\" ,\"list\" ]\n required_parameters=[\"a\"] }\npath \"e\" { }\n",
            "path \"a\" {\n  capabilities        = [\"read\", \"list\"]\n  required_parameters = [\"a\"]\n}\n\npath \"e\" {}\n",
        );
        check("name=\"dev\"\npath \"a\" {}", "name = \"dev\"\n\npath \"a\" {}\n");
        check("\n\n", "");
    }

    #[test]
    fn a_list_stays_on_its_line_or_takes_one_for_each_element() {
        check("a=[]\nb=[\"x\",]", "a = []\nb = [\"x\"]\n");
        check("a = [\"x\",\n\"y\" ]", "a = [\n  \"x\",\n  \"y\",\n]\n");
        check("a = [{b=1}, [2]]", "a = [\n  {\n    b = 1\n  },\n  [2],\n]\n");
    }

    #[test]
    fn assignments_are_aligned_with_their_neighbours_alone() {
        check(
            "path \"a\" {\n\n\nttl = 1\nmax_ttl=22\n\n\n\nb=1\nallowed_parameters = { \"*\"=[], foo=[\"a\"] }\nc=2\n# why\nlonger=3\n}",
            "path \"a\" {\n  ttl     = 1\n  max_ttl = 22\n\n  b = 1\n\n  allowed_parameters = {\n    \"*\" = []\n    foo = [\"a\"]\n  }\n\n  \
             c = 2\n  # why\n  longer = 3\n}\n",
        );
    }

    #[test]
    fn comments_are_kept_and_stay_where_they_say_something() {
        check(
            "# mine {\npath \"a\" { // of a\ncapabilities=[\"read\", # r\n# next\n\"list\"] # behind\n# last\n}\n/* block\n   more */\npath \"b\" {}\n\n# end",
            "# mine {\npath \"a\" { // of a\n  capabilities = [\n    \"read\", # r\n    # next\n    \"list\",\n  ] # behind\n\n  # last\n}\n\n\
             /* block\n   more */\npath \"b\" {}\n\n# end\n",
        );
        check(
            "a = /* why */ 1\nb /* x */ = [2 /* y */, 3 /* z */]",
            "/* why */\na = 1\n\n/* x */\nb = [\n  2, /* y */\n  3, /* z */\n]\n",
        );
    }

    #[test]
    fn texts_stay_as_they_are() {
        check("a=\"x=y # {{z}} \\\" ${f(\"x\")}\"", "a = \"x=y # {{z}} \\\" ${f(\"x\")}\"\n");
        check("p \"h\" { a=<<EOF\n  x =  1\nEOF\nb=1 }", "p \"h\" {\n  a = <<EOF\n  x =  1\nEOF\n\n  b = 1\n}\n");
        check("a = [<<-E\n x\n E\n]", "a = [\n  <<-E\n x\n E\n  ,\n]\n");
    }

    #[test]
    fn what_is_no_policy_is_refused() {
        for (text, problem) in [
            ("path \"a\" {", "something is still open at the end"),
            ("a = [1", "something is still open at the end"),
            ("a = <<E\nx", "line 1: something is still open at the end"),
            ("}", "line 1: closing bracket without an opening one"),
            ("a = 1\n]", "line 2: closing bracket without an opening one"),
            ("path \"a", "line 1: text without an end"),
            ("/* a", "line 1: comment without an end"),
            ("path \"a\"", "line 1: a name without a value"),
            ("a =", "something is still open at the end"),
            ("a {\n= 1 }", "line 2: a value without a name"),
            ("{\"path\": {}}", "line 1: the JSON form is not laid out"),
        ] {
            assert_eq!(format(text).unwrap_err(), problem, "{text}");
        }
        assert!(format(&format!("a = {}", "[".repeat(100))).unwrap_err().contains("too deep"));
        assert!(format(&"a {".repeat(100)).unwrap_err().contains("too deep"));
    }
}
