//! Our Rust files as the rules see them: the text, and the code, which is the text without comments, literals and
//! tests, each byte in its place. This is the only scanner; a rule only says what it looks for.

use std::path::Path;

use crate::workspace::Workspace;

/// One file.
pub struct Source {
    /// Its path below the root, with slashes.
    pub path: String,
    /// All of it.
    pub text: String,
    /// The text with tests, comments and the insides of literals blanked; lines and columns are unchanged.
    pub code: String,
}

/// The folders that hold our Rust files.
const FOLDERS: &[&str] = &["crates", "engines", "auth", "xtask", "fuzz"];
const SKIPPED_FOLDERS: &[&str] = &["target", "corpus", "artifacts"];

impl Source {
    /// A file from its path and text.
    #[must_use]
    pub fn new(path: &str, text: String) -> Self {
        let mut code = mask(&text);
        if is_test_file(path) {
            code = blank(&code);
        } else {
            blank_tests(&mut code);
        }
        Self { path: path.to_owned(), text, code }
    }

    /// Whether it has a function of this name, also one that has parameters of types.
    #[must_use]
    pub fn defines(&self, name: &str) -> bool {
        ["(", "<"].iter().any(|after| self.text.contains(&format!("fn {name}{after}")))
    }

    /// The lines (from 1) of the code in which `needle` stands as whole words.
    pub fn lines_with<'s>(&'s self, needle: &'s str) -> impl Iterator<Item = usize> + 's {
        self.code.lines().enumerate().filter(move |(_, line)| has_words(line, needle)).map(|(at, _)| at + 1)
    }

    /// Whether the whole file is a test, a bench or an example.
    #[must_use]
    pub fn is_test(&self) -> bool {
        is_test_file(&self.path)
    }
}

/// Reads every Rust file of ours, in order of their paths.
///
/// # Errors
/// Text that names what cannot be read.
pub fn read_all(workspace: &Workspace) -> Result<Vec<Source>, String> {
    let mut sources = Vec::new();
    for path in paths(workspace, FOLDERS, "rs")? {
        let text = workspace.read_text(&path)?;
        sources.push(Source::new(&path, text));
    }
    Ok(sources)
}

/// The files with an ending below some folders; paths are relative to the root.
///
/// # Errors
/// Text that names what cannot be read.
pub fn paths(workspace: &Workspace, folders: &[&str], ending: &str) -> Result<Vec<String>, String> {
    let mut found = Vec::new();
    for folder in folders {
        let folder = workspace.root.join(folder);
        if folder.exists() {
            collect(&workspace.root, &folder, ending, &mut found)?;
        }
    }
    found.sort();
    Ok(found)
}

fn collect(root: &Path, folder: &Path, ending: &str, found: &mut Vec<String>) -> Result<(), String> {
    let unreadable = |error: std::io::Error| format!("{}: {error}", folder.display());
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = entry.path();
        if entry.file_type().map_err(unreadable)?.is_dir() {
            if !name.starts_with('.') && !SKIPPED_FOLDERS.contains(&name.as_str()) {
                collect(root, &path, ending, found)?;
            }
        } else if path.extension().is_some_and(|extension| extension == ending) {
            let relative = path.strip_prefix(root).map_err(|error| error.to_string())?;
            found.push(relative.to_string_lossy().into_owned());
        }
    }
    Ok(())
}

fn is_test_file(path: &str) -> bool {
    path.split('/').any(|part| matches!(part, "tests" | "benches" | "examples" | "tests.rs"))
}

/// Whether a line has the needle, with no letter of a name before or after it.
fn has_words(line: &str, needle: &str) -> bool {
    let touches = |neighbour: Option<char>, edge: Option<char>| {
        edge.is_some_and(is_name_letter) && neighbour.is_some_and(is_name_letter)
    };
    line.match_indices(needle).any(|(at, _)| {
        let (before, rest) = line.split_at(at);
        let after = rest.strip_prefix(needle).unwrap_or_default();
        let joined = touches(before.chars().next_back(), needle.chars().next())
            || touches(after.chars().next(), needle.chars().next_back());
        !joined
    })
}

fn blank(code: &str) -> String {
    code.chars().map(|letter| if letter == '\n' { '\n' } else { ' ' }).collect()
}

/// Blanks every item under `#[cfg(test)]`.
fn blank_tests(code: &mut String) {
    while let Some(start) = ["#[cfg(test)]", "#[cfg(all(test"].iter().filter_map(|mark| code.find(mark)).min() {
        let (head, rest) = code.split_at(start);
        let (item, after) = rest.split_at(item_length(rest));
        let blanked = blank(item);
        *code = format!("{head}{blanked}{after}");
    }
}

/// How long the item is that starts here: to the first `;` outside braces, or to the end of its braces.
fn item_length(code: &str) -> usize {
    let mut depth = 0_usize;
    for (at, letter) in code.char_indices() {
        match letter {
            '{' | '(' | '[' => depth += 1,
            '}' | ')' | ']' => {
                depth = depth.saturating_sub(1);
                if letter == '}' && depth == 0 {
                    return at + 1;
                }
            }
            ';' if depth == 0 => return at + 1,
            _ => {}
        }
    }
    code.len()
}

/// Blanks comments and the insides of literals.
fn mask(text: &str) -> String {
    let mut masked = String::with_capacity(text.len());
    let mut rest = text;
    let mut before = ' ';
    while let Some(letter) = rest.chars().next() {
        let (hidden, kept) = match letter {
            '/' if rest.starts_with("//") => (rest.find('\n').unwrap_or(rest.len()), false),
            '/' if rest.starts_with("/*") => (block_comment_length(rest), false),
            '"' => (string_length(rest), true),
            'r' if !is_name_letter(before) || matches!(before, 'b' | 'c') => match raw_string_length(rest) {
                Some(length) => (length, true),
                None => (0, false),
            },
            '\'' => (char_length(rest), true),
            _ => (0, false),
        };
        let taken = if hidden == 0 { letter.len_utf8() } else { hidden };
        let (part, after) = rest.split_at(taken);
        if hidden == 0 {
            masked.push_str(part);
        } else {
            masked.extend(part.chars().map(|inside| match inside {
                '\n' => '\n',
                '"' if kept => '"',
                _ => ' ',
            }));
        }
        before = part.chars().next_back().unwrap_or(' ');
        rest = after;
    }
    masked
}

fn is_name_letter(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}

fn block_comment_length(text: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        if rest.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest.starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

fn string_length(text: &str) -> usize {
    let mut escaped = false;
    for (at, letter) in text.char_indices().skip(1) {
        match letter {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

fn raw_string_length(text: &str) -> Option<usize> {
    let body = text.strip_prefix('r')?;
    let marks = body.len() - body.trim_start_matches('#').len();
    let inside = body.trim_start_matches('#').strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(marks));
    let closing = inside.find(&end)?;
    Some(1 + marks + 1 + closing + end.len())
}

/// The length of a character literal, or 0 for a lifetime.
fn char_length(text: &str) -> usize {
    let mut letters = text.char_indices().skip(1);
    match letters.next() {
        Some((_, '\\')) => {
            letters.next();
            letters.find(|(_, letter)| *letter == '\'').map_or(0, |(at, _)| at + 1)
        }
        Some(_) => letters.next().filter(|(_, letter)| *letter == '\'').map_or(0, |(at, _)| at + 1),
        None => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> String {
        Source::new("crates/x/src/lib.rs", text.to_owned()).code
    }

    #[test]
    fn comments_and_literals_are_no_code() {
        let text = "a // std::fs\nb /* std::fs /* x */ std::fs */ c \"std::fs \\\" std::fs\" d r#\"std::fs \" x\"# e";
        let seen = code(text);
        assert!(!seen.contains("std::fs"), "{seen}");
        for kept in ["a", "b", "c", "d", "e"] {
            assert!(has_words(&seen.replace('\n', " "), kept), "{kept} in {seen}");
        }
        assert_eq!(seen.len(), text.len());
    }

    #[test]
    fn quotes_in_characters_open_no_string() {
        assert!(
            code("let q = '\"'; std::fs::read(); let l: &'static str = \"\"; let e = '\\''; let f = 'x';")
                .contains("std::fs::read()")
        );
    }

    #[test]
    fn tests_are_no_code() {
        let text =
            "fn a() { one(); }\n#[cfg(test)]\n#[allow(x)]\nmod tests { fn b() { two(); } }\nfn c() { three(); }\n";
        let seen = code(text);
        assert!(seen.contains("one()") && seen.contains("three()") && !seen.contains("two()"), "{seen}");
        assert!(!code("#[cfg(test)]\nmod tests;\n").contains("mod"));
        assert!(!Source::new("crates/x/tests/a.rs", "one()".to_owned()).code.contains("one"));
    }

    #[test]
    fn needles_are_whole_words() {
        assert!(has_words("x std::fs::read", "std::fs"));
        assert!(!has_words("std::fsx", "std::fs"));
        assert!(!has_words("mystd::fs", "std::fs"));
        assert!(has_words("a.expose()", ".expose"));
        assert!(!has_words("a.expose_all()", ".expose"));
    }
}
