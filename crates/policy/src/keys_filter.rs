//! Which names of a listing are shown: a path made of each name, which the caller must be able to read, or to list when
//! it is a directory.
//!
//! Of the reference's template language there is what such paths need: `.path`, `.key`, texts, and the functions
//! `replace`, `trimPrefix`, `trimSuffix`, `lowercase`, `uppercase` behind pipes. Deliberately absent: everything that
//! could fail or grow while a listing is answered.

/// The longest filter.
const TEXT_BYTES_MAX: usize = 1024;
/// The longest value of a placeholder, between any two functions.
const VALUE_BYTES_MAX: usize = 16 * 1024;
/// How much longer than what it replaces a text may be.
const GROWTH_BYTES_MAX: usize = 64;

/// A path with placeholders for a listing's path and each of its names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeysFilter(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Value { source: Source, steps: Vec<Step> },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Path,
    Key,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Replace(String, String),
    TrimPrefix(String),
    TrimSuffix(String),
    Lower,
    Upper,
}

impl KeysFilter {
    /// Reads a filter.
    ///
    /// # Errors
    /// What is wrong with it, for whoever wrote it.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if text.len() > TEXT_BYTES_MAX {
            return Err("the filter is too long");
        }
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, deeper)) = rest.split_once("{{") {
            let (inner, after) = deeper.split_once("}}").ok_or("unbalanced `{{` and `}}` in the filter")?;
            parts.push(Part::Text(before.to_owned()));
            parts.push(value(inner)?);
            rest = after;
        }
        parts.push(Part::Text(rest.to_owned()));
        let uses_key = parts.iter().any(|part| matches!(part, Part::Value { source: Source::Key, .. }));
        if uses_key { Ok(Self(parts)) } else { Err("the filter gives the same path for every name: use `{{ .key }}`") }
    }

    /// The path that decides about a name; the listing's path ends in a slash. `None` when it would be too long.
    #[must_use]
    pub fn path(&self, listing: &str, key: &str) -> Option<String> {
        let mut path = String::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => path.push_str(text),
                Part::Value { source, steps } => {
                    let value = match source {
                        Source::Path => listing,
                        Source::Key => key,
                    };
                    let bounded = |value: String| (value.len() <= VALUE_BYTES_MAX).then_some(value);
                    let start = bounded(value.to_owned());
                    path.push_str(&steps.iter().fold(start, |value, step| bounded(step.apply(&value?)))?);
                }
            }
        }
        Some(path.trim_start_matches('/').to_owned())
    }
}

impl Step {
    fn apply(&self, value: &str) -> String {
        match self {
            // An empty text is found everywhere, and would make the path grow.
            Self::Replace(old, _) if old.is_empty() => value.to_owned(),
            Self::Replace(old, new) => value.replace(old, new),
            Self::TrimPrefix(prefix) => value.strip_prefix(prefix.as_str()).unwrap_or(value).to_owned(),
            Self::TrimSuffix(suffix) => value.strip_suffix(suffix.as_str()).unwrap_or(value).to_owned(),
            Self::Lower => value.to_lowercase(),
            Self::Upper => value.to_uppercase(),
        }
    }
}

fn value(inner: &str) -> Result<Part, &'static str> {
    const UNKNOWN: &str = "the filter knows `.path`, `.key` and, behind `|`, `replace`, `trimPrefix`, `trimSuffix`, \
                           `lowercase` and `uppercase`";
    let words = words(inner).ok_or("unterminated text in the filter")?;
    let mut stages = words.split(|word| *word == Word::Pipe);
    let source = match stages.next() {
        Some([Word::Bare(name)]) if name == ".path" => Source::Path,
        Some([Word::Bare(name)]) if name == ".key" => Source::Key,
        _ => return Err(UNKNOWN),
    };
    let step = |stage: &[Word]| match stage {
        [Word::Bare(name), Word::Quoted(old), Word::Quoted(new)]
            if name == "replace" && new.len() <= old.len() + GROWTH_BYTES_MAX =>
        {
            Some(Step::Replace(old.clone(), new.clone()))
        }
        [Word::Bare(name), Word::Quoted(text)] if name == "trimPrefix" => Some(Step::TrimPrefix(text.clone())),
        [Word::Bare(name), Word::Quoted(text)] if name == "trimSuffix" => Some(Step::TrimSuffix(text.clone())),
        [Word::Bare(name)] if name == "lowercase" => Some(Step::Lower),
        [Word::Bare(name)] if name == "uppercase" => Some(Step::Upper),
        _ => None,
    };
    let steps = stages.map(|stage| step(stage).ok_or(UNKNOWN)).collect::<Result<_, _>>()?;
    Ok(Part::Value { source, steps })
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Word {
    Bare(String),
    Quoted(String),
    Pipe,
}

/// The words of a placeholder; `None` when a text does not end.
fn words(inner: &str) -> Option<Vec<Word>> {
    let mut words = Vec::new();
    let mut rest = inner.trim();
    while !rest.is_empty() {
        if let Some(quoted) = rest.strip_prefix('"') {
            let (text, after) = quoted.split_once('"')?;
            words.push(Word::Quoted(text.to_owned()));
            rest = after.trim_start();
        } else if let Some(after) = rest.strip_prefix('|') {
            words.push(Word::Pipe);
            rest = after.trim_start();
        } else {
            let end = rest.find(|letter: char| letter.is_whitespace() || matches!(letter, '|' | '"'));
            let (word, after) = rest.split_at(end.unwrap_or(rest.len()));
            words.push(Word::Bare(word.to_owned()));
            rest = after.trim_start();
        }
    }
    Some(words)
}
