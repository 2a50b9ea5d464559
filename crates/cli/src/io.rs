//! The three streams and the hidden prompt of a run, so that tests drive the command line in process.

use std::borrow::Cow;
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
    /// Whether standard error is a terminal: then it is told how far long work is.
    pub errors_is_terminal: bool,
    /// How many letters fit into a line of the terminal, where that is known.
    pub columns: Option<usize>,
    /// Whether what goes to standard error has colours.
    pub(crate) colours: bool,
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
            errors_is_terminal: io::stderr().is_terminal(),
            columns: rustix::termios::tcgetwinsize(io::stdout())
                .ok()
                .map(|size| size.ws_col.into())
                .filter(|it| *it > 0),
            colours: false,
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

/// What stands out.
#[derive(Clone, Copy)]
pub(crate) enum Colour {
    Red,
    Yellow,
}

impl Io<'_> {
    /// Streams that lead nowhere, for requests that nobody is to hear of.
    pub(crate) fn of_nobody() -> Self {
        Self {
            input: Box::new(io::empty()),
            output: Box::new(io::sink()),
            errors: Box::new(io::sink()),
            output_is_terminal: false,
            errors_is_terminal: false,
            columns: None,
            colours: false,
            prompt: Box::new(|_| Err(io::ErrorKind::Unsupported.into())),
            entropy: Box::new(|_| Err(io::ErrorKind::Unsupported.into())),
        }
    }

    /// Writes a line of result: to a terminal so that nothing in it steers that. A reader that went away is its own affair.
    pub(crate) fn say(&mut self, line: &str) {
        let line = if self.output_is_terminal { harmless(line) } else { Cow::Borrowed(line) };
        let _ = writeln!(self.output, "{line}").and_then(|()| self.output.flush());
    }

    /// Writes a text as it is stored, and ends its last line; to a terminal as a line is written.
    pub(crate) fn say_text(&mut self, text: &str) {
        let text = if self.output_is_terminal { harmless(text) } else { Cow::Borrowed(text) };
        let end = if text.ends_with('\n') { "" } else { "\n" };
        let _ = write!(self.output, "{text}{end}").and_then(|()| self.output.flush());
    }

    /// Writes a line for the human: what servers say is in some.
    pub(crate) fn complain(&mut self, line: &str) {
        let line = if self.errors_is_terminal { harmless(line) } else { Cow::Borrowed(line) };
        let _ = writeln!(self.errors, "{line}").and_then(|()| self.errors.flush());
    }

    /// The same so that it stands out, where there are colours.
    pub(crate) fn complain_in(&mut self, colour: Colour, line: &str) {
        let code = match colour {
            Colour::Red => 31,
            Colour::Yellow => 33,
        };
        if !self.colours {
            return self.complain(line);
        }
        let line = harmless(line);
        let _ = writeln!(self.errors, "\u{1b}[{code}m{line}\u{1b}[0m").and_then(|()| self.errors.flush());
    }

    /// Writes a bare value: with a newline only for a terminal, so that `$(..)` and files get exactly the value.
    pub(crate) fn say_bare(&mut self, text: &str) {
        let end = if self.output_is_terminal { "\n" } else { "" };
        let _ = write!(self.output, "{text}{end}").and_then(|()| self.output.flush());
    }
}

/// A stream of the process for what the server's code says: where it is a terminal, nothing in it steers that.
pub struct Harmless<W> {
    stream: W,
    is_terminal: bool,
}

impl<W: Write + IsTerminal> Harmless<W> {
    /// Over a stream.
    pub fn over(stream: W) -> Self {
        Self { is_terminal: stream.is_terminal(), stream }
    }
}

impl<W: Write> Write for Harmless<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !self.is_terminal {
            return self.stream.write(bytes);
        }
        self.stream.write_all(harmless(&String::from_utf8_lossy(bytes)).as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// A text whose orders to a terminal, which may be a value that a stranger stored, are shown by their names.
fn harmless(text: &str) -> Cow<'_, str> {
    if !text.chars().any(steers) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        match steers(character) {
            true => shown.extend(character.escape_default()),
            false => shown.push(character),
        }
    }
    Cow::Owned(shown)
}

/// Whether a terminal takes a character for an order, or shows others elsewhere because of it.
fn steers(character: char) -> bool {
    let turns = matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    turns || character.is_control() && !matches!(character, '\n' | '\t')
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_would_steer_a_terminal_is_shown_by_its_name() {
        for (text, shown) in [
            ("one\n\ttwo ä€😀", "one\n\ttwo ä€😀"),
            ("\u{1b}]0;owned\u{7}", "\\u{1b}]0;owned\\u{7}"),
            ("safe\rfalse\u{9b}2J\u{7f}", "safe\\rfalse\\u{9b}2J\\u{7f}"),
            ("a\u{202e}b", "a\\u{202e}b"),
        ] {
            assert_eq!(harmless(text), shown);
            let mut stream = Harmless { stream: Vec::new(), is_terminal: true };
            write!(stream, "Error: {text}").unwrap();
            assert_eq!(stream.stream, format!("Error: {shown}").into_bytes());
            let mut stream = Harmless { stream: Vec::new(), is_terminal: false };
            write!(stream, "Error: {text}").unwrap();
            assert_eq!(stream.stream, format!("Error: {text}").into_bytes());
        }
    }
}
