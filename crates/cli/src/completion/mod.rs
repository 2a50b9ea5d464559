//! `completion`: what a shell offers for the line that is being typed. The shells ask this program, so what they offer is what
//! it takes.
//!
//! Commands, flags and their words come from the table of commands; paths, names and ids from the server (`names.rs`).
//! Deliberately absent: file names, which shells know best.

mod names;
mod scripts;

use crate::commands::{Action, Command, find};
use crate::context::{Context, Outcome};
use crate::environment::Environment;
use crate::failure::Failure;
use crate::flags::{Flag, Kind};
use crate::help::next_words;

pub(crate) use scripts::autocomplete;

pub(crate) const COMMANDS: &[Command] = &[
    Command {
        words: &["completion", "bash"],
        examples: &["completion bash"],
        arguments: "",
        about: "Print what bash needs to complete commands: `source <(tresor completion bash)` in ~/.bashrc. \
                -autocomplete-install writes that there.",
        flags: &[],
        action: Action::Run(|context| scripts::print(context, scripts::BASH)),
    },
    Command {
        words: &["completion", "zsh"],
        examples: &["completion zsh"],
        arguments: "",
        about: "Print what zsh needs to complete commands: `source <(tresor completion zsh)` in ~/.zshrc. \
                -autocomplete-install writes that there.",
        flags: &[],
        action: Action::Run(|context| scripts::print(context, scripts::ZSH)),
    },
    Command {
        words: &["completion", "fish"],
        examples: &["completion fish"],
        arguments: "",
        about: "Print what fish needs to complete commands: `tresor completion fish | source` in its configuration. \
                -autocomplete-install writes that there.",
        flags: &[],
        action: Action::Run(|context| scripts::print(context, scripts::FISH)),
    },
    Command {
        words: &["completion", "candidates"],
        examples: &["completion candidates 'tresor kv ge'"],
        arguments: "LINE",
        about: "Print what a shell offers for a line that ends where the cursor is, one by one.",
        flags: &[],
        action: Action::Run(print_candidates),
    },
];

fn print_candidates(context: &mut Context<'_, '_>) -> Outcome {
    let [line] = context.arguments()?;
    for candidate in candidates(context.environment, &line) {
        context.io.say(&candidate);
    }
    Ok(0)
}

/// For shells that ask in the way of the original (`complete -C`): the line is in variables.
pub(crate) fn asked_by_variables(environment: &Environment) -> Option<Vec<String>> {
    let line = environment.variable("COMP_LINE")?;
    let point = environment.variable("COMP_POINT").and_then(|point| point.parse().ok()).unwrap_or(line.len());
    let line = line.get(..point).unwrap_or(line);
    // Such a shell has taken the word apart at these letters.
    let word = line.rsplit(' ').next().unwrap_or_default();
    let taken = word.rfind(['=', ':']).map_or(0, |at| at + 1);
    Some(candidates(environment, line).into_iter().map(|it| it.get(taken..).unwrap_or_default().to_owned()).collect())
}

/// What may stand where the line ends, in place of its last word.
fn candidates(environment: &Environment, line: &str) -> Vec<String> {
    let mut words = split(line);
    let current = words.pop().unwrap_or_default();
    let Some((_, before)) = words.split_first() else { return Vec::new() };
    let mut found = match find(before) {
        Some((command, rest)) => after_command(environment, command, rest, &current),
        None => Vec::new(),
    };
    if !current.starts_with('-') {
        let plain: Vec<&str> = before.iter().map(String::as_str).collect();
        found.extend(next_words(&plain).map(str::to_owned));
    }
    found.retain(|candidate| candidate.starts_with(&current));
    found.sort();
    found.dedup();
    found
}

fn after_command(environment: &Environment, command: &Command, rest: &[String], current: &str) -> Vec<String> {
    let flag_named = |text: &str| {
        let name = text.trim_start_matches('-');
        flags_of(command).find(|flag| flag.name == name && flag.kind != Kind::Switch)
    };
    let asked = names::Asked { environment, command, rest };
    if let Some(flag) = rest.last().filter(|word| word.starts_with('-')).and_then(|word| flag_named(word)) {
        return values(&asked, flag);
    }
    if !current.starts_with('-') {
        return names::arguments(&asked, current);
    }
    match current.split_once('=') {
        Some((name, _)) => {
            let Some(flag) = flag_named(name) else { return Vec::new() };
            values(&asked, flag).into_iter().map(|value| format!("{name}={value}")).collect()
        }
        None => {
            let dashes = if current.starts_with("--") { "--" } else { "-" };
            let spelled = |flag: &Flag| match flag.kind {
                Kind::Switch => format!("{dashes}{}", flag.name),
                Kind::Text | Kind::Repeated => format!("{dashes}{}=", flag.name),
            };
            flags_of(command).map(spelled).chain([format!("{dashes}help")]).collect()
        }
    }
}

fn flags_of(command: &Command) -> impl Iterator<Item = &'static Flag> + use<> {
    command.flags.iter().flat_map(|group| group.iter())
}

/// What a flag may be.
fn values(asked: &names::Asked<'_>, flag: &Flag) -> Vec<String> {
    let words: &[&str] = match flag.name {
        "format" if asked.command.words == ["read"] => &["table", "json", "yaml", "raw"],
        "format" => &["table", "json", "yaml"],
        "log-level" => &["trace", "debug", "info", "warn", "error"],
        "log-format" => &["standard", "json"],
        "method" if asked.command.words == ["login"] => {
            &["token", "userpass", "ldap", "okta", "radius", "approle", "github", "jwt", "cert", "kubernetes"]
        }
        "method" => &["patch", "rw"],
        "mode" => &["orphan", "path"],
        "type" => &["service", "batch"],
        "target" if asked.command.words == ["debug"] => crate::debug::TARGETS,
        "target" => &["barrier", "recovery"],
        "skip" => &["system", "listener", "storage", "seal", "cluster"],
        "listing-visibility" => &["unauth", "hidden"],
        "token-type" => &["service", "batch", "default-service", "default-batch"],
        "context" => return names::contexts(asked.environment),
        "mount" => return names::mounts(asked, "sys/mounts"),
        "policy" => return names::listed(asked, "sys/policies/acl"),
        "namespace" | "ns" => return names::listed(asked, "sys/namespaces"),
        _ => &[],
    };
    words.iter().map(|&word| word.to_owned()).collect()
}

/// As a shell splits: blanks separate, quotes and backslashes keep together; the last word is where the cursor is.
fn split(line: &str) -> Vec<String> {
    let (mut words, mut quote, mut letters) = (vec![String::new()], None, line.chars());
    while let Some(letter) = letters.next() {
        let in_word = |words: &mut Vec<String>, letter| {
            if let Some(word) = words.last_mut() {
                word.push(letter);
            }
        };
        match (letter, quote) {
            ('\\', None | Some('"')) => letters.next().into_iter().for_each(|letter| in_word(&mut words, letter)),
            ('\'' | '"', None) => quote = Some(letter),
            (letter, Some(mark)) if letter == mark => quote = None,
            (' ' | '\t', None) => {
                if words.last().is_some_and(|word| !word.is_empty()) {
                    words.push(String::new());
                }
            }
            (letter, _) => in_word(&mut words, letter),
        }
    }
    words
}

/// A request of a completion that came to nothing offers nothing.
pub(crate) type Offered = Result<Vec<String>, Failure>;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn offered(line: &str) -> Vec<String> {
        // Nobody listens there, and there is no token: nothing is asked.
        candidates(&Environment::of_pairs([("HOME", "/nonexistent"), ("VAULT_ADDR", "http://127.0.0.1:1")]), line)
    }

    #[test]
    fn commands_are_offered_word_by_word() {
        assert_eq!(offered("tresor stat"), ["status"]);
        assert_eq!(offered("tresor kv me"), ["metadata"]);
        assert_eq!(offered("tresor kv metadata "), ["delete", "get", "patch", "put"]);
        assert!(offered("tresor ").contains(&"operator".to_owned()));
        assert!(offered("tresor nothing ").is_empty() && offered("tresor").is_empty() && offered("").is_empty());
    }

    #[test]
    fn flags_and_their_words_are_offered_with_the_dashes_that_were_typed() {
        assert_eq!(offered("tresor status -form"), ["-format="]);
        assert_eq!(offered("tresor kv get a --vers"), ["--version="]);
        assert_eq!(offered("tresor status -format=j"), ["-format=json"]);
        assert_eq!(offered("tresor status -format "), ["json", "table", "yaml"]);
        assert_eq!(offered("tresor login -method=user"), ["-method=userpass"]);
        assert!(offered("tresor status -nothing=").is_empty());
        assert_eq!(offered("tresor secrets enable k"), ["kv", "kv-v2"]);
        assert_eq!(offered("tresor policy why cr"), ["create"]);
    }

    #[test]
    fn a_line_is_split_as_shells_do() {
        assert_eq!(split("a  'b c' d\\ e \"f"), ["a", "b c", "d e", "f"]);
        assert_eq!(split("a "), ["a", ""]);
        let environment = Environment::of_pairs([("COMP_LINE", "tresor status -format=js -x"), ("COMP_POINT", "24")]);
        assert_eq!(asked_by_variables(&environment).unwrap(), ["json"]);
    }
}
