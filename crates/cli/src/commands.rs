//! The table of commands, and the way from arguments to one of them.
//!
//! Help is derived from the table (`help.rs`). Mistakes go to standard error with exit code 1.

use crate::completion;
use crate::context::{Context, Outcome};
use crate::contexts;
use crate::environment::Environment;
use crate::failure::Failure;
use crate::flags::{self, Flag};
use crate::help;
use crate::io::{Colour, Io};
use crate::server::{self, Hosted};
use crate::version;

/// What a command does.
pub(crate) enum Action {
    /// Runs here.
    Run(fn(&mut Context<'_, '_>) -> Outcome),
    /// Is done by the server's own code, which the caller has.
    Hosted(fn(&mut Context<'_, '_>) -> Result<Hosted, Failure>),
    /// Prints the version.
    Version,
}

/// One command.
pub(crate) struct Command {
    /// Its words, as in `kv metadata get`.
    pub(crate) words: &'static [&'static str],
    /// What people type, without the program's name: the first thing that help shows.
    pub(crate) examples: &'static [&'static str],
    /// What follows them.
    pub(crate) arguments: &'static str,
    /// What it does, in one or two sentences.
    pub(crate) about: &'static str,
    /// Its flags.
    pub(crate) flags: &'static [&'static [Flag]],
    /// What runs.
    pub(crate) action: Action,
}

const OWN: &[Command] = &[Command {
    words: &["version"],
    examples: &["version"],
    arguments: "",
    about: "Print the version.",
    flags: &[],
    action: Action::Version,
}];

const FAMILIES: &[&[Command]] = &[
    server::COMMANDS,
    OWN,
    crate::status::COMMANDS,
    contexts::COMMANDS,
    completion::COMMANDS,
    crate::operator::COMMANDS,
    crate::keyring::COMMANDS,
    crate::rekey::COMMANDS,
    crate::seal_slots::COMMANDS,
    crate::autopilot::COMMANDS,
    crate::cluster::COMMANDS,
    crate::snapshot::COMMANDS,
    crate::usage::COMMANDS,
    crate::utilization::COMMANDS,
    crate::import::COMMANDS,
    crate::watch::COMMANDS,
    crate::events::COMMANDS,
    crate::debug::COMMANDS,
    crate::logical::COMMANDS,
    crate::kv::COMMANDS,
    crate::login::COMMANDS,
    crate::token::COMMANDS,
    crate::lease::COMMANDS,
    crate::policy::COMMANDS,
    crate::policy_check::COMMANDS,
    crate::secrets::COMMANDS,
    crate::auth::COMMANDS,
    crate::plugin::COMMANDS,
    crate::audit::COMMANDS,
    crate::namespace::COMMANDS,
];

/// Every command.
pub(crate) fn all() -> impl Iterator<Item = &'static Command> {
    FAMILIES.iter().flat_map(|family| family.iter())
}

/// Runs one command line and returns its exit code: 0 done, 1 mistake on this side, 2 refused by the server (or, for
/// `status`, sealed).
///
/// `args` starts with the program's name. `host` is called for what the server's code does, and gives the exit code then. Starts its own
/// runtime for requests, so it must not be called from inside one.
pub fn run(args: Vec<String>, io: &mut Io<'_>, environment: &Environment, host: &mut dyn FnMut(Hosted) -> i32) -> i32 {
    let (program, arguments) = match args.split_first() {
        Some((program, arguments)) => (program_name(program), arguments),
        None => ("tresor", args.as_slice()),
    };
    io.colours = io.errors_is_terminal && environment.wants_colours();
    if let Some(offered) = completion::asked_by_variables(environment) {
        offered.iter().for_each(|candidate| io.say(candidate));
        return 0;
    }
    if let Some(flag @ ("-autocomplete-install" | "-autocomplete-uninstall")) = arguments.first().map(String::as_str) {
        return completion::autocomplete(io, environment, program, flag == "-autocomplete-install");
    }
    if let Some("-version" | "--version" | "-v" | "--v") = arguments.first().map(String::as_str) {
        io.say(&version::text(program));
        return 0;
    }
    let Some((command, rest)) = find(arguments) else {
        let asked = arguments.iter().any(|argument| matches!(argument.as_str(), "-h" | "-help" | "--help"));
        if !asked && let Some(text) = help::flag_before_command(program, arguments) {
            io.complain(&text);
            return 1;
        }
        let (text, is_known) = help::group(program, arguments);
        if asked && is_known {
            io.say(&text);
            return 0;
        }
        io.complain(&text);
        return 1;
    };
    let parsed = match flags::parse(rest, command.flags) {
        Ok(parsed) if parsed.help => {
            io.say(help::page(program, command).trim_end());
            return 0;
        }
        Ok(parsed) => parsed,
        Err(mistake) => return complain_with_usage(io, program, command, &mistake),
    };
    let mut hint = None;
    let outcome = match command.action {
        Action::Version => {
            io.say(&version::text(program));
            Ok(0)
        }
        Action::Hosted(asked) => asked(&mut Context::new(io, environment, parsed)).map(host),
        Action::Run(action) => {
            let mut context = Context::new(io, environment, parsed);
            program.clone_into(&mut context.program);
            let outcome = run_checked(action, command, &mut context);
            hint = outcome.as_ref().err().and_then(|_| context.why_denied(program));
            outcome
        }
    };
    let code = match outcome {
        Ok(code) | Err(Failure::Exit(code)) => code,
        Err(Failure::Usage(mistake)) => complain_with_usage(io, program, command, &mistake),
        Err(Failure::Message { code, text }) => {
            io.complain_in(Colour::Red, &text);
            code
        }
        Err(Failure::Request(error)) => {
            io.complain_in(Colour::Red, &error.to_string());
            2
        }
    };
    if let Some(hint) = hint {
        io.complain(&hint);
    }
    code
}

/// An answer that could not be shown must not be asked for: the request may change something.
fn run_checked(
    action: fn(&mut Context<'_, '_>) -> Outcome,
    command: &Command,
    context: &mut Context<'_, '_>,
) -> Outcome {
    let takes = |name: &str| command.flags.iter().flat_map(|group| group.iter()).any(|flag| flag.name == name);
    if takes("format") {
        context.format()?;
    }
    if takes("output-policy") {
        context.in_use = contexts::in_use(context.environment, &context.flags)?;
    }
    action(context)
}

fn program_name(path: &str) -> &str {
    path.rsplit('/').next().filter(|name| !name.is_empty()).unwrap_or("tresor")
}

/// The command with the most words that the arguments start with.
pub(crate) fn find(arguments: &[String]) -> Option<(&'static Command, &[String])> {
    let command =
        all().filter(|command| starts_with(arguments, command.words)).max_by_key(|command| command.words.len())?;
    Some((command, arguments.get(command.words.len()..).unwrap_or_default()))
}

fn starts_with(arguments: &[String], words: &[&str]) -> bool {
    arguments.len() >= words.len() && arguments.iter().zip(words).all(|(argument, word)| argument == word)
}

fn complain_with_usage(io: &mut Io<'_>, program: &str, command: &Command, mistake: &str) -> i32 {
    io.complain(&format!("{mistake}\n\n{}", help::after_mistake(program, command)));
    1
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn every_command_has_help_and_no_flag_twice() {
        for command in all() {
            assert!(command.about.ends_with('.'), "{:?}", command.words);
            let mut names: Vec<_> = command.flags.iter().flat_map(|group| group.iter()).map(|flag| flag.name).collect();
            let count = names.len();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), count, "{:?}", command.words);
        }
    }

    #[test]
    fn the_longest_command_wins() {
        let arguments = ["kv", "metadata", "get", "x"].map(str::to_owned);
        let (command, rest) = find(&arguments).unwrap();
        assert_eq!(command.words, ["kv", "metadata", "get"]);
        assert_eq!(rest, ["x"]);
    }
}
