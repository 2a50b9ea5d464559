//! What was looked at, what was found, and what to do: a tree, as lines for people and as JSON for programs.

use std::fmt::Write as _;

use tresor_model::{Body, Map, map};

/// How a check ended; the later is the worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Outcome {
    Skipped,
    Ok,
    Warn,
    Fail,
}

impl Outcome {
    const fn word(self) -> &'static str {
        match self {
            Self::Skipped => "skipped",
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }

    const fn colour(self) -> &'static str {
        match self {
            Self::Skipped => "90",
            Self::Ok => "32",
            Self::Warn => "33",
            Self::Fail => "31",
        }
    }
}

/// One check, or several under a title.
#[derive(Clone, Debug)]
pub(crate) struct Check {
    pub(crate) name: String,
    pub(crate) outcome: Outcome,
    /// What was found.
    pub(crate) message: String,
    /// What to do.
    pub(crate) advice: String,
    pub(crate) children: Vec<Check>,
}

impl Check {
    fn new(name: &str, outcome: Outcome, message: impl Into<String>, advice: &str) -> Self {
        let (name, message, advice) = (name.to_owned(), message.into(), advice.to_owned());
        Self { name, outcome, message, advice, children: Vec::new() }
    }

    pub(crate) fn ok(name: &str, message: impl Into<String>) -> Self {
        Self::new(name, Outcome::Ok, message, "")
    }

    pub(crate) fn skipped(name: &str, message: impl Into<String>) -> Self {
        Self::new(name, Outcome::Skipped, message, "")
    }

    pub(crate) fn warn(name: &str, message: impl Into<String>, advice: &str) -> Self {
        Self::new(name, Outcome::Warn, message, advice)
    }

    pub(crate) fn fail(name: &str, message: impl Into<String>, advice: &str) -> Self {
        Self::new(name, Outcome::Fail, message, advice)
    }

    pub(crate) fn group(name: &str, children: Vec<Self>) -> Self {
        let outcome = children.iter().map(Self::worst).max().unwrap_or(Outcome::Ok);
        Self { children, ..Self::new(name, outcome, "", "") }
    }

    /// The worst of it and what stands below it.
    pub(crate) fn worst(&self) -> Outcome {
        self.children.iter().map(Self::worst).max().map_or(self.outcome, |below| below.max(self.outcome))
    }

    /// As a tree of lines, the worst at its beginning.
    pub(crate) fn to_lines(&self, colours: bool) -> String {
        let mut text = String::new();
        for child in &self.children {
            child.write(&mut text, 0, colours);
        }
        let count = |outcome| self.leaves().filter(|leaf| leaf.outcome == outcome).count();
        let _ = write!(
            text,
            "\n{} well, {} doubtful, {} wrong, {} left out",
            count(Outcome::Ok),
            count(Outcome::Warn),
            count(Outcome::Fail),
            count(Outcome::Skipped)
        );
        text
    }

    fn leaves(&self) -> Box<dyn Iterator<Item = &Self> + '_> {
        if self.children.is_empty() {
            return Box::new(std::iter::once(self));
        }
        Box::new(self.children.iter().flat_map(Self::leaves))
    }

    fn write(&self, text: &mut String, level: usize, colours: bool) {
        let indent = "  ".repeat(level);
        let word = self.worst().word();
        let mark = match colours {
            true => format!("\u{1b}[{}m[{word:^7}]\u{1b}[0m", self.worst().colour()),
            false => format!("[{word:^7}]"),
        };
        let parts: Vec<&str> =
            [&self.name, &self.message].into_iter().map(String::as_str).filter(|it| !it.is_empty()).collect();
        let _ = writeln!(text, "{mark} {indent}{}", parts.join(": "));
        if !self.advice.is_empty() {
            let _ = writeln!(text, "          {indent}-> {}", self.advice);
        }
        for child in &self.children {
            child.write(text, level + 1, colours);
        }
    }

    /// As JSON, with the names of the reference.
    pub(crate) fn to_json(&self) -> String {
        let mut bytes = Vec::new();
        tresor_wire::json::encode_map(&self.fields(), &mut bytes);
        String::from_utf8(bytes).unwrap_or_default()
    }

    fn fields(&self) -> Map {
        let mut fields = map! { "name" => self.name.as_str(), "status" => self.worst().word() };
        let mut add = |name: &str, value: Body| drop(fields.insert(name, value));
        if !self.message.is_empty() {
            add("message", self.message.as_str().into());
        }
        if self.outcome == Outcome::Warn && self.children.is_empty() {
            add("warnings", vec![Body::from(self.message.as_str())].into());
        }
        if !self.advice.is_empty() {
            add("advice", self.advice.as_str().into());
        }
        if !self.children.is_empty() {
            add("children", self.children.iter().map(|child| Body::from(child.fields())).collect::<Vec<_>>().into());
        }
        fields
    }
}
