//! What shells are told: a function each that asks `completion candidates`, and a line in the file that they read at start.

use std::fs;
use std::path::{Path, PathBuf};

use crate::context::{Context, Outcome};
use crate::environment::Environment;
use crate::failure::Failure;
use crate::io::Io;

pub(super) const BASH: &str = r#"# Completion of PROGRAM for bash.
_PROGRAM() {
    local whole="${COMP_LINE:0:COMP_POINT}" prefix="" IFS=$'\n'
    whole="${whole##* }"
    # Candidates are whole words, while bash takes words apart at these letters.
    [[ $whole == *[=:]* ]] && prefix="${whole%"${whole##*[=:]}"}"
    COMPREPLY=($("$1" completion candidates "${COMP_LINE:0:COMP_POINT}" 2>/dev/null))
    COMPREPLY=("${COMPREPLY[@]#"$prefix"}")
    if [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *[/=] ]]; then
        type compopt >/dev/null 2>&1 && compopt -o nospace
    fi
}
complete -o default -F _PROGRAM PROGRAM
"#;

pub(super) const ZSH: &str = r#"#compdef PROGRAM
# Completion of PROGRAM for zsh.
_PROGRAM() {
    local -a found open closed
    found=("${(@f)$("${words[1]}" completion candidates "${(j: :)words[1,CURRENT-1]} $PREFIX" 2>/dev/null)}")
    open=("${(@M)found:#*[/=]}")
    closed=("${(@)found:#*[/=]}")
    closed=("${(@)closed:#}")
    if (( $#open + $#closed == 0 )); then
        _files
        return
    fi
    compadd -S '' -- "${open[@]}"
    compadd -- "${closed[@]}"
}
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit }
compdef _PROGRAM PROGRAM
"#;

pub(super) const FISH: &str = r#"# Completion of PROGRAM for fish.
function __PROGRAM_complete
    set -l found (PROGRAM completion candidates (commandline -cp) 2>/dev/null)
    if test (count $found) -eq 0
        __fish_complete_path (commandline -ct)
    else
        printf '%s\n' $found
    end
end
complete -c PROGRAM -f -a '(__PROGRAM_complete)'
"#;

/// The program's name as shells call it; theirs are letters, digits, dashes and underscores.
fn script(text: &str, program: &str) -> String {
    text.replace("PROGRAM", program)
}

pub(super) fn print(context: &mut Context<'_, '_>, text: &str) -> Outcome {
    let [] = context.arguments()?;
    let program = context.program.clone();
    context.io.say(script(text, &program).trim_end());
    Ok(0)
}

/// The end of a line that is ours.
const MARK: &str = "# completion of";

/// The files that shells read at start, and what is written into each.
fn places(environment: &Environment, program: &str) -> Option<Vec<(PathBuf, String)>> {
    let home = environment.home()?;
    let configuration = environment.variable("XDG_CONFIG_HOME").map_or_else(|| home.join(".config"), PathBuf::from);
    let mut places = Vec::new();
    for (file, shell) in [(".bashrc", "bash"), (".bash_profile", "bash"), (".zshrc", "zsh")] {
        places.push((home.join(file), format!("source <({program} completion {shell}) {MARK} {program}")));
    }
    let fish = configuration.join("fish");
    places.push((fish.join("config.fish"), format!("{program} completion fish | source {MARK} {program}")));
    Some(places)
}

/// `-autocomplete-install` and `-autocomplete-uninstall`: writes a line into the files of the shells that this user has, or takes it out.
pub(crate) fn autocomplete(io: &mut Io<'_>, environment: &Environment, program: &str, installs: bool) -> i32 {
    match change(io, environment, program, installs) {
        Ok(0) => {
            io.complain("nothing was changed: there is no ~/.bashrc, ~/.bash_profile, ~/.zshrc or fish's config.fish, or it is done already");
            1
        }
        Ok(_) => 0,
        Err(Failure::Message { code, text }) => {
            io.complain(&text);
            code
        }
        Err(_) => 1,
    }
}

fn change(io: &mut Io<'_>, environment: &Environment, program: &str, installs: bool) -> Result<usize, Failure> {
    let places = places(environment, program).ok_or_else(|| Failure::local("no home directory: HOME is not set"))?;
    let mut count = 0;
    for (file, line) in places.iter().filter(|(file, _)| file.exists()) {
        let failed = |error: std::io::Error| Failure::local(format!("Error with {}: {error}", file.display()));
        let before = fs::read_to_string(file).map_err(failed)?;
        let after = changed(&before, line, installs);
        if after != before {
            write(file, &after).map_err(failed)?;
            io.say(&format!("Success! {} {}", if installs { "Installed in" } else { "Removed from" }, file.display()));
            count += 1;
        }
    }
    Ok(count)
}

fn changed(before: &str, line: &str, installs: bool) -> String {
    let mut lines: Vec<&str> = before.lines().filter(|it| *it != line).collect();
    if installs {
        lines.push(line);
    }
    if lines.is_empty() { String::new() } else { format!("{}\n", lines.join("\n")) }
}

/// Into the file itself: it may be a link to where its owner keeps it.
fn write(file: &Path, text: &str) -> std::io::Result<()> {
    fs::write(file, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_installed_once_and_taken_out_whole() {
        let line = "source <(tresor completion bash) # completion of tresor";
        let installed = changed("alias a=b\n", line, true);
        assert_eq!(installed, format!("alias a=b\n{line}\n"));
        assert_eq!(changed(&installed, line, true), installed);
        assert_eq!(changed(&installed, line, false), "alias a=b\n");
        assert_eq!(changed(line, line, false), "");
    }
}
