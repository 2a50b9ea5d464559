//! What a command says of itself: an example first, then its grammar. Usage is derived from the table of commands.
//!
//! A mistake is answered with what was meant, probably, and not with a page of options above which nobody sees it.

use std::fmt::Write as _;

use crate::commands::{Command, all};
use crate::flags;
use crate::similar::nearest;

/// The page of one command.
pub(crate) fn page(program: &str, command: &Command) -> String {
    let mut text = format!("{}\n\n", command.about);
    for example in command.examples {
        let _ = writeln!(text, "  $ {program} {example}");
    }
    let _ = writeln!(text, "\n{}", usage(program, command));
    if !command.flags.is_empty() {
        let _ = write!(text, "\nOptions:\n\n{}", flags::describe(command.flags));
    }
    text
}

fn usage(program: &str, command: &Command) -> String {
    let parts = [program, &command.words.join(" "), command.arguments];
    format!("Usage: {}", parts.iter().copied().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" "))
}

/// What follows a mistake in the arguments of a command.
pub(crate) fn after_mistake(program: &str, command: &Command) -> String {
    let words = command.words.join(" ");
    let mut text = format!("{}\n\n", usage(program, command));
    for example in command.examples {
        let _ = writeln!(text, "  $ {program} {example}");
    }
    let _ = write!(text, "\nOptions: {program} {words} -help");
    text
}

/// The commands below a word such as `operator`, or all of them; whether the arguments named no command at all.
pub(crate) fn group(program: &str, arguments: &[String]) -> (String, bool) {
    let words: Vec<&str> = arguments.iter().map(String::as_str).take_while(|word| !word.starts_with('-')).collect();
    let known = (0..=words.len())
        .rev()
        .filter_map(|count| words.get(..count))
        .find(|prefix| all().any(|command| command.words.starts_with(prefix)))
        .unwrap_or_default();
    let mut text = String::new();
    let is_known = known.len() == words.len();
    if let Some(unknown) = words.get(known.len()) {
        let _ = writeln!(text, "unknown command `{}`", [known, &[unknown]].concat().join(" "));
        if let Some(meant) = nearest(unknown, next_words(known)) {
            let _ = writeln!(text, "did you mean `{}`?", [&[program], known, &[meant]].concat().join(" "));
        }
        text.push('\n');
    }
    let name = [&[program], known].concat().join(" ");
    let _ = writeln!(text, "Usage: {name} <command> [options] [arguments]\n\nCommands:");
    let mut words: Vec<&str> = next_words(known).collect();
    words.dedup();
    let width = words.iter().map(|word| word.len()).max().unwrap_or_default();
    for (place, word) in words.iter().enumerate() {
        if words.get(..place).is_some_and(|before| before.contains(word)) {
            continue;
        }
        let whole = [known, &[word]].concat();
        let about = match all().find(|command| command.words == whole) {
            Some(command) => first_sentence(command.about).to_owned(),
            None => {
                let mut below: Vec<&str> = next_words(&whole).collect();
                below.dedup();
                below.join(", ")
            }
        };
        let _ = writeln!(text, "  {word:width$}    {about}");
    }
    text.push_str("\nExamples, flags and arguments of a command: add -help to it.");
    (text, is_known)
}

/// The words that may follow these.
pub(crate) fn next_words<'w>(known: &'w [&str]) -> impl Iterator<Item = &'static str> + use<'w> {
    all()
        .filter(move |command| command.words.starts_with(known))
        .filter_map(move |command| command.words.get(known.len()).copied())
}

/// A list shows what a command is about; the rest is on its page.
fn first_sentence(about: &str) -> &str {
    match about.split_once(". ") {
        Some((first, _)) => about.get(..=first.len()).unwrap_or(about),
        None => about,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use crate::commands::find;

    /// As a shell would: blanks separate, single quotes hold together.
    fn words(example: &str) -> Vec<String> {
        let mut words = vec![String::new()];
        for (number, part) in example.split('\'').enumerate() {
            for (place, piece) in
                (if number % 2 == 0 { part.split(' ').collect() } else { vec![part] }).iter().enumerate()
            {
                if place > 0 {
                    words.push(String::new());
                }
                words.last_mut().unwrap().push_str(piece);
            }
        }
        words
    }

    #[test]
    fn every_command_shows_examples_that_are_its_own_and_parse() {
        for command in all() {
            assert!(!command.examples.is_empty(), "{:?} has no example", command.words);
            for example in command.examples {
                let words = words(example);
                let (found, rest) = find(&words).unwrap_or_else(|| panic!("`{example}` is no command"));
                assert_eq!(found.words, command.words, "`{example}`");
                let parsed = flags::parse(rest, command.flags).unwrap_or_else(|error| panic!("`{example}`: {error}"));
                let takes_some = !matches!(command.arguments, "" | "[options]");
                assert!(
                    takes_some || parsed.arguments.is_empty(),
                    "`{example}` has arguments, `{:?}` none",
                    command.words
                );
            }
            let page = page("tresor", command);
            let (example, usage) = (page.find("  $ tresor ").unwrap(), page.find("Usage: ").unwrap());
            assert!(example < usage, "{page}");
        }
    }

    #[test]
    fn an_unknown_word_is_answered_by_what_was_meant() {
        let told = |line: &str| group("tresor", &words(line));
        let (text, is_known) = told("operator rfat");
        assert!(
            !is_known && text.starts_with("unknown command `operator rfat`\ndid you mean `tresor operator raft`?\n")
        );
        assert!(told("raed").0.contains("did you mean `tresor read`?"));
        assert!(!told("nonsense").0.contains("did you mean"));
        let (kv, is_known) = told("kv");
        assert!(is_known && kv.contains("  metadata             get, put, patch, delete\n"), "{kv}");
        assert!(kv.contains("  get                  Read a secret.\n"), "{kv}");
    }
}
