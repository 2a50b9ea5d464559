//! A page of the documents as the runner sees it: the commands of its `console` blocks, with the output they promise.
//!
//! A line that starts with `$ ` is a command, `> ` lines right below continue it, everything else is its output.
//! Deliberately absent: every other kind of block; those are for reading.

/// A command and what it is to print.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Step {
    /// The line of the page that it is on, the first being 1.
    pub(crate) line: usize,
    /// What bash is given; may have several lines.
    pub(crate) command: String,
    /// What is to be printed, standard error included; `...` stands for anything.
    pub(crate) expected: Vec<String>,
}

/// The commands of a page, in order.
pub(crate) fn steps(text: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut indent = None;
    let mut may_continue = false;
    for (at, line) in text.lines().enumerate() {
        let bare = line.trim_start();
        match indent {
            None if bare == "```console" => {
                indent = Some(line.len() - bare.len());
                may_continue = false;
            }
            None => {}
            Some(_) if bare == "```" => indent = None,
            Some(width) => {
                let line = line.get(width..).unwrap_or("").trim_end();
                if let Some(command) = line.strip_prefix("$ ") {
                    steps.push(Step { line: at + 1, command: command.to_owned(), expected: Vec::new() });
                    may_continue = true;
                    continue;
                }
                let step = steps.last_mut().expect("a console block starts with a command");
                match line.strip_prefix('>').filter(|_| may_continue) {
                    Some(more) => {
                        step.command = format!("{}\n{}", step.command, more.strip_prefix(' ').unwrap_or(more))
                    }
                    None => {
                        step.expected.push(line.to_owned());
                        may_continue = false;
                    }
                }
            }
        }
    }
    for step in &mut steps {
        while step.expected.last().is_some_and(String::is_empty) {
            step.expected.pop();
        }
    }
    steps
}

/// Whether an output is the promised one: `...` in a line stands for any text, a line of nothing else for any lines.
pub(crate) fn matches(expected: &[String], printed: &[&str]) -> bool {
    match expected.split_first() {
        None => printed.is_empty(),
        Some((first, rest)) if first.trim() == "..." => (0..=printed.len()).any(|skip| matches(rest, &printed[skip..])),
        Some((first, rest)) => printed
            .split_first()
            .is_some_and(|(line, others)| line_matches(first, line.trim_end()) && matches(rest, others)),
    }
}

fn line_matches(expected: &str, line: &str) -> bool {
    let mut parts = expected.split("...");
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = line.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        let Some((_, after)) = rest.split_once(part) else { return false };
        rest = after;
    }
    rest.ends_with(last)
}

#[test]
fn commands_continuations_and_outputs_are_told_apart() {
    let text = "text\n```console\n$ one \\\n>   two\nout\n> out\n\n$ three\n```\n  ```console\n  $ four\n  x\n  ```\n";
    let found: Vec<(usize, String, usize)> =
        steps(text).into_iter().map(|step| (step.line, step.command, step.expected.len())).collect();
    assert_eq!(found, [(3, "one \\\n  two".to_owned(), 2), (8, "three".to_owned(), 0), (11, "four".to_owned(), 1)]);
}

#[test]
fn three_dots_stand_for_anything_and_nothing_else_does() {
    let expect = |lines: &str, printed: &str| {
        let lines: Vec<String> = lines.lines().map(str::to_owned).collect();
        matches(&lines, &printed.lines().collect::<Vec<_>>())
    };
    assert!(expect("a ... c", "a b c"));
    assert!(expect("a\n...\nd", "a\nb\nc\nd"));
    assert!(expect("a\n...", "a"));
    assert!(expect("key    ...\n", "key    x y"));
    assert!(!expect("a", "a\nb"));
    assert!(!expect("", "a"));
    assert!(!expect("a ... c", "a b d"));
    assert!(!expect("a\n...\nd", "a\nb"));
}
