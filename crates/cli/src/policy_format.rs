//! A uniform layout for policy files: two spaces per open bracket, and equal signs of neighbouring lines aligned.
//!
//! Works line by line on brackets outside texts and comments, so that comments and the author's line breaks stay.
//! Deliberately absent: understanding the policy; the server does that.

/// Lays out a file.
///
/// # Errors
/// When brackets or quotes do not match.
pub(crate) fn format(text: &str) -> Result<String, String> {
    let mut lines: Vec<Line> = Vec::new();
    let mut open = 0_usize;
    let mut heredoc: Option<String> = None;
    let mut in_comment = false;
    for (number, raw) in text.lines().enumerate() {
        if let Some(end) = &heredoc {
            if raw.trim() == end {
                heredoc = None;
            }
            lines.push(Line::verbatim(raw));
            continue;
        }
        let trimmed = raw.trim();
        let was_in_comment = in_comment;
        let scan = scan(trimmed, &mut in_comment).map_err(|problem| format!("line {}: {problem}", number + 1))?;
        if was_in_comment {
            lines.push(Line::verbatim(raw.trim_end()));
        } else {
            let level = open.saturating_sub(scan.closed_first);
            lines.push(Line { level, text: trimmed.to_owned(), equals: scan.equals, verbatim: false });
        }
        open = (open + scan.opened)
            .checked_sub(scan.closed)
            .ok_or_else(|| format!("line {}: closing bracket without an opening one", number + 1))?;
        heredoc = scan.heredoc;
    }
    if open > 0 || heredoc.is_some() || in_comment {
        return Err("something is still open at the end".to_owned());
    }
    align(&mut lines);
    let mut out = String::new();
    let mut blank = true;
    for line in lines {
        if line.verbatim {
            out.push_str(&line.text);
        } else if line.text.is_empty() {
            if blank {
                continue;
            }
        } else {
            out.push_str(&"  ".repeat(line.level));
            out.push_str(&line.text);
        }
        blank = line.text.is_empty();
        out.push('\n');
    }
    while out.ends_with("\n\n") {
        out.pop();
    }
    Ok(out)
}

struct Line {
    level: usize,
    text: String,
    /// Where the first `=` outside of texts stands.
    equals: Option<usize>,
    verbatim: bool,
}

impl Line {
    fn verbatim(text: &str) -> Self {
        Self { level: 0, text: text.to_owned(), equals: None, verbatim: true }
    }
}

#[derive(Default)]
struct Scan {
    opened: usize,
    closed: usize,
    /// Closing brackets before anything else.
    closed_first: usize,
    equals: Option<usize>,
    heredoc: Option<String>,
}

fn scan(line: &str, in_comment: &mut bool) -> Result<Scan, &'static str> {
    let mut scan = Scan::default();
    let mut characters = line.char_indices().peekable();
    let mut only_closing = true;
    while let Some((at, character)) = characters.next() {
        if *in_comment {
            if character == '*' && characters.next_if(|&(_, next)| next == '/').is_some() {
                *in_comment = false;
            }
            continue;
        }
        let next = characters.peek().map(|&(_, next)| next);
        match character {
            '#' => break,
            '/' if next == Some('/') => break,
            '/' if next == Some('*') => {
                characters.next();
                *in_comment = true;
            }
            '"' => loop {
                match characters.next() {
                    None => return Err("text without an end"),
                    Some((_, '\\')) => {
                        characters.next();
                    }
                    Some((_, '"')) => break,
                    Some(_) => {}
                }
            },
            '{' | '[' | '(' => scan.opened += 1,
            '}' | ']' | ')' => {
                scan.closed += 1;
                if only_closing {
                    scan.closed_first += 1;
                }
            }
            '=' if scan.equals.is_none() && scan.opened == 0 => scan.equals = Some(at),
            '<' if next == Some('<') => {
                let word = line.get(at + 2..).unwrap_or_default().trim_start_matches('-').trim();
                if !word.is_empty() {
                    scan.heredoc = Some(word.to_owned());
                    break;
                }
            }
            _ => {}
        }
        if !matches!(character, '}' | ']' | ')' | ' ' | ',') {
            only_closing = false;
        }
    }
    Ok(scan)
}

/// Aligns the equal signs of lines that follow each other at one level.
fn align(lines: &mut [Line]) {
    let mut rest = lines;
    while !rest.is_empty() {
        let level = rest.first().map(|line| line.level);
        let run = rest
            .iter()
            .take_while(|line| line.equals.is_some() && !line.verbatim && Some(line.level) == level)
            .count()
            .max(1);
        let (group, after) = rest.split_at_mut(run);
        let name = |line: &Line| line.equals.and_then(|at| line.text.get(..at)).map(|name| name.trim_end().to_owned());
        let width = group.iter().filter_map(name).map(|name| name.chars().count()).max().unwrap_or_default();
        for line in group {
            if let (Some(name), Some(value)) = (name(line), line.equals.and_then(|at| line.text.get(at + 1..))) {
                line.text = format!("{name:width$} = {}", value.trim_start());
            }
        }
        rest = after;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn layout_is_uniform_and_stable() {
        let messy = "\n\n# mine {\npath \"secret/{{x}}*\"   {\ncapabilities=[\"read\",\n\"list\" ]\n   min_wrapping_ttl   = \"1s\"\n   max_wrapping_ttl=\"a=b\"\nallowed_parameters = {\n\"*\" = []\n}\n}\n\n\n\npath \"a\" { policy = \"read\" }\n\n";
        let tidy = "# mine {\npath \"secret/{{x}}*\"   {\n  capabilities = [\"read\",\n    \"list\" ]\n  min_wrapping_ttl   = \"1s\"\n  max_wrapping_ttl   = \"a=b\"\n  allowed_parameters = {\n    \"*\" = []\n  }\n}\n\npath \"a\" { policy = \"read\" }\n";
        assert_eq!(format(messy).unwrap(), tidy);
        assert_eq!(format(tidy).unwrap(), tidy);
    }

    #[test]
    fn open_ends_are_refused() {
        assert!(format("path \"a\" {").is_err());
        assert!(format("}").is_err());
        assert!(format("path \"a").is_err());
    }
}
