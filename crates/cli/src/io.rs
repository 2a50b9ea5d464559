//! The three streams and the hidden prompt of a run, so that tests drive the command line in process.

use std::io::{self, IsTerminal, Read, Write};

use tresor_secret::SecretString;

/// Asks for a secret without echo; the argument is the prompt.
pub type Prompt<'a> = Box<dyn FnMut(&str) -> io::Result<SecretString> + 'a>;

/// Fills a buffer with unpredictable bytes.
pub(crate) type FillRandom<'a> = Box<dyn FnMut(&mut [u8]) -> io::Result<()> + 'a>;

/// Where a run reads and writes.
pub struct Io<'a> {
    /// Standard input.
    pub input: Box<dyn Read + 'a>,
    /// Standard output: results alone.
    pub output: Box<dyn Write + 'a>,
    /// Standard error: warnings, errors, usage after a mistake.
    pub errors: Box<dyn Write + 'a>,
    /// Whether standard output is a terminal: bare values then end with a newline.
    pub output_is_terminal: bool,
    /// The hidden prompt.
    pub prompt: Prompt<'a>,
    /// Fills a buffer with unpredictable bytes (one-time passwords).
    pub entropy: FillRandom<'a>,
}

impl Io<'static> {
    /// The streams of this process.
    #[must_use]
    pub fn of_process() -> Self {
        Self {
            input: Box::new(io::stdin()),
            output: Box::new(io::stdout()),
            errors: Box::new(io::stderr()),
            output_is_terminal: io::stdout().is_terminal(),
            prompt: Box::new(|text| {
                if io::stdin().is_terminal() {
                    rpassword::prompt_password(text).map(SecretString::new)
                } else {
                    let mut line = String::new();
                    io::stdin().read_line(&mut line)?;
                    Ok(SecretString::new(line.trim_end_matches(['\r', '\n']).to_owned()))
                }
            }),
            entropy: Box::new(|bytes| std::fs::File::open("/dev/urandom")?.read_exact(bytes)),
        }
    }
}

impl Io<'_> {
    /// Writes a line of result. A reader that went away is its own affair.
    pub(crate) fn say(&mut self, line: &str) {
        let _ = writeln!(self.output, "{line}").and_then(|()| self.output.flush());
    }

    /// Writes a line for the human.
    pub(crate) fn complain(&mut self, line: &str) {
        let _ = writeln!(self.errors, "{line}").and_then(|()| self.errors.flush());
    }

    /// Writes a bare value: with a newline only for a terminal, so that `$(..)` and files get exactly the value.
    pub(crate) fn say_bare(&mut self, text: &str) {
        let end = if self.output_is_terminal { "\n" } else { "" };
        let _ = write!(self.output, "{text}{end}").and_then(|()| self.output.flush());
    }
}
