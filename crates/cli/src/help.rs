//! What a command says of itself: an example first, then its grammar. Usage is derived from the table of commands.
//!
//! A mistake is answered with what was meant, probably, and not with a page of options above which nobody sees it.

use std::fmt::Write as _;

use crate::commands::{Command, all, find};
use crate::flags;
use crate::similar::nearest;

/// What the page of all commands shows: a server, and what comes after it.
const FIRST_STEPS: &[&str] = &["server -dev", "login", "kv get secret/app"];
/// How many examples the page of a group shows.
const GROUP_EXAMPLES: usize = 3;

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
    if is_known {
        for example in group_examples(known) {
            let _ = writeln!(text, "  $ {program} {example}");
        }
        text.push('\n');
    }
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
                let mut below: Vec<&str> = Vec::new();
                for word in next_words(&whole) {
                    if !below.contains(&word) {
                        below.push(word);
                    }
                }
                below.join(", ")
            }
        };
        let _ = writeln!(text, "  {word:width$}    {about}");
    }
    text.push_str("\nExamples, flags and arguments of a command: add -help to it.");
    (text, is_known)
}

/// One example each of the first commands below some words.
fn group_examples(known: &[&str]) -> Vec<&'static str> {
    if known.is_empty() {
        return FIRST_STEPS.to_vec();
    }
    let below = all().filter(|command| command.words.starts_with(known));
    below.filter_map(|command| command.examples.first().copied()).take(GROUP_EXAMPLES).collect()
}

/// What is wrong with arguments that name a command behind or around a flag: flags come after it.
pub(crate) fn flag_before_command(program: &str, arguments: &[String]) -> Option<String> {
    let flag = arguments.iter().find(|argument| argument.starts_with('-'))?;
    let words: Vec<String> = arguments.iter().filter(|argument| !argument.starts_with('-')).cloned().collect();
    // Behind a flag the first words may be values.
    let values_max = if arguments.first() == Some(flag) { words.len() } else { 1 };
    let (command, _) = (0..values_max).find_map(|first| find(words.get(first..)?))?;
    let whole = command.words.join(" ");
    Some(format!(
        "the flag `{flag}` comes before the end of the command: flags come after it\n\n  $ {program} {whole} {flag} ...\n\n\
         Options: {program} {whole} -help"
    ))
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
        assert!(kv.starts_with("  $ tresor kv "), "{kv}");
    }

    #[test]
    fn the_page_of_a_group_shows_examples_first_and_no_word_twice() {
        for example in FIRST_STEPS {
            assert!(all().any(|command| command.examples.contains(example)), "`{example}` is no example of a command");
        }
        let (top, is_known) = group("tresor", &[]);
        assert!(is_known && top.starts_with("  $ tresor server -dev\n"), "{top}");
        let operator = top.lines().find(|line| line.starts_with("  operator ")).unwrap();
        assert_eq!(operator.matches("raft").count(), 1, "{operator}");
    }

    #[test]
    fn a_flag_before_the_command_is_named() {
        let told = |line: &str| flag_before_command("tresor", &words(line));
        for line in
            ["-namespace=t2 kv get secret/a", "-namespace=t2 t2 kv get secret/a", "kv -namespace=t2 get secret/a"]
        {
            let told = told(line).unwrap();
            assert!(
                told.starts_with("the flag `-namespace=t2` ") && told.contains("$ tresor kv get -namespace=t2 ...")
            );
        }
        assert!(told("-namespace=t2 frob").is_none());
        assert!(told("raed -format=json status").is_none());
        assert!(told("kv").is_none());
    }
}
